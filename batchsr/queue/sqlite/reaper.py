"""Taking jobs back from dead workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from batchsr import faults
from batchsr.errors import ClaimLost, ResourceError
from batchsr.queue.job import Job, State
from batchsr.queue.published import is_published
from batchsr.queue.sqlite import owners
from batchsr.queue.sqlite.claims import COLUMNS, clock_values, finish, to_job
from batchsr.queue.sqlite.store import Store

CRASHES_TO_QUARANTINE: Final = 2


def reap(store: Store, folder: Path, complete: Callable[[Job], None] = lambda job: None) -> list[Job]:
    """Take every job of every dead worker, and return the jobs as they are then.

    A job whose output got its name before the worker died is done. Any other is queued again, or quarantined
    if this was the second worker in a row to die on it without a window of progress.
    """
    taken: list[Job] = []
    suspects = store.rows(
        "SELECT id FROM workers WHERE ended_at IS NULL "
        "UNION SELECT worker FROM jobs WHERE worker IS NOT NULL ORDER BY id"
    )
    for suspect in suspects:
        with owners.lock_of_dead(folder, suspect["id"]) as dead:
            if dead:
                taken += _take_from(store, suspect["id"], complete)
                owners.lock_path(folder, suspect["id"]).unlink(missing_ok=True)
    return taken


def _take_from(store: Store, worker: str, complete: Callable[[Job], None]) -> list[Job]:
    taken: list[Job] = []
    for row in store.rows(f"SELECT {COLUMNS} FROM jobs WHERE worker = ?", (worker,)):
        job = to_job(row)
        try:
            if job.state is State.COMMITTING and _is_whole(job, complete):
                taken.append(finish(store, job, None, f"published by worker {worker} before it died"))
            else:
                taken += _requeue(store, job)
        except ClaimLost:
            continue  # cancelled or superseded meanwhile
    with store.writing() as db:
        db.execute(
            "UPDATE workers SET ended_at = ?, ending = 'died' WHERE id = ? AND ended_at IS NULL",
            (store.clock.wall(), worker),
        )
    return taken


def _is_whole(job: Job, complete: Callable[[Job], None]) -> bool:
    """Whether the output stands under its name, with all that belongs to it."""
    try:
        if not is_published(job):
            return False
        complete(job)
    except ResourceError:
        return False  # the next claim meets the same trouble, where a worker knows what to do about it
    return True


def _requeue(store: Store, job: Job) -> list[Job]:
    values = clock_values(store) | {"id": job.id, "claim_seq": job.claim_seq, "worker": job.worker}
    with store.writing() as db:
        progressed = db.table("attempts").count_where(
            "job = :id AND claim_seq = :claim_seq AND windows_done > windows_start", values
        )
        crashes = 0 if progressed else job.crashes + 1
        quarantined = crashes >= CRASHES_TO_QUARANTINE
        message = f"its worker died {crashes} times in a row without finishing a window" if quarantined else None
        rows = list(
            db.query(
                f"""UPDATE jobs SET worker = NULL, crashes = :crashes, changed_at = :now,
                reason = 'worker ' || :worker || ' died',
                state = iif(:quarantined, 'quarantined', 'queued'),
                finished_at = iif(:quarantined, :now, NULL),
                error_code = iif(:quarantined, 'crash', NULL), error = :message
                WHERE id = :id AND claim_seq = :claim_seq AND worker = :worker RETURNING {COLUMNS}""",
                values | {"crashes": crashes, "quarantined": quarantined, "message": message},
            )
        )
        faults.point("reaper.during")
        db.execute(
            "UPDATE attempts SET ended_at = seen_at, outcome = 'crash', error_code = 'crash' "
            "WHERE job = :id AND claim_seq = :claim_seq AND ended_at IS NULL",
            values,
        )
    return [to_job(row) for row in rows]
