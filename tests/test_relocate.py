"""A moved archive is told to the queue once, checked file by file; what is something else stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import rig
from person import Person

from batchsr.queue import State
from batchsr.queue.opening import open_queue


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Job 1 is done, 2 and 3 are queued, 4 is elsewhere; outputs stand beside their sources."""
    person = Person(tmp_path)
    a, b, c, other = person.record("old/a.wav", "old/deep/b.wav", "old/c.wav", "older/d.wav")
    person.run("enqueue", a)
    person.work()
    person.run("enqueue", b, c, other)
    return person


def test_what_is_below_the_old_folder_is_below_the_new_one_and_is_worked_on_there(person: Person) -> None:
    old, new = person.folder / "old", person.folder / "new {0}"
    sidecar = (old / "a_upsampled.wav.json").read_bytes()
    old.rename(new)
    assert "relocate 3 jobs from" in person.run("relocate", old, new, code=2).err
    assert person.job(2).source == str(old / "deep" / "b.wav")
    said = person.run("relocate", f"{old}/", new, "--outputs", "--yes")
    assert "relocated: 3" in said.err
    assert [person.job(n).source for n in (1, 2, 4)] == [
        str(new / "a.wav"),
        str(new / "deep" / "b.wav"),
        str(person.folder / "older" / "d.wav"),
    ]
    assert person.job(1).state is State.DONE
    assert person.run("verify").err.startswith("all outputs are as they were made")
    assert (new / "a_upsampled.wav.json").read_bytes() == sidecar
    person.work()
    assert (new / "deep" / "b_upsampled.wav").exists()
    assert not old.exists()
    again = person.run("enqueue", new / "a.wav", new / "c.wav")
    assert again.out.count("already done") == 2, "enqueueing it from its new place makes no second job"
    with open_queue(person.db) as queue:
        assert queue.check() == []


def test_files_of_another_time_are_compared_by_what_they_hold(person: Person) -> None:
    old, new = person.folder / "old", person.folder / "new"
    old.rename(new)
    for name in ("a.wav", "deep/b.wav", "c.wav"):
        os.utime(new / name, (1_000_000, 1_000_000))
    data = bytearray((new / "a.wav").read_bytes())
    data[-1] ^= 1
    (new / "a.wav").write_bytes(data)
    rig.record(new / "c.wav", 0.3, rate_hz=8000, channels=1)
    said = person.run("relocate", old, new, "--yes", code=3)
    assert "holds something else" in said.out, "job 1 is done, so its hash is on record"
    assert person.job(1).source == str(old / "a.wav")
    assert person.job(2).source == str(new / "deep" / "b.wav")
    assert "--outputs moves them" in said.err
    person.work()
    assert person.job(2).state is State.DONE


def test_missing_and_exchanged_files_leave_their_jobs(person: Person) -> None:
    old, new = person.folder / "old", person.folder / "new"
    old.rename(new)
    (new / "c.wav").unlink()
    (new / "deep" / "b.wav").write_bytes(b"shorter")
    said = person.run("relocate", old, new, "--yes", code=3)
    assert "cannot be looked at" in said.out
    assert "is another file: 7 bytes" in said.out
    assert [person.job(n).source for n in (2, 3)] == [str(old / "deep" / "b.wav"), str(old / "c.wav")]
    assert "relocated: 1; left as they are: 2" in said.err


def test_a_dry_run_checks_and_writes_nothing(person: Person) -> None:
    old, new = person.folder / "old", person.folder / "new"
    old.rename(new)
    documents = person.run("relocate", old, new, "--dry-run", "--json").documents
    assert [one["source"] for one in documents] == [str(new / name) for name in ("a.wav", "deep/b.wav", "c.wav")]
    assert person.job(1).source == str(old / "a.wav")


def test_what_makes_no_sense_is_told(person: Person) -> None:
    old = person.folder / "old"
    assert "one folder" in person.run("relocate", old, old, code=2).err
    assert "is not there" in person.run("relocate", old, person.folder / "nowhere", code=2).err
    assert "no job has files below" in person.run("relocate", person.folder / "ol", old, code=2).err


def test_a_job_that_was_enqueued_again_at_the_new_place_is_not_doubled(person: Person) -> None:
    old, new = person.folder / "old", person.folder / "new"
    old.rename(new)
    person.run("enqueue", new / "c.wav")
    said = person.run("relocate", old, new, "--outputs", "--yes", code=3)
    assert "#5 is that already" in said.out
    assert person.job(3).source == str(old / "c.wav")
    with open_queue(person.db) as queue:
        assert queue.check() == []


def test_jobs_held_for_the_lost_folder_are_free_again(person: Person) -> None:
    old, new = person.folder / "old", person.folder / "new"
    old.rename(new)
    with open_queue(person.db) as queue:
        job = queue.get(2)
        assert job is not None
        trouble = rig.Trouble(
            path=str(old), side="source", code="missing", reason="gone", remedy="mount it", whole_system=False
        )
        queue.hold_queued(job, trouble, alike=True)
        assert queue.places()
    person.run("relocate", old, new, "--yes")
    with open_queue(person.db) as queue:
        assert queue.places() == []
