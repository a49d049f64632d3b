"""One connection to the fleet's database, with the methods of `queue.sqlite.store.Store`.

Every write happens in `writing()`: a transaction that first takes the one lock of the fleet, so that writers follow
each other as they do with SQLite, and the same statements are right for the same reasons. A write takes a millisecond
or two; signs of life (alive.py) do without the lock.

The connection is opened when it is needed and may be closed when it was idle. Behind a pooler in transaction mode it
works as well: nothing is prepared, nothing belongs to a session.
"""

from __future__ import annotations

import array
import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import psycopg
from psycopg import pq
from psycopg.rows import dict_row, tuple_row
from psycopg.types.numeric import FloatLoader

from batchsr.errors import BatchsrError, QueueAway, QueueBusy, QueueError, ResourceError
from batchsr.queue.clock import Clock
from batchsr.queue.job import PathBytes
from batchsr.queue.postgres.dialect import translated
from batchsr.queue.postgres.place import FleetPlace

_MARK: Final = "\x01"  # before a path that is no UTF-8, in hexadecimal: PostgreSQL's text takes no other bytes
_NUL: Final = "\x01\x02"  # for NUL, which PostgreSQL's text does not take either; between the parts of an identity
_SETTINGS: Final = {
    "statement_timeout": 60_000,
    "idle_in_transaction_session_timeout": 15_000,
    "lock_timeout": 60_000,
}
_NOT_INITIALISED: Final = ("42P01", "3F000", "42883")
Parameters = Sequence[Any] | Mapping[str, Any]


class ServerClock(Clock):
    """The server's wall clock, as of when a connection was opened: the clocks of hosts differ, the server's is one."""

    offset_s = 0.0

    def wall(self) -> float:
        """Seconds since 1970, UTC, by the server."""
        return time.time() + self.offset_s


class PgStore:
    """An open database of a fleet. One thread at a time; not to be carried over a fork."""

    def __init__(self, place: FleetPlace, path: Path, clock: Clock) -> None:
        self.place = place
        self.path = path
        """Where this host keeps its own files; those stand beside it, as they do beside an SQLite database."""
        self.clock = clock
        self.batch: str | None = None
        self.used_s = time.monotonic()
        self._connection: psycopg.Connection[Any] | None = None
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(psycopg.Error):
                    connection.close()

    def close_if_idle(self, seconds: float) -> None:
        """Close the connection if it was not used for so long."""
        if time.monotonic() - self.used_s > seconds and self._lock.acquire(blocking=False):
            try:
                if self._connection is not None and self._connection.info.transaction_status == _IDLE:
                    self.close()
            finally:
                self._lock.release()

    @contextlib.contextmanager
    def writing(self) -> Iterator[PgDatabase]:
        """A write transaction: all of the block or nothing. Raises QueueAway, QueueBusy."""
        with self._lock, errors_of(self.place):
            connection = self._begin("BEGIN", "SELECT pg_advisory_xact_lock(hashtextextended(current_schema(), 20))")
            try:
                yield PgDatabase(connection)
            except BaseException:
                self._rollback(connection)
                raise
            try:
                connection.execute("COMMIT")
            except psycopg.Error as e:
                self._rollback(connection)
                if _is_away(e):
                    raise QueueAway(
                        f"{self.place.shown} went away during a commit", remedy="it is asked again", in_doubt=True
                    ) from e
                raise

    @contextlib.contextmanager
    def writing_anywhere(self) -> Iterator[PgDatabase]:
        """A write transaction where the schema may not be there yet."""
        with self._lock, errors_of(self.place):
            connection = self._begin("BEGIN", "SELECT pg_advisory_xact_lock(20)")
            try:
                yield PgDatabase(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._rollback(connection)
                raise

    @contextlib.contextmanager
    def rehearsing(self) -> Iterator[PgDatabase]:
        """A write transaction that leaves no trace."""
        with self._lock, errors_of(self.place):
            connection = self._begin("BEGIN")
            try:
                yield PgDatabase(connection)
            finally:
                self._rollback(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """A read transaction: all `rows` of the block are of one moment."""
        with self._lock, errors_of(self.place):
            connection = self._begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield
            finally:
                self._rollback(connection)

    def rows(self, sql: str, parameters: Parameters = ()) -> list[dict[str, Any]]:
        """Every row of one statement."""
        with self._lock, errors_of(self.place):
            cursor = self._execute(translated(sql), parameters)
            return [_loaded(row) for row in cursor.fetchall()] if cursor.description else []

    def column(self, sql: str, parameters: Parameters = ()) -> array.array[int]:
        """The one whole number that each row of a SELECT has, eight bytes each."""
        return array.array("q", (next(iter(row.values())) for row in self.rows(sql, parameters)))

    def in_transaction(self) -> bool:
        """Whether a transaction is open here."""
        return self._connection is not None and self._connection.info.transaction_status != _IDLE

    def held_log(self) -> None:
        """A log of this kind is SQLite's alone."""

    def _begin(self, *statements: str) -> psycopg.Connection[Any]:
        """Open a transaction, once more through a new connection where the old one turns out to be dead."""
        text = "; ".join(statements)
        try:
            connection = self._connected()
            connection.execute(cast(Any, text))
        except psycopg.OperationalError as e:
            away = _is_away(e)
            if not away and self._connection is not None:
                self._rollback(self._connection)
            if not away or self._connection is None:
                raise
            self.close()
            connection = self._connected()
            connection.execute(cast(Any, text))
        return connection

    def _execute(self, sql: str, parameters: Parameters) -> psycopg.Cursor[Any]:
        if self.in_transaction():
            return self._connected().execute(cast(Any, sql), _bound(parameters))
        try:
            return self._connected().execute(cast(Any, sql), _bound(parameters))
        except psycopg.OperationalError as e:
            if not _is_away(e) or self._connection is None:
                raise
            self.close()
            return self._connected().execute(cast(Any, sql), _bound(parameters))

    def _rollback(self, connection: psycopg.Connection[Any]) -> None:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            self.close()

    def _connected(self) -> psycopg.Connection[Any]:
        self.used_s = time.monotonic()
        if self._connection is not None and not self._connection.closed:
            return self._connection
        options = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
        began_s = time.time()
        connection = psycopg.connect(
            self.place.url,
            autocommit=True,
            row_factory=dict_row,
            cursor_factory=psycopg.ClientCursor,
            prepare_threshold=None,
            connect_timeout=5,
            keepalives=1,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=15_000,
            application_name="batchsr",
            options=f"{options} -c search_path={self.place.schema}",
        )
        connection.adapters.register_loader("numeric", FloatLoader)
        self._connection = connection
        if isinstance(self.clock, ServerClock):
            (row,) = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8 AS now").fetchall()
            self.clock.offset_s = row["now"] - (began_s + time.time()) / 2
        return connection


class PgDatabase:
    """The connection within a transaction, with what is used of sqlite-utils' Database."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @property
    def conn(self) -> PgDatabase:
        """The connection as sqlite3 has it: rows are tuples."""
        return _Plain(self._connection)

    def query(self, sql: str, parameters: Parameters = ()) -> Iterator[dict[str, Any]]:
        """Every row of one statement."""
        cursor = self._connection.execute(cast(Any, translated(sql)), _bound(parameters))
        return iter([_loaded(row) for row in cursor.fetchall()])

    def execute(self, sql: str, parameters: Parameters = ()) -> psycopg.Cursor[Any]:
        """One statement."""
        return self._connection.execute(cast(Any, translated(sql)), _bound(parameters))

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> None:
        """One statement for each of the rows; some hundreds go in one message."""
        with psycopg.ClientCursor(self._connection) as cursor:
            text = translated(sql)
            statements = [cursor.mogrify(cast(Any, text), _bound(row)) for row in rows]
            for start in range(0, len(statements), 200):
                cursor.execute(cast(Any, "; ".join(statements[start : start + 200])))

    def run(self, script: str) -> None:
        """Several statements in PostgreSQL's own words, without parameters."""
        self._connection.execute(cast(Any, script))

    def table(self, name: str) -> _Table:
        """One table."""
        return _Table(self, name)


class _Plain(PgDatabase):
    def execute(self, sql: str, parameters: Parameters = ()) -> psycopg.Cursor[Any]:
        cursor = self._connection.cursor(row_factory=tuple_row)
        return cursor.execute(cast(Any, translated(sql)), _bound(parameters))


class _Table:
    def __init__(self, db: PgDatabase, name: str) -> None:
        self._db = db
        self._name = name

    def insert(self, row: Mapping[str, Any]) -> None:
        """Write one row."""
        names = ", ".join(row)
        self._db.execute(f"INSERT INTO {self._name} ({names}) VALUES ({', '.join(':' + name for name in row)})", row)

    def count_where(self, condition: str, parameters: Parameters) -> int:
        """Return of how many rows this is true."""
        (row,) = self._db.query(f"SELECT count(*) AS n FROM {self._name} WHERE {condition}", parameters)
        return int(row["n"])


_IDLE: Final = pq.TransactionStatus.IDLE


def _bound(parameters: Parameters) -> Any:
    if isinstance(parameters, Mapping):
        return {name: _stored(value) for name, value in parameters.items()}
    return [_stored(value) for value in parameters]


def _stored(value: Any) -> Any:
    if isinstance(value, PathBytes):
        return _MARK + value.hex()
    if isinstance(value, str):
        return str(value).replace("\0", _NUL)
    return value


def _loaded(row: dict[str, Any]) -> dict[str, Any]:
    for name, value in row.items():
        if isinstance(value, str) and _MARK in value:
            if value.startswith(_MARK) and not value.startswith(_NUL):
                row[name] = bytes.fromhex(value[1:])
            else:
                row[name] = value.replace(_NUL, "\0")
    return row


def _is_away(error: psycopg.Error) -> bool:
    """Whether the server, or the way to it, is what is wrong."""
    state = error.sqlstate or ""
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return False
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not state:
        return True
    return state.startswith(("08", "57P")) or state in ("53300", "25P03", "25P04")


@contextlib.contextmanager
def errors_of(place: FleetPlace) -> Iterator[None]:
    """Turn the library's errors into ours, naming the database and what to do."""
    try:
        yield
    except psycopg.Error as e:
        raise converted(e, place) from None


def converted(error: psycopg.Error, place: FleetPlace) -> BatchsrError:
    """Our error for one of psycopg's."""
    state = error.sqlstate or ""
    said = place.cleaned(" ".join(str(error).split())) or type(error).__name__
    if "authentication failed" in said or "no password supplied" in said or state in ("28P01", "28000"):
        return QueueError(f"{place.shown} lets nobody in: {said}", remedy="give the password in a PGPASSFILE")
    if state == "3D000" or ("database" in said and "does not exist" in said):
        return QueueError(f"{place.shown}: {said}", remedy="have the database made (`createdb`)")
    if state in _NOT_INITIALISED:
        return QueueError(f"{place.shown} holds no queue: {said}", remedy="`batchsr fleet init` makes it, once")
    if _is_away(error):
        return QueueAway(f"{place.shown} cannot be reached: {said}", remedy="check the server and the network")
    if state in ("55P03", "57014", "40001", "40P01"):
        return QueueBusy(f"{place.shown} has been busy for a minute: {said}", remedy="try again")
    if state.startswith("53"):
        return ResourceError(f"{place.shown}: {said}", remedy="the database's server needs room, or memory")
    if state == "42501":
        return QueueError(f"{place.shown}: {said}", remedy="grant this user the rights (docs/fleet.md)")
    return QueueError(f"{place.shown}: {said}", remedy="see `batchsr fleet check`")
