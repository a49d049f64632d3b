"""What was made is taken back only as it was made, into a folder, whole or not at all, through any crash."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from pathlib import Path

import pytest
import rig
from person import Person

from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.worker import undo

MADE = {"a_upsampled.wav", "a_upsampled.wav.json", "a_upsampled.flac"}


@pytest.fixture
def person(tmp_path: Path) -> Person:
    person = Person(tmp_path)
    a, b = person.record("in/a.wav", "in/b.wav")
    person.run("enqueue", a, b, "--batch", "calls", "--out", tmp_path / "out", "--also", "flac")
    person.work()
    return person


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()


def test_undo_moves_all_that_a_job_made_and_retry_makes_it_again(person: Person) -> None:
    out, trash = person.folder / "out", person.folder / "out" / undo.FOLDER
    before = {name: (out / name).read_bytes() for name in MADE}
    asked = person.run("undo", "--batch", "calls", code=2).err
    assert "move what 2 jobs made to batchsr-undone? Nobody is there" in asked
    assert names(trash) == set()
    said = person.run("undo", "--batch", "calls", "--yes")
    assert "undone: 2" in said.err
    assert {name: (trash / name).read_bytes() for name in MADE} == before
    assert names(out) == set()
    job = person.job(1)
    assert (job.state, job.error_code) == (State.CANCELLED, "undone")
    assert str(trash / "a_upsampled.wav") in person.run("list", "--error", "undone").out
    assert (person.folder / "in" / "a.wav").exists()
    person.run("retry", "--error", "undone")
    person.work()
    assert person.job(1).state is State.DONE
    assert (out / "a_upsampled.wav").read_bytes() == before["a_upsampled.wav"]
    with open_queue(person.db) as queue:
        assert queue.check() == []
    said = person.run("undo", 1, "--yes")
    assert (trash / "a_upsampled.1-2.wav").exists(), "what was undone before is not replaced"
    assert {name: (trash / name).read_bytes() for name in MADE} == before


def test_searches_pass_by_what_was_undone(person: Person) -> None:
    person.run("undo", "--batch", "calls", "--yes")
    said = person.run("enqueue", "-r", person.folder / "out", "--dry-run")
    assert said.out == ""


@pytest.mark.parametrize("what", ["output", "copy", "sidecar", "gone", "link"])
def test_what_is_not_as_it_was_made_stays_whole_and_the_others_go(person: Person, what: str) -> None:
    out = person.folder / "out"
    output = out / "a_upsampled.wav"
    if what == "output":
        output.write_bytes(output.read_bytes()[:-1] + b"x")
    elif what == "copy":
        (out / "a_upsampled.flac").write_bytes(b"other")
    elif what == "sidecar":
        (out / "a_upsampled.wav.json").write_text(json.dumps({"mine": 1}))
    elif what == "gone":
        output.unlink()
    else:
        output.rename(out / "elsewhere.wav")
        output.symlink_to(out / "elsewhere.wav")
    left = names(out)
    said = person.run("undo", "--batch", "calls", "--yes", code=3)
    assert ("missing    #1" if what == "gone" else "changed    #1") in said.out
    assert person.job(1).state is State.DONE
    assert person.job(2).state is State.CANCELLED
    assert {name for name in left if not name.startswith("b_")} == names(out)


def test_a_dry_run_moves_nothing_and_says_where_to(person: Person) -> None:
    target = person.folder / "back"
    (one, _) = person.run("undo", "1", "2", "--into", target, "--dry-run", "--json").documents
    assert one["files"][-1] == str(target / "a_upsampled.wav")
    assert not target.exists()
    assert person.job(1).state is State.DONE


def test_other_files_in_the_folder_stay_and_a_link_is_not_followed(person: Person) -> None:
    target = person.folder / "back"
    target.mkdir()
    (target / "a_upsampled.wav").write_text("somebody's")
    person.run("undo", 1, "--into", target, "--yes")
    assert (target / "a_upsampled.wav").read_text() == "somebody's"
    assert (target / "a_upsampled.1-1.wav").exists()
    (person.folder / "link").symlink_to(target)
    assert "is a link" in person.run("undo", 2, "--into", person.folder / "link", "--yes", code=74).err
    assert person.job(2).state is State.DONE


def test_the_folder_of_the_outputs_itself_is_refused_also_by_another_name(person: Person) -> None:
    before = names(person.folder / "out")
    for into in (person.folder / "out", person.folder / "in" / ".." / "out"):
        assert "where the outputs are" in person.run("undo", 1, "--into", into, "--yes", code=74).err
    assert names(person.folder / "out") == before
    assert person.job(1).state is State.DONE


def test_another_file_system_gets_whole_copies(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    with monkeypatch.context() as patched:
        patched.setattr(undo.os, "link", refuse)
        patched.setattr(undo, "_copy", lambda path, new: shutil.copy(path, new) is not None)
        person.run("undo", 1, "--into", person.folder / "back", "--yes")
    assert names(person.folder / "back") == MADE
    assert {name for name in names(person.folder / "out") if name.startswith("a_")} == set()


def test_a_copy_that_a_crash_left_beside_its_original_is_taken_for_done(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"sound")
    assert undo._copy(one, other)
    assert other.read_bytes() == b"sound"
    assert undo._copy(one, other)
    other.write_bytes(b"somebody's")
    assert not undo._copy(one, other)


@pytest.mark.parametrize("fault", ["undo.moved:1", "undo.moved:2", "undo.moved:3", "undo.before_row:1"])
def test_after_a_kill_at_any_step_the_same_command_goes_on(person: Person, fault: str) -> None:
    def child() -> None:
        with open_queue(person.db) as queue:
            list(undo.undo(queue, queue.jobs()))

    with open_queue(person.db) as queue:
        expected = {name: (person.folder / "out" / name).read_bytes() for name in MADE}
        assert queue.get(1) is not None
    assert rig.wait(rig.fork(child, fault=fault)) == -signal.SIGKILL
    assert person.job(1).state is State.DONE
    assert "undone: 2" in person.run("undo", "--batch", "calls", "--yes").err
    trash = person.folder / "out" / undo.FOLDER
    assert {name: (trash / name).read_bytes() for name in MADE} == expected
    assert names(person.folder / "out") == set()
    assert person.job(1).state is State.CANCELLED


def test_a_job_that_was_queued_again_meanwhile_is_said_to_be(person: Person) -> None:
    with open_queue(person.db) as queue:
        stale = list(queue.jobs())
        queue.retry([1], redo=True)
        first, second = undo.undo(queue, stale)
    assert (first.verdict, second.verdict) == ("busy", "undone")
    assert person.job(1).state is State.QUEUED
