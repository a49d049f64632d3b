"""What a worker asks for every file, each in one message: the functions of functions.py, called."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

from batchsr import faults
from batchsr.errors import ClaimLost
from batchsr.queue.job import Backend, Job, Result
from batchsr.queue.postgres import functions
from batchsr.queue.postgres.store import PgStore
from batchsr.queue.sqlite import claims, queries, reports

_RESULT: Final = ", ".join(f":{name}" for name in functions.RESULT)


def claim(store: PgStore, worker: str, backend: Backend) -> Job | None:
    """Claim the next job. Raises ClaimLost if the worker was taken for dead, QueueAway `in_doubt`."""
    rows = store.call(
        f"SELECT {claims.COLUMNS} FROM claim_job(:worker, :variant, :revision, :weights_sha256, :dtype, :device, "
        ":batch_windows, :repository, :now, :steady, :boot, :batch, :without) AS jobs",
        _whose(store) | dataclasses.asdict(backend) | {"worker": worker},
    )
    faults.point("claim.after")
    return claims.to_job(rows[0]) if rows else None


def peek(store: PgStore, variant: str) -> Job | None:
    """Return the job that `claim` would give next, were the queue not paused."""
    rows = store.rows(
        f"SELECT {claims.COLUMNS} FROM peek_job(:variant, :now, :steady, :boot, :batch, :without) AS jobs",
        _whose(store) | {"variant": variant},
    )
    return claims.to_job(rows[0]) if rows else None


def in_hand(store: PgStore, home: str) -> list[Job]:
    """Return the jobs that workers of a host own now."""
    rows = store.rows(
        f"SELECT {claims.COLUMNS} FROM jobs WHERE worker IN (SELECT id FROM workers WHERE home = ? "
        "AND ended_at IS NULL)",
        (home,),
    )
    return [claims.to_job(row) for row in rows]


def commit(store: PgStore, job: Job, result: Result, first: int | None, last: int | None) -> None:
    """Note what a claim is about to publish; `first` and `last` are the windows that it began with and has.

    Raises ClaimLost, QueueAway `in_doubt`.
    """
    faults.point("committing.before")
    (row,) = store.call(
        f"SELECT commit_job(:id, :claim_seq, :worker, :now, :steady, :first, :last, :intent, {_RESULT}) AS done",
        _owner(store, job)
        | _values_of(result)
        | {"first": first, "last": last, "intent": reports.packed(json.dumps(dataclasses.asdict(result)))},
    )
    if not row["done"]:
        raise lost(store, job)
    faults.point("committing.after")


def finish(store: PgStore, job: Job, result: Result | None, reason: str, *, keep_report: bool) -> Job:
    """Note that the output stands under its name. Raises ClaimLost, QueueAway `in_doubt`."""
    faults.point("done.before")
    rows = store.call(
        f"SELECT {claims.COLUMNS} FROM finish_job(:id, :claim_seq, :worker, :now, :reason, :keep, {_RESULT}) AS jobs",
        _owner(store, job) | _values_of(result) | {"reason": reason, "keep": keep_report},
    )
    if not rows:
        raise lost(store, job)
    faults.point("done.after")
    return claims.to_job(rows[0])


def lost(store: PgStore, job: Job) -> ClaimLost:
    """Return the error that says whose a job is now."""
    now = queries.get(store, job.id)  # type: ignore[arg-type]
    what = "forgotten" if now is None else f"{now.state} now, claim {now.claim_seq}"
    return ClaimLost(f"job {job.id} is {what}; this worker had claim {job.claim_seq}")


def _whose(store: PgStore) -> dict[str, Any]:
    """Return what time it is, and which jobs a connection is for."""
    return claims.clock_values(store) | {"batch": store.batch, "without": list(store.without)}  # type: ignore[arg-type]


def _owner(store: PgStore, job: Job) -> dict[str, Any]:
    return claims.clock_values(store) | {"id": job.id, "claim_seq": job.claim_seq, "worker": job.worker}  # type: ignore[arg-type]


def _values_of(result: Result | None) -> dict[str, Any]:
    """Return the values of `functions.RESULT`; all None where there is no result."""
    if result is None:
        return dict.fromkeys(functions.RESULT)
    text = None if result.report is None else json.dumps(result.report)
    return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)} | {
        "report": None if text is None else reports.packed(text),
        "remarks": None if text is None else reports.remarks_of(text),
    }
