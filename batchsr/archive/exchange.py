"""The names beside a package: under construction, being replaced, and how they become its own.

.NAME.batchsr-export/            the package under construction; a killed export finds it again and goes on
.NAME.batchsr-export.progress    what of it was read and had the right checksum already
.NAME.batchsr-export.old/        the package that is being replaced, between two renames
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from batchsr import faults, storage
from batchsr.display import shown
from batchsr.errors import TransientError


def beside(target: Path, ending: str) -> Path:
    """Return the name of what stands beside a package while it is made."""
    return target.with_name(f".{target.name}.batchsr-export{ending}")


def recover(target: Path) -> None:
    """Undo a change of names that a crash cut in two."""
    old = beside(target, ".old")
    if old.is_dir():
        if os.path.lexists(target):
            shutil.rmtree(old)
        else:
            old.rename(target)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other exports out of the package under construction. Raises TransientError where one is at it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise TransientError(f"another process is exporting to {shown(folder.parent)}", remedy="wait for it") from e
        yield
    finally:
        os.close(fd)


def clear_if_empty(work_folder: Path, target: Path) -> None:
    """Leave nothing behind of an export that could not even bring its first file."""
    progress = beside(target, ".progress")
    if not progress.exists() or not progress.stat().st_size:
        progress.unlink(missing_ok=True)
        shutil.rmtree(work_folder, ignore_errors=True)


def exchange(work_folder: Path, target: Path) -> None:
    """Give the package its name. A crash in between is undone by the next export, which then has nothing to do."""
    old = beside(target, ".old")
    if target.is_dir():
        target.rename(old)
        faults.point("sidecar.after")
    work_folder.rename(target)
    storage.fsync_path(target.parent)
    if old.is_dir():
        shutil.rmtree(old)
    beside(target, ".progress").unlink(missing_ok=True)
