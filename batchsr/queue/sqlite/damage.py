"""What is the matter with a database that cannot be used, what of it can still be read, and which file it is.

A write-ahead log holds what was written last, and nothing in it says to which database it belongs: SQLite would lay a
leftover one over a backup that was copied to the old one's place. So every database has a random generation, another
one in each backup, and beside it stands the generation that its log belongs to.
"""

from __future__ import annotations

import collections
import contextlib
import os
import stat
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchsr import storage
from batchsr.errors import BatchsrError, QueueDamaged, QueueError, QueueReplaced, ResourceError
from batchsr.temporary import Temporary

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        import pysqlite3 as sqlite3
    except ImportError:
        import sqlite3

APPLICATION_ID: Final = 0x42535251  # "BSRQ"
REMEDY: Final = (
    "`batchsr db restore BACKUP` puts a backup in its place. Without one, move it away with what stands beside it and "
    "enqueue the same folders again: finished outputs are known by their sidecars, and are not made again"
)
_MAGIC: Final = b"SQLite format 3\0"
_LEAST_BYTES: Final = 512  # the smallest page; SQLite takes what is shorter for a new database
_GARBAGE: Final = (ValueError, TypeError, KeyError, OverflowError, IndexError, AttributeError)
"""What reading rows of a damaged page may end in."""


_LOOKING: Final = threading.Lock()
_IN_USE: Final = collections.Counter[tuple[int, int] | None]()
"""The databases that this process has open. None of them may be opened past SQLite: whoever closes such a descriptor
gives up all locks of this process on the file (POSIX), and another program then removes the log that we write to."""


def enter(path: Path) -> tuple[int, int] | None:
    """Say that SQLite is about to open a file, before it does. Returns what `leave` wants."""
    with _LOOKING:
        file = identity(path)
        _IN_USE[file] += 1
        return file


def leave(file: tuple[int, int] | None) -> None:
    """Say that SQLite has closed it."""
    with _LOOKING:
        _IN_USE[file] -= 1


def beside(path: Path, suffix: str) -> Path:
    """Return a file that SQLite, or we, keep beside a database."""
    return path.with_name(path.name + suffix)


def refuse_what_is_no_database(path: Path) -> None:
    """Look at the files before SQLite does: it would take an empty one for new, and lay another's log over it.

    One that this process has open was looked at. Raises QueueDamaged, QueueError.
    """
    with _LOOKING:
        if (file := identity(path)) is None or not _IN_USE[file]:
            _look(path)


def _look(path: Path) -> None:
    if kind := storage.no_file(path):
        raise QueueError(f"{path} is {kind}, no database", remedy="name a file with --db")
    logs = [one for one in (beside(path, "-wal"), beside(path, "-journal")) if _size_bytes(one)]
    if (size_bytes := _size_bytes(path)) is None:
        if logs:
            raise QueueDamaged(
                f"{path} is not there, but what was written to it last still is, in {logs[0]}",
                remedy=f"put the database back, or `batchsr db restore BACKUP`; to begin anew remove {logs[0]} as well",
            )
        return
    if size_bytes == 0:
        raise QueueDamaged(f"{path} is empty: what it held is lost", remedy=REMEDY)
    if size_bytes < _LEAST_BYTES and _beginning(path, len(_MAGIC)) in (_MAGIC, _MAGIC[:size_bytes]):
        raise QueueDamaged(f"{path} is cut to {size_bytes} bytes: what it held is lost", remedy=REMEDY)
    _refuse_of_another_program(path, logged=bool(logs))
    if logs:
        noted, own = _noted_generation(path), raw_generation(path)
        if noted is not None and own is not None and noted != own:
            raise QueueDamaged(
                f"{path} is not the database that {logs[0]} belongs to: was a backup copied over it, or a restoration "
                "killed?",
                remedy=f"`batchsr db restore {path}` keeps the database and puts that file aside; a copy of the backup "
                "does as well",
            )


def _refuse_of_another_program(path: Path, *, logged: bool) -> None:
    """By its header, before SQLite is let near it. Raises QueueError."""
    header = _beginning(path, 100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        return  # SQLite says it
    version, application = (int.from_bytes(header[at : at + 4], "big") for at in (60, 68))
    others = application != 0 or version != 0
    if application == 0 and version == 0 and not logged:
        with contextlib.suppress(sqlite3.Error, *_GARBAGE), raw(path) as db:
            others = db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None
    if others and application != APPLICATION_ID:
        raise QueueError(f"{path} is a database of another program", remedy="name another one with --db")


def note_generation(path: Path, generation: str | None) -> None:
    """Write down beside the database which one it is."""
    if generation is None or _noted_generation(path) == generation:
        return
    name = beside(path, ".generation")
    try:
        with Temporary.beside(name) as note:
            note.write(generation.encode() + b"\n")
            note.publish(overwrite=True)
    except (BatchsrError, OSError):
        with contextlib.suppress(OSError):
            name.unlink()  # no note is better than a wrong one


def raw_generation(path: Path) -> str | None:
    """Return the generation that the file itself names, whatever its log says; None if it names none."""
    with contextlib.suppress(sqlite3.Error), raw(path) as connection:
        row = connection.execute("SELECT generation FROM control").fetchone()
        return str(row[0]) if row and row[0] else None
    return None


@contextlib.contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file by itself, without its log; nothing is written."""
    uri = f"file:{urllib.parse.quote(os.fsencode(os.path.abspath(path)))}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        yield connection


def described(path: Path, what: str) -> QueueDamaged:
    """Return the error for a damaged database: what is wrong, what can still be read, how to go on."""
    return QueueDamaged(f"{path} is damaged: {what}; {_readable(path)}", remedy=REMEDY)


def is_garbage(path: Path, error: BaseException | None) -> bool:
    """Return whether an error that no program of ours should raise comes from damaged pages."""
    return isinstance(error, _GARBAGE) and bool(_problems(path))


def refuse_replaced(path: Path, known: tuple[int, int] | None) -> None:
    """Raise QueueReplaced unless the name still leads to the file that was opened."""
    if known is None:
        return
    try:
        status = os.stat(path)
    except FileNotFoundError as e:
        raise QueueReplaced(f"{path} was removed while it was in use", remedy=REMEDY) from e
    except OSError as e:
        raise ResourceError(f"cannot look at {path}: {e.strerror}", remedy="check its disk") from e
    if (status.st_dev, status.st_ino) != known:
        raise QueueReplaced(
            f"{path} is another file now than the one that was opened", remedy="start again, with the one that is there"
        )


def identity(path: Path) -> tuple[int, int] | None:
    """Return which file a name leads to; None if to none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _readable(path: Path) -> str:
    """Return what of it can still be read, in words."""
    counts: dict[str, int] = {}
    uri = f"file:{urllib.parse.quote(os.fsencode(os.path.abspath(path)))}?mode=ro"
    with contextlib.suppress(sqlite3.Error, *_GARBAGE), contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        for (state,) in db.execute("SELECT state FROM jobs NOT INDEXED"):
            counts[str(state)] = counts.get(str(state), 0) + 1
    if not counts:
        return "nothing of it can be read"
    parts = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{sum(counts.values())} of its jobs can still be read ({parts})"


def _problems(path: Path) -> list[Any]:
    uri = f"file:{urllib.parse.quote(os.fsencode(os.path.abspath(path)))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
            return [row[0] for row in db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    except (sqlite3.Error, *_GARBAGE) as e:
        return [e]


def _noted_generation(path: Path) -> str | None:
    return _beginning(beside(path, ".generation"), 64).decode("ascii", "replace").strip() or None


def _beginning(path: Path, size_bytes: int) -> bytes:
    """Return the first bytes of a plain file; none of anything else, or of what cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, size_bytes) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def _size_bytes(path: Path) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
