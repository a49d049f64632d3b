"""What a person does to jobs: retry, cancel, edit; and tidying up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from batchsr.queue.job import State, folded_key, loaded_path, stored_path, stored_text
from batchsr.queue.sqlite import owners
from batchsr.queue.sqlite.enqueue import free_output
from batchsr.queue.sqlite.store import Store

_PRUNED_AT_ONCE: Final = 2000


def retry(store: Store, ids: Iterable[int] | None, *, redo: bool) -> list[int]:
    """Queue failed and quarantined jobs again; named ones also from cancelled, and with `redo` from done.

    Counts start anew, finished windows are kept. A name that went to another job meanwhile is replaced.
    """
    states = [State.FAILED, State.QUARANTINED]
    if ids is not None:
        states += [State.CANCELLED, State.DONE] if redo else [State.CANCELLED]
    wanted = "" if ids is None else "AND id IN (SELECT value FROM json_each(:ids))"
    values = {"ids": json.dumps([] if ids is None else sorted(ids)), "states": json.dumps(states)}
    with store.writing() as db:
        rows = list(
            db.query(
                "SELECT id, output, state FROM jobs WHERE state IN (SELECT value FROM json_each(:states)) "
                f"{wanted} ORDER BY id",
                values,
            )
        )
        for row in rows:
            output = loaded_path(row["output"])
            output = (row["state"] == State.CANCELLED and free_output(db, row["id"], output)) or output
            db.execute(
                "UPDATE jobs SET state = 'queued', output = ?, output_key = ?, failures = 0, crashes = 0, outages = 0, "
                "last_try = 0, wall_s = iif(state = 'done', 0.0, wall_s), "
                "finished_at = NULL, error_code = NULL, error = NULL, output_sha256 = NULL, output_bytes = NULL, "
                "changed_at = ?, reason = 'retry' WHERE id = ?",
                (stored_path(output), folded_key(output), store.clock.wall(), row["id"]),
            )
    return [row["id"] for row in rows]


def cancel(store: Store, ids: Iterable[int]) -> list[int]:
    """Cancel jobs that are queued, waiting or running, and return which. A running one stops at its next window.

    One that is committing is as good as done, and is left to it.
    """
    values = {"ids": json.dumps(sorted(ids)), "now": store.clock.wall()}
    with store.writing() as db:
        rows = list(
            db.query(
                "UPDATE jobs SET state = 'cancelled', worker = NULL, run_at = NULL, run_at_steady = NULL, "
                "run_boot = NULL, finished_at = :now, changed_at = :now, reason = 'cancelled' "
                "WHERE id IN (SELECT value FROM json_each(:ids)) AND state IN ('queued', 'waiting', 'running') "
                "RETURNING id",
                values,
            )
        )
        db.execute(
            "UPDATE attempts SET ended_at = :now, outcome = 'cancelled' WHERE ended_at IS NULL "
            "AND job IN (SELECT id FROM jobs WHERE state = 'cancelled')",
            {"now": values["now"]},
        )
    return sorted(row["id"] for row in rows)


def edit(store: Store, ids: Iterable[int], *, priority: int | None, batch: str | None) -> list[int]:
    """Give jobs that are queued or waiting another priority or batch, and return which. None leaves what is."""
    values = {
        "ids": json.dumps(sorted(ids)),
        "priority": priority,
        "batch": None if batch is None else stored_text(batch),
    }
    with store.writing() as db:
        rows = list(
            db.query(
                "UPDATE jobs SET priority = coalesce(:priority, priority), batch = coalesce(:batch, batch) "
                "WHERE id IN (SELECT value FROM json_each(:ids)) AND state IN ('queued', 'waiting') RETURNING id",
                values,
            )
        )
    return sorted(row["id"] for row in rows)


def prune_events(store: Store, older_than_s: float) -> int:
    """Forget the changes of state and the attempts of jobs that have been over for so long, and workers that nothing
    speaks of any more. Returns how many changes and attempts; some thousand jobs a transaction, so that none waits."""
    gone, last = 0, -1
    before = store.clock.wall() - older_than_s
    while True:
        jobs = store.rows(
            "SELECT id FROM jobs NOT INDEXED WHERE id > ? AND finished_at < ? AND worker IS NULL ORDER BY id LIMIT ?",
            (last, before, _PRUNED_AT_ONCE),
        )
        if not jobs:
            break
        ids = json.dumps([job["id"] for job in jobs])
        last = jobs[-1]["id"]
        which = "job IN (SELECT value FROM json_each(?))"
        if any(store.rows(f"SELECT 1 FROM {table} WHERE {which} LIMIT 1", (ids,)) for table in ("events", "attempts")):
            with store.writing() as db:
                over = f"{which} AND job IN (SELECT id FROM jobs WHERE finished_at < ? AND worker IS NULL)"
                for table in ("events", "attempts"):
                    gone += db.conn.execute(f"DELETE FROM {table} WHERE {over}", (ids, before)).rowcount
    with store.writing() as db:
        db.execute(
            "DELETE FROM workers WHERE ended_at < ? AND id NOT IN (SELECT worker FROM attempts) "
            "AND id NOT IN (SELECT worker FROM jobs WHERE worker IS NOT NULL)",
            (before,),
        )
    return gone


def vacuum(store: Store) -> int:
    """Give the database's free pages back to the disk. Returns how many bytes it became smaller."""
    before_bytes = store.path.stat().st_size
    store.vacuum()
    return max(0, before_bytes - store.path.stat().st_size)


def prune_locks(store: Store, folder: Path) -> int:
    """Remove lock files of dead workers that own nothing: they died before their row was written, or after."""
    gone = 0
    for path in sorted(folder.glob("*.lock")):
        with owners.lock_of_dead(folder, path.stem) as dead:
            if dead and not store.rows("SELECT 1 FROM jobs WHERE worker = ?", (path.stem,)):
                path.unlink(missing_ok=True)
                gone += 1
    return gone
