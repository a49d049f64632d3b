"""A slot of a spool in hand, and how many pages may wait for slots: of all files in the process, so memory is flat.

A slot is a stretch of the recording that knows nothing of others, so several of one file are computed side by side,
each in a thread. One more reads the recording and hands out its pages; it is faster than they are, and waits once too
much is held for them.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Executor
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsr import machine

Page = NDArray[np.float32]
"""Half a second, (channels, samples)."""
MOST_AHEAD_BYTES: Final = 512 << 20
"""Of pages that wait: 9 slots of 300 s of one channel at 48 kHz."""


class Stream(Protocol):
    """What denoises one channel; as `batchsr.speech.denoiser.Denoiser`."""

    def process(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the next samples, as many, of the stream `delay_samples` ago."""
        ...

    def close(self) -> None: ...


def side_by_side() -> int:
    """Return how many slots of one file are computed at once: two cores are left to reading and to the model.

    At least two, since a slot begins before the one before it ends.
    """
    return max(2, machine.cores() - 2)


class Ahead:
    """Counts the bytes of the pages that wait, for any number of threads."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._lock = threading.Lock()

    def take(self, size: int, *, forced: bool) -> bool:
        """Count a page in, if there is room for it, or in any case. Returns whether it was."""
        with self._lock:
            if self._left < size and not forced:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Count a page out."""
        with self._lock:
            self._left += size


AHEAD: Final = Ahead(MOST_AHEAD_BYTES)
"""Of this process."""


class Slot:
    """What a slot takes in, pages [begin, end], and what it stores of it, pages [first, last)."""

    def __init__(self, number: int, begin: int, first: int, last: int, *, kept: bool, heard: bool) -> None:
        self.number, self.begin, self.first, self.last = number, begin, first, last
        self.kept = kept
        """It is there from an earlier attempt, and only compared."""
        self.heard = heard
        """Something in it is denoised; a stream is late, so the last page is complete with the one behind it."""
        self.end = last if heard else last - 1
        self.pages: queue.SimpleQueue[tuple[int, Page] | None] = queue.SimpleQueue()
        """Those that wait for it; None: no more will come."""
        self.over = False
        """It takes in nothing more."""
        self.streams: list[Stream] = []
        """One a channel, where it is heard."""
        self._page: Page | None = None
        self._came: Page | None = None

    def take(
        self, index: int, page: Page, gain: np.float32, delay_samples: int, pool: Executor
    ) -> tuple[int, Page, Page]:
        """Take in a page. Returns the page that is complete now: which it is, as it was, and denoised.

        The streams, each in a thread of the pool where there are several, hear it louder by `gain`, and what they give
        is `delay_samples` late: with them it is the page before.
        """
        if not self.streams:
            return index, page, page
        louder = page * gain
        channels = [louder[channel] for channel in range(len(louder))]
        several = len(channels) > 1
        came = np.stack(list((pool.map if several else map)(_processed, self.streams, channels))) / gain
        before, original = came if self._came is None else self._came, page if self._page is None else self._page
        self._page, self._came = page, came
        return index - 1, original, np.concatenate([before[:, delay_samples:], came[:, :delay_samples]], axis=1)

    def close(self) -> None:
        """Free the streams."""
        for stream in self.streams:
            stream.close()
        self.streams = []


def _processed(stream: Stream, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return stream.process(samples)
