"""Taking jobs back from dead workers.

A death blames the file that was in flight, unless it says nothing about it: the machine went down meanwhile (it has
another boot), many workers died at one moment, or a supervisor ended a worker that made no windows. Such outages have a
larger bound of their own. Who sent a signal is not asked: a person's SIGKILL looks like the kernel's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from batchsr import faults
from batchsr.errors import ClaimLost, ResourceError
from batchsr.queue.job import Job, State
from batchsr.queue.published import is_published
from batchsr.queue.sqlite import owners
from batchsr.queue.sqlite.claims import COLUMNS, clock_values, finish, to_job
from batchsr.queue.sqlite.store import Store

CRASHES_TO_QUARANTINE: Final = 3
"""Deaths in a row that blame the file, without a window of progress in between."""
OUTAGES_TO_QUARANTINE: Final = 10
"""The same for deaths that do not."""
_ONE_MOMENT_S: Final = 60.0
"""Between the last signs of life of workers that died together; a window may take half a minute."""
_MANY: Final = 3
_ROUNDS: Final = 5
"""Looks at one worker for what it claimed since the last; the next reaper takes what is left."""


def reap(store: Store, folder: Path, complete: Callable[[Job], None] = lambda job: None) -> list[Job]:
    """Take every job of every dead worker, and return the jobs as they are then.

    A job whose output got its name before the worker died is done. Any other is queued again, or quarantined
    when that has happened too often in a row without a window of progress.
    """
    taken: list[Job] = []
    suspects = store.rows(
        "SELECT id FROM workers WHERE ended_at IS NULL "
        "UNION SELECT worker FROM jobs WHERE worker IS NOT NULL ORDER BY id"
    )
    with contextlib.ExitStack() as locks:
        dead = [one["id"] for one in suspects if locks.enter_context(owners.lock_of_dead(folder, one["id"]))]
        blameless = died_of_something_else(store, dead) if dead else set()
        for worker in dead:
            taken += take_from(store, worker, complete, outage=worker in blameless)
            owners.lock_path(folder, worker).unlink(missing_ok=True)
    return taken


def died_of_something_else(store: Store, dead: Sequence[str]) -> set[str]:
    """Return those of the dead workers whose death says nothing about the files they had in flight."""
    rows = store.rows(
        "SELECT w.id, w.boot, w.started_at, w.ending, max(a.seen_at) AS seen_at FROM workers w "
        "LEFT JOIN attempts a ON a.worker = w.id AND a.ended_at IS NULL WHERE w.ended_at IS NULL GROUP BY w.id"
    )
    of_another_boot = {row["id"] for row in rows if row["id"] in dead and row["boot"] != store.clock.boot}
    hung = {row["id"] for row in rows if row["id"] in dead and row["ending"] == "hung"}
    last_seen = {row["id"]: row["seen_at"] for row in rows if row["id"] in dead and row["seen_at"] is not None}
    living = [row["started_at"] for row in rows if row["id"] not in dead]
    together = set()
    for worker, seen_at in last_seen.items():
        company = sum(abs(other - seen_at) <= _ONE_MOMENT_S for other in last_seen.values())
        survived = any(started_at < seen_at for started_at in living)
        if company >= _MANY or (company > 1 and not survived):
            together.add(worker)
    return of_another_boot | hung | together


def take_from(store: Store, worker: str, complete: Callable[[Job], None], *, outage: bool) -> list[Job]:
    """Take every job of a worker that is dead, or silent for too long, and end it once it owns none.

    One that was only silent may claim until its row is locked here: then there is one more job to take.
    """
    taken: list[Job] = []
    for _ in range(_ROUNDS):
        for row in store.rows(f"SELECT {COLUMNS} FROM jobs WHERE worker = ?", (worker,)):
            job = to_job(row)
            try:
                if job.state is State.COMMITTING and _is_whole(job, complete):
                    taken.append(finish(store, job, None, f"published by worker {worker} before it died"))
                else:
                    taken += _requeue(store, job, outage=outage)
            except ClaimLost:
                continue  # cancelled or superseded meanwhile
        with store.writing_one() as db:
            list(db.query("SELECT id FROM workers WHERE id = ? /* pg: FOR UPDATE */", (worker,)))
            db.execute(
                "UPDATE workers SET ended_at = ?, ending = coalesce(ending, 'died') WHERE id = ? AND ended_at IS NULL "
                "AND NOT EXISTS (SELECT 1 FROM jobs WHERE worker = ?)",
                (store.clock.wall(), worker, worker),
            )
            if not list(db.query("SELECT 1 FROM jobs WHERE worker = ?", (worker,))):
                break
    return taken


def _is_whole(job: Job, complete: Callable[[Job], None]) -> bool:
    """Return whether the output stands under its name, with all that belongs to it."""
    try:
        if not is_published(job):
            return False
        complete(job)
    except ResourceError:
        return False  # the next claim meets the same trouble, where a worker knows what to do about it
    return True


def _requeue(store: Store, job: Job, *, outage: bool) -> list[Job]:
    values = clock_values(store) | {"id": job.id, "claim_seq": job.claim_seq, "worker": job.worker}
    with store.writing_one() as db:
        progressed = db.table("attempts").count_where(
            "job = :id AND claim_seq = :claim_seq AND windows_done > windows_start", values
        )
        crashes = 0 if progressed else job.crashes + (not outage)
        outages = 0 if progressed else job.outages + outage
        quarantined = (crashes >= CRASHES_TO_QUARANTINE and not outage) or outages >= OUTAGES_TO_QUARANTINE
        deaths = crashes + outages
        message = f"its worker died {deaths} times in a row without finishing a window" if quarantined else None
        rows = list(
            db.query(
                f"""UPDATE jobs SET worker = NULL, crashes = :crashes, outages = :outages,
                last_try = iif(:progressed, 0, last_try), changed_at = :now,
                reason = 'worker ' || :worker || ' died',
                state = iif(:quarantined, 'quarantined', 'queued'),
                finished_at = iif(:quarantined, :now, NULL),
                error_code = iif(:quarantined, 'crash', NULL), error = :message
                WHERE id = :id AND claim_seq = :claim_seq AND worker = :worker RETURNING {COLUMNS}""",
                values
                | {
                    "crashes": crashes,
                    "outages": outages,
                    "progressed": bool(progressed),
                    "quarantined": quarantined,
                    "message": message,
                },
            )
        )
        faults.point("reaper.during")
        db.execute(
            "UPDATE attempts SET ended_at = seen_at, outcome = 'crash', error_code = 'crash' "
            "WHERE job = :id AND claim_seq = :claim_seq AND ended_at IS NULL",
            values,
        )
    return [to_job(row) for row in rows]
