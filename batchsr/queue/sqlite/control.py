"""Pausing: for everybody, with the reason, until somebody or something takes it back."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchsr.queue.job import stored_text
from batchsr.queue.sqlite.store import Store
from batchsr.queue.trouble import Pause

if TYPE_CHECKING:
    from sqlite_utils import Database


def current(store: Store) -> Pause | None:
    """Return the pause, if the queue is paused."""
    rows = store.rows("SELECT * FROM control WHERE paused = 1")
    if not rows:
        return None
    row = rows[0]
    probes = tuple(os.fsdecode(bytes.fromhex(probe)) for probe in json.loads(row["probes"] or "[]"))
    return Pause(row["kind"], row["reason"] or "", row["since"], probes)


def pause(store: Store, kind: str, reason: str, probes: Sequence[str] = ()) -> None:
    """Pause the queue: nothing is claimed until it is resumed. Jobs in flight are finished."""
    with store.writing() as db:
        pause_in(store, db, kind, reason, probes)


def pause_in(store: Store, db: Database, kind: str, reason: str, probes: Sequence[str]) -> None:
    """`pause` within a transaction. A person's pause is not weakened by a machine's."""
    db.execute(
        "UPDATE control SET paused = 1, kind = :kind, reason = :reason, probes = :probes, since = :now "
        "WHERE paused = 0 OR :kind = 'user' OR kind <> 'user'",
        {
            "kind": kind,
            "reason": stored_text(reason),
            "probes": json.dumps([os.fsencode(probe).hex() for probe in probes]),
            "now": store.clock.wall(),
        },
    )


def resume(store: Store, only: Pause | None = None) -> bool:
    """End the pause, or `only` this one and no later one. Returns whether there was one."""
    condition, values = "paused = 1", {}
    if only is not None:
        condition, values = "paused = 1 AND kind = :kind AND since = :since", {"kind": only.kind, "since": only.since}
    nothing = "kind = NULL, reason = NULL, probes = NULL, since = NULL"
    sql = f"UPDATE control SET paused = 0, {nothing} WHERE {condition} RETURNING 1"
    with store.writing() as db:
        return bool(list(db.query(sql, values)))
