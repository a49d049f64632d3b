"""A lost queue is made anew from what stands on the disk, and from nothing that does not prove itself."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rig
from click.testing import CliRunner, Result

from batchsr.archive import history
from batchsr.cli import cli
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.restoration import sidecar_reading

SOURCES = (b"tape-1", b"tape \xff 2", "Tonbänd 3".encode())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder of recordings and their outputs, whose queue is lost."""
    db, folder = tmp_path / "first.db", tmp_path / "archive"
    sources = [
        rig.record(folder / f"{i}.wav", 0.2, seed=i).rename(folder / os.fsdecode(name + b".wav"))
        for i, name in enumerate(SOURCES)
    ]
    rig.enqueue(db, sources, tmp_path / "out", batch="tapes", provenance='{"notes": "loan", "profile": "speech"}')
    assert rig.work(db).done == 3
    for path in tmp_path.glob("first.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return tmp_path / "out"


def run(db: Path, *arguments: object) -> Result:
    return CliRunner().invoke(cli, ["--db", str(db), *map(str, arguments)])


def rows(db: Path) -> list[dict[str, Any]]:
    with open_queue(db) as queue:
        assert queue.check() == []
        return [job.to_dict() for job in queue.jobs()]


def test_everything_that_a_lost_queue_had_done_comes_back(archive: Path, tmp_path: Path) -> None:
    db = tmp_path / "new.db"
    assert run(db, "import-sidecars", archive).exit_code == 0
    found = rows(db)
    assert [row["state"] for row in found] == ["done"] * 3
    for row in found:
        record = sidecar_reading.read(Path(row["output"] + ".json"))
        assert record is not None
        assert row["output_sha256"] == record.said.output.sha256
        assert row["source"] == record.document["source"]["path"]
        assert (row["variant"], row["batch"], row["audio_s"]) == ("fast", "tapes", 0.2)
        assert row["provenance"] == {"notes": "loan", "profile": "speech"}
        assert row["windows_done"] == row["windows_total"] == record.said.windows.total
    with open_queue(db) as queue:
        assert [event["new"] for event in queue.events(1)] == ["done"]
    assert "ok" in run(db, "-v", "verify").stdout
    assert run(db, "verify").exit_code == 0
    assert run(db, "report", "--batch", "tapes", "--json").exit_code == 0


def test_the_queue_knows_the_recordings_again_and_does_nothing_twice(archive: Path, tmp_path: Path) -> None:
    db = tmp_path / "new.db"
    run(db, "import-sidecars", archive)
    again = run(db, "import-sidecars", archive)
    assert again.exit_code == 0
    assert "imported: 0 jobs; known already: 3" in again.output
    rig.enqueue(db, sorted((tmp_path / "archive").iterdir()), archive)
    with open_queue(db) as queue:
        assert queue.counts()["done"] == 3
        assert queue.counts()["queued"] == 0
    assert rig.work(db).done == 0


def test_a_dry_run_says_the_same_and_writes_nothing(archive: Path, tmp_path: Path) -> None:
    db = tmp_path / "new.db"
    done = run(db, "import-sidecars", archive, "--dry-run", "--json")
    assert done.exit_code == 0
    assert [json.loads(line)["outcome"] for line in done.stdout.splitlines()] == ["would import"] * 3
    assert not db.exists()
    with open_queue(db):
        pass
    assert "would be imported: 3 jobs" in run(db, "import-sidecars", archive, "--dry-run").output
    assert rows(db) == []


def test_an_archive_that_was_moved_is_taken_where_it_lies_now(archive: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "deep"
    moved.parent.mkdir()
    archive.rename(moved)
    db = tmp_path / "new.db"
    assert run(db, "import-sidecars", moved.parent, "--batch", "found").exit_code == 0
    assert {os.path.dirname(row["output"]) for row in rows(db)} == {str(moved)}
    assert {row["batch"] for row in rows(db)} == {"found"}


def test_what_a_queue_has_in_hand_already_stays_as_it_is(archive: Path, tmp_path: Path) -> None:
    db = tmp_path / "new.db"
    (number,) = rig.enqueue(db, [tmp_path / "archive" / "tape-1.wav"], archive)
    assert run(db, "import-sidecars", archive).exit_code == 0
    assert rig.job_of(db, number).state is State.QUEUED
    assert len(rows(db)) == 3


def changed(path: Path, key: str, value: Any) -> None:
    document = json.loads(path.read_bytes())
    *above, last = key.split(".")
    table = document
    for name in above:
        table = table[name]
    table[last] = value
    path.write_text(json.dumps(document))


HOSTILE: dict[str, Callable[[Path, Path], object]] = {
    "the output was changed": lambda output, sidecar: output.write_bytes(output.read_bytes()[:-2] + b"xx"),
    "the output was cut": lambda output, sidecar: output.write_bytes(output.read_bytes()[:-2]),
    "the output is gone": lambda output, sidecar: output.unlink(),
    "the output is a link": lambda output, sidecar: (output.rename(output.with_suffix(".x")), output.symlink_to("x")),
    "another output's name": lambda output, sidecar: changed(sidecar, "output.path", "/etc/passwd"),
    "a name that leads up": lambda output, sidecar: changed(sidecar, "output.path", "/a/.."),
    "a name with NUL": lambda output, sidecar: changed(sidecar, "output.path", "/a/\0"),
    "settings of another kind": lambda output, sidecar: changed(sidecar, "settings.seed", -4),
    "settings not of the hash": lambda output, sidecar: changed(sidecar, "settings.seed", 4),
    "settings unknown": lambda output, sidecar: changed(sidecar, "settings.colour", "red"),
    "no source": lambda output, sidecar: changed(sidecar, "source.path", 7),
    "a source that is relative": lambda output, sidecar: changed(sidecar, "source.path", "../x.wav"),
    "a later version": lambda output, sidecar: changed(sidecar, "schema", "batchsr.sidecar/99"),
    "a negative size": lambda output, sidecar: changed(sidecar, "source.size_bytes", -1),
    "a number without end": lambda output, sidecar: changed(sidecar, "wall_s", float("inf")),
    "cut": lambda output, sidecar: changed(sidecar, "windows", []),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_does_not_prove_itself_is_refused_by_name_and_the_rest_is_taken(
    archive: Path, tmp_path: Path, what: str
) -> None:
    output = archive / "tape-1_upsampled.wav"
    if not output.exists():
        output = next(archive.glob("tape-1*.wav"))
    sidecar = output.with_name(output.name + ".json")
    HOSTILE[what](output, sidecar)
    db = tmp_path / "new.db"
    done = run(db, "import-sidecars", archive)
    assert done.exit_code == 3
    assert f"refused        {sidecar}" in done.stdout
    assert len(rows(db)) == 2


def test_what_is_harmless_in_a_twisted_sidecar_does_not_break_the_rest(archive: Path, tmp_path: Path) -> None:
    """What nobody needs in order to believe an output may be of any type and any text."""
    for path, (key, value) in zip(
        sorted(archive.glob("*.json")),
        (("job", {"batch": "\ud800 \x1b[31m" * 999, "x": [1]}), ("model.variant", ["a"]), ("finished", "tomorrow")),
        strict=True,
    ):
        changed(path, key, value)
    db = tmp_path / "new.db"
    assert run(db, "import-sidecars", archive).exit_code == 0
    assert len(rows(db)) == 3
    assert run(db, "list").exit_code == 0


def test_strangers_files_links_and_pipes_pass_by(archive: Path, tmp_path: Path) -> None:
    (archive / "package.json").write_text('{"name": "x"}')
    (archive / "list.json").write_text("[1]")
    (archive / "empty.json").write_bytes(b"")
    os.mkfifo(archive / "pipe.json")
    (archive / "loop").symlink_to(archive)
    (archive / "link.json").symlink_to(next(archive.glob("tape-1*.json")))
    found = list(history.finished_below(archive))
    assert [type(one) for one in found] == [history.Finished] * 3


@pytest.mark.parametrize("way", ["--copy", "--link"])
def test_the_copies_of_a_package_are_no_jobs_of_their_own_while_the_outputs_stand(
    archive: Path, tmp_path: Path, way: str
) -> None:
    db, package = tmp_path / "new.db", tmp_path / "package"
    assert run(db, "import-sidecars", archive).exit_code == 0
    assert run(db, "export", "--batch", "tapes", package, way).exit_code == 0
    assert "imported: 0 jobs; known already: 3" in run(db, "import-sidecars", package).output
    assert (
        "imported: 3 jobs; known already: 3" in run(tmp_path / "third.db", "import-sidecars", archive, package).output
    )
    shutil.rmtree(archive)
    assert run(tmp_path / "fourth.db", "import-sidecars", package).exit_code == 0
    assert {Path(row["output"]).parent for row in rows(tmp_path / "fourth.db")} == {package}


@pytest.mark.parametrize("ending", ["", ".old"])
def test_what_a_stopped_export_left_is_named_and_not_taken_for_outputs(
    archive: Path, tmp_path: Path, ending: str
) -> None:
    shutil.copytree(archive, archive / f".bag.batchsr-export{ending}" / "data")
    done = run(tmp_path / "new.db", "import-sidecars", archive)
    assert done.exit_code == 3
    assert f".bag.batchsr-export{ending}  (an export that was stopped left it" in done.output
    assert sorted(row["output"] for row in rows(tmp_path / "new.db")) == sorted(map(str, archive.glob("*.wav")))


def test_a_sidecar_of_version_1_is_taken_too(archive: Path, tmp_path: Path) -> None:
    for path in archive.glob("*.json"):
        document = json.loads(path.read_bytes())
        document["schema"] = "batchsr.sidecar/1"
        del document["synthetic"]
        path.write_text(json.dumps(document))
    assert run(tmp_path / "new.db", "import-sidecars", archive).exit_code == 0
    assert len(rows(tmp_path / "new.db")) == 3


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run(tmp_path / "q.db", "import-sidecars", tmp_path / "nowhere")
    assert done.exit_code != 0
    assert not (tmp_path / "q.db").exists()
