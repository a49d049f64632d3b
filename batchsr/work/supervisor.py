"""Several workers under one roof: start them, replace those that die or hang, pass signals on.

Each worker is a process of its own, `batchsr work` with one process, so a crash in a native library takes one
worker and one attempt, nothing else. What it held is taken up by the one that replaces it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from batchsr.errors import EXIT_BUSY, EXIT_IO, EXIT_NO_MODEL, EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE
from batchsr.queue import Queue
from batchsr.work.stopping import SUPERVISOR_VARIABLE, Stop

_ON_PURPOSE: Final = (EXIT_OK, EXIT_SOME_FAILED, EXIT_BUSY, EXIT_USAGE, EXIT_NO_MODEL, EXIT_IO)
_WORST_FIRST: Final = (EXIT_USAGE, EXIT_NO_MODEL, EXIT_IO, EXIT_BUSY, EXIT_SOME_FAILED, EXIT_OK)
MOST_DEATHS: Final = 5
"""Workers in a row that die without a job getting on, until the supervisor gives up."""


class Says(Protocol):
    """What the supervisor needs of a listener."""

    def message(self, text: str) -> None: ...


def supervise(path: Path, command: Sequence[str], procs: int, listener: Says, *, poll_s: float = 0.5) -> int:
    """Keep `procs` workers going until the queue is drained, and return the exit code for all of them.

    `command` runs one worker. Signals reach the workers through this process alone (they have process groups
    of their own, so that Ctrl-C does not count twice).
    """
    return _Supervisor(path, command, procs, listener, poll_s).run()


class _Supervisor:
    def __init__(self, path: Path, command: Sequence[str], procs: int, listener: Says, poll_s: float) -> None:
        self._path = path
        self._command = list(command)
        self._procs = procs
        self._listener = listener
        self._poll_s = poll_s
        self._workers: list[subprocess.Popen[bytes]] = []
        self._codes: set[int] = set()
        self._deaths = 0
        self._progress = (0, 0)
        self._stop = Stop(self._pass_on, self._pass_on)

    def run(self) -> int:
        with self._stop, Queue.open(self._path) as queue:
            self._workers = [self._start() for _ in range(self._procs)]
            while self._workers:
                time.sleep(self._poll_s)
                self._look(queue)
        if self._stop.signal is not None:
            return 128 + self._stop.signal
        return next(code for code in _WORST_FIRST if code in self._codes or code == EXIT_OK)

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {SUPERVISOR_VARIABLE: str(os.getpid())}
        return subprocess.Popen(self._command, env=environment, process_group=0)

    def _look(self, queue: Queue) -> None:
        """Collect who ended, end who hangs, and fill the gaps."""
        status = queue.status()
        progress = (status["jobs"]["done"], sum(worker["windows_done"] or 0 for worker in status["workers"]))
        if progress != self._progress:
            self._progress, self._deaths = progress, 0
        hung = {worker["pid"] for worker in status["workers"] if worker["hung"]}
        for worker in list(self._workers):
            code = worker.poll()
            if code is None:
                if worker.pid in hung:
                    self._listener.message(f"worker {worker.pid} makes no windows any more: replacing it")
                    worker.kill()
                continue
            self._workers.remove(worker)
            if code in _ON_PURPOSE:
                self._codes.add(code)
            elif self._stop.signal is None:
                self._replace(worker.pid, code)

    def _replace(self, pid: int, code: int) -> None:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        self._deaths += 1
        if self._deaths >= MOST_DEATHS:
            self._listener.message(f"worker {pid} {how}, the {self._deaths}th in a row: not replaced")
            self._codes.add(EXIT_IO)
            return
        self._listener.message(f"worker {pid} {how}: replaced")
        self._workers.append(worker := self._start())
        if (number := self._stop.signal) is not None:  # it came while we were at it
            worker.send_signal(number)

    def _pass_on(self, number: int) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(number)
