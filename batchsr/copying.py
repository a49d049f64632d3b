"""Copies onto another file system: whole under their name or not there at all, with times and rights of the file."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from batchsr import storage
from batchsr.errors import OutputExists
from batchsr.temporary import Temporary

_COPY_BYTES: Final = 1 << 20


def copy_whole(source: Path, name: Path, *, compared: bool = False) -> bool:
    """Copy a file durably, under a hidden name until it is whole. False: the name was taken, and nothing is copied.

    compared: read both once more, and raise OSError where they differ. Raises OSError and the ResourceError family.
    """
    with Temporary.beside(name) as temporary, source.open("rb") as original:
        with os.fdopen(os.dup(temporary.fd), "wb") as copy:
            shutil.copyfileobj(original, copy, _COPY_BYTES)
        _keep_status(original.fileno(), temporary.fd)
        if compared and temporary.sha256() != storage.sha256(source):
            raise OSError(errno.EIO, "the copy differs", str(name))
        try:
            temporary.publish(overwrite=False)
        except OutputExists:
            return False
    return True


def _keep_status(original: int, copy: int) -> None:
    """Give a copy the rights, times and extended attributes of the original; by descriptor, as names may change."""
    status = os.fstat(original)
    os.fchmod(copy, stat.S_IMODE(status.st_mode))
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # a file system without them, or one that is not ours to write
            for attribute in os.listxattr(original):
                os.setxattr(copy, attribute, os.getxattr(original, attribute))
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
