"""The write-ahead log: how large it is, and who keeps it from being folded into the database.

A reader that stays open keeps the log growing with every commit. SQLite marks each reader by a lock on one byte of
the file `-shm` (https://sqlite.org/walformat.html, "WAL Locks"), and Linux tells whose locks those are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from pathlib import Path
from typing import Final

from batchsr.queue.sqlite.damage import beside

KEPT_BYTES: Final = 16 << 20
"""What is left of a log that was larger, once it begins anew."""

LARGE_BYTES: Final = 64 << 20
"""So much that cannot be folded is told of; SQLite folds a log that nobody holds every 4 MB."""

_READ_MARKS: Final = range(123, 128)  # WAL_READ_LOCK(0) to (4), from byte 120 on
_BETWEEN_LOOKS_S: Final = 0.1  # who reads for a moment is not there at both
_LOCKS: Final = Path("/proc/locks")


@dataclasses.dataclass(frozen=True, slots=True)
class HeldLog:
    """A large log that cannot be folded. `pids` is empty where the system does not tell who reads."""

    bytes: int
    pids: tuple[int, ...]

    def __str__(self) -> str:
        if self.pids:
            who = f"process {self.pids[0]} reads" if len(self.pids) == 1 else f"processes {self._listed()} read"
        else:
            who = "another process reads"
        return f"the write-ahead log has grown to {self.bytes / 1e6:,.0f} MB, because {who} the database without an end"

    @property
    def remedy(self) -> str:
        """What to do."""
        return "end that process: the log shrinks by itself with the next windows"

    def _listed(self) -> str:
        return ", ".join(map(str, self.pids))


def size_bytes(database: Path) -> int:
    """Return how large the log is; 0 where there is none."""
    try:
        return beside(database, "-wal").stat().st_size
    except OSError:
        return 0


def holders(database: Path) -> tuple[int, ...]:
    """Return who reads now and a moment later; empty where the system does not tell."""
    before = readers(database)
    time.sleep(_BETWEEN_LOOKS_S)
    return tuple(sorted(before & readers(database)))


def readers(database: Path, locks: Path = _LOCKS) -> set[int]:
    """Return the other processes that are in a read transaction now; empty where the system does not tell."""
    with contextlib.suppress(OSError):
        inode = os.stat(beside(database, "-shm")).st_ino
        lines = locks.read_text().splitlines()
        found = {pid for line in lines if (pid := _reader(line, inode)) is not None}
        return {pid for pid in found - {os.getpid()} if _may_have_open(pid, beside(database, "-shm"))}
    return set()


def _reader(line: str, inode: int) -> int | None:
    """Return the process that holds a read mark of this file, by a line as `19: POSIX ADVISORY READ 4377 fe:00:214 124
    124`.

    Lines with `->` are those of waiters; a process of another container is 0 or negative.
    """
    words = line.split()
    if len(words) != 8 or words[1] not in ("POSIX", "OFDLCK") or not words[5].endswith(f":{inode}"):
        return None
    try:
        pid, first, last = int(words[4]), int(words[6]), int(words[7])
    except ValueError:  # the range ends at EOF
        return None
    return pid if pid > 0 and first in _READ_MARKS and last in _READ_MARKS else None


def _may_have_open(pid: int, path: Path) -> bool:
    """Return whether a process has this file open: an inode alone may be another disk's. True where we may not look."""
    wanted = os.stat(path)
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    for name in names:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), wanted):
                return True
    return False
