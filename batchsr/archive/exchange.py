"""The names beside a package: under construction, being replaced, and how they become its own.

.NAME.batchsr-export/            the package under construction; a killed export finds it again and goes on
.NAME.batchsr-export.progress    what of it was read and had the right checksum already
.NAME.batchsr-export.swap        which build takes whose place, and what of the old one may then be removed
.NAME.batchsr-export.old/        the package that was replaced, while it is removed
.NAME.batchsr-export.moves       which originals are to go (see `moving`)
.NAME.batchsr-export.lock        held while an export is at work
NAME.left-1/                     what stood in a replaced package that the new one does not know of
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from batchsr import faults, storage
from batchsr.archive import mark
from batchsr.archive.mark import Seen
from batchsr.display import shown
from batchsr.errors import TransientError

_HERE: Final = -2 if sys.platform == "darwin" else -100
_SWAP: Final = 2  # RENAME_SWAP of macOS and RENAME_EXCHANGE of Linux
_NO_SWAP: Final = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def beside(target: Path, ending: str) -> Path:
    """Return the name of what stands beside a package while it is made."""
    return target.with_name(f".{target.name}.batchsr-export{ending}")


def is_unfinished(name: str) -> bool:
    """Return whether a folder's name is one of those beside a package: what is in it goes, or gets other names."""
    return name.startswith(".") and name.endswith((".batchsr-export", ".batchsr-export.old"))


@contextlib.contextmanager
def alone(target: Path) -> Iterator[None]:
    """Keep other exports away from a package. Raises TransientError where one is at it, ResourceError."""
    storage.make_output_folder(target.parent)
    path = beside(target, ".lock")
    while True:
        fd = storage.open_own(path, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            os.close(fd)
            raise TransientError(f"another process is exporting to {shown(target)}", remedy="wait for it") from e
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), path.stat()):
                break
        os.close(fd)  # whoever held it has removed it meanwhile
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def recover(target: Path) -> Path | None:
    """Finish, or undo, a change of names that a crash cut in two; for who is alone.

    Returns where files are that the replaced package held and the new one does not know of; None: there are none.
    """
    work_folder, old, plan_at = beside(target, ""), beside(target, ".old"), beside(target, ".swap")
    plan = _plan(plan_at)
    if plan is None:  # nothing was being exchanged, or by an earlier version
        if old.is_dir() and not os.path.lexists(target):
            old.rename(target)
        left = _set_aside(old, target) if old.is_dir() else None
    else:
        build, seen = plan
        left = None
        if _build(target) == build:
            if not old.is_dir() and work_folder.is_dir():
                work_folder.rename(old)
            left = _discard(old, seen, target)
            beside(target, ".progress").unlink(missing_ok=True)
        elif not os.path.lexists(target):
            before = next((one for one in (old, work_folder) if one.is_dir() and _build(one) != build), None)
            if before is not None and (before == old or _build(before) is not None):
                before.rename(target)
    plan_at.unlink(missing_ok=True)
    return left


def exchange(target: Path, seen: Mapping[str, Seen]) -> Path | None:
    """Give the package under construction its name, and remove the one that had it.

    `seen` are the files of the replaced one that the new one does without or has itself: only they are removed, and
    only if nobody has changed them since. Returns where others are now, None where there are none. A crash at any
    line is gone on from by `recover`; where the system can exchange two names at once, one package or the other has
    the name at every moment.
    """
    work_folder, old = beside(target, ""), beside(target, ".old")
    replaces = target.is_dir() and any(target.iterdir())
    if replaces:
        _write_plan(beside(target, ".swap"), mark_of(work_folder).build, seen)
        faults.point("export.step")
        if swap(work_folder, target):
            faults.point("export.step")
            work_folder.rename(old)
        else:
            target.rename(old)
            faults.point("export.step")
            work_folder.rename(target)
    else:
        work_folder.rename(target)
    faults.point("export.step")
    storage.fsync_path(target.parent)
    left = _discard(old, seen, target) if replaces else None
    faults.point("export.step")
    beside(target, ".progress").unlink(missing_ok=True)
    beside(target, ".swap").unlink(missing_ok=True)
    return left


def clear_if_empty(target: Path) -> None:
    """Leave nothing behind of an export that could not even bring its first file."""
    progress = beside(target, ".progress")
    if not progress.exists() or not progress.stat().st_size:
        progress.unlink(missing_ok=True)
        shutil.rmtree(beside(target, ""), ignore_errors=True)


def swap(one: Path, other: Path) -> bool:
    """Exchange two names in one step. False: this system, or this file system, cannot. Raises OSError."""
    function = _swapper()
    if function is None or function(os.fsencode(one), os.fsencode(other)) == 0:
        return function is not None
    number = ctypes.get_errno()
    if number in _NO_SWAP:
        return False
    raise OSError(number, os.strerror(number), str(one))


@functools.cache
def _swapper() -> Callable[[bytes, bytes], int] | None:
    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "renameatx_np" if sys.platform == "darwin" else "renameat2", None)
    if call is None:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return lambda one, other: int(call(_HERE, one, _HERE, other, _SWAP))


def mark_of(folder: Path) -> mark.Mark:
    """Return the mark of a package that was just made. Raises OSError where it is gone."""
    found = mark.read(folder)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "its mark is gone", str(folder))
    return found


def _build(folder: Path) -> str | None:
    found = mark.read(folder)
    return None if found is None else found.build


def _write_plan(path: Path, build: str, seen: Mapping[str, Seen]) -> None:
    files = {name: [one.inode, one.size_bytes, one.mtime_ns] for name, one in seen.items()}
    with path.open("w", encoding="ascii") as file:
        json.dump({"build": build, "files": files}, file)
        file.flush()
        storage.fsync(file.fileno())
    storage.fsync_path(path.parent)


def _plan(path: Path) -> tuple[str, dict[str, Seen]] | None:
    """Return the build that is to have the name, and what is to go; None: no exchange had begun (a cut plan
    was none)."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text("ascii"))
        return str(found["build"]), {name: Seen(*values) for name, values in found["files"].items()}
    return None


def _discard(old: Path, seen: Mapping[str, Seen], target: Path) -> Path | None:
    """Remove what is known of a replaced package; what is left of it is set aside."""
    if not old.is_dir():
        return None
    kept = False
    for above, folders, names in os.walk(old, topdown=False):
        for name in names:
            path = Path(above, name)
            if seen.get(os.path.relpath(path, old)) == Seen.of(path):
                path.unlink()
                faults.point("export.step")
            else:
                kept = True
        for name in folders:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(above, name))  # where it is empty
    if not kept:
        with contextlib.suppress(OSError):
            os.rmdir(old)
            return None
    return _set_aside(old, target)


def _set_aside(old: Path, target: Path) -> Path:
    number = 1
    while os.path.lexists(place := target.with_name(f"{target.name}.left-{number}")):
        number += 1
    old.rename(place)
    return place
