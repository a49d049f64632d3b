"""What there is to tell of a fleet's database and its server, and whether a queue can be kept there."""

from __future__ import annotations

import time
from typing import Any

from batchsr.queue.postgres import schema
from batchsr.queue.postgres.api import PostgresQueue
from batchsr.queue.postgres.place import FleetPlace


def checked(place: FleetPlace, *, restored: bool = False) -> dict[str, Any]:
    """Return what there is to tell of a fleet's database, JSON-able; with `restored` every claim is raised first.

    `round_trip_s` and `clock_s` are as seen from this host: how long a look takes, and how far its clock is ahead.
    """
    with PostgresQueue.connect(place) as queue:
        taken_back = queue.raise_claims() if restored else None
        began_s = time.monotonic()
        (row,) = queue._pg.rows("SELECT extract(epoch FROM clock_timestamp())::float8 AS now, version() AS server")
        took_s = time.monotonic() - began_s
        (size,) = queue._pg.rows("SELECT pg_database_size(current_database()) AS bytes")
        return {
            "fleet": queue.own_id,
            "database": queue.shown,
            "server": " ".join(str(row["server"]).split()[:2]),
            "tables": schema.VERSION,
            "lease_s": queue._lease_s,
            "bytes": size["bytes"],
            "round_trip_s": round(took_s, 4),
            "clock_s": round(time.time() - took_s / 2 - row["now"], 3),
            "jobs": sum(queue.counts().values()),
            "roots_in_use": _roots_of(queue),
            "problems": [*_troubles_of(queue), *queue.check()],
            "taken_back": taken_back,
        }


def _roots_of(queue: PostgresQueue) -> list[str]:
    """Return the names of the roots that the fleet's files lie below."""
    rows = queue._pg.rows(
        "SELECT DISTINCT split_part(substr(path, 2), '/', 1) AS name FROM folders WHERE left(path, 1) = chr(3)"
    )
    return sorted(str(row["name"]) for row in rows)


def _troubles_of(queue: PostgresQueue) -> list[str]:
    """Say what of the server keeps a fleet from working, and what to do."""
    (row,) = queue._pg.rows(
        "SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS copy, "
        "current_setting('transaction_read_only') AS read_only, current_setting('server_encoding') AS encoding, "
        "current_setting('max_connections')::int AS most, (SELECT count(*) FROM pg_stat_activity) AS used, "
        "has_table_privilege('jobs', 'SELECT') AND has_table_privilege('jobs', 'INSERT') "
        "AND has_table_privilege('jobs', 'UPDATE') AND has_table_privilege('jobs', 'DELETE') AS may_write"
    )
    found = []
    if row["version"] < 140_000:
        found.append(f"the server is of version {row['version'] // 10_000}: it must be 14 or newer")
    if row["copy"] or row["read_only"] == "on":
        found.append("the server takes no writes, as a copy of another one does: name the first one")
    if row["encoding"] != "UTF8":
        found.append(f"the database is kept in {row['encoding']}: have it made with `createdb -E UTF8 -T template0`")
    if row["used"] + 4 >= row["most"]:
        found.append(f"{row['used']} of the server's {row['most']} connections are in use: raise max_connections")
    if not row["may_write"]:
        found.append("this user may not write into the fleet's tables: let their owner grant it")
    return found
