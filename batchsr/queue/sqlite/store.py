"""One connection to the database: pragmas, transactions, backups, errors in our own words.

Every write happens in `Store.writing()`, which is BEGIN IMMEDIATE ... COMMIT: a deferred transaction that
has read fails at once with SQLITE_BUSY_SNAPSHOT when another process wrote meanwhile, whatever the timeout.

Longer than other modules: the one connection, and its errors in our words, are one thing.
"""

from __future__ import annotations

import array
import contextlib
import functools
import os
import platform
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchsr import storage
from batchsr.errors import BatchsrError, QueueBusy, QueueDamaged, QueueError, ResourceError
from batchsr.queue.clock import Clock
from batchsr.queue.sqlite import damage, log
from batchsr.temporary import Temporary

if TYPE_CHECKING:
    import sqlite3

    from sqlite_utils import Database
else:
    try:
        import pysqlite3 as sqlite3  # as sqlite-utils chooses
    except ImportError:
        import sqlite3

BUSY_TIMEOUT_S: Final = 60.0
_NEWER_SQLITE: Final = (  # pysqlite3 has wheels for Linux on x86-64 alone
    "install pysqlite3"
    if sys.platform == "linux" and platform.machine() == "x86_64"
    else "use a Python whose SQLite is 3.51.3 or newer (Homebrew's, or python.org's)"
)
Parameters = Sequence[Any] | Mapping[str, Any]


def keeps_commits_in_wal(version: tuple[int, ...]) -> bool:
    """Return whether this SQLite is free of the WAL-reset bug, which loses commits when several processes write.

    Source: https://sqlite.org/wal.html, "the WAL-reset bug": fixed in 3.51.3, 3.50.7 and 3.44.6.
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def describe() -> dict[str, str]:
    """Return the SQLite in use, for `doctor`."""
    return {
        "version": sqlite3.sqlite_version,
        "module": sqlite3.__name__,
        "journal": "wal" if keeps_commits_in_wal(sqlite3.sqlite_version_info) else "truncate",
    }


class Store:
    """An open database. One thread at a time; not to be carried over a fork."""

    on_own_disk = True
    """Whether the database is on a disk of this machine, so that it needs room there."""

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self._connection = connection
        self._lock = threading.RLock()
        self._file: tuple[int, int] | None = None
        """Which file it is, if it has a name by which others find it."""
        self.without: tuple[str, ...] = ()
        """Settings of jobs that are not claimed through this connection."""
        self.batch: str | None = None
        """What is claimed through this connection is of this batch alone, as its name is stored; None: of any."""
        self._entered: tuple[int, int] | None = None

    @classmethod
    def connect(
        cls,
        path: Path,
        clock: Clock,
        *,
        library: tuple[int, ...] = sqlite3.sqlite_version_info,
        timeout_s: float = BUSY_TIMEOUT_S,
    ) -> Store:
        """Open or create the file. `library` is the SQLite version to believe in. Raises the QueueError family."""
        storage.make_folder(path.parent)
        with errors_of(path):
            damage.refuse_what_is_no_database(path)
            with contextlib.ExitStack() as undo:
                entered = damage.enter(path)
                undo.callback(damage.leave, entered)
                connection = sqlite3.connect(
                    str(path), timeout=timeout_s, isolation_level=None, check_same_thread=False
                )
                undo.callback(connection.close)
                store = cls(path, connection, clock)
                store._set_up(library, timeout_s)
                store._file = damage.identity(path)
                store._entered = entered
                undo.pop_all()
            return store

    @classmethod
    def private(cls, path: Path, clock: Clock) -> Store:
        """Open a file that nobody else knows: no locks, and nothing beside it whenever we are killed."""
        uri = f"file:{urllib.parse.quote(os.fsencode(path))}?vfs=unix-none"
        with errors_of(path):
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_mode = MEMORY")
            return cls(path, connection, clock)

    @classmethod
    def in_memory(cls, original: Store | None, clock: Clock) -> Store:
        """Return a copy that lives in memory alone, or an empty one."""
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if original is not None:
            with errors_of(original.path):
                original._connection.backup(connection)
        path = original.path if original else Path(":memory:")
        return cls(path, connection, clock)

    @functools.cached_property
    def db(self) -> Database:
        """The same connection as sqlite-utils sees it; imported for writing alone, since it takes 0.2 s."""
        from sqlite_utils import Database

        return Database(self._connection, recursive_triggers=False, execute_plugins=False)

    def _set_up(self, library: tuple[int, ...], timeout_s: float) -> None:
        execute = self._connection.execute
        execute(f"PRAGMA busy_timeout = {round(timeout_s * 1000)}")
        execute("PRAGMA foreign_keys = ON")
        execute("PRAGMA synchronous = FULL")
        execute(f"PRAGMA journal_size_limit = {log.KEPT_BYTES}")  # what a long reader made it grow to is given back
        if sys.platform == "darwin":
            execute("PRAGMA fullfsync = ON")
            execute("PRAGMA checkpoint_fullfsync = ON")
        self._set_journal_mode("wal" if keeps_commits_in_wal(library) else "truncate", timeout_s)

    def _set_journal_mode(self, wanted: str, timeout_s: float) -> None:
        """Switching takes the file alone for a moment, and SQLite does not wait for that: we do."""
        deadline = time.monotonic() + timeout_s
        while self._journal_mode() != wanted:
            try:
                # Both modes are safe with a library that keeps commits, so then an open database stays as it is.
                if self._journal_mode(wanted) == wanted or wanted == "wal":
                    return
            except sqlite3.OperationalError as e:
                if not _is(e, "SQLITE_BUSY", "SQLITE_LOCKED"):
                    raise
            if time.monotonic() > deadline:
                raise QueueBusy(
                    f"{self.path} is open in another program, and this SQLite may not share it in WAL mode",
                    remedy=f"{_NEWER_SQLITE}, or stop the other program",
                )
            time.sleep(0.01)

    def _journal_mode(self, wanted: str = "") -> str:
        statement = f"PRAGMA journal_mode = {wanted}" if wanted else "PRAGMA journal_mode"
        return str(self._connection.execute(statement).fetchone()[0])

    def is_folded(self) -> bool:
        """Return whether all that was written stands in the database itself, not in its write-ahead log."""
        log = damage.beside(self.path, "-wal")
        return not log.exists() or log.stat().st_size == 0

    def vacuum(self) -> None:
        """Write the database anew, without its free pages, and fold the log into it. Raises QueueBusy."""
        with self._lock, errors_of(self.path):
            damage.refuse_replaced(self.path, self._file)
            self._connection.execute("VACUUM")
        self.fold_log()

    def fold_log(self) -> bool:
        """Fold all of the write-ahead log into the database, if nobody reads from it now. Returns whether it is."""
        with self._lock, errors_of(self.path):
            row = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return row is not None and row[0] == 0

    def held_log(self) -> log.HeldLog | None:
        """Return the write-ahead log, if it is large and a reader keeps it from being folded. Not within `reading`."""
        if log.size_bytes(self.path) < log.LARGE_BYTES:
            return None
        with self._lock, errors_of(self.path):
            _, pages, folded = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            page_bytes = self._connection.execute("PRAGMA page_size").fetchone()[0]
        if (pages - folded) * page_bytes < log.LARGE_BYTES:
            return None
        return log.HeldLog(log.size_bytes(self.path), log.holders(self.path))

    def close(self) -> None:
        """Close the connection; the last one to leave folds the WAL into the database."""
        with self._lock, errors_of(self.path):
            self._connection.close()
            if self._entered is not None:
                damage.leave(self._entered)
                self._entered = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Database]:
        """Open a write transaction: all of the block or nothing. Raises QueueBusy after a minute of waiting."""
        with self._lock, errors_of(self.path):
            damage.refuse_replaced(self.path, self._file)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self._commit()
            except BaseException:
                self._connection.rollback()
                raise

    def writing_one(self) -> contextlib.AbstractContextManager[Database]:
        """`writing`, for one job or worker: here nobody else writes meanwhile all the same."""
        return self.writing()

    def taking_in(self) -> contextlib.AbstractContextManager[Database]:
        """`writing`, for new jobs: here nobody else writes meanwhile all the same."""
        return self.writing()

    def _commit(self) -> None:
        self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Open a read transaction: all `rows` of the block are of one moment. Keep it short, it holds back
        checkpoints."""
        with self._lock, errors_of(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.rollback()

    def rows(self, sql: str, parameters: Parameters = ()) -> list[dict[str, Any]]:
        """Return every row of one SELECT."""
        with self._lock, errors_of(self.path):
            damage.refuse_replaced(self.path, self._file)
            cursor = self._connection.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def column(self, sql: str, parameters: Parameters = ()) -> array.array[int]:
        """Return the one whole number that each row of a SELECT has, eight bytes each."""
        with self._lock, errors_of(self.path):
            damage.refuse_replaced(self.path, self._file)
            return array.array("q", (row[0] for row in self._connection.execute(sql, parameters)))

    def backup(self, target: Path) -> None:
        """Copy the database as of one moment to `target`, whole or not at all. Raises ResourceError."""
        with Temporary.beside(target) as temporary, errors_of(target):
            # Nobody else knows the file, and our own lock on it would be in the way of SQLite's on some systems.
            unlocked = f"file:{urllib.parse.quote(os.fsencode(temporary.path))}?vfs=unix-none"
            with (
                contextlib.closing(sqlite3.connect(str(self.path), timeout=BUSY_TIMEOUT_S)) as source,
                contextlib.closing(sqlite3.connect(unlocked, uri=True)) as copy,
            ):
                copy.execute("PRAGMA locking_mode = EXCLUSIVE")
                copy.execute("PRAGMA journal_mode = MEMORY")  # nothing beside it, whenever we are killed
                source.backup(copy)
                with contextlib.suppress(sqlite3.OperationalError):  # of an older schema
                    copy.execute("UPDATE control SET generation = lower(hex(randomblob(16)))")
                    copy.commit()
                copy.execute("PRAGMA journal_mode = DELETE")  # as it is kept: one file, no -wal
            temporary.publish(overwrite=True)


def _is(error: Any, *names: str) -> bool:
    """Return whether an error of SQLite has one of these codes, extended ones (SQLITE_BUSY_SNAPSHOT) included."""
    found = getattr(error, "sqlite_errorname", None) or ""
    return any(found == name or found.startswith(name + "_") for name in names)


@contextlib.contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, naming the file and what to do."""
    try:
        yield
    except sqlite3.Error as e:
        raise converted(e, path) from e
    except UnicodeDecodeError as e:  # SQLite quotes a damaged schema in its message
        raise damage.described(path, "its schema or its rows are garbage") from e


def converted(error: Any, path: Path) -> BatchsrError:
    """Return our error for one of SQLite's."""
    said = f"{path}: {error}"
    if _is(error, "SQLITE_BUSY", "SQLITE_LOCKED"):
        return QueueBusy(f"{path} has been in use by another process for a minute", remedy="try again")
    if _is(error, "SQLITE_FULL"):
        return ResourceError(f"no space left for {path}", remedy="free some space there, then `batchsr resume`")
    if _is(error, "SQLITE_READONLY", "SQLITE_PERM"):
        return ResourceError(f"{path} cannot be written", remedy="check its permissions and those of its folder")
    if _is(error, "SQLITE_IOERR"):
        return ResourceError(f"I/O error on {path}: {error}", remedy="check the disk")
    if _is(error, "SQLITE_CANTOPEN"):
        if os.path.exists(path) and not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            remedy = "run as its owner, or have them `chmod a+r` it; another queue is named with --db"
            return QueueError(f"{path} may not be read by this user", remedy=remedy)
        return QueueError(f"{path} cannot be opened", remedy="check that its folder exists and may be written")
    if _is(error, "SQLITE_NOTADB"):
        return QueueDamaged(
            f"{path} is not a database, or its beginning is overwritten",
            remedy=f"name another one with --db. {damage.REMEDY}",
        )
    if _is(error, "SQLITE_CORRUPT") or said.startswith(
        (f"{path}: no such", f"{path}: malformed", f"{path}: Could not")
    ):
        return damage.described(path, str(error))
    return QueueError(said, remedy="see `batchsr db check`")
