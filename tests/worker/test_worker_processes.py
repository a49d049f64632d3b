"""Workers as processes: signals, supervisors, and what a person sees of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import forked
import pytest
import rig
from rig import Told, job_of

from batchsr import signals, storage
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.signals import SUPERVISOR_VARIABLE, Stop
from batchsr.worker.supervisor import MOST_DEATHS, CommandFn, supervise

ROOT = Path(__file__).resolve().parents[2]
SLOW = 0.05  # seconds a batch of windows


def supervised(db: Path, *arguments: Any, **named: Any) -> int:
    """`supervise` with a connection of its own."""
    with open_queue(db) as queue:
        return supervise(queue, *arguments, **named)


def slow_worker(db: Path, pace_s: float = SLOW) -> int:
    return rig.work(db, rig.FastModel(pace_s=pace_s)).exit_code


def windows_done(db: Path) -> int:
    return job_of(db, 1).windows_done


@pytest.fixture
def long_source(tmp_path: Path) -> Path:
    return rig.record(tmp_path / "in" / "long.wav", 3.0)


@pytest.fixture
def peaceful_sha256(tmp_path: Path, long_source: Path) -> str:
    """Hash of the long recording's output, restored in one go."""
    db, out = tmp_path / "peace.db", tmp_path / "peace"
    rig.enqueue(db, [long_source], out)
    assert rig.work(db).done == 1
    return storage.sha256(out / "long_upsampled.wav")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_first_signal_finishes_the_batch_keeps_the_windows_and_costs_no_attempt(
    db: Path,
    long_source: Path,
    peaceful_sha256: str,
    out: Path,
    number: int,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "has_terminal", lambda: True)  # without one SIGHUP does not ask to stop
    rig.enqueue(db, [long_source], out)
    with rig.ended(rig.fork(lambda: slow_worker(db))) as pid:
        rig.until(lambda: windows_done(db) >= 2)
        os.kill(pid, number)
        assert rig.wait(pid) == code
    job = job_of(db, 1)
    assert (job.state, job.attempts, job.claim_seq) == (State.QUEUED, 0, 1)
    assert 2 <= job.windows_done < job.windows_total
    assert list(out.iterdir()) == [], "no partial under any name"
    assert rig.work(db).done == 1
    job = job_of(db, 1)
    assert job.windows_resumed >= 2
    assert job.output_sha256 == peaceful_sha256
    with open_queue(db) as queue:
        assert queue.status()["workers"] == []
        assert queue.check() == []


def test_the_second_signal_ends_the_process_at_once_and_still_costs_no_attempt(
    db: Path, long_source: Path, out: Path
) -> None:
    rig.enqueue(db, [long_source], out)
    with rig.ended(rig.fork(lambda: slow_worker(db, pace_s=30.0))) as pid:
        rig.until(lambda: job_of(db, 1).state is State.RUNNING)
        time.sleep(0.1)
        began = time.monotonic()
        os.kill(pid, signal.SIGINT)
        time.sleep(0.2)
        os.kill(pid, signal.SIGINT)
        assert rig.wait(pid) == 130
        assert time.monotonic() - began < 10, "the batch would have taken half a minute"
    job = job_of(db, 1)
    assert (job.state, job.attempts) == (State.QUEUED, 0)


def test_a_signal_wakes_an_idle_worker(db: Path) -> None:
    import dataclasses

    open_queue(db).close()
    options = dataclasses.replace(rig.OPTIONS, stay=True, poll_s=30.0)
    with rig.ended(rig.fork(lambda: rig.work(db, options=options).exit_code)) as pid:

        def joined() -> bool:
            with open_queue(db) as queue:
                return bool(queue.status()["workers"])

        rig.until(joined)
        time.sleep(0.1)
        os.kill(pid, signal.SIGTERM)
        assert rig.wait(pid) == 143


def test_handlers_are_put_back_afterwards(db: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    rig.work(db)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_worker_whose_supervisor_is_gone_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setenv(SUPERVISOR_VARIABLE, str(os.getppid()))
    with Stop(asked.append, asked.append) as stop:
        assert stop.signal is None
        stop._supervisor += 1
        assert stop.signal == signal.SIGTERM
    assert asked == [signal.SIGTERM]


def test_twenty_random_kills_end_in_the_bytes_of_an_uninterrupted_run(
    db: Path, long_source: Path, peaceful_sha256: str, out: Path
) -> None:
    import random

    rng = random.Random(7)
    rig.enqueue(db, [long_source], out)
    kills = 0
    while kills < 20:
        with rig.ended(rig.fork(lambda: slow_worker(db, pace_s=0.06))) as pid:
            time.sleep(rng.uniform(0.0, 0.2))
            os.kill(pid, signal.SIGKILL)
            kills += rig.wait(pid) == -signal.SIGKILL
        with open_queue(db) as queue:
            queue.reap()
            assert queue.get(1).state is not State.DONE, "too soon: twenty kills were meant"
            queue.retry()
    rig.work(db)
    assert job_of(db, 1).output_sha256 == peaceful_sha256
    assert [path.name for path in out.iterdir() if path.suffix == ".wav"] == ["long_upsampled.wav"]


# Supervisors


@pytest.fixture(autouse=True)
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of these supervisors is a fork of the supervisor's process, not a start of Python."""
    monkeypatch.setattr(subprocess, "Popen", forked.Copied)


PROGRAM = """
import dataclasses, os, signal, sys, time
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
import rig
options = dataclasses.replace(rig.OPTIONS, limit=None if sys.argv[1] == "None" else int(sys.argv[1]))
def calls(indices):
    {trap}
sys.exit(rig.work(Path({db!r}), rig.FastModel(pace_s={pace_s}, calls=calls), options).exit_code)
"""


def command(db: Path, trap: str = "pass", pace_s: float = 0.01) -> CommandFn:
    """The command line of one worker; `trap` runs before each forward pass."""
    program = PROGRAM.format(root=str(ROOT), tests=str(ROOT / "tests"), db=str(db), trap=trap, pace_s=pace_s)
    return lambda limit: [sys.executable, "-c", program, str(limit)]


def once(path: Path, action: str) -> str:
    """A trap that springs for one worker only."""
    return f"p = Path({str(path)!r})\n    if not p.exists(): p.touch(); {action}"


def once_after(path: Path, calls: int) -> str:
    """A trap that kills one worker only, at so many calls of the model."""
    return (
        f"p = Path({str(path)!r})\n    n = len(p.read_text()) if p.exists() else 0\n    p.write_text((n + 1) * 'x')\n"
        f"    if n == {calls}: os.kill(os.getpid(), signal.SIGKILL)"
    )


def test_several_workers_drain_the_queue_and_the_supervisor_ends_with_their_code(
    db: Path, sources: list[Path], out: Path, told: Told
) -> None:
    rig.enqueue(db, sources, out)
    assert supervised(db, command(db), 2, told, poll_s=0.02) == 0
    with open_queue(db) as queue:
        assert queue.counts()["done"] == 3
    sources.append(rig.record(out.parent / "in" / "d.wav", 0.4))
    rig.enqueue(db, sources[3:], out)
    sources[3].write_bytes(b"not audio")
    assert supervised(db, command(db), 2, told, poll_s=0.02) == 3


def test_a_worker_that_died_is_replaced_and_its_file_goes_on(
    db: Path, sources: list[Path], out: Path, told: Told, tmp_path: Path
) -> None:
    rig.enqueue(db, sources, out)
    trap = once(tmp_path / "sprung", "os.kill(os.getpid(), signal.SIGSEGV)")
    assert supervised(db, command(db, trap), 1, told, poll_s=0.02) == 0
    assert any("was ended by SIGSEGV: replaced" in said for said in told.said)
    with open_queue(db) as queue:
        assert queue.counts()["done"] == 3
        assert queue.get(1).attempts == 2


def test_a_worker_that_hangs_is_replaced(
    db: Path, sources: list[Path], out: Path, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "batchsr.queue.sqlite.queries.HUNG_AFTER_S", 2.0
    )  # the first file compiles, or reads, the loops
    monkeypatch.setattr("batchsr.queue.sqlite.queries.HUNG_AFTER_MEDIANS", 0)
    rig.enqueue(db, sources[:1], out)
    trap = once(tmp_path / "sprung", "time.sleep(100)")
    assert supervised(db, command(db, trap, pace_s=0.0), 1, told, poll_s=0.02) == 0
    assert any("makes no windows any more" in said for said in told.said)
    assert job_of(db, 1).state is State.DONE


def test_workers_that_always_die_are_not_started_for_ever(db: Path, told: Told) -> None:
    assert supervised(db, lambda limit: [sys.executable, "-c", "import os; os.abort()"], 1, told, poll_s=0.02) == 74
    assert sum("SIGABRT" in said for said in told.said) == MOST_DEATHS


def test_a_missing_model_ends_them_all(db: Path, told: Told) -> None:
    assert supervised(db, lambda limit: [sys.executable, "-c", "import sys; sys.exit(69)"], 3, told, poll_s=0.02) == 69


@pytest.mark.parametrize(("limit", "procs", "shares"), [(5, 2, [3, 2]), (2, 3, [1, 1])])
def test_a_limit_is_for_all_workers_together(
    db: Path, tmp_path: Path, out: Path, told: Told, limit: int, procs: int, shares: list[int]
) -> None:
    rig.enqueue(db, [rig.record(tmp_path / "in" / f"{n}.wav", 0.1, seed=n) for n in range(6)], out)
    asked: list[int | None] = []

    def noted(limit: int | None) -> list[str]:
        asked.append(limit)
        return list(command(db)(limit))

    assert supervised(db, noted, procs, told, limit=limit, poll_s=0.02) == 0
    assert asked == shares
    with open_queue(db) as queue:
        assert queue.counts()["done"] == limit


def test_who_replaces_a_worker_does_only_what_is_left_of_its_share(
    db: Path, tmp_path: Path, out: Path, told: Told
) -> None:
    rig.enqueue(db, [rig.record(tmp_path / "in" / f"{n}.wav", 0.4, seed=n) for n in range(9)], out)
    trap = once_after(tmp_path / "calls", 12)
    asked: list[int | None] = []

    def noted(limit: int | None) -> list[str]:
        asked.append(limit)
        return list(command(db, trap)(limit))

    assert supervised(db, noted, 1, told, limit=6, poll_s=0.02) == 0
    assert asked[0] == 6
    assert len(asked) == 2
    assert 0 < asked[1] < 6
    with open_queue(db) as queue:
        assert queue.counts()["done"] == 6


def test_signals_reach_the_workers_once(db: Path, long_source: Path, out: Path) -> None:
    rig.enqueue(db, [long_source], out)
    with rig.ended(rig.fork(lambda: supervised(db, command(db, pace_s=0.1), 1, Told(), poll_s=0.02))) as pid:
        rig.until(lambda: windows_done(db) >= 2)
        os.kill(pid, signal.SIGINT)
        assert rig.wait(pid) == 130
    job = job_of(db, 1)
    assert (job.state, job.attempts) == (State.QUEUED, 0)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_user_signals_are_no_crash(db: Path, sources: list[Path], out: Path, number: signal.Signals) -> None:
    rig.enqueue(db, sources, out)
    with rig.ended(rig.fork(lambda: rig.work(db, rig.FastModel(pace_s=0.05)).exit_code)) as pid:
        with open_queue(db) as queue:
            rig.until(lambda: queue.counts()["running"])
            for _ in range(3):
                os.kill(pid, number)
                time.sleep(0.02)
        assert rig.wait(pid) == 0
    assert [job_of(db, one).attempts for one in (1, 2, 3)] == [1, 1, 1]
