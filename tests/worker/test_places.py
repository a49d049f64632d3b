"""Trouble with one place holds the jobs that need it, and no others, until it works again."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rig
from rig import Told, job_of

from batchsr.errors import ResourceError
from batchsr.queue import Job, Queue, State, Trouble
from batchsr.queue.opening import open_queue
from batchsr.restoration.restore import restore
from batchsr.restoration.task import Restored, Task
from batchsr.worker import diagnosis
from batchsr.worker.variant_loop import VariantLoop

IMPATIENT = dataclasses.replace(rig.OPTIONS, wait_for_places_s=0.3)


def archive(folder: Path, names: str = "ab") -> list[Path]:
    return [rig.record(folder / f"{name}.wav", 0.4, seed=seed) for seed, name in enumerate(names)]


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root, without the powers that pass over permissions, for the block: threads started in it lack them too."""
    if os.geteuid():
        yield
        return
    setpriv = shutil.which("setpriv")
    if not sys.platform.startswith("linux") or setpriv is None:
        pytest.skip("needs a user whom permissions bind")
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def blind(**more: Any) -> rig.WorkerOptions:
    """Options of a worker that finds out about a full disk by running into it."""
    return dataclasses.replace(IMPATIENT, min_free_bytes=-1e12, **more)


def test_a_full_disk_holds_the_jobs_that_write_there_and_the_others_go_on(
    small_disk: Path, db: Path, tmp_path: Path, told: Told
) -> None:
    rig.enqueue(db, archive(tmp_path / "in"), small_disk / "out")
    rig.enqueue(db, archive(tmp_path / "in2"), tmp_path / "out")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 8192))
    summary = rig.work(db, options=blind(), listener=told)
    assert (summary.done, summary.failed, summary.exit_code) == (2, 0, 75)
    ((path, code, jobs),) = [(place.trouble.path, place.trouble.code, place.jobs) for place in summary.places]
    assert (path, code, jobs) == (str(small_disk), "full", 2)
    with open_queue(db) as queue:
        status = queue.status()
        assert (status["held"], status["paused"], status["jobs"]["queued"]) == (2, False, 2)
        (place,) = status["places"]
        assert place["reason"] == f"no space left on {small_disk}"
        assert "free some space" in place["remedy"]
        assert place["jobs"] == 2
        assert place["since"]
        assert [job.attempts for job in queue.jobs(ids=[1, 2])] == [0, 0], "the attempts are given back"
    ballast.unlink()
    summary = rig.work(db, options=blind(), listener=told)
    assert (summary.done, summary.exit_code) == (2, 0)
    with open_queue(db) as queue:
        assert queue.status()["places"] == []
        assert queue.check() == []


def test_a_place_comes_back_by_itself_within_the_same_run(db: Path, tmp_path: Path, told: Told) -> None:
    away = tmp_path / "away"
    rig.enqueue(db, archive(tmp_path / "lost"), tmp_path / "out")
    rig.enqueue(db, archive(tmp_path / "here"), tmp_path / "out2")
    (tmp_path / "lost").rename(away)

    def later() -> None:
        threading.Timer(0.4, lambda: away.rename(tmp_path / "lost")).start()

    told.on_paused = later
    summary = rig.work(db, listener=told)
    assert (summary.done, summary.failed, summary.exit_code) == (4, 0, 0)
    assert [said for said in told.said if said.startswith("held")] == [
        f"held {tmp_path / 'lost'} is gone (mount its disk or share, or put the folder back)"
    ]
    first_done = sorted([said for said in told.said if said.startswith("done")][:2])
    assert first_done == ["done 3", "done 4"], "what lies elsewhere did not wait"


@pytest.mark.parametrize("closed", ["in", "in/a/b"])
def test_files_of_a_folder_that_lost_permission_are_held_and_not_failed(tmp_path: Path, closed: str) -> None:
    """In a process of its own, since permissions do not bind root."""
    sources = [rig.record(tmp_path / "in" / "a" / "b" / f"{n}.wav", 0.3, seed=n) for n in range(2)]
    db = tmp_path / "q" / "queue.db"
    os.chmod(tmp_path, 0o777)
    (tmp_path / "q").mkdir()
    (tmp_path / "out").mkdir()
    rig.enqueue(db, sources, tmp_path / "out")
    for path in [tmp_path, *tmp_path.rglob("*")]:
        os.chmod(path, 0o777 if path.is_dir() else 0o666)
    for parent in tmp_path.parents:
        if not os.stat(parent).st_mode & 0o001:
            os.chmod(parent, os.stat(parent).st_mode | 0o011)
    # What is loaded when a file is first restored may lie where the other user may not read.
    rig.enqueue(tmp_path.with_name("loads.db"), [rig.record(tmp_path.with_name("loads.wav"), 0.1)], tmp_path / "loaded")
    assert rig.work(tmp_path.with_name("loads.db")).done == 1
    os.chmod(tmp_path / closed, 0o600)

    def child() -> int:
        with unprivileged():
            summary = rig.work(db, options=IMPATIENT)
            assert (summary.done, summary.failed) == (0, 0), summary
            assert [place.trouble.code for place in summary.places] == ["denied"]
            assert summary.places[0].trouble.path == str(tmp_path / closed)
            assert summary.places[0].jobs == 2
            return summary.exit_code

    assert rig.wait(rig.fork(child, stderr=tmp_path / "said")) == 75, (tmp_path / "said").read_text()
    os.chmod(tmp_path / closed, 0o777)
    assert rig.work(db).done == 2


def test_one_unreadable_file_among_good_ones_is_its_own_trouble(tmp_path: Path) -> None:
    sources = archive(tmp_path / "in", "abc")
    job = dataclasses.replace(_job(tmp_path), source=str(sources[0]))
    refused = {str(sources[0]): errno.EACCES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnosis, "refusal", lambda path: refused.get(path, 0))
        assert diagnosis.source_trouble(job) is None
        refused |= {str(path): errno.EACCES for path in sources}
        trouble = diagnosis.source_trouble(job)
        assert trouble is not None
        assert (trouble.code, trouble.path) == ("denied", str(tmp_path / "in"))


def _job(folder: Path) -> Job:
    rig.enqueue(folder / "some.db", archive(folder / "some", "a"), folder / "out")
    return job_of(folder / "some.db", 1)


def failing(errors: dict[str, int], side: Callable[[Task], Path] = lambda task: task.output) -> Any:
    """A restoration that cannot write outputs below certain folders."""

    def restoring(task: Task, model: Any, **callbacks: Any) -> Restored:
        for folder, number in errors.items():
            if str(task.output).startswith(folder):
                try:
                    raise OSError(number, os.strerror(number), str(side(task)))
                except OSError as e:
                    raise ResourceError(f"cannot write {task.output}") from e
        return restore(task, model, **callbacks)

    return restoring


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EDQUOT, "quota"), (errno.EROFS, "read_only"), (errno.EIO, "io"), (errno.ESTALE, "gone")]
)
def test_every_trouble_of_an_output_folder_holds_its_jobs_alone(
    db: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    rig.enqueue(db, archive(tmp_path / "in", "abc"), bad)
    rig.enqueue(db, archive(tmp_path / "in2", "ab"), good)
    errors = {str(bad): number}
    can_write = diagnosis.can_write
    monkeypatch.setattr(
        diagnosis, "can_write", lambda folder: not str(folder).startswith(tuple(errors)) and can_write(folder)
    )
    monkeypatch.setattr(
        diagnosis, "_same_system", lambda one, other: one.startswith(str(bad)) == ("queue" not in other)
    )
    summary = rig.work(db, restore=failing(errors), options=IMPATIENT, listener=told)
    assert (summary.done, summary.failed) == (2, 0)
    assert [(place.trouble.code, place.jobs) for place in summary.places] == [(code, 3)]
    assert any(said.startswith("waiting 3 held") for said in told.said)
    errors.clear()
    assert rig.work(db, restore=failing(errors)).done == 3


def test_the_queues_own_disk_pauses_all_of_it(
    db: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.enqueue(db, archive(tmp_path / "in"), tmp_path / "out")
    errors = {str(tmp_path / "out"): errno.ENOSPC}
    monkeypatch.setattr(diagnosis, "can_write", lambda folder: not errors)

    def over() -> None:
        with open_queue(db) as queue:
            assert queue.status()["paused_kind"] == "resource"
        errors.clear()

    told.on_paused = over
    assert rig.work(db, restore=failing(errors), listener=told).done == 2
    assert not [said for said in told.said if said.startswith("held")]


def test_a_denied_name_in_a_folder_that_takes_others_is_that_files_failure(db: Path, tmp_path: Path) -> None:
    rig.enqueue(db, archive(tmp_path / "in"), tmp_path / "out")
    errors = {str(tmp_path / "out" / "a"): errno.EPERM}
    summary = rig.work(db, restore=failing(errors))
    assert (summary.done, summary.failed, summary.exit_code) == (1, 1, 3)
    assert job_of(db, 1).error_code == "output"


def test_a_thread_that_cannot_be_started_fails_no_file(db: Path, tmp_path: Path, told: Told) -> None:
    rig.enqueue(db, archive(tmp_path / "in"), tmp_path / "out")
    left = [3]

    def restoring(task: Task, model: Any, **callbacks: Any) -> Restored:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("can't start new thread")
        return restore(task, model, **callbacks)

    summary = rig.work(db, restore=restoring, listener=told)
    assert (summary.done, summary.failed) == (2, 0)
    assert any(said.startswith("paused") for said in told.said)
    assert job_of(db, 1).attempts == 1


def test_a_file_for_which_no_thread_starts_goes_back_to_the_queue(
    db: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    rig.enqueue(db, archive(tmp_path / "in"), tmp_path / "out")
    submit, left = ThreadPoolExecutor.submit, [2]

    def refusing(pool: Any, function: Any, *arguments: Any, **named: Any) -> Any:
        if pool._thread_name_prefix == "file" and left[0]:
            left[0] -= 1
            submit(pool, function, *arguments, **named)  # it stays in the pool, as when a thread cannot be started
            raise RuntimeError("can't start new thread")
        return submit(pool, function, *arguments, **named)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refusing)
    summary = rig.work(db, listener=told)
    assert (summary.done, summary.failed) == (2, 0)
    with open_queue(db) as queue:
        assert queue.check() == []


def trouble(path: str, **values: Any) -> Trouble:
    return Trouble(path, "output", "denied", f"no way into {path}", "open it", False, **values)


def test_a_hold_ends_with_its_last_job(db: Path, tmp_path: Path) -> None:
    rig.enqueue(db, archive(tmp_path / "in"), tmp_path / "out")
    with open_queue(db) as queue:
        assert queue.hold_queued(_first(queue), trouble("/x"), alike=True) == 2
        assert queue.peek("fast") is None
        assert [place.jobs for place in queue.places()] == [2]
        queue.cancel([1])
        assert [place.jobs for place in queue.places()] == [1]
        queue.cancel([2])
        assert queue.places() == []
        assert queue.check() == []


def _first(queue: Queue) -> Job:
    job = queue.get(1)
    assert job is not None
    return job


def test_a_held_job_whose_source_changes_is_superseded_and_its_hold_is_over(db: Path, tmp_path: Path) -> None:
    (source,) = archive(tmp_path / "in", "a")
    rig.enqueue(db, [source], tmp_path / "out")
    with open_queue(db) as queue:
        queue.hold_queued(_first(queue), trouble("/x"))
        rig.record(source, 0.9, seed=7)
        list(queue.enqueue(rig.jobs_for([source], tmp_path / "out")))
        assert [job.state for job in queue.jobs()] == [State.SUPERSEDED, State.QUEUED]
        assert queue.places() == []


def test_resuming_tries_held_jobs_at_once(db: Path, tmp_path: Path) -> None:
    rig.enqueue(db, archive(tmp_path / "in"), tmp_path / "out")
    with open_queue(db) as queue:
        queue.hold_queued(_first(queue), trouble(str(tmp_path)), alike=True)
        assert queue.free() == 2
        assert queue.places() == []
    assert rig.work(db).done == 2


def test_no_wait_at_all_ends_at_once_with_the_places(db: Path, tmp_path: Path, told: Told) -> None:
    rig.enqueue(db, archive(tmp_path / "in"), tmp_path / "out")
    (tmp_path / "in").rename(tmp_path / "away")
    summary = rig.work(db, options=dataclasses.replace(rig.OPTIONS, wait_for_places_s=0), listener=told)
    assert (summary.done, summary.failed, summary.exit_code) == (0, 0, 75)
    assert [place.jobs for place in summary.places] == [2]
    assert not [said for said in told.said if said.startswith("waiting")]


@pytest.mark.parametrize("folders", [40])
def test_a_gone_tree_of_many_folders_is_held_folder_by_folder_without_a_failed_attempt(
    db: Path, tmp_path: Path, folders: int
) -> None:
    sources = [rig.record(tmp_path / "in" / f"{n:03}" / "a.wav", 0.05, seed=n) for n in range(folders)]
    rig.enqueue(db, sources, tmp_path / "out")
    (tmp_path / "in").rename(tmp_path / "away")
    summary = rig.work(db, options=IMPATIENT)
    assert [place.trouble.path for place in summary.places] == [str(tmp_path / "in")]
    assert summary.places[0].jobs == folders
    with open_queue(db) as queue:
        assert sum(job.claim_seq for job in queue.jobs()) <= 4, "one found out; the others were not tried"


def _work_by_variant(db: Path, told: Told, variant: str | None, **options: Any) -> Any:
    with open_queue(db) as queue:
        loop = VariantLoop(queue, dataclasses.replace(IMPATIENT, **options), told, lambda name: rig.FastModel())
        return loop.work(variant, "fast")


def test_bare_work_does_every_variant_before_it_waits_for_a_place(db: Path, tmp_path: Path, told: Told) -> None:
    rig.enqueue(db, archive(tmp_path / "in"), tmp_path / "out", variant="one")
    rig.enqueue(db, archive(tmp_path / "in2"), tmp_path / "out2", variant="two")
    (tmp_path / "in").rename(tmp_path / "away")
    summary = _work_by_variant(db, told, None)
    assert (summary.done, summary.failed, summary.exit_code) == (2, 0, 75)
    assert [place.jobs for place in summary.places] == [2]
    (tmp_path / "away").rename(tmp_path / "in")
    assert _work_by_variant(db, told, None).done == 2


def test_a_worker_that_stays_takes_the_variants_that_come(db: Path, tmp_path: Path, told: Told) -> None:
    with open_queue(db):
        pass
    took: list[str] = []

    def work() -> int:
        with open_queue(db) as queue:
            VariantLoop(queue, dataclasses.replace(rig.OPTIONS, stay=True), told, lambda name: rig.FastModel()).work(
                None, "fast"
            )
        return 0

    with rig.ended(rig.fork(work)) as pid:
        for variant in ("one", "two"):
            rig.enqueue(db, archive(tmp_path / variant), tmp_path / "out" / variant, variant=variant)
            with open_queue(db) as queue:
                rig.until(lambda: queue.counts()["done"] == 2 * (len(took) + 1))
            took.append(variant)
        assert pid
    assert took == ["one", "two"]


def test_jobs_that_no_worker_here_takes_are_shown_as_such(db: Path, tmp_path: Path) -> None:
    rig.enqueue(db, archive(tmp_path / "in"), tmp_path / "out", variant="other")
    rig.enqueue(db, archive(tmp_path / "in2", "a"), tmp_path / "out2")
    with open_queue(db) as queue:
        assert queue.status()["unserved"] == {}, "without a worker nothing is amiss"
        with queue.join() as worker:
            assert queue.status()["unserved"] == {}, "it may take them"
            job = queue.claim(worker, rig.BACKEND)
            assert queue.status()["unserved"] == {"other": 2}
            queue.release(job)


def test_an_output_from_before_a_lost_database_waits_for_its_sources_share(
    db: Path, tmp_path: Path, told: Told
) -> None:
    """It can be adopted only when the source can be looked at; till then it is no stranger's file under the name."""
    sources = archive(tmp_path / "in")
    rig.enqueue(db, sources, tmp_path / "out")
    assert rig.work(db).done == 2
    again = tmp_path / "again" / "queue.db"
    rig.enqueue(again, sources, tmp_path / "out")
    (tmp_path / "in").rename(tmp_path / "away")
    summary = rig.work(again, options=IMPATIENT)
    assert (summary.done, summary.failed) == (0, 0)
    assert [place.jobs for place in summary.places] == [2]
    (tmp_path / "away").rename(tmp_path / "in")
    before = {path: path.stat().st_ino for path in (tmp_path / "out").glob("*.wav")}
    assert rig.work(again, listener=told).done == 2
    assert {path: path.stat().st_ino for path in (tmp_path / "out").glob("*.wav")} == before, "adopted, not made anew"
