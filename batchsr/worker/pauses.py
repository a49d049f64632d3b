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
from batchsr.worker import diagnosis

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
        return all(_is_mounted(Path(probe)) for probe in pause.probes)
    folders = [Path(probe) for probe in pause.probes]
    roomy = all(storage.free_bytes(folder) >= min_free_bytes for folder in folders)
    return roomy and _can_start_a_thread() and all(diagnosis.can_write(folder) for folder in folders)


def _is_mounted(source: Path) -> bool:
    return os.path.lexists(source) or (source.parent.is_dir() and bool(_entries(source.parent)))


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
