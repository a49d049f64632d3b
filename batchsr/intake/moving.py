"""Move a finished source out of the hot folder: all of it or nothing, and never over another file."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from batchsr import storage
from batchsr.copying import copy_whole
from batchsr.intake.settle import FileStat, look


def move(source: Path, folder: Path, relative: str, expected: FileStat) -> Path | None:
    """Move `source` to `folder`/`relative`, or beside it with a number if the name is taken. Returns where it went.

    None when the file is gone, or no longer the one that `expected` describes: then it is not ours to move. Safe
    to repeat after a crash at any moment: the source is in one place or the other, or whole in both.
    Raises ResourceError.
    """
    target = folder / relative
    if look(os.fspath(source)) != expected:
        return None
    storage.make_folder(target.parent)
    with storage.resource_errors(target, "move the source to"):
        for name in _names(target):
            if look(os.fspath(source)) != expected:
                return None
            if name.exists() and _same(source, name):
                return _finish(source, name, expected)  # a crash fell between the copy and the end of the move
            if not _reserve(name):
                continue
            try:
                # rename(2) onto our own empty file: whatever stands under the source's name moves whole, and nothing
                # else can have the target's name.
                source.rename(name)
            except OSError as e:
                name.unlink(missing_ok=True)
                if e.errno == errno.ENOENT:
                    return None
                if e.errno != errno.EXDEV:
                    raise
                if not copy_whole(source, name):
                    continue
                return _finish(source, name, expected)
            if look(os.fspath(name)) != expected:
                _put_back(name, source)  # a new file took the name in the last microsecond: it has not been restored
                return None
            storage.fsync_path(name.parent)
            storage.fsync_path(source.parent)
            return name
    raise AssertionError("numbers do not end")


def _names(target: Path) -> Iterator[Path]:
    yield target
    for number in itertools.count(2):
        yield target.with_name(f"{target.stem}_{number}{target.suffix}")


def _reserve(name: Path) -> bool:
    """Take the name with an empty file. One that is there and empty was left by a crash, and loses nothing."""
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return name.is_file() and not name.is_symlink() and name.stat().st_size == 0
    return True


def _finish(source: Path, name: Path, expected: FileStat) -> Path | None:
    """Remove the source of a copy that is whole, unless it changed meanwhile."""
    if look(os.fspath(source)) != expected:
        return None
    source.unlink()
    storage.fsync_path(source.parent)
    return name


def _put_back(name: Path, source: Path) -> None:
    try:
        os.link(name, source)
    except FileExistsError:
        return  # and another one after it: this one stays where it is, under a name of its own
    name.unlink()


def _same(source: Path, copy: Path) -> bool:
    """Return whether `copy` is a whole copy of `source`, made by a move that a crash cut short."""
    a, b = source.stat(), copy.stat()
    if a.st_dev == b.st_dev or a.st_size == 0 or (a.st_size, a.st_mtime_ns) != (b.st_size, b.st_mtime_ns):
        return False
    return storage.sha256(source) == storage.sha256(copy)
