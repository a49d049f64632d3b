"""A store that fails on the way: nothing is lost, nothing that came is fetched twice, and what is wrong is said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import rig
from object_store import Store
from person import called

from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.remote import stores


@pytest.fixture
def queued(store: Store, tape: bytes, db: Path, tmp_path: Path) -> Path:
    """A queue with one object, of four pieces."""
    store.put("in/tape.wav", tape)
    called("--db", db, "enqueue", "s3://tapes/in/tape.wav", "--out", tmp_path / "out")
    store.asked.clear()
    return db


def output(db: Path) -> Path:
    return Path(rig.job_of(db, 1).output)


def gets(store: Store) -> int:
    return sum(method == "GET" and key == "in/tape.wav" for method, key in store.asked)


@pytest.mark.parametrize("fault", [500, 503, "reset", "short"])
def test_a_request_that_fails_is_made_again_from_where_it_was(store: Store, queued: Path, fault: int | str) -> None:
    store.once(fault, after=2, times=2)
    assert rig.work(queued).done == 1
    assert output(queued).exists()
    assert gets(store) <= 4 + 2 + 4  # smaller pieces behind a failure


def test_a_stalled_request_ends(store: Store, queued: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "TIMEOUT_S", 0.3)
    stores.forget()
    store.once("stall", after=1)
    assert rig.work(queued).done == 1


@pytest.mark.parametrize("fault", [500, 503, "reset"])
def test_jobs_wait_for_a_store_that_is_away_and_go_on_when_it_is_back(
    store: Store, queued: Path, told: rig.Told, fault: int | str
) -> None:
    store.once(fault, after=1, times=1000)  # the first piece comes
    store.faults.append(lambda method, key: fault if gets(store) > 1 else None)
    told.on_paused = store.faults.clear
    summary = rig.work(queued, listener=told)
    assert summary.done == 1
    assert any("s3://tapes cannot be read now" in line for line in told.said if line.startswith("held")), told.said
    job = rig.job_of(queued, 1)
    assert (job.state, job.failures, job.attempts) == (State.DONE, 0, 1)


def test_a_store_that_refuses_holds_its_jobs_with_the_remedy(store: Store, queued: Path, told: rig.Told) -> None:
    store.faults.append(lambda method, key: 403)
    options = dataclasses.replace(rig.OPTIONS, wait_for_places_s=0.1)
    summary = rig.work(queued, options=options, listener=told)
    assert summary.done == summary.failed == 0
    assert rig.job_of(queued, 1).state is State.QUEUED
    with open_queue(queued) as queue:
        (place,) = queue.places()
    assert (place.trouble.path, place.trouble.code) == ("s3://tapes", "denied")
    assert "AWS_ACCESS_KEY_ID" in place.trouble.remedy
    status = called("--db", queued, "status")
    assert "s3://tapes" in status.out
    assert "hidden-key" not in status.out
    store.faults.clear()
    assert rig.work(queued).done == 1


def test_one_object_that_is_refused_fails_and_the_others_are_done(
    store: Store, queued: Path, tape: bytes, told: rig.Told, tmp_path: Path
) -> None:
    store.put("in/other.wav", tape)
    called("--db", queued, "enqueue", "s3://tapes/in/other.wav", "--out", tmp_path / "out")
    store.faults.append(lambda method, key: 403 if key == "in/tape.wav" else None)
    summary = rig.work(queued, listener=told)
    assert (summary.done, summary.failed) == (1, 1)
    assert rig.job_of(queued, 1).error_code == "store.denied"


def test_an_object_that_is_gone_fails_and_a_bucket_that_is_gone_holds(store: Store, queued: Path) -> None:
    (kept,) = store.objects.items()
    store.buckets.clear()
    options = dataclasses.replace(rig.OPTIONS, wait_for_places_s=0.1)
    rig.work(queued, options=options)
    assert rig.job_of(queued, 1).state is State.QUEUED
    store.buckets.add("tapes")
    store.objects.clear()
    rig.work(queued)
    assert (rig.job_of(queued, 1).state, rig.job_of(queued, 1).error_code) == (State.FAILED, "input.missing")
    store.objects[kept[0]] = kept[1]
    called("--db", queued, "retry", "1")
    assert rig.work(queued).done == 1


@pytest.mark.parametrize("when", ["before", "between pieces", "before it is published"])
def test_an_object_that_changed_is_noticed(store: Store, queued: Path, tape: bytes, when: str) -> None:
    other = tape[:-2] + b"\1\1"
    if when == "before":
        store.put("in/tape.wav", other)
    elif when == "between pieces":

        def change(method: str, key: str) -> None:
            if gets(store) == 2:
                store.put("in/tape.wav", other)

        store.faults.append(change)
    told = rig.Told()
    if when == "before it is published":
        told.on_windows = lambda job, done, total: store.put("in/tape.wav", other)
    rig.work(queued, listener=told)
    job = rig.job_of(queued, 1)
    assert (job.state, job.error_code) == (State.FAILED, "input.changed")
    assert "s3://tapes/in/tape.wav" in str(job.error)
    assert "scratch" not in str(job.error)
    assert not output(queued).exists()
    words = ("enqueue", "s3://tapes/in/tape.wav", "--out", output(queued).parent)
    assert "superseding" in called("--db", queued, *words).out
    assert rig.work(queued).done == 1


def test_wrong_bytes_are_fetched_again_and_an_object_that_is_always_wrong_fails(store: Store, queued: Path) -> None:
    store.once("wrong", after=1)
    assert rig.work(queued).done == 1
    store.put("in/tape.wav", store.data("in/tape.wav"), tag="0" * 32)
    words = ("enqueue", "s3://tapes/in/tape.wav", "--out", output(queued).parent / "2")
    called("--db", queued, *words)
    rig.work(queued)
    job = rig.job_of(queued, 2)
    assert (job.state, job.error_code) == (State.FAILED, "store.damaged")
    assert "0" * 32 in str(job.error)


def test_no_room_for_the_copy_holds_the_job_before_anything_is_fetched(
    store: Store, queued: Path, monkeypatch: pytest.MonkeyPatch, told: rig.Told
) -> None:
    from batchsr import storage

    monkeypatch.setattr(storage, "free_bytes", lambda path: 1000)
    rig.work(queued, options=dataclasses.replace(rig.OPTIONS, wait_for_places_s=0.1), listener=told)
    assert rig.job_of(queued, 1).held is not None
    assert gets(store) == 0


def test_gc_removes_the_copy_of_a_job_that_is_cancelled(store: Store, queued: Path, told: rig.Told) -> None:
    store.faults.append(lambda method, key: 500 if method == "GET" and gets(store) > 2 else None)
    rig.work(queued, options=dataclasses.replace(rig.OPTIONS, max_attempts=1))
    scratch = queued.parent / "queue.db.scratch"
    assert [path.name.endswith(".source.wav.part") for path in scratch.iterdir()] == [True]
    called("--db", queued, "gc")
    assert len(list(scratch.iterdir())) == 1  # a failed job may be retried
    called("--db", queued, "forget", "1", "--yes")
    called("--db", queued, "gc")
    assert list(scratch.iterdir()) == []


def test_an_object_that_is_no_recording_fails_with_its_url(store: Store, db: Path, tmp_path: Path) -> None:
    store.put("in/none.wav", b"this is none" * 99)
    store.put("in/empty.wav", b"")
    called("--db", db, "enqueue", "-r", "s3://tapes/in", "--out", tmp_path / "out")
    assert rig.work(db).failed == 2
    for number in (1, 2):
        job = rig.job_of(db, number)
        assert str(job.error_code).startswith("input.")
        assert job.source in str(job.error)
        assert "scratch" not in str(job.error)
