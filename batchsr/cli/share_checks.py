"""Whether a folder of a share can take the outputs of a fleet: each thing is tried there, with files of our own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from batchsr.display import shown
from batchsr.errors import BatchsrError
from batchsr.temporary import WITHOUT_LINKS, Temporary


def troubles_of(folder: Path) -> Iterator[str]:
    """Yield a sentence for each thing that a fleet needs of a folder and that does not work there."""
    if not folder.is_dir():
        yield f"{shown(folder)} is no folder on this host: mount its share, or make it"
        return
    try:
        with Temporary.beside(folder / "check") as one:
            one.write(b"batchsr")
            one.sync()
            yield from _troubles_with(one.path, shown(folder))
    except (BatchsrError, OSError) as e:
        yield f"nothing can be written into {shown(folder)}: {e}"


def _troubles_with(path: Path, folder: str) -> Iterator[str]:
    other, third = path.with_name(path.name + ".link"), path.with_name(path.name + ".moved")
    try:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
            yield f"{folder} lets a file be made that is there already: no host is first; use another share"
        except FileExistsError:
            pass
        try:
            os.link(path, other)
        except OSError as e:
            if e.errno in WITHOUT_LINKS:
                yield f"{folder} has no hard links, without which hosts cannot tell who was first; use another share"
            else:
                yield f"no link can be made in {folder}: {os.strerror(e.errno or errno.EIO)}"
            return
        if other.read_bytes() != b"batchsr" or other.name not in os.listdir(path.parent):
            yield f"what was just written into {folder} is not read back; mount it without its cache"
        try:
            os.link(path, other)
            yield f"{folder} lets a link replace a name that is taken; use another share"
        except FileExistsError:
            pass
        os.rename(other, third)
        if not third.exists():
            yield f"a file that was renamed in {folder} is not there; use another share"
    finally:
        for left in (other, third):
            left.unlink(missing_ok=True)
