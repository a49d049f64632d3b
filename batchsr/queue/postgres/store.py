"""One connection to the fleet's database, with the methods of `queue.sqlite.store.Store`.

Three kinds of write transactions share one lock of the fleet:

    writing()      alone: wide changes (retry, cancel, edit, forget, pause, migrate ...), as right here as with SQLite
    writing_one()  beside each other: changes of one job or one worker, whose statements name the claim's number
    taking_in()    beside those, but one after the other: only they give numbers and names to jobs

What a worker asks for every file is one message each (functions.py), also beside each other. Signs of life (alive.py)
take no lock at all.

The connection is opened when it is needed and may be closed when it was idle. Behind a pooler in transaction mode it
works as well: nothing is prepared, nothing belongs to a session.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import psycopg
from psycopg import pq
from psycopg.rows import dict_row
from psycopg.types.numeric import FloatLoader

from batchsr.errors import QueueAway
from batchsr.queue.clock import Clock
from batchsr.queue.postgres.database import Parameters, PgDatabase, bound, loaded
from batchsr.queue.postgres.dialect import translated
from batchsr.queue.postgres.functions import BESIDE_OTHERS
from batchsr.queue.postgres.place import FleetPlace
from batchsr.queue.postgres.trouble import errors_of, is_away

_SETTINGS: Final = {
    "statement_timeout": 60_000,
    "idle_in_transaction_session_timeout": 5_000,  # who stops in the middle holds the lock for so long
    "lock_timeout": 60_000,
}
_LOCK: Final = "hashtextextended(current_schema(), 20)"
_ALONE: Final = f"SELECT pg_advisory_xact_lock({_LOCK})"
_BESIDE: Final = f"SELECT {BESIDE_OTHERS}"
_INTAKE: Final = f"{_BESIDE}; SELECT pg_advisory_xact_lock(hashtextextended(current_schema(), 21))"
_IDLE: Final = pq.TransactionStatus.IDLE


class ServerClock(Clock):
    """The server's wall clock, as of when a connection was opened: the clocks of hosts differ, the server's is one."""

    offset_s = 0.0

    def wall(self) -> float:
        """Return seconds since 1970, UTC, by the server."""
        return time.time() + self.offset_s


class PgStore:
    """An open database of a fleet. One thread at a time; not to be carried over a fork."""

    on_own_disk = False
    """See queue.sqlite.store.Store: the server looks after its own disk."""

    def __init__(self, place: FleetPlace, path: Path, clock: Clock) -> None:
        self.place = place
        self.path = path
        """Where this host keeps its own files; those stand beside it, as they do beside an SQLite database."""
        self.clock = clock
        self.batch: str | None = None
        self.without: tuple[str, ...] = ()
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

    def writing(self) -> contextlib.AbstractContextManager[PgDatabase]:
        """Open a write transaction: all of the block or nothing, nobody else writes. Raises QueueAway, QueueBusy."""
        return self._writing(_ALONE)

    def writing_one(self) -> contextlib.AbstractContextManager[PgDatabase]:
        """Open a write transaction beside those of others, for one job or worker: each statement says by itself what
        must still be true."""
        return self._writing(_BESIDE)

    def taking_in(self) -> contextlib.AbstractContextManager[PgDatabase]:
        """Open a write transaction for new jobs: beside workers, one after the other."""
        return self._writing(_INTAKE)

    @contextlib.contextmanager
    def _writing(self, lock: str) -> Iterator[PgDatabase]:
        with self._lock, errors_of(self.place):
            connection = self._begin("BEGIN", lock)
            try:
                yield PgDatabase(connection)
            except BaseException:
                self._rollback(connection)
                raise
            try:
                connection.execute("COMMIT")
            except psycopg.Error as e:
                self._rollback(connection)
                if is_away(e):
                    raise QueueAway(
                        f"{self.place.shown} went away during a commit", remedy="it is asked again", in_doubt=True
                    ) from e
                raise

    @contextlib.contextmanager
    def writing_anywhere(self) -> Iterator[PgDatabase]:
        """Open a write transaction where the schema may not be there yet."""
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
        """Open a write transaction that leaves no trace."""
        with self._lock, errors_of(self.place):
            connection = self._begin("BEGIN")
            try:
                yield PgDatabase(connection)
            finally:
                self._rollback(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Open a read transaction: all `rows` of the block are of one moment."""
        with self._lock, errors_of(self.place):
            connection = self._begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield
            finally:
                self._rollback(connection)

    def rows(self, sql: str, parameters: Parameters = ()) -> list[dict[str, Any]]:
        """Return every row of one statement."""
        with self._lock, errors_of(self.place):
            cursor = self._execute(translated(sql), parameters)
            return [loaded(row) for row in cursor.fetchall()] if cursor.description else []

    def call(self, sql: str, parameters: Parameters) -> list[dict[str, Any]]:
        """Return every row of one statement that writes and is a transaction by itself: never asked twice.

        Raises QueueAway, `in_doubt` where it may have been done.
        """
        with self._lock, errors_of(self.place):
            if self._connection is not None and _has_hung_up(self._connection):
                self.close()
            connection = self._connected()
            try:
                cursor = connection.execute(cast(Any, translated(sql)), bound(parameters))
            except psycopg.Error as e:
                if is_away(e):
                    self.close()
                    raise QueueAway(
                        f"{self.place.shown} went away during a write", remedy="it is asked again", in_doubt=True
                    ) from e
                raise
            return [loaded(row) for row in cursor.fetchall()]

    def column(self, sql: str, parameters: Parameters = ()) -> array.array[int]:
        """Return the one whole number that each row of a SELECT has, eight bytes each."""
        return array.array("q", (next(iter(row.values())) for row in self.rows(sql, parameters)))

    def in_transaction(self) -> bool:
        """Return whether a transaction is open here."""
        return self._connection is not None and self._connection.info.transaction_status != _IDLE

    def held_log(self) -> None:
        """Do nothing: a log of this kind is SQLite's alone."""

    def _begin(self, *statements: str) -> psycopg.Connection[Any]:
        """Open a transaction, once more through a new connection where the old one turns out to be dead."""
        text = "; ".join(statements)
        try:
            connection = self._connected()
            connection.execute(cast(Any, text))
        except psycopg.OperationalError as e:
            away = is_away(e)
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
            return self._connected().execute(cast(Any, sql), bound(parameters))
        try:
            return self._connected().execute(cast(Any, sql), bound(parameters))
        except psycopg.OperationalError as e:
            if not is_away(e) or self._connection is None:
                raise
            self.close()
            return self._connected().execute(cast(Any, sql), bound(parameters))

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
            application_name=os.environ.get("PGAPPNAME", "batchsr"),
            options=f"{options} -c search_path={self.place.schema}",
        )
        connection.adapters.register_loader("numeric", FloatLoader)
        self._connection = connection
        if isinstance(self.clock, ServerClock):
            (row,) = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8 AS now").fetchall()
            self.clock.offset_s = row["now"] - (began_s + time.time()) / 2
        return connection


def _has_hung_up(connection: psycopg.Connection[Any]) -> bool:
    """Return whether an idle connection has something to read: the server's farewell, as it asked for nothing."""
    if connection.closed:
        return True
    try:
        return bool(select.select([connection.fileno()], [], [], 0.0)[0])
    except (OSError, ValueError, psycopg.Error):
        return True
