"""When `batchsr work` stops or waits by itself, as a person starts it: --stop-after, --for, --only-between."""

from __future__ import annotations

import datetime
import signal

import pytest
import rig
from program import FAST_MODEL, Program


@pytest.fixture
def fast(program: Program) -> Program:
    """The program with a model that takes microseconds, and six recordings in the queue."""
    program.environment |= FAST_MODEL
    sources = [rig.record(program.folder / "in" / f"{number}.wav", 0.4, seed=number) for number in range(6)]
    rig.enqueue(program.db, sources, program.folder / "out")
    return program


def hours_from_now(begins: float, ends: float) -> str:
    now = datetime.datetime.now()
    return "-".join(f"{now + datetime.timedelta(hours=hours):%H:%M}" for hours in (begins, ends))


@pytest.mark.parametrize("procs", ["1", "2"])
def test_stop_after_is_for_all_workers_together(fast: Program, procs: str) -> None:
    fast.run("work", "--variant", "fast", "--stop-after=3", "--procs", procs)
    jobs = fast.status()["jobs"]
    assert (jobs["done"], jobs["queued"], jobs["running"]) == (3, 3, 0)


@pytest.mark.parametrize("procs", ["1", "2"])
def test_for_takes_no_new_file_when_the_time_is_over_and_ends_what_is_in_flight(fast: Program, procs: str) -> None:
    fast.run("work", "--variant", "fast", "--for", "0.1s", "--procs", procs, environment={"BATCHSR_PACE_S": "0.3"})
    jobs = fast.status()["jobs"]
    assert jobs["running"] == 0
    assert jobs["done"] + jobs["queued"] == 6
    assert jobs["queued"] >= 3
    fast.run("work", "--variant", "fast", "--for", "1h", "--procs", procs)
    assert fast.status()["jobs"]["done"] == 6


def test_only_between_waits_outside_its_hours_and_works_within(fast: Program) -> None:
    process = fast.start("work", "--variant", "fast", "--only-between", hours_from_now(2, 3))
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "not yet time to work" in line
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert fast.status()["jobs"]["queued"] == 6
    assert all(job["attempts"] == 0 for job in fast.jobs())
    fast.run("work", "--variant", "fast", "--only-between", hours_from_now(-1, 1))
    assert fast.status()["jobs"]["done"] == 6
