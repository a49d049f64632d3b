"""Who is alive: each worker holds an flock on a file of its own for as long as it lives.

The kernel gives the lock back when the process ends, however it ends, and never before: no heartbeat to
miss, no clock to trust, and a stopped or suspended worker still owns what it holds. A file is made and
locked before the worker's row is written, and its name is never used again, so whoever gets the lock of a
worker that has a row knows that this worker is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from batchsr import storage


class OwnerLock:
    """The lock of one living worker."""

    def __init__(self, worker: str, path: Path, fd: int) -> None:
        self.worker = worker
        self.path = path
        self._fd = fd

    @classmethod
    def take(cls, folder: Path) -> OwnerLock:
        """Make and lock a file with a new name. Raises ResourceError."""
        storage.make_folder(folder)
        with storage.resource_errors(folder, "make a lock file in"):
            while True:
                worker = f"{os.getpid()}-{secrets.token_hex(4)}"
                path = lock_path(folder, worker)
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
                if _lock(fd) and _still_there(fd, path):
                    return cls(worker, path, fd)
                os.close(fd)  # a clean-up took it for a dead worker's in between

    def release(self) -> None:
        """Remove the file and let go of the lock."""
        self.path.unlink(missing_ok=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def lock_path(folder: Path, worker: str) -> Path:
    """Return where a worker's lock file stands."""
    return folder / f"{worker}.lock"


@contextlib.contextmanager
def lock_of_dead(folder: Path, worker: str) -> Iterator[bool]:
    """True if this worker is dead; its lock is then ours for the block, which keeps other reapers out.

    A worker whose file is gone counts as dead: the database was moved, or somebody tidied up. (Its late writes
    are fenced off by `claim_seq` all the same.)
    """
    path = lock_path(folder, worker)
    with storage.resource_errors(path, "look at the lock file"):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            fd = -1
    try:
        yield fd < 0 or (_lock(fd) and _still_there(fd, path))
    finally:
        if fd >= 0:
            os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_there(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
