"""A transaction, with what is used of sqlite-utils' Database; and values that PostgreSQL's text does not take."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import psycopg
from psycopg.rows import tuple_row

from batchsr.queue.job import PathBytes
from batchsr.queue.postgres.dialect import translated
from batchsr.queue.roots import MARK, local, portable

_MARK: Final = "\x01"  # before a path that is no UTF-8, in hexadecimal: PostgreSQL's text takes no other bytes
_NUL: Final = "\x01\x02"  # for NUL, which PostgreSQL's text does not take either; between the parts of an identity
Parameters = Sequence[Any] | Mapping[str, Any]


class PgDatabase:
    """The connection within a transaction, with what is used of sqlite-utils' Database."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @property
    def conn(self) -> PgDatabase:
        """The connection as sqlite3 has it: rows are tuples."""
        return _Plain(self._connection)

    def query(self, sql: str, parameters: Parameters = ()) -> Iterator[dict[str, Any]]:
        """Yield every row of one statement."""
        cursor = self._connection.execute(cast(Any, translated(sql)), bound(parameters))
        return iter([loaded(row) for row in cursor.fetchall()])

    def execute(self, sql: str, parameters: Parameters = ()) -> psycopg.Cursor[Any]:
        """Run one statement."""
        return self._connection.execute(cast(Any, translated(sql)), bound(parameters))

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> None:
        """Run one statement for each of the rows; some hundreds go in one message."""
        with psycopg.ClientCursor(self._connection) as cursor:
            text = translated(sql)
            statements = [cursor.mogrify(cast(Any, text), bound(row)) for row in rows]
            for start in range(0, len(statements), 200):
                cursor.execute(cast(Any, "; ".join(statements[start : start + 200])))

    def run(self, script: str) -> None:
        """Run several statements in PostgreSQL's own words, without parameters."""
        self._connection.execute(cast(Any, script))

    def table(self, name: str) -> _Table:
        """Return one table."""
        return _Table(self, name)


class _Plain(PgDatabase):
    def execute(self, sql: str, parameters: Parameters = ()) -> psycopg.Cursor[Any]:
        cursor = self._connection.cursor(row_factory=tuple_row)
        return cursor.execute(cast(Any, translated(sql)), bound(parameters))


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


def bound(parameters: Parameters) -> Any:
    if isinstance(parameters, Mapping):
        return {name: _stored(value) for name, value in parameters.items()}
    return [_stored(value) for value in parameters]


def _stored(value: Any) -> Any:
    if isinstance(value, PathBytes):
        return _MARK + os.fsencode(portable(os.fsdecode(value))).hex()
    if isinstance(value, str):
        return portable(str(value)).replace("\0", _NUL)
    return value


def loaded(row: dict[str, Any]) -> dict[str, Any]:
    for name, value in row.items():
        if isinstance(value, str) and value.startswith(MARK):
            row[name] = local(value.replace(_NUL, "\0"))
        elif isinstance(value, str) and _MARK in value:
            if value.startswith(_MARK) and not value.startswith(_NUL):
                row[name] = os.fsencode(local(os.fsdecode(bytes.fromhex(value[1:]))))
            else:
                row[name] = value.replace(_NUL, "\0")
    return row
