"""The queue as the server reads it: one connection, opened anew when the database was exchanged; answers for all."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from batchsr.errors import QueueError
from batchsr.queue import FailureKind, Job, Queue
from batchsr.queue.opening import QueueAddress
from batchsr.report import answers

LEAST_AGE_S: Final = 2.0
COSTS: Final = 25
"""What all viewers see is asked again after so many times as long as it took: 4 % of a core at most."""
LATELY: Final = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Overview:
    """The queue at a glance, as of one moment."""

    status: dict[str, Any]
    """As `Queue.status` gives it."""
    failures: list[FailureKind]
    lately: list[Job]
    rtf: float | None
    """Seconds of work for a second of one channel, by the latest work; None if nothing was restored yet."""
    left_s: float | None
    """Seconds until all is restored, at that speed."""
    batches: dict[str, dict[str, dict[str, float]]]
    """Batch -> state -> jobs, audio_s, wall_s."""


class Source:
    """Reads one queue. May be used by many threads."""

    def __init__(self, address: QueueAddress) -> None:
        """Open it. Raises the QueueError family."""
        self.address = address
        self._lock = threading.Lock()
        self._queue: Queue | None = address.open()
        self._asking = threading.Lock()
        self._known: Overview | None = None
        self._due_s = 0.0
        self._sums = (0.0, dict[str, dict[str, dict[str, float]]]())
        self._sums_due_s = 0.0

    @contextlib.contextmanager
    def queue(self) -> Iterator[Queue]:
        """Give the queue for reading. After an error of it the next caller gets a new connection."""
        with self._lock:
            if self._queue is None:
                self._queue = self.address.open()
            queue = self._queue
        try:
            yield queue
        except QueueError:
            with self._lock:
                if self._queue is queue:
                    self._queue = None
            raise

    @contextlib.contextmanager
    def writing(self) -> Iterator[Queue]:
        """Give the queue through a connection of its own, so that who waits for a lock holds up no reader."""
        with self.address.open() as queue:
            yield queue
        self.forget()

    def overview(self) -> Overview:
        """Return the queue at a glance, some seconds old at most; however many ask, the queue is asked once."""
        with self._asking:
            if self._known is None or time.monotonic() >= self._due_s:
                began_s, sums_due_s = time.monotonic(), self._sums_due_s
                self._known = self._ask()
                if self._sums_due_s != sums_due_s:  # what the sums took is not counted twice
                    began_s = time.monotonic()
                now_s = time.monotonic()
                self._due_s = now_s + max(LEAST_AGE_S, COSTS * (now_s - began_s))
            return self._known

    def forget(self) -> None:
        """Ask again the next time: something was changed here."""
        with self._asking:
            self._due_s = self._sums_due_s = 0.0

    def _ask(self) -> Overview:
        with self.queue() as queue:
            browser, speed = queue.browser, queue.recent_speed()
            if time.monotonic() >= self._sums_due_s:  # they go over all rows, so they are asked less often
                began_s = time.monotonic()
                self._sums = browser.left_channel_s(), browser.totals_by_batch()
                self._sums_due_s = time.monotonic() + COSTS * (time.monotonic() - began_s)
            left_channel_s, batches = self._sums
            return Overview(
                answers.status_of(queue),
                browser.failures(),
                browser.lately(LATELY),
                speed.rtf if speed else None,
                0.0 if not left_channel_s else left_channel_s * speed.rtf if speed else None,
                batches,
            )

    def close(self) -> None:
        """Let go of the queue."""
        with self._lock:
            if self._queue is not None:
                self._queue.close()
                self._queue = None
