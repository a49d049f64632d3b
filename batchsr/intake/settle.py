"""When is a file that just arrived whole? Decided by looks at it, spaced in time; this module owns no clock.

A file is settled when size, mtime and inode hold still over two looks `settle_s` apart and its header's length
fits its size. One whose header never fits is given up on after `patience_s` of stillness: it is settled too, as
not whole, so that the queue's record says once what is wrong with it.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from batchsr.audio import files
from batchsr.errors import InputError

# After a writer closed the file a shorter stillness will do. Not none: some tools open, append and close again.
_CLOSED_SHARE: Final = 0.25


@dataclasses.dataclass(frozen=True, slots=True)
class FileStat:
    """What a file was like at one moment."""

    size_bytes: int
    mtime_ns: int
    inode: int
    device: int = dataclasses.field(compare=False)
    """Not compared: a share that was away may come back under another number."""

    @classmethod
    def of(cls, status: os.stat_result) -> FileStat:
        """From what stat(2) says."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


@dataclasses.dataclass(frozen=True, slots=True)
class SettledFile:
    """A file that may be taken."""

    path: str
    look: FileStat
    whole: bool = True
    renamed_from: str | None = None
    """The name under which this same file was taken before, and no longer is."""


@dataclasses.dataclass(slots=True)
class _Waiting:
    look: FileStat
    since_s: float
    due_s: float
    checks: int = 0


def look(path: str) -> FileStat | None:
    """Return the file as it is now; None when there is no regular file under that name."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return FileStat.of(status) if stat.S_ISREG(status.st_mode) else None


def whole(path: str) -> bool:
    """Return whether the header's length fits; False also for what cannot be opened (yet)."""
    try:
        return files.fits_header(Path(path))
    except InputError:
        return False


class Settler:
    """Files that are being waited for. Every call says what time it is, in seconds of any steady clock."""

    def __init__(
        self,
        *,
        settle_s: float,
        patience_s: float,
        look: Callable[[str], FileStat | None] = look,
        whole: Callable[[str], bool] = whole,
    ) -> None:
        self.settle_s = settle_s
        self.patience_s = patience_s
        self._look = look
        self._whole = whole
        self._waiting: dict[str, _Waiting] = {}
        self._heap: list[tuple[float, int, str]] = []  # entries that no longer match `due_s` are skipped
        self._count = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, path: object) -> bool:
        return path in self._waiting

    @property
    def due_s(self) -> float | None:
        """When the next look is due; None if nothing is waited for. Never later than that, at times sooner."""
        return self._heap[0][0] if self._heap else None

    def notice(self, path: str, now_s: float, seen: FileStat | None = None, *, closed: bool = False) -> None:
        """Note that something may have happened to `path`. `seen` is a look taken just now, if the caller has one."""
        waiting = self._waiting.get(path)
        if waiting is not None and not closed:
            return  # the look that is due will tell
        seen = seen or self._look(path)
        if seen is None:
            return
        if waiting is None or waiting.look != seen:
            waiting = self._waiting[path] = _Waiting(seen, now_s, now_s + self.settle_s)
        if closed:
            waiting.due_s = min(waiting.due_s, now_s + _CLOSED_SHARE * self.settle_s)
        self._push(path, waiting)

    def forget(self, path: str) -> None:
        """Wait for it no longer."""
        self._waiting.pop(path, None)

    def settled(self, now_s: float, limit: int = 1000) -> list[SettledFile]:
        """Take the looks that are due, and return what is settled: at most `limit`, the rest at the next call."""
        found: list[SettledFile] = []
        while self._heap and self._heap[0][0] <= now_s and len(found) < limit:
            due_s, _, path = heapq.heappop(self._heap)
            waiting = self._waiting.get(path)
            if waiting is None or waiting.due_s != due_s:
                continue
            seen = self._look(path)
            if seen is None:
                self.forget(path)
            elif seen != waiting.look:
                waiting = self._waiting[path] = _Waiting(seen, now_s, now_s + self.settle_s)
                self._push(path, waiting)
            elif (is_whole := self._whole(path)) or now_s - waiting.since_s >= self.patience_s:
                self.forget(path)
                found.append(SettledFile(path, seen, is_whole))
            else:
                # Longer and longer between looks at a header that does not fit, but never past the patience.
                waiting.checks += 1
                wait_s = self.settle_s * min(2**waiting.checks, 16)
                waiting.due_s = min(now_s + wait_s, max(waiting.since_s + self.patience_s, now_s + self.settle_s))
                self._push(path, waiting)
        return found

    def drain(self) -> list[tuple[str, FileStat, bool]]:
        """Wait for nothing any more: (path, last look, whether it has held still for at least one settling time)."""
        left = [(path, waiting.look, waiting.checks > 0) for path, waiting in self._waiting.items()]
        self._waiting.clear()
        self._heap.clear()
        return left

    def _push(self, path: str, waiting: _Waiting) -> None:
        heapq.heappush(self._heap, (waiting.due_s, next(self._count), path))
