"""What there is to tell of a fleet's database and its server, and whether a queue can be kept there."""

from __future__ import annotations

import time
from typing import Any

from batchsr.queue.postgres import schema
from batchsr.queue.postgres.api import PostgresQueue
from batchsr.queue.postgres.place import FleetPlace


def looked_over(place: FleetPlace, *, restored: bool = False) -> dict[str, Any]:
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
            "problems": queue.check(),
            "taken_back": taken_back,
        }
