"""Several workers under one roof: start them, replace those that die or hang, pass signals on.

Each worker is a process of its own, `batchsr work` with one process, so a crash in a native library takes one
worker and one attempt, nothing else. What it held is taken up by the one that replaces it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final, Protocol

from batchsr.errors import EXIT_BUSY, EXIT_IO, EXIT_NO_MODEL, EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, BatchsrError
from batchsr.queue import Queue
from batchsr.signals import SUPERVISOR_VARIABLE, Stop

_ON_PURPOSE: Final = (EXIT_OK, EXIT_SOME_FAILED, EXIT_BUSY, EXIT_USAGE, EXIT_NO_MODEL, EXIT_IO)
_WORST_FIRST: Final = (EXIT_USAGE, EXIT_NO_MODEL, EXIT_IO, EXIT_BUSY, EXIT_SOME_FAILED, EXIT_OK)
_PAUSED_S: Final = 30.0
"""Between two looks of the supervisor: longer, and it did not run itself; nobody is to blame for that time."""
_TERM_S: Final = 600.0
"""What workers get after such a pause to make a window."""
_LAST_WORDS_S: Final = 2.0
MOST_DEATHS: Final = 5
"""Workers in a row that die without a job getting on, until the supervisor gives up."""


class MessageListener(Protocol):
    """What the supervisor needs of a listener."""

    def message(self, text: str) -> None: ...


class Hears(Protocol):
    """Whoever takes what the workers write, each known by its number from 1; called by one thread for each stream."""

    def began(self, worker: int) -> None: ...
    def said(self, worker: int, line: bytes) -> None: ...
    def complained(self, worker: int, line: bytes) -> None: ...
    def ended(self, worker: int) -> None: ...


CommandFn = Callable[[int | None], Sequence[str]]
"""The command line of one worker, as of now, that stops after so many files (None: at no number)."""


def supervise(
    queue: Queue,
    command: CommandFn,
    procs: int,
    listener: MessageListener,
    *,
    limit: int | None = None,
    poll_s: float = 0.5,
    environments: Sequence[Mapping[str, str]] = (),
    hears: Hears | None = None,
) -> int:
    """Keep `procs` workers going until the queue is drained, and return the exit code for all of them.

    `limit` is the number of files after which to stop, for all workers together: each gets its share, and one that
    replaces another what that one left of it. `environments` are variables that say which GPU is a worker's, one set
    for each worker in turn; who replaces a worker gets the same. `hears` takes what workers write to their standard
    output and error, line by line; without it they write to ours. Signals reach the workers through this process alone
    (they have process groups of their own, so that Ctrl-C does not count twice).
    """
    return _Supervisor(queue, command, procs, listener, limit, poll_s, environments, hears).run()


@dataclasses.dataclass(frozen=True, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    limit: int | None
    environment: Mapping[str, str]
    number: int
    readers: tuple[threading.Thread, ...] = ()


class _Supervisor:
    def __init__(
        self,
        queue: Queue,
        command: CommandFn,
        procs: int,
        listener: MessageListener,
        limit: int | None,
        poll_s: float,
        environments: Sequence[Mapping[str, str]],
        hears: Hears | None,
    ) -> None:
        self._queue = queue
        self._command = command
        self._limits = [None if limit is None else limit // procs + (n < limit % procs) for n in range(procs)]
        self._environments = [environments[n % len(environments)] if environments else {} for n in range(procs)]
        self._listener = listener
        self._poll_s = poll_s
        self._hears = hears
        self._workers: list[_Worker] = []
        self._began_at = 0.0
        self._codes: set[int] = set()
        self._deaths = 0
        self._progress = (0, 0)
        self._looked_s: float | None = None
        self._blameless_until_s = 0.0
        self._killed: set[int] = set()
        self._stop = Stop(self._pass_on, self._pass_on, lambda: self._pass_on(signal.SIGHUP))

    def run(self) -> int:
        queue = self._queue
        with self._stop:
            self._began_at = queue.clock.wall()
            places = zip(self._limits, self._environments, strict=True)
            self._workers = [
                self._start(number, limit, environment)
                for number, (limit, environment) in enumerate(places, 1)
                if limit != 0
            ]
            while self._workers:
                time.sleep(self._poll_s)
                self._look(queue)
        if self._stop.signal is not None:
            return 128 + self._stop.signal
        return next(code for code in _WORST_FIRST if code in self._codes or code == EXIT_OK)

    def _start(self, number: int, limit: int | None, environment: Mapping[str, str]) -> _Worker:
        variables = os.environ | environment | {SUPERVISOR_VARIABLE: str(os.getpid())}
        stream = None if self._hears is None else subprocess.PIPE
        process = subprocess.Popen(self._command(limit), env=variables, process_group=0, stdout=stream, stderr=stream)
        if self._hears is None or process.stdout is None or process.stderr is None:
            return _Worker(process, limit, environment, number)
        self._hears.began(number)
        pairs = ((process.stdout, self._hears.said), (process.stderr, self._hears.complained))
        readers = tuple(threading.Thread(target=_read, args=(number, *pair), daemon=True) for pair in pairs)
        for reader in readers:
            reader.start()
        return _Worker(process, limit, environment, number, readers)

    def _look(self, queue: Queue) -> None:
        """Collect who ended, end who hangs, and fill the gaps."""
        hung: Mapping[int, str] = {}
        with contextlib.suppress(BatchsrError):  # what is the matter with the database, the workers say
            pulse = queue.pulse()
            if pulse.progress != self._progress:
                self._progress, self._deaths = pulse.progress, 0
            hung = pulse.hung
        if self._was_paused():
            hung = {}
        for worker in list(self._workers):
            pid, code = worker.process.pid, worker.process.poll()
            if code is None:
                if pid in hung and pid not in self._killed:
                    self._listener.message(f"worker {pid} makes no windows any more: replacing it")
                    self._killed.add(pid)
                    queue.note_hung(hung[pid])
                    worker.process.kill()
                continue
            self._workers.remove(worker)
            self._hear_out(worker)
            if code in _ON_PURPOSE:
                self._codes.add(code)
            elif self._stop.signal is None:
                left = worker.limit and max(0, worker.limit - queue.files_ended(self._began_at, pid))
                self._replace(worker, code, left)

    def _hear_out(self, worker: _Worker) -> None:
        """Take the last lines of one that ended, but wait for none who inherited its streams from it."""
        for reader in worker.readers:
            reader.join(_LAST_WORDS_S)
        if self._hears is not None:
            self._hears.ended(worker.number)

    def _was_paused(self) -> bool:
        """Return whether all of us stood still (a frozen container, a snapshot of the machine) so lately that nobody
        hangs.

        The steady clock may count such a time. Whoever did not look meanwhile cannot say who worked.
        """
        now_s = self._queue.clock.steady()
        if self._looked_s is not None and now_s - self._looked_s > _PAUSED_S:
            self._blameless_until_s = now_s + _TERM_S
        self._looked_s = now_s
        return now_s < self._blameless_until_s

    def _replace(self, dead: _Worker, code: int, limit: int | None) -> None:
        pid = dead.process.pid
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        self._deaths += pid not in self._killed  # our own doing is no sign that none can live
        self._killed.discard(pid)
        if self._deaths >= MOST_DEATHS:
            self._listener.message(f"worker {pid} {how}, the {self._deaths}th in a row: not replaced")
            self._codes.add(EXIT_IO)
            return
        if limit == 0:
            self._listener.message(f"worker {pid} {how}: it had done its share")
            return
        self._listener.message(f"worker {pid} {how}: replaced")
        self._workers.append(worker := self._start(dead.number, limit, dead.environment))
        if (number := self._stop.signal) is not None:  # it came while we were at it
            worker.process.send_signal(number)

    def _pass_on(self, number: int) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(number)


def _read(worker: int, stream: IO[bytes], take: Callable[[int, bytes], None]) -> None:
    """Give each line of a worker's stream to whoever takes it, until its end."""
    with stream:
        for line in stream:
            take(worker, line)
