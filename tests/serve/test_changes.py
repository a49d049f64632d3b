"""What a person changes: after a question that names the number, by a form of ours, and nobody else."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import rig
from person import Person
from served import Answer, Served, serving

from batchsr.errors import ConfigError
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.serve import token
from batchsr.serve.guard import TOKEN_COOKIE, AccessRules


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """#1 to #4 queued (#4 of another batch), #5 and #6 failed, #7 cancelled."""
    with open_queue(tmp_path / "queue.db") as one:
        list(one.enqueue(rig.new_job(name, batch="two" if name == "d" else "one") for name in "efabcdg"))
        with one.join() as worker:
            for _ in range(2):
                one.fail(one.claim(worker, rig.BACKEND), "input.format", "is no audio", lambda failures: None)
        one.cancel([7])
    return tmp_path / "queue.db"


@pytest.fixture
def served(queue: Path) -> Iterator[Served]:
    with serving(queue) as one:
        yield one


def states(queue: Path) -> dict[int, str]:
    with open_queue(queue) as one:
        return {job.id: str(job.state) for job in one.jobs()}


def asked(served: Served, **order: Any) -> tuple[dict[str, Any], str, Answer]:
    """The fields of the question's form, and the cookie that belongs to it."""
    answer = served.ask("/ask?" + urlencode(order, doseq=True), Accept="text/html")
    fields: dict[str, Any] = {}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', answer.text):
        fields.setdefault(name, []).append(value)
    return fields, answer.headers.get("set-cookie", "").partition(";")[0], answer


def answered(served: Served, fields: dict[str, Any], cookie: str, **headers: str) -> Answer:
    given = {"Origin": served.address, "Content_Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    return served.ask("/do", method="POST", body=urlencode(fields, doseq=True).encode(), **{**given, **headers})


def test_a_question_names_the_number_and_changes_nothing(served: Served, queue: Path) -> None:
    before = states(queue)
    for order, said in (
        ({"action": "retry", "all": "1"}, "Restore 2 files again?"),
        ({"action": "retry", "id": [1, 7]}, "Restore 2 files again?"),
        ({"action": "cancel", "all": "1", "batch": "one"}, "Cancel 3 files?"),
        ({"action": "cancel", "id": [1, 2, 3]}, "Cancel 1 file?"),
        ({"action": "priority", "all": "1", "q": "/d."}, "Give 1 file another priority?"),
        ({"action": "cancel", "all": "1", "state": "failed"}, "Cancel 0 files?"),
        ({"action": "pause"}, "Pause the queue?"),
    ):
        assert f"<h1>{said}</h1>" in asked(served, **order)[2].text, order
    assert states(queue) == before


def test_what_is_confirmed_is_done_and_said(served: Served, queue: Path) -> None:
    fields, cookie, _ = asked(served, action="retry", all="1", error="input.*")
    done = answered(served, fields, cookie)
    assert (done.status, done.headers["location"]) == (303, "/files?error=input.%2A&did=retry&number=2")
    assert "2 files queued again." in served.ask(done.headers["location"]).text
    assert [states(queue)[one] for one in (1, 2)] == ["queued", "queued"]
    fields, cookie, _ = asked(served, action="cancel", id=[3])
    assert answered(served, fields, cookie).headers["location"].startswith("/files/3?")
    assert states(queue)[3] == "cancelled"
    fields, cookie, _ = asked(served, action="priority", id=[4, 5])
    assert answered(served, fields | {"priority": "7"}, cookie).status == 303
    with open_queue(queue) as one:
        assert [job.priority for job in one.jobs(ids=[4, 5, 6])] == [7, 7, 0]
    fields, cookie, _ = asked(served, action="pause")
    answered(served, fields | {"reason": "a <b>disk</b>"}, cookie)
    assert "a &lt;b&gt;disk&lt;/b&gt;" in served.ask("/").text
    fields, cookie, _ = asked(served, action="resume")
    answered(served, fields, cookie)
    with open_queue(queue) as one:
        assert one.paused() is None


def test_another_number_than_was_confirmed_is_asked_again(served: Served, queue: Path) -> None:
    fields, cookie, _ = asked(served, action="cancel", all="1")
    with open_queue(queue) as one:
        list(one.enqueue([rig.new_job("late")]))
    before = states(queue)
    answer = answered(served, fields, cookie)
    assert answer.status == 409
    assert "Cancel 5 files?" in answer.text
    assert states(queue) == before


def test_a_form_that_is_not_ours_changes_nothing(served: Served, queue: Path) -> None:
    before = states(queue)
    fields, cookie, _ = asked(served, action="cancel", all="1")
    other = asked(served, action="cancel", all="1")[1]
    assert other != cookie
    for said in (
        answered(served, fields, ""),
        answered(served, fields, other),
        answered(served, fields, "batchsr_form=x"),
        answered(served, {**fields, "form": "0" * 64}, cookie),
        answered(served, {name: value for name, value in fields.items() if name != "form"}, cookie),
        answered(served, fields, cookie, Origin="http://evil.example"),
        answered(served, fields, cookie, Host="evil.example"),
    ):
        assert said.status in (403, 421)
    no_origin = served.ask("/do", method="POST", body=urlencode(fields, doseq=True).encode(), Cookie=cookie)
    assert no_origin.status == 403
    assert served.ask("/do").status == 405
    for changed in ({"action": "forget"}, {"priority": "x", "action": "priority"}, {"number": "999"}):
        assert answered(served, {**fields, **changed}, cookie).status in (400, 409)
    many = [(f"x{number}", "1") for number in range(1_000)]
    body = urlencode(many).encode()
    assert served.ask("/do", method="POST", body=body, Origin=served.address, Cookie=cookie).status == 400
    assert states(queue) == before


@pytest.mark.parametrize("order", [{"action": "cancel"}, {"action": "cancel", "id": "x"}, {"action": "x"}, {}])
def test_an_order_that_names_nothing_is_refused(served: Served, order: dict[str, str]) -> None:
    assert asked(served, **order)[2].status == 400


def test_read_only_has_no_forms_and_takes_none(queue: Path) -> None:
    with serving(queue) as one:
        fields, cookie, _ = asked(one, action="cancel", all="1")
    with serving(queue, read_only=True) as one:
        for path in ("/", "/files", "/files/1"):
            assert "/ask" not in one.ask(path).text
        assert one.ask("/ask?action=cancel&all=1").status == 404
        assert answered(one, fields, cookie).status == 404
    assert "running" not in states(queue).values()
    assert states(queue)[3] == "queued"


def test_without_the_token_nothing_is_answered(queue: Path) -> None:
    secret, is_new = token.take(token.path_of(queue))
    assert is_new
    assert stat.S_IMODE(os.stat(token.path_of(queue)).st_mode) == 0o600
    assert token.take(token.path_of(queue)) == (secret, False)
    with serving(queue, AccessRules(False, token=secret)) as one:
        paths = ("/", "/files", "/files/1", "/api/v1/status", "/metrics", "/changes", "/static/serve.js", "/ask", "/do")
        for path in paths:
            assert one.ask(path).status == 401, path
            assert one.ask(path, Cookie=f"{TOKEN_COOKIE}=wrong").status == 401
        assert one.ask("/healthz").status == 200
        assert one.ask("/login?token=wrong").status == 403
        login = one.ask(f"/login?token={secret}")
        cookie = login.headers["set-cookie"]
        assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
        assert one.ask("/", Cookie=cookie.partition(";")[0]).status == 200
        assert one.ask("/metrics", Authorization=f"Bearer {secret}").status == 200
        assert one.ask("/metrics", Authorization="Bearer wrong").status == 401


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "queue.db.serve-token"
    token.take(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others"):
        token.take(path)
    path.unlink()
    path.write_text("short\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no token"):
        token.take(path)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be read"):
        token.take(path)


def test_a_person_retries_failed_files_in_a_browser(browser: Any, queue: Path) -> None:
    with serving(queue) as served:
        for width, chosen in ((390, ["1"]), (1280, ["2"])):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            errors: list[str] = []
            tab.on("console", lambda message, errors=errors: errors.append(message.text))
            tab.goto(served.address + "/files?state=failed")
            for number in chosen:
                tab.focus(f"input[name=id][value='{number}']")
                tab.keyboard.press("Space")
            tab.focus("button[value=retry]")
            tab.keyboard.press("Enter")
            tab.wait_for_url("**/ask?**")
            assert tab.inner_text("h1") == "Restore 1 file again?"
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
            tab.focus("main form button")
            tab.keyboard.press("Enter")
            tab.wait_for_url("**did=retry**")
            assert "1 file queued again." in tab.inner_text("main")
            assert errors == []
            tab.close()
    with open_queue(queue) as one:
        assert [job.state for job in one.jobs(ids=[1, 2])] == [State.QUEUED] * 2


def test_the_command_says_where_it_is_and_shows_the_link_once(tmp_path: Path) -> None:
    from program import Program

    program = Program(tmp_path)
    Person(tmp_path).run("db", "migrate")
    for start in range(2):
        running = program.start("serve", "--bind", "127.0.0.1:0", "--token")
        assert running.stderr is not None
        said = running.stderr.readline() + running.stderr.readline()
        running.terminate()
        running.communicate(timeout=60)
        assert running.returncode in (-15, 143)
        assert re.search(r"http://127\.0\.0\.1:\d+/ shows", said)
        assert ("/login?token=" in said) == (start == 0)
