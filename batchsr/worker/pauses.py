"""What keeps the whole queue from going on, as against one file: full disks, lost shares. And when it is over."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from batchsr import storage
from batchsr.errors import InputError, OutputError, ResourceError
from batchsr.queue import Job, Pause
from batchsr.temporary import Temporary

_PROBE_BYTES: Final = 1 << 20  # about a window of one channel

RESOURCE_ERRNOS: Final = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK)
)
"""OSErrors that are about the machine, wherever they come from."""


def is_over(pause: Pause, min_free_bytes: float) -> bool:
    """Whether what paused the queue is gone: every probe can be written to (or, for a lost share, read) again.

    Whether there is room for the next file as well is the caller's to ask (batchsr.worker.space).
    """
    if pause.kind == "source":
        return all(_is_mounted(Path(probe)) for probe in pause.probes)
    folders = [Path(probe) for probe in pause.probes]
    roomy = all(storage.free_bytes(folder) >= min_free_bytes for folder in folders)
    return roomy and all(_can_write(folder) for folder in folders)


def source_folder_is_gone(job: Job, error: Exception) -> bool:
    """Whether a source is missing because its whole folder is: an unmounted share, not a deleted file."""
    if not isinstance(error, InputError) or os.path.lexists(job.source):
        return False
    try:
        folder = os.stat(os.path.dirname(job.source))
    except OSError:
        return True
    # A bare mount point is a folder too, but empty and on the file system beneath. The number alone proves nothing:
    # some file systems get another one at every mount.
    moved = job.source_device is not None and folder.st_dev != job.source_device % 2**64
    return moved and not _entries(os.path.dirname(job.source))


def _is_mounted(source: Path) -> bool:
    return os.path.lexists(source) or (source.parent.is_dir() and bool(_entries(source.parent)))


def _entries(folder: str | Path) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def _can_write(folder: Path) -> bool:
    """Write, sync and remove a small file there, or in the nearest folder above that exists."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        with Temporary.beside(folder / "probe") as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.sync()
    except (ResourceError, OutputError):
        return False
    return True
