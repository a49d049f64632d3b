"""Files taken in from a browser: below allowed folders alone, after the dry run's answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import rig
from person import Person
from served import serving

from batchsr.errors import ConfigError
from batchsr.queue.opening import open_queue
from batchsr.serve.submit import submission_of


def test_paths_lead_nowhere_else(tmp_path: Path) -> None:
    root, other = tmp_path / "archive", tmp_path / "archive-not"
    root.mkdir()
    other.mkdir()
    (other / "secret.wav").write_text("x")
    (root / "link").symlink_to(other)
    (root / "-rf.wav").write_text("x")
    for path in (
        "/etc/passwd",
        str(other),
        str(other / "secret.wav"),
        f"{root}/../archive-not/secret.wav",
        str(root / "link"),
        str(root / "link" / "secret.wav"),
        f"{root}/*/secret.wav",
        f"{root}/nothing.wav",
        "archive",
        "-rf.wav",
        "~",
        f"{root}/\0",
        "",
    ):
        with pytest.raises(ConfigError):
            submission_of({"paths": [path]}, [root])
    submission = submission_of({"paths": [f"{root}/-rf.wav\n  {root}\n"], "priority": ["-3"]}, [root])
    assert (submission.paths, submission.priority, submission.profile) == (
        (f"{root}/-rf.wav", str(root)),
        -3,
        "default",
    )
    for fields in ({"profile": ["/etc/x.toml"]}, {"priority": ["x"]}, {"batch": ["\x1b"]}, {"paths": ["/x\n" * 1001]}):
        with pytest.raises(ConfigError):
            submission_of({"paths": [str(root)], **fields}, [root])


def test_a_person_takes_files_in_after_the_dry_run(browser: Any, tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    Person(tmp_path).run("db", "migrate")
    root = tmp_path / "archive"
    for number in range(2):
        rig.record(root / f"tape {number}.wav", 0.3, seed=number)
    (root / "note.wav").write_text("no sound")
    with serving(tmp_path / "queue.db", roots=[root]) as served:
        tab = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme="dark")
        tab.goto(served.address + "/submit")
        found = Axe().run(tab).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        tab.fill("textarea", "/etc/passwd")
        tab.click("main button")
        assert "is not below" in tab.inner_text(".warning")
        tab.goto(served.address + "/submit")
        tab.fill("textarea", os.fspath(root))
        tab.fill("input[name=batch]", "reels")
        tab.click("main button")
        assert tab.inner_text("h1") == "Take in 3 files?"
        assert "3 queued" in tab.inner_text("main ul")
        with open_queue(tmp_path / "queue.db") as queue:
            assert list(queue.jobs()) == [], "a dry run"
        tab.click("main form button")
        tab.wait_for_url("**did=submit**")
        assert "3 files taken in." in tab.inner_text("main")
        tab.close()
        with open_queue(tmp_path / "queue.db") as queue:
            assert [job.batch for job in queue.jobs()] == ["reels"] * 3
        assert served.ask("/submit", method="POST", body=b"paths=/", Origin=served.address).status == 403
    with serving(tmp_path / "queue.db") as served:
        assert served.ask("/submit").status == 404
    with serving(tmp_path / "queue.db", roots=[root], read_only=True) as served:
        assert served.ask("/submit").status == 404
