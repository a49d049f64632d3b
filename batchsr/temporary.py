"""Temporaries, their owners, and how a finished one gets its final name.

A temporary belongs to whoever holds its lock. Its name cannot be guessed and is made anew, never taken over, so
nothing that somebody else put there is written through; and it is removed by its owner alone, or by who gets the lock
because the owner is dead. What is published is the file behind the owner's descriptor, whatever has become of its
name. So two queues that write into one folder, or a stranger who may write there too, do each other no harm.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from batchsr.errors import OutputExists, TransientError
from batchsr.storage import fsync, fsync_path, output_errors, sha256_of

TEMPORARY_PREFIX: Final = ".batchsr-"
TEMPORARY_SUFFIX: Final = ".part"
_FOLDER_LOCK_S: Final = 2.0  # a stopped process may hold it, and must not stop the others
WITHOUT_LINKS: Final = frozenset((errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK))
"""What link(2) says where a file system has no hard links."""
_NAME: Final = re.compile(re.escape(TEMPORARY_PREFIX) + r"([0-9a-f]{12})-[0-9a-f]{16}" + re.escape(TEMPORARY_SUFFIX))


class Temporary:
    """A file under construction beside its final name, held by this process until it is published or discarded.

    Leaving its block discards it, unless it was published. `fd` is open for reading and writing.
    """

    def __init__(self, path: Path, final: Path, fd: int) -> None:
        self.path = path
        self.final = final
        self.fd = fd

    @classmethod
    def beside(cls, final: Path) -> Self:
        """Make an empty one, with the permissions that the umask leaves. Raises OutputPathError, ResourceError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with output_errors(final, "write"):
            while True:
                name = f"{TEMPORARY_PREFIX}{_short_hash(final)}-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
                path = final.with_name(name)
                temporary = cls(path, final, os.open(path, flags, 0o666))
                if _lock(temporary.fd) is not False and temporary._is_at(path):
                    return temporary
                temporary.close()  # a reaper had it in between: to it, a file without a lock is a dead owner's

    @classmethod
    def of_the_dead(cls, path: Path, final: Path) -> Self | None:
        """Take over what a dead process left. None if its owner lives or cannot be known, or it is no plain file."""
        fd = -1
        for access in (os.O_RDWR, os.O_RDONLY):  # another user's may be readable only, which is enough to remove it
            with contextlib.suppress(OSError):
                fd = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                break
        if fd < 0:
            return None
        temporary = cls(path, final, fd)
        if stat.S_ISREG(os.fstat(fd).st_mode) and _lock(fd) and temporary._is_at(path):
            return temporary
        temporary.close()
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, data: bytes) -> None:
        """Append to it. Raises OutputTooLarge, ResourceError."""
        with output_errors(self.final, "write"):
            view = memoryview(data)
            while view:
                view = view[os.write(self.fd, view) :]

    def size_bytes(self) -> int:
        """Return how long it is."""
        return os.fstat(self.fd).st_size

    def sha256(self, *, tick: Callable[[], None] = lambda: None) -> str:
        """Return the SHA-256 of its bytes, read through the descriptor. Raises ResourceError."""
        with output_errors(self.final, "read back"):
            return sha256_of(self.fd, tick=tick)

    def sync(self) -> None:
        """Make its bytes survive a power cut. Raises ResourceError."""
        with output_errors(self.final, "sync"):
            fsync(self.fd)

    def take_name(self, *, overwrite: bool) -> None:
        """Give it the final name; not yet durable.

        Without `overwrite` an existing file stays, and OutputExists is raised: link(2) never replaces. With it a file
        or a symbolic link is replaced, never written through; a folder, device, FIFO or socket is OutputExists too.
        Raises TransientError if somebody exchanged the temporary, OutputPathError, ResourceError.
        """
        with output_errors(self.final, "publish"):
            if overwrite:
                refuse_special(self.final)
                self._want_own(self.path)
                os.replace(self.path, self.final)
            else:
                self._link()
            self._want_own(self.final)
            if not overwrite and self._is_at(self.path):
                self.path.unlink()

    def publish(self, *, overwrite: bool) -> None:
        """Give it the final name, durably. Raises what `take_name` raises."""
        self.sync()
        self.take_name(overwrite=overwrite)
        with output_errors(self.final, "publish"):
            fsync_path(self.final.parent)

    def is_published(self) -> bool:
        """Return whether this very file stands under the final name."""
        return self._is_at(self.final)

    def discard(self) -> None:
        """Remove it unless it was published, and let go of it; a second call does nothing."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                if self._is_at(self.path):
                    self.path.unlink()
            self.close()

    def close(self) -> None:
        """Let go of it; what still has the temporary's name is then a dead owner's."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def _is_at(self, path: Path) -> bool:
        try:
            return os.path.samestat(os.fstat(self.fd), os.lstat(path))
        except OSError:
            return False

    def _want_own(self, path: Path) -> None:
        if not self._is_at(path):
            message = f"{path} is not the file that was written: somebody exchanged or removed it meanwhile"
            raise TransientError(message, remedy="find out who else writes in that folder")

    def _link(self) -> None:
        exists = OutputExists(f"{self.final} exists already", remedy="move it away, or pass --overwrite")
        try:
            if not self._link_by_descriptor():
                self._want_own(self.path)
                os.link(self.path, self.final)
                self._take_back()
        except FileExistsError as e:
            raise exists from e
        except OSError as e:
            # FAT and some shares have no hard links: look, then rename. Only another program could slip in between.
            if e.errno not in WITHOUT_LINKS:
                raise
            if os.path.lexists(self.final):
                raise exists from e
            self._want_own(self.path)
            os.replace(self.path, self.final)

    def _take_back(self) -> None:
        """If what was linked by its name had been exchanged in that moment, it must not keep the final name."""
        with contextlib.suppress(OSError):
            if not self._is_at(self.final) and os.path.samestat(os.lstat(self.final), os.lstat(self.path)):
                self.final.unlink()

    def _link_by_descriptor(self) -> bool:
        """Link the open file itself (linkat(2), AT_SYMLINK_FOLLOW), which nobody can exchange; False: not here."""
        open_file = f"/proc/self/fd/{self.fd}"
        if not os.path.exists(open_file):
            return False
        folder = os.open(self.final.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # a folder's descriptor is what makes Python call linkat
            os.link(open_file, self.final.name, dst_dir_fd=folder, follow_symlinks=True)
        except FileNotFoundError:
            return False  # the temporary's last name is gone, or /proc is another's
        finally:
            os.close(folder)
        return True


def is_temporary_of(name: str, final: Path) -> bool:
    """Return whether a file's name is that of a temporary for `final`."""
    match = _NAME.fullmatch(name)
    return match is not None and match[1] == _short_hash(final)


def dead_temporaries(final: Path) -> Iterator[Temporary]:
    """Take over, one after the other, what dead processes left beside `final`; the caller publishes or discards each.

    Reads the whole folder. What cannot be looked at is left out.
    """
    for path in _paths(final.parent, lambda name: is_temporary_of(name, final)):
        if (temporary := Temporary.of_the_dead(path, final)) is not None:
            yield temporary


def dead_in(folder: Path) -> Iterator[Temporary]:
    """Yield the same for all that is in a folder, whatever it was for; so the caller cannot publish them."""
    for path in _paths(folder, lambda name: _NAME.fullmatch(name) is not None):
        if (temporary := Temporary.of_the_dead(path, path)) is not None:
            yield temporary


def _paths(folder: Path, wanted: Callable[[str], bool]) -> list[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if wanted(entry.name))
    return []


def remove_temporaries(final: Path) -> int:
    """Delete what dead processes left beside `final`. Returns how many files went."""
    gone = 0
    for temporary in dead_temporaries(final):
        temporary.discard()
        gone += 1
    return gone


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep other processes of ours from publishing in the folder, where its file system has locks.

    A matter of order, not of safety: who cannot get the lock in two seconds, or at all, goes on without.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        deadline_s = time.monotonic() + _FOLDER_LOCK_S
        while _lock(fd) is False and time.monotonic() < deadline_s:
            time.sleep(0.005)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> bool | None:
    """Lock an open file. False: another has it; None: this file system has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def refuse_special(final: Path) -> None:
    """Raise OutputExists if what stands there may not even be overwritten: it is neither a file nor a link."""
    try:
        mode = os.lstat(final).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        what = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise OutputExists(f"{final} is {what}, which is never overwritten", remedy="move it away")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a stream whose file replaces `path` when the block ends, durably; after an error what was there stays.

    Raises OutputPathError, OutputTooLarge, ResourceError.
    """
    with Temporary.beside(path) as temporary, output_errors(path, "write"):
        with os.fdopen(os.dup(temporary.fd), "wb") as file:
            yield file
        temporary.publish(overwrite=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a small file whole, replacing what was there. Raises what `whole_file` raises."""
    with Temporary.beside(path) as temporary:
        temporary.write(data)
        temporary.publish(overwrite=True)


def _short_hash(final: Path) -> str:
    return hashlib.sha256(os.fsencode(final.name)).hexdigest()[:12]
