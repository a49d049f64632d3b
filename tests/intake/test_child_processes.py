"""What keeps the machine awake is tried again; who was stopped with all others is not taken for hung."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import rig
from program import FAST_MODEL, Program

from batchsr.intake.child_processes import SleepInhibitor
from batchsr.queue.interface import Pulse
from batchsr.queue.opening import open_queue
from batchsr.worker import supervisor
from batchsr.worker.supervisor import MOST_DEATHS, supervise


class Steady:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def inhibitor(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def running(holder: SleepInhibitor) -> bool:
    return holder._process is not None and holder._process.poll() is None


def test_an_inhibitor_that_is_not_there_yet_is_tried_again_each_time_later_and_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    clock = Steady()
    command = tmp_path / "inhibit"
    with SleepInhibitor([str(command)], said.append, clock=clock) as holder:
        tries = 0
        for _ in range(200):
            holder.hold(True)
            clock.now_s += 10.0
        tries = holder._wait_s
        assert said == [
            f"{command} does not run (No such file or directory): the machine may fall asleep while it works"
        ]
        assert tries > 60
        inhibitor(command, 'exec "$@"')
        clock.now_s += 3600.0
        holder.hold(True)
        assert running(holder)
        clock.now_s += 60.0
        holder.hold(True)
        assert said[1:] == [f"{command} runs: the machine stays awake"]
        holder.hold(False)
        assert holder._process is None


def test_an_inhibitor_that_ends_is_held_again(tmp_path: Path) -> None:
    said: list[str] = []
    clock = Steady()
    command = inhibitor(tmp_path / "inhibit", 'exec "$@"')
    with SleepInhibitor([str(command)], said.append, clock=clock) as holder:
        for _ in range(3):
            clock.now_s += 7200.0
            holder.hold(True)
            assert running(holder)
            clock.now_s += 60.0
            holder.hold(True)
            assert holder._process is not None
            holder._process.kill()
            holder._process.wait()
            holder.hold(True)
            assert not running(holder)
            holder.hold(True)
            assert not running(holder), "not at once"
    assert [text for text in said if "SIGKILL" in text] == [
        f"{command} ended with SIGKILL: the machine may fall asleep"
    ] * 3


class StandIn:
    """A queue whose workers all seem to hang since a moment, on a clock that the test moves at each look."""

    def __init__(self, steps_s: list[float], hung: set[int]) -> None:
        self.steps_s = steps_s
        self.now_s = 0.0
        self.hung = hung
        self.noted: list[str] = []
        self.clock: Any = SimpleNamespace(steady=lambda: self.now_s, wall=lambda: 0.0)

    def pulse(self) -> Pulse:
        self.now_s += self.steps_s.pop(0) if self.steps_s else 0.5
        return Pulse((0, 0), {pid: str(pid) for pid in self.hung} if self.now_s > 600 else {})

    def note_hung(self, worker: str) -> None:
        self.noted.append(worker)

    def files_ended(self, since: float, pid: int | None = None) -> int:
        return 0


def supervised(steps_s: list[float], *, lives_s: float) -> list[str]:
    """What a supervisor says whose one worker is said to hang, and ends by itself after a while."""
    said: list[str] = []
    queue = StandIn(steps_s, set())
    started: list[int] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = popen(*arguments, **options)
        started.append(process.pid)
        if len(started) == 1:
            queue.hung.add(process.pid)
        return process

    command = [sys.executable, "-c", f"import time; time.sleep({lives_s})"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor.subprocess, "Popen", start)
        listener = SimpleNamespace(message=said.append)
        assert supervise(queue, lambda limit: command, 1, listener, poll_s=0.02) == 0  # type: ignore[arg-type]
    return said


def test_a_supervisor_that_stood_still_itself_kills_nobody_until_a_new_term_is_over() -> None:
    assert supervised([0.5, 900.0], lives_s=1.0) == [], "stopped with its workers for 15 minutes"
    assert supervised([0.5, 31.0, 0.5, 200.0, 0.5, 500.0], lives_s=1.0) == [], "each pause gives a new term"
    (first, second) = supervised([0.5, 900.0, *[20.0] * 35], lives_s=2.0)
    assert "makes no windows any more" in first
    assert "replaced" in second


def test_a_worker_that_hangs_while_the_supervisor_looks_is_replaced_and_counts_as_no_death() -> None:
    said = supervised([20.0] * 35, lives_s=2.0)
    assert len(said) == 2
    assert not any(f"{MOST_DEATHS}th" in text for text in said)


def test_a_group_that_is_stopped_and_goes_on_loses_nothing(program: Program) -> None:
    program.environment |= FAST_MODEL | {"BATCHSR_PACE_S": "0.05"}
    sources = [rig.record(program.folder / f"{number}.wav", 0.8, seed=number) for number in range(6)]
    rig.enqueue(program.db, sources)
    process = forked.Forked(
        program.command("work", "--variant", "fast", "--min-free", "0", "--procs", "2"),
        env=program.environment,
        cwd=program.folder,
        stderr=subprocess.PIPE,
    )

    def workers() -> list[int]:
        with open_queue(program.db) as queue:
            return [worker["pid"] for worker in queue.status()["workers"]]

    try:
        rig.until(lambda: len(workers()) == 2, 60)
        group = [process.pid, *workers()]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in group:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(1.0)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert b"replac" not in said
    assert [job["state"] for job in program.jobs()] == ["done"] * 6
