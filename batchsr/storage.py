"""Files on disk: what an error of the system means, fsync, hashes, folders, names that fit, free space.

Everything that must survive a power cut, or that stands in a folder others may write to, goes through here and through
batchsr.temporary. The order is always the same: write a temporary beside the final name, fsync it, give it the name,
fsync the folder.

Longer than other modules: what a file system allows, and what its refusals mean, are one thing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import resource
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from batchsr.errors import OutputPathError, OutputTooLarge, ResourceError

NO_BOUND: Final = 2**63 - 1
"""Bytes of a file system that does not say how many it has."""
NAME_BYTES: Final = 255
"""The longest name of most file systems."""
_READ_BYTES: Final = 1 << 20

_EPERM_REMEDY: Final = "allow writing there" + (
    " (System Settings, Privacy and Security, Full Disk Access)" if sys.platform == "darwin" else ""
)
# What F_FULLFSYNC says where a file system has no such thing.
_NO_FULLFSYNC: Final = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.ENODEV)

# What means "this machine cannot go on", as against "this file is bad".
_RESOURCE_REMEDIES: Final = {
    errno.ENOSPC: "free some space, then `batchsr resume`",
    errno.EDQUOT: "raise the quota or free some space, then `batchsr resume`",
    errno.EIO: "check the disk",
    errno.EROFS: "remount the file system writable",
    errno.EACCES: "allow writing there",
    errno.EPERM: _EPERM_REMEDY,
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit on open files",
    errno.ESTALE: "the share was re-exported: mount it again",
    errno.ENAMETOOLONG: "choose a shorter output folder or name",
}

# What is the trouble of one path, however well the machine is.
_PATH_REMEDIES: Final = {
    errno.ENAMETOOLONG: "choose a shorter output folder or name",
    errno.ENOTDIR: "a file stands where a folder should be: move it away, or choose another output folder",
    errno.EISDIR: "a folder stands there: move it away, or choose another output",
    errno.ELOOP: "a symbolic link there leads in a circle: mend it, or choose another output folder",
    errno.EILSEQ: "that file system does not take such a name: choose another output folder or name",
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


@contextlib.contextmanager
def output_errors(path: Path, doing: str) -> Iterator[None]:
    """Do the same for one file's output: trouble that is this path's own is an OutputError, the rest a
    ResourceError."""
    try:
        yield
    except OSError as e:
        if e.errno == errno.EFBIG:
            remedy = "raise the limit (ulimit -f), choose another disk with --out, or a smaller --format"
            raise OutputTooLarge(f"cannot {doing} {path}: it is larger than a file may be there", remedy=remedy) from e
        if e.errno in _PATH_REMEDIES:
            message = f"cannot {doing} {path}: {e.strerror}"
            raise OutputPathError(message, remedy=_PATH_REMEDIES[e.errno]) from e
        with resource_errors(path, doing):
            raise


def fsync(fd: int) -> None:
    """Flush a file descriptor to the medium itself (macOS needs F_FULLFSYNC for that)."""
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
        except OSError as e:
            if e.errno not in _NO_FULLFSYNC:  # plain fsync is the rest, but no answer to a disk that fails
                raise
    os.fsync(fd)


def fsync_path(path: Path) -> None:
    """fsync a file or a folder by name. A file system that cannot sync folders (some network ones) is let pass."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fsync(fd)
    except OSError as e:
        if not (path.is_dir() and e.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(fd)


def make_durable(output: Path) -> None:
    """fsync a file under its final name and the folder that holds it.

    Raises ResourceError if the file system cannot promise that.
    """
    with resource_errors(output, "sync"):
        fsync_path(output)
        fsync_path(output.parent)


def open_own(path: Path, flags: int) -> int:
    """Open a file of ours whose name others can know, making it if it is not there. Returns its descriptor.

    A link, and a file that has another name as well, may lead to anything: such a one is not opened but raises
    ResourceError, and so does what is no file.
    """
    with resource_errors(path, "open"):
        fd = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return fd
    os.close(fd)
    message = f"{path} is not written to: it is no plain file, or has another name as well"
    raise ResourceError(message, remedy="remove it, and find out who put it there")


def read_small(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of a file that others may have put there. Never blocks, follows no link.

    Raises OSError, also for what is no file (EINVAL) or is longer than `most_bytes` (EFBIG).
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it is longer than {most_bytes} bytes", str(path))
    return data


def sha256(path: Path, *, tick: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal, in bounded memory. Raises OSError, also for what is no file.

    `tick` is called every 64 MiB, for who must show a sign of life or may want to stop.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)  # a FIFO must not hold us up
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        return sha256_of(fd, tick=tick)
    finally:
        os.close(fd)


def sha256_of(fd: int, *, tick: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of an open file, from its start; its position stays."""
    digest = hashlib.sha256()
    position = 0
    while block := os.pread(fd, _READ_BYTES, position):
        digest.update(block)
        position += len(block)
        if position % (64 * _READ_BYTES) < len(block):
            tick()
    return digest.hexdigest()


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, durably. Raises ResourceError."""
    with resource_errors(folder, "create the folder"):
        _make_folder(folder)


def make_output_folder(folder: Path) -> None:
    """Do the same for one file's output: also raises OutputPathError, for trouble that is this path's own."""
    with output_errors(folder, "create the folder"):
        _make_folder(folder)


def _make_folder(folder: Path) -> None:
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as e:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from e
    for path in missing:
        fsync_path(path.parent)


def free_bytes(path: Path) -> int:
    """Return the bytes free to this user on the file system that holds `path`, or would hold it.

    NO_BOUND where it tells no size at all, as some shares and object stores do: such a one is not full.
    """
    usage = shutil.disk_usage(nearest_existing(path))
    return usage.free if usage.total else NO_BOUND


def total_bytes(path: Path) -> int:
    """Return the bytes that the file system which holds `path`, or would hold it, has in all; NO_BOUND: not told."""
    return shutil.disk_usage(nearest_existing(path)).total or NO_BOUND


def refuse_too_large(fd: int, path: Path, size_bytes: int) -> None:
    """Raise OutputTooLarge if the open file at `path` may never have so many bytes, for ulimit -f or its file system.

    Nothing is written. Only Linux says what a file system allows: it refuses to seek beyond.
    """
    with output_errors(path, "write"):
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY and size_bytes > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        at = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            os.lseek(fd, min(size_bytes, NO_BOUND), os.SEEK_SET)
        except OSError as e:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG)) from e
        finally:
            os.lseek(fd, at, os.SEEK_SET)


def nearest_existing(path: Path) -> Path:
    """Return the path itself, or the nearest folder above it that is there."""
    while not os.path.exists(path) and path != path.parent:  # Path.exists raises where a name is too long
        path = path.parent
    return path


def path_below(path: Path, folder: Path) -> str | None:
    """Return the path of a file or folder below `folder`, "." for itself; None: it lies elsewhere, or neither exists.

    Asked is where it lies, not what it is called: links are followed, and a folder mounted twice is one.
    """
    real = os.path.realpath(path)
    try:
        own = os.stat(folder)
    except OSError:
        return None
    for above in (Path(real), *Path(real).parents):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(above), own):
                return os.path.relpath(real, above)
    return None


def fitted_name(stem: str, ending: str, most_bytes: int = NAME_BYTES) -> str:
    """`stem` + `ending`; where that is too long for a file's name, the stem is cut and a hash of the whole added.

    The same stem always gives the same name, and two stems hardly ever one.
    """
    room = most_bytes - len(os.fsencode(ending))
    raw = os.fsencode(stem)
    if len(raw) <= room:
        return stem + ending
    mark = "~" + hashlib.sha256(raw).hexdigest()[:12]
    kept = raw[: max(0, room - len(mark))]
    while kept and raw[len(kept) : len(kept) + 1] and raw[len(kept)] & 0xC0 == 0x80:
        kept = kept[:-1]  # not in the middle of a character
    return os.fsdecode(kept) + mark + ending


def is_name(text: str) -> bool:
    """Return whether a file in a folder can have this name: a text that somebody wrote may be none."""
    return text not in ("", ".", "..") and "/" not in text and is_path(text)


def is_path(text: str) -> bool:
    """Return whether the system can be asked about a path: it holds no NUL, and each surrogate in it stands
    for a byte."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def kept_ns(time_ns: int) -> int:
    """Return a file's time as the queue keeps it: within 64 bits, which are the years 1678 to 2262."""
    return max(-(2**63), min(2**63 - 1, time_ns))


def is_there(path: Path) -> bool:
    """Return whether a name leads to something. Raises ResourceError where none can look: a closed folder."""
    try:
        return path.exists()
    except OSError as e:
        remedy = "check its name, and the permissions of the folders above it"
        raise ResourceError(f"cannot look at {path}: {e.strerror}", remedy=remedy) from e


def no_file(path: Path) -> str | None:
    """Return in words what stands where a file belongs; None for a file, for nothing, and where none can look."""
    try:
        mode = os.stat(path).st_mode
    except OSError as e:
        return "a link that leads in a circle" if e.errno == errno.ELOOP else None
    return None if stat.S_ISREG(mode) else kind_of(mode)


def kind_of(mode: int) -> str:
    """Return in words what is no plain file, by its mode."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
