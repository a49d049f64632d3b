"""What keeps the whole queue from going on: the disk that it is on, a machine without memory, threads or open files."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path
from typing import Final

from batchsr import storage
from batchsr.queue import Pause
from batchsr.worker import diagnosis, shares

RESOURCE_ERRNOS: Final = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK)
)
"""OSErrors that are about the machine, wherever they come from."""


def is_want_of_threads(error: Exception) -> bool:
    """Return whether Python could not start a thread: the machine's limit, not the file's fault."""
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def is_over(pause: Pause, min_free_bytes: float) -> bool:
    """Return whether what paused the queue is gone: every probe can be written to (or, for a lost share, read) again.

    Whether there is room for the next file as well is the caller's to ask (batchsr.worker.space).
    """
    if pause.kind == "source":
        return all(_can_be_read(Path(probe)) for probe in pause.probes)
    folders = [Path(probe) for probe in pause.probes]
    if any(shares.away_above(str(folder / "any"), empty_is_away=False) is not None for folder in folders):
        return False
    roomy = all(storage.free_bytes(folder) >= min_free_bytes for folder in folders)
    return roomy and _can_start_a_thread() and all(diagnosis.can_write(folder) for folder in folders)


def _can_be_read(source: Path) -> bool:
    """Return whether a source can be read, or is gone from a folder that is there: then that is its own trouble."""
    if shares.away_above(str(source), empty_is_away=True) is not None:
        return False
    number = diagnosis.refusal(str(source))
    return number == 0 or (number == errno.ENOENT and bool(_entries(source.parent)))


def _entries(folder: str | Path) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def _can_start_a_thread() -> bool:
    thread = threading.Thread(target=int, name="probe")
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True
