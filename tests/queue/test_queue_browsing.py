"""A long queue a page at a time, in any order, while others change it; failures and batches by kind."""

from __future__ import annotations

from typing import get_args

import pytest
import rig

from batchsr.errors import ConfigError
from batchsr.queue import JobFilter, Queue, Sort, State
from batchsr.queue.postgres import hosts
from batchsr.queue.postgres.api import PostgresQueue
from batchsr.settings.profile import Settings


def fill(queue: Queue, *names: str, **values: object) -> None:
    list(queue.enqueue(rig.new_job(name, **values) for name in names))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", get_args(Sort))
def test_pages_give_every_job_once_in_order(queue: Queue, sort: Sort, descending: bool) -> None:
    names = [f"n{number * 7 % 53:02}" for number in range(53)] + ["caf\udce9", "ß", "a"]
    for number, name in enumerate(names):
        fill(queue, name, audio_s=[None, 1.5, 0.1, 7.0][number % 4])
    with queue.join() as worker:
        for _ in range(3):
            queue.fail(queue.claim(worker, rig.BACKEND), "input.x", "x", lambda failures: None)
    found, after = [], ""
    while True:
        page = queue.browser.page(JobFilter(), sort=sort, descending=descending, after=after, limit=10)
        found += page.jobs
        if page.after is None:
            break
        after = page.after
    assert sorted(job.id for job in found) == list(range(1, 57))
    if sort != "id":
        other = {job.id: place for place, job in enumerate(queue.jobs(sort=sort))}
        keys = {"length": "audio_s", "rtf": "rtf", "changed": "changed_at", "path": "source"}
        values = [getattr(job, keys[sort]) or 0.0 for job in found]
        assert len(other) == 56
        if sort != "path":
            assert values == sorted(values, reverse=descending)
        else:
            assert [job.id for job in found] == sorted(other, key=lambda one: other[one], reverse=descending)


def test_a_page_begins_behind_its_key_though_jobs_before_it_were_forgotten(queue: Queue) -> None:
    fill(queue, *[f"n{number:02}" for number in range(30)])
    first = queue.browser.page(JobFilter(), sort="path", limit=10)
    queue.cancel(range(1, 11))
    queue.forget(range(1, 11))
    assert [job.id for job in queue.browser.page(JobFilter(), sort="path", after=first.after or "", limit=3).jobs] == [
        11,
        12,
        13,
    ]


@pytest.mark.parametrize("after", ["x", "1~", "1~zz", f"{2**70}~{2**70}", "1~nan~", "~"])
def test_a_place_that_no_page_gave_is_refused(queue: Queue, after: str) -> None:
    fill(queue, "a")
    for sort in get_args(Sort):
        if (sort, after) != ("path", "1~"):  # an empty path is a key like others
            with pytest.raises(ConfigError):
                queue.browser.page(JobFilter(), sort=sort, after=after)


def test_conditions_hold_together_and_signs_of_patterns_are_text(queue: Queue) -> None:
    fill(queue, "Tape 100%", "tape 1000", "a_b", "aXb", batch="one")
    fill(queue, "tape 100% b", batch="two")
    look = queue.browser
    assert look.numbers(JobFilter(text="tape 100%")) == [1, 5]
    assert look.numbers(JobFilter(text="a_b")) == [3]
    assert look.numbers(JobFilter(text="TAPE", batch="one")) == [1, 2]
    assert look.count(JobFilter(batch="two")) == 1
    assert look.numbers(JobFilter(ids=(2, 99))) == [2]
    queue.cancel([2])
    assert look.numbers(JobFilter(states=(State.CANCELLED,))) == [2]
    assert look.numbers(JobFilter(held=True)) == []


def test_failures_stand_by_kind_and_what_ended_last_comes_first(queue: Queue) -> None:
    fill(queue, *"abcde", batch="reel", channels=2, sample_rate=8000, frames=16000)
    with queue.join() as worker:
        for code in ("input.format", "input.format", "input.empty"):
            queue.fail(queue.claim(worker, rig.BACKEND), code, f"is {code}", lambda failures: None)
    kinds = queue.browser.failures()
    assert [(kind.code, kind.jobs) for kind in kinds] == [("input.format", 2), ("input.empty", 1)]
    assert kinds[1].example == "is input.empty"
    assert [job.id for job in queue.browser.lately(2)] == [3, 2]
    totals = queue.browser.totals_by_batch()
    assert {state: one["jobs"] for state, one in totals["reel"].items()} == {"failed": 3, "queued": 2}
    assert queue.browser.left_channel_s() == pytest.approx(2 * 2 * 2.0)
    asking = Settings(channels="mono", stems="files")
    fill(queue, "f", "g", channels=2, sample_rate=8000, frames=16000, settings=asking.to_json())
    assert queue.browser.left_channel_s() == pytest.approx(2 * 2 * 2.0 + 2 * asking.rows_of(2) * 2.0)
    queue.cancel([4, 5])
    with queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        assert job is not None
        queue.progress(job, 0, 4)
        queue.progress(job, 2, 4)
        queue.clock.pass_s(8)  # type: ignore[attr-defined]
        queue.release(job)
        at_work = hosts.listed(queue._store) if isinstance(queue, PostgresQueue) else []
    speed = queue.recent_speed()
    assert speed is not None
    assert speed.channel_s == pytest.approx(asking.rows_of(2) * 2.0 / 2), "half of two seconds of four stems"
    for host in at_work:
        assert host["speed"] == pytest.approx(speed.channel_s / speed.busy_s), "a host's is counted as the queue's"
    queue.retry([1])
    assert [job.id for job in queue.browser.lately(5)] == [3, 2], "what is queued again has not ended"
