"""Whether a database is sound: its pages, its tables, and what must never be true of a job."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

from batchsr.errors import QueueDamaged
from batchsr.queue.sqlite import damage, versions
from batchsr.queue.sqlite.store import Store

CHECKS: Final[Sequence[tuple[str, str]]] = (
    (
        "has an owner that is over",
        "SELECT j.id FROM jobs j JOIN workers w ON w.id = j.worker WHERE w.ended_at IS NOT NULL",
    ),
    (
        "was done more than once without being redone",
        "SELECT e.job AS id FROM events e GROUP BY e.job HAVING sum(CASE WHEN e.new = 'done' THEN 1 ELSE 0 END) > "
        "1 + sum(CASE WHEN e.old = 'done' THEN 1 ELSE 0 END)",
    ),
    (
        "has claims that do not rise one by one",
        "SELECT j.id FROM jobs j LEFT JOIN attempts a ON a.job = j.id GROUP BY j.id "
        "HAVING max(a.claim_seq) <> j.claim_seq OR count(a.job) <> max(a.claim_seq) - min(a.claim_seq) + 1 "
        "UNION SELECT e.job FROM events e LEFT JOIN attempts a ON a.job = e.job AND a.claim_seq = e.claim_seq "
        "WHERE e.new = 'running' AND a.job IS NULL",
    ),
    (
        "has an attempt open though nobody owns it, or none though somebody does",
        "SELECT j.id FROM jobs j LEFT JOIN attempts a ON a.job = j.id AND a.ended_at IS NULL GROUP BY j.id "
        "HAVING count(a.job) <> CASE WHEN j.worker IS NOT NULL THEN 1 ELSE 0 END",
    ),
    (
        "is held though it is not queued",
        "SELECT id FROM jobs WHERE held IS NOT NULL AND state <> 'queued'",
    ),
    (
        "is in another state than its last event says",
        "SELECT j.id FROM jobs j JOIN (SELECT job, max(id) AS id FROM events GROUP BY job) AS latest "
        "ON latest.job = j.id JOIN events e ON e.id = latest.id WHERE e.new <> j.state",
    ),
    (
        "reads what another job writes",
        "SELECT a.id FROM jobs a JOIN jobs b ON a.source = b.output WHERE a.id <> b.id "
        "AND a.state NOT IN ('cancelled', 'superseded') AND b.state NOT IN ('cancelled', 'superseded')",
    ),
)
"""What must never be, each with a query for the jobs of which it is true."""


def check(store: Store) -> list[str]:
    """Return what is wrong with the database, one sentence each; empty when it is sound.

    A large log that somebody holds is no fault of the database: see `Store.held_log`.
    """
    with store.reading():
        try:
            said = [str(row["integrity_check"]) for row in store.rows("PRAGMA integrity_check")]
        except QueueDamaged as e:
            return [str(e)]
        wrong = [line for line in said if line != "ok"] or _missing(store)
        if wrong:  # the rest goes by tables and indexes, which may be what is wrong
            error = damage.described(store.path, f"{len(wrong)} faults found")
            return [*wrong, str(error)]
        wrong += [f"foreign key: {row['table']} {row['rowid']}" for row in store.rows("PRAGMA foreign_key_check")]
        for what, sql in CHECKS:
            wrong += [f"job {row['id']} {what}" for row in store.rows(sql)]
    return wrong


def _missing(store: Store) -> list[str]:
    """Return what a database just made has and this one has not: tables, columns, indexes, triggers, its one row."""
    with contextlib.closing(Store.in_memory(None, store.clock)) as fresh:
        versions.migrate(fresh)
        wanted, there = _parts(fresh), set(_parts(store))
    missing = [f"{part} is missing" for part in wanted if part not in there]
    return missing or ([] if store.rows("SELECT 1 FROM control") else ["the one row of table control is missing"])


def _parts(store: Store) -> list[str]:
    parts = store.rows("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY rowid")
    columns = store.rows(
        "SELECT m.name AS owner, c.name AS name FROM sqlite_schema m JOIN pragma_table_xinfo(m.name) c "
        "WHERE m.type = 'table' ORDER BY m.rowid, c.cid"
    )
    names = [f"{part['type']} {part['name']}" for part in parts]
    return names + [f"column {column['name']} of table {column['owner']}" for column in columns]
