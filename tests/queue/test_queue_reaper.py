"""Who is alive and who is dead, and what becomes of the dead one's jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
import rig

from batchsr import storage
from batchsr.errors import ClaimLost
from batchsr.queue import Job, Queue, Result, State
from batchsr.queue.opening import open_queue
from batchsr.queue.sqlite import owners, reaper

DAY_S = 86_400.0


def fill(queue: Queue, *names: str) -> None:
    list(queue.enqueue(rig.new_job(name) for name in names))


def claim_and_die(queue: Queue, *, windows: int | None = None) -> Job:
    """A worker claims, makes windows up to so many, and is gone."""
    worker = queue.join()
    job = queue.claim(worker, rig.BACKEND)
    assert job is not None
    if windows is not None:
        queue.progress(job, job.windows_done, 10)
        queue.progress(job, windows, 10)
    os.close(worker._lock._fd)  # what the kernel does when a process ends; the file stays
    worker._lock._fd = -1
    return job


def test_a_living_worker_is_never_reaped_whatever_the_clock_says(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        for jump_s in (DAY_S, -2 * DAY_S, 400 * DAY_S):
            clock.wall_s += jump_s
            assert queue.reap() == []
        clock.steady_s += 30 * DAY_S
        clock.boot_id = "boot-2"
        assert queue.reap() == []
        queue.release(job)


def test_a_stopped_process_still_owns_its_job_and_a_killed_one_does_not(tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    with open_queue(db) as queue:
        fill(queue, "a")
        ready = tmp_path / "ready"

        def child() -> None:
            with open_queue(db) as own:
                own.claim(own.join(), rig.BACKEND)
                ready.touch()
                time.sleep(60)

        with rig.ended(rig.fork(child)) as pid:
            rig.until(ready.exists)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.05)
            assert queue.reap() == []
            os.kill(pid, signal.SIGKILL)
            assert rig.wait(pid) == -signal.SIGKILL
            (taken,) = queue.reap()
        assert (taken.id, taken.state, taken.crashes) == (1, State.QUEUED, 1)
        assert queue.status()["workers"] == []
        assert list(queue.workers_folder.iterdir()) == []
        assert queue.check() == []


def test_a_crash_is_taken_up_again_with_its_windows_and_costs_the_attempt(queue: Queue) -> None:
    fill(queue, "a")
    stale = claim_and_die(queue, windows=3)
    (taken,) = queue.reap()
    assert (taken.state, taken.windows_done, taken.attempts, taken.crashes) == (State.QUEUED, 3, 1, 0)
    with pytest.raises(ClaimLost):
        queue.progress(stale, 4, 10)
    assert [one["outcome"] for one in queue.attempts(1)] == ["crash"]
    assert queue.reap() == []


def test_three_crashes_without_a_window_quarantine_the_job(queue: Queue) -> None:
    fill(queue, "a")
    for _ in range(2):
        claim_and_die(queue)
        assert [job.state for job in queue.reap()] == [State.QUEUED]
    claim_and_die(queue)
    (taken,) = queue.reap()
    assert (taken.state, taken.error_code, taken.crashes) == (State.QUARANTINED, "crash", 3)
    assert "died 3 times in a row" in taken.error
    assert queue.retry() == [1]
    assert queue.get(1).crashes == 0


def test_nights_without_power_quarantine_nothing(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a")
    for night in range(7):
        claim_and_die(queue)
        clock.boot_id = f"boot-after-night-{night}"
        clock.steady_s = 20.0
        (taken,) = queue.reap()
        assert (taken.state, taken.crashes, taken.outages) == (State.QUEUED, 0, night + 1)


def test_a_machine_that_goes_down_with_the_same_file_every_time_is_noticed_in_the_end(
    queue: Queue, clock: rig.HandClock
) -> None:
    fill(queue, "a")
    for boot in range(reaper.OUTAGES_TO_QUARANTINE):
        assert queue.get(1).state is State.QUEUED
        claim_and_die(queue)
        clock.boot_id = f"another-{boot}"
        queue.reap()
    assert queue.get(1).state is State.QUARANTINED


@pytest.mark.parametrize(("died", "lived", "blamed"), [(2, 0, False), (2, 1, True), (3, 1, False), (1, 3, True)])
def test_the_death_of_many_workers_at_one_moment_blames_no_file(
    queue: Queue, clock: rig.HandClock, died: int, lived: int, blamed: bool
) -> None:
    fill(queue, *"abcdef"[: died + lived])
    with contextlib.ExitStack() as workers:
        for _ in range(lived):
            queue.claim(workers.enter_context(queue.join()), rig.BACKEND)
        clock.pass_s(5)
        for _ in range(died):
            claim_and_die(queue)
        clock.pass_s(3600)
        taken = queue.reap()
        assert [(job.crashes, job.outages) for job in taken] == [(int(blamed), int(not blamed))] * died
        for job in queue.in_flight():
            queue.release(job)


def test_workers_that_died_hours_apart_did_not_die_together(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, *"abc")
    for _ in range(3):
        claim_and_die(queue)
        clock.pass_s(3600)
    assert [(job.crashes, job.outages) for job in queue.reap()] == [(1, 0)] * 3


def test_a_quarantined_job_is_tried_once_more_and_then_no_more(queue: Queue) -> None:
    fill(queue, "a")
    assert queue.take_last_try("fast") is None
    for _ in range(3):
        claim_and_die(queue)
        queue.reap()
    assert queue.take_last_try("other variant") is None, "it is bound to another one"
    taken = queue.take_last_try("fast")
    assert (taken.id, taken.state, taken.last_try) == (1, State.QUEUED, 1)
    assert taken.crashes, "so that it is restored alone"
    claim_and_die(queue)
    (taken,) = queue.reap()
    assert (taken.state, taken.crashes) == (State.QUARANTINED, 4)
    assert queue.take_last_try("fast") is None
    assert queue.retry() == [1], "a person may always"
    assert (queue.get(1).crashes, queue.get(1).last_try) == (0, 0)


def test_a_window_in_its_last_try_clears_a_file(queue: Queue) -> None:
    fill(queue, "a")
    for _ in range(3):
        claim_and_die(queue)
        queue.reap()
    queue.take_last_try("fast")
    claim_and_die(queue, windows=2)
    (taken,) = queue.reap()
    assert (taken.state, taken.crashes, taken.last_try) == (State.QUEUED, 0, 0)


def test_a_window_between_two_crashes_keeps_a_job_out_of_quarantine(queue: Queue) -> None:
    fill(queue, "a")
    for windows in (None, 1, None, 2, None, 3):
        claim_and_die(queue, windows=windows)
        assert [job.state for job in queue.reap()] == [State.QUEUED]


def test_windows_that_the_row_had_not_seen_before_the_crash_count_as_progress(queue: Queue) -> None:
    fill(queue, "a")
    claim_and_die(queue)
    queue.reap()
    with queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        queue.progress(job, 2, 10)  # the first look into the scratch: two windows are there
        assert queue.get(1).crashes == 0
        queue.release(job)


@pytest.mark.parametrize("there", ["whole", "other", "missing"])
def test_a_job_that_died_while_committing_is_done_only_if_its_very_output_is_there(
    queue: Queue, tmp_path: Path, there: str
) -> None:
    output = tmp_path / "a_upsampled.wav"
    list(queue.enqueue([rig.new_job(output=str(output))]))
    worker = queue.join()
    job = queue.claim(worker, rig.BACKEND)
    output.write_bytes(b"the whole output")
    queue.committing(job, Result(storage.sha256(output), output.stat().st_size, windows_total=4))
    if there == "other":
        output.write_bytes(b"THE WHOLE OUTPUT")
    elif there == "missing":
        output.unlink()
    worker._lock.release()
    (taken,) = queue.reap()
    assert taken.state is (State.DONE if there == "whole" else State.QUEUED)
    if there == "whole":
        assert (taken.windows_done, taken.worker) == (4, None)


def test_a_job_cancelled_while_its_worker_died_stays_cancelled(queue: Queue) -> None:
    fill(queue, "a")
    claim_and_die(queue)
    queue.cancel([1])
    assert queue.reap() == []
    assert queue.get(1).state is State.CANCELLED


def test_a_worker_whose_lock_file_was_removed_counts_as_dead_and_is_fenced_off(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        owners.lock_path(queue.workers_folder, worker.name).unlink()
        assert [taken.id for taken in queue.reap()] == [1]
        with pytest.raises(ClaimLost):
            queue.progress(job, 1, 4)
        with pytest.raises(ClaimLost, match="join anew"):
            queue.claim(worker, rig.BACKEND)


def test_time_spent_by_a_worker_that_died_counts_up_to_its_last_window(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a")
    worker = queue.join()
    job = queue.claim(worker, rig.BACKEND)
    clock.pass_s(5.0)
    queue.progress(job, 1, 4)
    clock.pass_s(50.0)
    worker._lock.release()
    (taken,) = queue.reap()
    assert taken.wall_s == pytest.approx(5.0)


def test_locks_without_an_owner_are_pruned_and_those_of_the_living_kept(queue: Queue) -> None:
    queue.workers_folder.mkdir(parents=True)
    (queue.workers_folder / "123-dead.lock").touch()
    with queue.join() as worker:
        assert queue.prune_locks() == 1
        assert [path.stem for path in queue.workers_folder.glob("*.lock")] == [worker.name]


def test_a_worker_that_a_supervisor_ended_because_it_hung_is_no_crash_and_not_endless(queue: Queue) -> None:
    fill(queue, "a")
    for time_ in range(1, reaper.OUTAGES_TO_QUARANTINE + 1):
        job = claim_and_die(queue)
        assert job.worker is not None
        queue.note_hung(job.worker)
        (taken,) = queue.reap()
        assert (taken.crashes, taken.outages) == (0, time_)
    assert taken.state is State.QUARANTINED
    assert queue.check() == []
