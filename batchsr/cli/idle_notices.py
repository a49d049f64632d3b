"""A watcher runs for months: what is told of it is not its end, but each time that all which arrived is dealt with."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from batchsr.cli.app import App
from batchsr.errors import EXIT_BUSY, EXIT_OK, EXIT_SOME_FAILED, BatchsrError
from batchsr.queue import LIVE, Queue, State

_LOOK_AGAIN_S: Final = 30.0  # while something is left and nobody works: at night, in a pause


class IdleNotices:
    """Looks now and then whether the workers have come to an end of what there is, and has it told, once each time.

    `now` is a clock, in seconds.
    """

    def __init__(self, app: App, queue: Queue, now: Callable[[], float] = time.monotonic) -> None:
        self._notifier = app.notifier
        self._queue = queue
        self._now = now
        self._next_s = 0.0
        self._owed = False
        """Whether something came or went on since the last time that it was told."""
        if self._is_wanted:
            counts = queue.counts()
            self._failed = self._count_failed(counts)
            self._owed = any(counts[state] for state in LIVE)
            self._progress = queue.pulse().progress

    @property
    def _is_wanted(self) -> bool:
        return self._notifier is not None and self._notifier.is_wanted

    def arrived(self) -> None:
        """Note that something has come."""
        self._owed, self._next_s = True, 0.0

    def look(self) -> None:
        """Look, and tell in a thread of its own what is to be told: a command may take a minute."""
        if not self._is_wanted:
            return
        with contextlib.suppress(BatchsrError):  # the worker says what is the matter with the database
            code = self._code()
            if code is not None:
                threading.Thread(target=self._notifier.tell, args=(code,), daemon=True).start()

    def _code(self) -> int | None:
        """Return what a run that ended now would end with; None while it goes on, or where that was told already."""
        progress = self._queue.pulse().progress
        if progress != self._progress:
            self._progress, self._owed, self._next_s = progress, True, 0.0
        if not self._owed or self._now() < self._next_s or self._queue.in_flight():
            return None
        status: Mapping[str, Any] = self._queue.status()
        failed = self._count_failed(status["jobs"])
        if any(status["jobs"][state] for state in LIVE) and not status["paused"] and not status["held"]:
            self._next_s = self._now() + _LOOK_AGAIN_S
            return None
        fresh, self._failed, self._owed = failed - self._failed, failed, False
        if any(status["jobs"][state] for state in LIVE):
            return EXIT_BUSY
        return EXIT_SOME_FAILED if fresh > 0 else EXIT_OK

    @staticmethod
    def _count_failed(counts: Mapping[str, int]) -> int:
        return counts[State.FAILED] + counts[State.QUARANTINED]
