"""Looking at the queue: lists, totals, status, hangs; and clocks that jump."""

from __future__ import annotations

import json

import pytest
import rig

from batchsr.queue import Queue, Result, State

DAY_S = 86_400.0


def fill(queue: Queue, *names: str, **values: object) -> None:
    list(queue.enqueue(rig.new_job(name, **values) for name in names))


def test_jobs_come_in_order_and_can_be_chosen(queue: Queue) -> None:
    fill(queue, *[f"n{number:04}" for number in range(1203)])
    fill(queue, "x", batch="other")
    queue.cancel([5])
    assert [job.id for job in queue.jobs()] == list(range(1, 1205))
    assert [job.id for job in queue.jobs(newest_first=True, limit=3)] == [1204, 1203, 1202]
    assert [job.id for job in queue.jobs(batch="other")] == [1204]
    assert [job.id for job in queue.jobs(states=["cancelled"])] == [5]
    assert [job.id for job in queue.jobs(ids=[7, 3, 9999])] == [3, 7]
    assert [job.id for job in queue.jobs(source="n0007")] == [8]
    assert queue.get(4711) is None
    assert queue.counts("other")["queued"] == 1


def test_jobs_come_in_any_order_a_page_at_a_time_while_others_change_them(queue: Queue) -> None:
    fill(queue, *[f"n{number * 7 % 1203:04}" for number in range(1203)])
    with queue.join() as worker:
        for _ in range(3):
            queue.fail(queue.claim(worker, rig.BACKEND), "x", "x", lambda failures: None)
    by_path = [job.source for job in queue.jobs(sort="path")]
    assert by_path == sorted(job.source for job in queue.jobs())
    assert [job.id for job in queue.jobs(failures_first=True)][:4] == [1, 2, 3, 4]
    assert [job.id for job in queue.jobs(failures_first=True, newest_first=True)][:4] == [3, 2, 1, 1203]
    assert [job.source for job in queue.jobs(sort="path", failures_first=True)][:4] == [
        *sorted(job.source for job in queue.jobs(states=["failed"])),
        by_path[1],
    ]
    assert [job.source for job in queue.jobs(sort="path", limit=2, states=["queued"])] == by_path[1:3]
    assert len(list(queue.jobs(sort="rtf", newest_first=True))) == len(list(queue.jobs(sort="length"))) == 1203
    latest = list(queue.jobs(sort="changed"))
    assert [job.changed_at for job in latest] == sorted((job.changed_at for job in latest), reverse=True)
    reading = queue.jobs(sort="path")
    assert next(reading).source == by_path[0]
    queue.cancel(range(1, 1204))
    assert queue.forget(range(1, 1204))
    assert len(list(reading)) == 499, "the page in hand; those that were forgotten meanwhile are left out"


def test_a_list_may_be_changed_while_it_is_read(queue: Queue) -> None:
    fill(queue, *[str(number) for number in range(1100)])
    seen = 0
    for job in queue.jobs(states=[State.QUEUED]):
        queue.cancel([job.id])
        seen += 1
    assert seen == 1100


def test_a_job_as_json_has_what_scripts_rely_on(queue: Queue) -> None:
    fill(queue, "a")
    document = json.loads(json.dumps(queue.get(1).to_dict()))
    expected = (
        "id state source output variant windows_done windows_total audio_s wall_s rtf attempts error_code error "
        "batch priority revision settings created_at started_at finished_at sample_rate channels frames "
        "source_sha256 output_sha256 clipped_samples"
    )
    assert set(expected.split()) <= set(document)
    assert (document["state"], document["settings"]["seed"]) == ("queued", 0)
    assert document["created_at"] == "2023-11-14T22:13:20.000+00:00"


def test_status_has_every_state_and_every_living_worker(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a", "b")
    with queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        queue.progress(job, 1, 4)
        status = json.loads(json.dumps(queue.status()))
        assert set(status["jobs"]) == set(State)
        assert (status["jobs"]["running"], status["jobs"]["queued"], status["paused"]) == (1, 1, False)
        (seen,) = status["workers"]
        assert (seen["job"], seen["source"], seen["windows_done"], seen["hung"]) == (1, "/archive/a.wav", 1, False)
        queue.release(job)
    assert queue.status()["workers"] == []


def test_a_worker_without_a_window_for_ten_minutes_is_shown_as_hung(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        queue.progress(job, 1, 100)
        clock.pass_s(599)
        assert not queue.status()["workers"][0]["hung"]
        clock.pass_s(2)
        assert queue.status()["workers"][0]["hung"]
        queue.progress(job, 2, 100)
        assert not queue.status()["workers"][0]["hung"]
        queue.release(job)


def test_a_worker_with_several_files_has_a_line_for_each_and_hangs_only_if_none_gets_on(
    queue: Queue, clock: rig.HandClock
) -> None:
    fill(queue, "a")
    fill(queue, "b")
    with queue.join() as worker:
        jobs = [queue.claim(worker, rig.BACKEND) for _ in range(2)]
        assert [line["job"] for line in queue.status()["workers"]] == [1, 2]
        clock.pass_s(400)
        queue.progress(jobs[0], 1, 100)
        clock.pass_s(400)
        assert [(line["idle_s"], line["hung"]) for line in queue.status()["workers"]] == [(400.0, False)] * 2
        clock.pass_s(201)
        assert all(line["hung"] for line in queue.status()["workers"])
        for job in jobs:
            queue.release(job)


def test_slow_models_get_twenty_times_their_usual_window(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        queue.progress(job, 0, 100)
        clock.pass_s(100)
        queue.progress(job, 1, 100)  # 100 s a window
        clock.pass_s(1990)
        assert not queue.status()["workers"][0]["hung"]
        clock.pass_s(20)
        assert queue.status()["workers"][0]["hung"]
        queue.release(job)


def test_neither_a_set_clock_nor_a_suspend_makes_a_worker_look_hung(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        queue.progress(job, 1, 100)
        for jump_s in (DAY_S, -3 * DAY_S):  # a suspend is this too: the steady clock does not count it
            clock.wall_s += jump_s
            assert not queue.status()["workers"][0]["hung"]
        queue.release(job)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_set_clock_neither_shortens_nor_lengthens_a_backoff(
    queue: Queue, clock: rig.HandClock, jump_s: float
) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        queue.fail(queue.claim(worker, rig.BACKEND), "t", "t", lambda failures: 60.0)
        clock.wall_s += jump_s
        assert queue.claim(worker, rig.BACKEND) is None
        assert queue.next_due_s("fast") == pytest.approx(60.0)
        clock.steady_s += 61
        queue.release(queue.claim(worker, rig.BACKEND))


@pytest.mark.parametrize(("wall_after_s", "due"), [(30.0, False), (61.0, True), (-DAY_S, True)])
def test_after_a_reboot_the_backoff_goes_by_the_wall_clock(
    queue: Queue, clock: rig.HandClock, wall_after_s: float, due: bool
) -> None:
    fill(queue, "a")
    with queue.join() as worker:
        queue.fail(queue.claim(worker, rig.BACKEND), "t", "t", lambda failures: 60.0)
        clock.boot_id, clock.steady_s = "boot-2", 5.0
        clock.wall_s += wall_after_s  # set back past the failure: nobody knows any more, so it is tried
        assert (queue.peek("fast") is not None) is due
        job = queue.claim(worker, rig.BACKEND)
        assert (job is not None) is due
        if job:
            queue.release(job)


def test_old_events_of_finished_jobs_are_pruned_and_no_others(queue: Queue, clock: rig.HandClock) -> None:
    fill(queue, "a", "b")
    with queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        queue.committing(job, Result("ab" * 32, 1))
        queue.finish(job)
    clock.pass_s(100)
    assert queue.prune_events(200) == 0
    assert queue.prune_events(50) == 5, "four changes of state and an attempt"
    assert queue.attempts(1) == []
    assert queue.get(1).state is State.DONE
    assert queue.events(1) == []
    assert len(queue.events(2)) == 1


@pytest.mark.parametrize("queue", ["sqlite"], indirect=True)  # SQLite's planner is asked
def test_claims_and_look_ups_go_by_their_indexes_however_long_the_queue(queue: Queue) -> None:
    """A plan that reads the whole table costs 90 ms a claim, and makes enqueueing quadratic, at 100,000 jobs."""
    fill(queue, *[str(number) for number in range(50)])
    plans: list[str] = []

    def trace(sql: str, parameters: object) -> None:
        if sql.lstrip().startswith(("UPDATE jobs", "SELECT")):
            values = parameters if parameters is not None else ()
            plans.extend(row[3] for row in queue._store.db.conn.execute("EXPLAIN QUERY PLAN " + sql, values))

    with queue._store.db.tracer(trace), queue.join() as worker:
        fill(queue, "51", "52")
        queue.peek("fast")
        queue.next_due_s("fast")
        job = queue.claim(worker, rig.BACKEND)
        queue.progress(job, 1, 2)
        queue.in_flight()
        queue.reap()
        queue.is_output("/a/b.wav")
        queue.release(job)
    scans = [plan for plan in plans if plan.startswith("SCAN jobs") and "USING" not in plan]
    assert len(plans) > 15
    assert scans == []
    assert not any("TEMP B-TREE FOR ORDER BY" in plan and "jobs" in plan for plan in plans)
