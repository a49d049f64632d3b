"""What an error says about the place that a file is on: its disk, its share, its folder.

The error names a number and perhaps a path; the rest is looked at now, since the same number may be about one file or
about all of a folder. What is one file's own is no place's trouble: None.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from batchsr.errors import InputError, OutputError, ResourceError
from batchsr.queue import Job, PlaceCode, Side, Trouble
from batchsr.remote.address import is_url
from batchsr.temporary import Temporary
from batchsr.worker import store_troubles

_PROBE_BYTES: Final = 1 << 20  # about a window of one channel
_FEWEST_SIBLINGS: Final = 2  # files that must be refused as well, before a folder is blamed for one
_MOST_SIBLINGS: Final = 8

_CODES: Final[Mapping[int, PlaceCode]] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "quota",
    errno.EROFS: "read_only",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EIO: "io",
    errno.ENOENT: "gone",
    errno.ESTALE: "gone",
    errno.ENOTCONN: "gone",
    errno.ENXIO: "gone",
    errno.ENODEV: "gone",
    errno.EHOSTDOWN: "gone",
    errno.EHOSTUNREACH: "gone",
    errno.ETIMEDOUT: "gone",
}
_OWN: Final = "own"
"""The trouble is this one file's."""


def write_trouble(
    job: Job, error: Exception, scratch_folder: Path, queue_folder: Path
) -> Trouble | Literal["own"] | None:
    """Return what the matter is with the place that the output, or the scratch, could not be written to.

    "own" when the folder takes other files. None when the error is about no place, or about the disk that the queue
    itself is on.
    """
    number, name = _os_error(error)
    code = _CODES.get(number)
    if code is None:
        return None
    side: Side = "scratch" if _is_below(name, str(scratch_folder)) else "output"
    if is_url(job.output):
        side = "scratch"  # where it is made
    folder = str(scratch_folder) if side == "scratch" else os.path.dirname(job.output)
    if code in ("denied", "gone") and can_write(Path(folder)):
        return _OWN if code == "denied" else None
    if not can_write(queue_folder):
        return None
    return trouble_at(folder, side, code)


def trouble_at(folder: str, side: Side, code: PlaceCode, words: str = "") -> Trouble:
    """Return the trouble in words, and where it begins: at a mount point, or at the folder that shuts off what is
    below."""
    use = {"source": "read", "output": "write", "scratch": "write the scratch"}[side]
    if code == "full":
        root = mount_root(folder)
        return Trouble(root, side, code, f"no space left on {root}", "free some space there", True)
    if code == "quota":
        root = mount_root(folder)
        return Trouble(root, side, code, f"the quota on {root} is used up", "raise it, or free some space there", True)
    if code == "short":
        return Trouble(mount_root(folder), side, code, words, "free some space there, or lower --min-free", True)
    if code == "read_only":
        top = _topmost(folder, _is_read_only)
        remedy = "mount it writable, or cancel these jobs and enqueue with --out FOLDER on another disk"
        return Trouble(top, side, code, f"{top} is read-only", remedy, False)
    if code == "denied":
        shut = _shut_folder(folder, side)
        return Trouble(shut, side, code, f"this user may not {use} in {shut}", "give permission there", False)
    if code == "io":
        root = mount_root(folder)
        return Trouble(root, side, code, f"input/output errors on {root}", "check the disk, or the share", True)
    gone = _missing_folder(folder)
    return Trouble(gone, side, "gone", f"{gone} is gone", "mount its disk or share, or put the folder back", False)


def source_trouble(job: Job) -> Trouble | None:
    """Return what keeps this source, and others with it, from being read now; None if nothing, or if it is its own
    trouble."""
    if is_url(job.source):
        return store_troubles.trouble_of(job)
    folder = os.path.dirname(job.source)
    try:
        there = os.stat(folder)
    except PermissionError:
        return trouble_at(folder, "source", "denied")
    except NotADirectoryError:
        return None
    except OSError:
        return trouble_at(folder, "source", "gone")
    if not stat.S_ISDIR(there.st_mode):
        return None
    if not _may_enter(folder):
        return trouble_at(folder, "source", "denied")
    number = refusal(job.source)
    if number == 0:
        return None
    if number == errno.ENOENT:
        # A bare mount point is a folder too, but empty and on the file system beneath. The number alone proves
        # nothing: some file systems get another one at every mount.
        moved = job.source_device is not None and there.st_dev != job.source_device % 2**64
        return trouble_at(folder, "source", "gone") if moved and not _names(folder) else None
    siblings = [refusal(path) for path in _siblings(job.source)]
    if len(siblings) < _FEWEST_SIBLINGS or 0 in siblings:
        return None
    code = _CODES.get(number)
    return trouble_at(folder, "source", code) if code in ("denied", "io", "gone") else None


def is_source_error(job: Job, error: Exception) -> bool:
    """Return whether the error came from reading the source."""
    if isinstance(error, InputError):
        return True
    return isinstance(error, OSError) and error.filename is not None and os.fsdecode(error.filename) == job.source


def is_write_error(job: Job, error: Exception, scratch_folder: Path) -> bool:
    """Return whether the system's error, not yet one of ours, names a file in the output's or the scratch's folder."""
    if not isinstance(error, OSError) or error.filename is None:
        return False
    _, name = _os_error(error)
    return _is_below(name, os.path.dirname(job.output)) or _is_below(name, str(scratch_folder))


def lies_on(trouble: Trouble, job: Job) -> bool:
    """Return whether the job needs this place, by its paths."""
    if trouble.side == "scratch":
        return True
    folder = os.path.dirname(job.source if trouble.side == "source" else job.output)
    return _same_system(folder, trouble.path) if trouble.whole_system else _is_below(folder, trouble.path)


def can_write_to(job: Job) -> bool:
    """Return whether the place of a job's output takes files now."""
    if is_url(job.output):
        return store_troubles.trouble_of(dataclasses.replace(job, source="")) is None
    return can_write(Path(os.path.dirname(job.output)))


def can_write(folder: Path) -> bool:
    """Write, sync and remove a small file there, or in the nearest folder above that exists."""
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        with Temporary.beside(folder / "probe") as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.sync()
    except (ResourceError, OutputError, OSError):
        return False
    return True


def mount_root(folder: str) -> str:
    """Return where the file system begins that holds this folder, or would hold it."""
    here = existing(folder)
    with contextlib.suppress(OSError):
        device = os.stat(here).st_dev
        while (above := os.path.dirname(here)) != here and os.stat(above).st_dev == device:
            here = above
    return here


def existing(folder: str) -> str:
    """Return the folder, or the nearest above it that is there."""
    while not os.path.isdir(folder) and (above := os.path.dirname(folder)) != folder:
        folder = above
    return folder


def _os_error(error: BaseException | None) -> tuple[int, str]:
    """Return the number and path of the system's error behind one of ours; 0 and "" where there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            name = error.filename2 or error.filename
            return error.errno, os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else str(error)
        error = error.__cause__
    return 0, ""


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _same_system(one: str, other: str) -> bool:
    try:
        return os.stat(existing(one)).st_dev == os.stat(existing(other)).st_dev
    except OSError:
        return False


def _is_read_only(folder: str) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _topmost(folder: str, holds: object) -> str:
    """Return the highest folder above this one up to which something holds without a break; the folder itself if
    nowhere."""
    here = existing(folder)
    if callable(holds) and holds(here):
        while (above := os.path.dirname(here)) != here and holds(above):
            here = above
    return here


def _shut_folder(folder: str, side: Side) -> str:
    """Return the folder that keeps us out: the highest that may not be searched, else the one itself."""
    for above in _downwards(folder):
        if os.path.isdir(above) and not _may_enter(above):
            return above
    return folder if side == "source" else existing(folder)


def _may_enter(folder: str) -> bool:
    try:
        os.stat(folder + "/.")  # access(2) would ask for the real user
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def _missing_folder(folder: str) -> str:
    """Return the highest folder that is not there, or the empty one above it where its file system was mounted."""
    above = "/"
    for here in _downwards(folder):
        if not os.path.isdir(here):
            return above if above != "/" and os.path.isdir(above) and not _names(above) else here
        above = here
    return folder


def _downwards(folder: str) -> Iterator[str]:
    """Yield the folders on the way to this one, from the root."""
    yield from reversed([folder, *(str(parent) for parent in Path(folder).parents)])


def refusal(path: str) -> int:
    """Return the number of the error that opening and reading the file gives; 0 for none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        return e.errno or 0
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.pread(fd, 4096, 0)
    except OSError as e:
        return e.errno or 0
    finally:
        os.close(fd)
    return 0


def _siblings(path: str) -> Iterator[str]:
    """Yield a few other files of the folder."""
    folder, found = os.path.dirname(path), 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.path != path and entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                yield entry.path
                found += 1
                if found == _MOST_SIBLINGS:
                    return


def _names(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []
