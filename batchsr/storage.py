"""Files that are whole or not there: atomic publishing, fsync, hashes, free space.

Everything that must survive a power cut goes through here. The order is always the same: write a temporary
beside the final name, fsync it, give it the name, fsync the folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from batchsr import faults
from batchsr.display import printable as printable  # where others look for it
from batchsr.errors import OutputExists, ResourceError

TEMPORARY_PREFIX: Final = ".batchsr-"
TEMPORARY_SUFFIX: Final = ".part"
_READ_BYTES: Final = 1 << 20

# What means "this machine cannot go on", as against "this file is bad".
_RESOURCE_REMEDIES: Final = {
    errno.ENOSPC: "free some space, then `batchsr resume`",
    errno.EDQUOT: "raise the quota or free some space, then `batchsr resume`",
    errno.EIO: "check the disk",
    errno.EROFS: "remount the file system writable",
    errno.EACCES: "allow writing there",
    errno.EPERM: "allow writing there",
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit on open files",
    errno.ESTALE: "the share was re-exported: mount it again",
    errno.ENAMETOOLONG: "choose a shorter output folder or name",
}


@contextlib.contextmanager
def resource_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an OSError of our own writing into a ResourceError that names `path` and the remedy."""
    try:
        yield
    except OSError as e:
        name = e.filename if isinstance(e.filename, str) else str(path)
        remedy = _RESOURCE_REMEDIES.get(e.errno or 0, "see the system's message")
        raise ResourceError(f"cannot {doing} {name}: {e.strerror or e}", remedy=remedy) from e


def fsync(fd: int) -> None:
    """Flush a file descriptor to the medium itself (macOS needs F_FULLFSYNC for that)."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):  # not every file system has it; plain fsync is the rest
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def fsync_path(path: Path) -> None:
    """fsync a file or a folder by name. A file system that cannot sync folders (some network ones) is let pass."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fsync(fd)
    except OSError as e:
        if not (path.is_dir() and e.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(fd)


def temporary_for(final: Path, tag: str) -> Path:
    """The temporary's name for `final`: hidden, in the same folder, of bounded length, unique to `tag`.

    `tag` is "<job>-<claim>"; `remove_temporaries` finds those of all claims of a job.
    """
    return final.with_name(f"{TEMPORARY_PREFIX}{_short_hash(final)}-{tag}{TEMPORARY_SUFFIX}")


def remove_temporaries(final: Path, job_tag: str) -> int:
    """Delete what dead claims of one job left beside `final`. Returns how many files went."""
    start = f"{TEMPORARY_PREFIX}{_short_hash(final)}-{job_tag}-"
    gone = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(final.parent) as entries:
        for entry in entries:
            if entry.name.startswith(start) and entry.name.endswith(TEMPORARY_SUFFIX):
                Path(entry.path).unlink(missing_ok=True)
                gone += 1
    return gone


def publish(temporary: Path, final: Path, *, overwrite: bool) -> None:
    """Give a finished temporary its final name, durably.

    Without `overwrite` an existing file under `final` stays, and OutputExists is raised: the name is taken by
    link(2), which never replaces. Raises ResourceError when the file system refuses.
    """
    with resource_errors(final, "publish"):
        fsync_path(temporary)
        faults.point("rename.before")
        if overwrite:
            temporary.replace(final)
        else:
            _take_name(temporary, final)
        faults.point("rename.after")
        faults.point("folder_fsync.before")
        fsync_path(final.parent)
        faults.point("folder_fsync.after")


def _take_name(temporary: Path, final: Path) -> None:
    exists = OutputExists(f"{final} exists already", remedy="move it away, or pass --overwrite")
    try:
        os.link(temporary, final)
    except FileExistsError as e:
        raise exists from e
    except OSError as e:
        # FAT and some shares have no hard links: look, then rename. Only another program could slip in between.
        if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(final):
            raise exists from e
        temporary.replace(final)
    else:
        temporary.unlink()


def write_atomic(path: Path, data: bytes, *, tag: str) -> None:
    """Write a small file whole, replacing what was there. Raises ResourceError."""
    temporary = temporary_for(path, tag)
    try:
        with resource_errors(path, "write"):
            with temporary.open("wb") as file:
                file.write(data)
            fsync_path(temporary)
            temporary.replace(path)
            fsync_path(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path, *, tick: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a file's bytes, hexadecimal, in bounded memory. Raises OSError.

    `tick` is called every 64 MiB, for who must show a sign of life or may want to stop.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for number, block in enumerate(iter(lambda: file.read(_READ_BYTES), b""), 1):
            digest.update(block)
            if number % 64 == 0:
                tick()
    return digest.hexdigest()


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, durably. Raises ResourceError."""
    with resource_errors(folder, "create the folder"):
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            fsync_path(path.parent)


def free_bytes(path: Path) -> int:
    """Bytes free to this user on the file system that holds `path`, or would hold it."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def _short_hash(final: Path) -> str:
    return hashlib.sha256(os.fsencode(final.name)).hexdigest()[:12]
