"""A job in a worker's hands: one owner, fenced, and let go of in the right way."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import rig

from batchsr.errors import ClaimLost
from batchsr.queue import Job, Queue, Result, State, Worker
from batchsr.queue.opening import open_queue

RESULT = Result("ab" * 32, 1000, windows_total=4, audio_s=2.0, report={"any": "thing"})


def claim(queue: Queue, worker: Worker, **backend: object) -> Job | None:
    return queue.claim(worker, dataclasses.replace(rig.BACKEND, **backend))


def fill(queue: Queue, *names: str, **values: object) -> None:
    list(queue.enqueue(rig.new_job(name, **values) for name in names))


def test_jobs_are_claimed_by_priority_then_in_the_order_they_came(queue: Queue) -> None:
    fill(queue, "a", "b")
    fill(queue, "c", priority=5)
    with queue.join() as worker:
        assert [claim(queue, worker).id for _ in range(3)] == [3, 1, 2]
        assert claim(queue, worker) is None
        for job in queue.jobs():
            queue.release(job)


def test_a_claim_fills_in_the_workers_variant_and_binds_the_job_to_it(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = claim(queue, worker)
        assert (job.variant, job.revision, job.dtype, job.batch_windows) == ("fast", "r1", "float32", 2)
        queue.release(job)
        assert claim(queue, worker, variant="int8") is None
        assert queue.bound_variants() == ["fast"]
        queue.release(claim(queue, worker))


def test_a_worker_claims_only_jobs_that_are_open_or_name_its_variant(queue: Queue) -> None:
    fill(queue, "a", variant="int8")
    fill(queue, "b")
    with queue.join() as worker:
        job = claim(queue, worker)
        assert job.id == 2
        assert queue.peek("fast") is None
        assert queue.peek("int8").id == 1
        queue.release(job)


@pytest.mark.parametrize("change", [{"revision": "r2"}, {"dtype": "float16"}, {"device": "gpu"}, {"batch_windows": 1}])
def test_windows_of_another_backend_do_not_count(queue: Queue, change: dict[str, object]) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = claim(queue, worker)
        queue.progress(job, 3, 4)
        queue.release(job)
        again = claim(queue, worker)
        assert (again.windows_done, again.windows_total) == (3, 4)
        queue.release(again)
        other = claim(queue, worker, **change)
        assert (other.windows_done, other.windows_total) == (0, None)
        queue.release(other)


def test_every_write_of_an_owner_that_was_replaced_is_refused(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        stale = claim(queue, worker)
        queue.release(stale)
        current = claim(queue, worker)
        assert current.claim_seq == stale.claim_seq + 1
        for write in (
            lambda: queue.progress(stale, 1, 4),
            lambda: queue.committing(stale, RESULT),
            lambda: queue.finish(stale),
            lambda: queue.fail(stale, "x", "x"),
            lambda: queue.release(stale),
            lambda: queue.give_back(stale, "x"),
        ):
            with pytest.raises(ClaimLost, match="this worker had claim 1"):
                write()
        assert queue.get(1) == current
        assert queue.paused() is None, "a refused give_back must not pause the queue either"
        queue.release(current)


def test_a_job_is_finished_only_from_committing_and_only_once(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = claim(queue, worker)
        with pytest.raises(ClaimLost):
            queue.finish(job)
        queue.committing(job, RESULT)
        with pytest.raises(ClaimLost):
            queue.progress(job, 1, 4)
        done = queue.finish(job)
        assert (done.state, done.output_sha256, done.windows_done, done.worker) == (State.DONE, "ab" * 32, 4, None)
        with pytest.raises(ClaimLost):
            queue.finish(job)


def test_what_committing_wrote_survives_until_done(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = claim(queue, worker)
        queue.committing(job, dataclasses.replace(RESULT, clipped_samples=7, source_sha256="cd" * 32))
        done = queue.finish(job, None)
    assert (done.clipped_samples, done.source_sha256, done.report) == (7, "cd" * 32, None)
    assert queue.report_of(done.id) == {"any": "thing"}


def test_an_interrupt_costs_no_attempt_and_keeps_the_windows(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = claim(queue, worker)
        queue.progress(job, 2, 4)
        released = queue.release(job)
        assert (released.state, released.attempts, released.windows_done) == (State.QUEUED, 0, 2)
        assert [one["outcome"] for one in queue.attempts(1)] == ["interrupt"]


def test_giving_back_pauses_the_queue_with_the_reason_and_costs_no_attempt(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        given = queue.give_back(claim(queue, worker), "disk full", probes=["/out"])
        assert (given.state, given.attempts) == (State.QUEUED, 0)
        pause = queue.paused()
        assert (pause.kind, pause.reason, pause.probes) == ("resource", "disk full", ("/out",))
        assert claim(queue, worker) is None
        status = queue.status()
        told = status["hosts"][0] if queue.shared else status  # of a fleet this host alone is paused
        assert (told["paused"], told["paused_reason"], told["paused_kind"]) == (True, "disk full", "resource")


def test_a_machine_does_not_lift_a_persons_pause(queue: Queue) -> None:
    queue.pause("resource trouble", "resource")
    machines = queue.paused()
    queue.pause("holidays")
    queue.pause("disk full", "resource")
    assert queue.paused().reason == "holidays"
    assert not queue.resume(only=machines)
    assert queue.paused() is not None
    assert queue.resume()
    assert not queue.resume()


def test_a_transient_failure_waits_for_its_backoff(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        failed = queue.fail(claim(queue, worker), "transient", "share hiccup", lambda failures: 10.0 * failures)
        assert (failed.state, failed.failures, failed.error_code) == (State.WAITING, 1, "transient")
        assert queue.next_due_s("fast") == pytest.approx(10.0)
        clock.pass_s(9.9)
        assert claim(queue, worker) is None
        clock.pass_s(0.2)
        job = claim(queue, worker)
        assert (job.failures, job.attempts) == (1, 2)
        assert queue.fail(job, "transient", "again", lambda failures: 10.0 * failures).run_at == clock.wall_s + 20.0


def test_a_window_of_progress_starts_the_count_of_failures_anew(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        queue.fail(claim(queue, worker), "t", "t", lambda failures: -1.0)
        job = claim(queue, worker)
        queue.progress(job, 1, 4)
        assert queue.fail(job, "t", "t", lambda failures: -1.0).failures == 1


def test_a_failure_is_final_when_no_wait_is_named(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        failed = queue.fail(claim(queue, worker), "input.format", "not audio \udcff")
    assert (failed.state, failed.error_code, failed.error) == (State.FAILED, "input.format", "not audio \\udcff")
    assert queue.retry() == [1]
    assert (queue.get(1).state, queue.get(1).error_code, queue.get(1).failures) == (State.QUEUED, None, 0)


def test_a_running_job_that_is_cancelled_refuses_its_owners_next_write(queue: Queue) -> None:
    fill(queue, "a", "b")
    with queue.join() as worker:
        job = claim(queue, worker)
        assert queue.cancel([1, 2, 99]) == [1, 2]
        with pytest.raises(ClaimLost, match="is cancelled now"):
            queue.progress(job, 1, 4)
        assert [one["outcome"] for one in queue.attempts(1)] == ["cancelled"]
        assert claim(queue, worker) is None


def test_a_job_that_is_committing_is_not_cancelled(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = claim(queue, worker)
        queue.committing(job, RESULT)
        assert queue.cancel([1]) == []
        assert queue.finish(job).state is State.DONE


def test_a_running_job_whose_source_changed_stops_like_a_cancelled_one(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = claim(queue, worker)
        fill(queue, "a", identity="changed")
        with pytest.raises(ClaimLost, match="is superseded now"):
            queue.progress(job, 1, 4)


def test_time_counts_over_all_attempts_and_gives_the_real_time_factor(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = claim(queue, worker)
        clock.pass_s(1.0)
        queue.progress(job, 1, 4)
        clock.pass_s(2.0)
        queue.release(job)
        clock.pass_s(100.0)
        job = claim(queue, worker)
        clock.pass_s(5.0)
        queue.committing(job, RESULT)
        clock.pass_s(1.0)
        done = queue.finish(job)
    assert done.wall_s == pytest.approx(8.0), "until the output was whole"
    assert done.rtf == pytest.approx(4.0)
    assert [one["wall_s"] for one in queue.attempts(1)] == pytest.approx([3.0, 5.0])


def test_the_time_that_a_worker_tells_is_the_one_that_stands(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = claim(queue, worker)
        clock.pass_s(3.0)
        queue.release(job)
        job = claim(queue, worker)
        clock.pass_s(5.0)
        queue.committing(job, dataclasses.replace(RESULT, wall_s=7.25))
        clock.pass_s(1.0)
        done = queue.finish(job)
    assert done.wall_s == pytest.approx(7.25)
    assert [one["wall_s"] for one in queue.attempts(1)] == pytest.approx([3.0, 4.25])


def test_jobs_in_one_workers_hands_share_its_time_and_those_of_others_do_not(
    queue: Queue, clock: rig.HandClock
) -> None:
    fill(queue, "a", "b", "c")
    with queue.join() as worker, queue.join() as other:
        first, third = claim(queue, worker), claim(queue, other)
        clock.pass_s(10.0)
        queue.progress(first, 1, 4)  # alone
        second = claim(queue, worker)
        clock.pass_s(4.0)
        for job in (first, second, third):
            queue.progress(job, 2, 4)
        queue.release(first)
        clock.pass_s(6.0)
        queue.release(second)
        queue.release(third)
    spent = [queue.get(job.id).wall_s for job in (first, second, third)]
    assert spent == pytest.approx([12.0, 8.0, 20.0])


def test_files_ended_counts_what_workers_brought_to_an_end_since(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a", "b", "c")
    began = clock.wall()
    with queue.join() as worker:
        done = claim(queue, worker)
        queue.committing(done, RESULT)
        queue.finish(done)
        queue.fail(claim(queue, worker), "input", "bad")
        queue.release(claim(queue, worker))
    assert queue.files_ended(began, os.getpid()) == queue.files_ended(began) == 2
    assert queue.files_ended(began + 1, os.getpid()) == queue.files_ended(began + 1) == 0
    assert queue.files_ended(began, os.getpid() + 1) == 0


def test_done_jobs_are_redone_only_when_that_is_said(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = claim(queue, worker)
        queue.committing(job, RESULT)
        queue.finish(job)
        assert queue.retry([1]) == []
        assert queue.retry([1], redo=True) == [1]
        assert queue.get(1).output_sha256 is None
        queue.release(claim(queue, worker))


def test_every_change_of_state_is_an_event(queue: Queue) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        queue.release(claim(queue, worker), "interrupted")
        queue.fail(claim(queue, worker), "t", "t")
    steps = [(event["old"], event["new"], event["claim_seq"]) for event in queue.events(1)]
    assert steps == [
        (None, "queued", 0),
        ("queued", "running", 1),
        ("running", "queued", 1),
        ("queued", "running", 2),
        ("running", "failed", 2),
    ]


def test_the_database_itself_refuses_impossible_changes(queue: Queue) -> None:
    fill(queue, "a")
    from batchsr.errors import QueueError

    for sql in (
        "UPDATE jobs SET state = 'done', output_sha256 = 'x' WHERE id = 1",
        "UPDATE jobs SET claim_seq = -1 WHERE id = 1",
        "UPDATE jobs SET state = 'resting' WHERE id = 1",
        "UPDATE jobs SET windows_done = 5, windows_total = 4 WHERE id = 1",
        "UPDATE jobs SET priority = 'high' WHERE id = 1",
    ):
        with pytest.raises(QueueError), queue._store.writing() as db:
            db.execute(sql)
    assert queue.get(1).state is State.QUEUED


def test_no_double_claim_from_two_connections(queue: Queue, tmp_path: Path) -> None:
    fill(queue, "a")
    with open_queue(tmp_path / "queue.db") as other, queue.join() as one, other.join() as two:
        assert claim(queue, one) is not None
        assert claim(other, two) is None
        queue.release(queue.get(1))
