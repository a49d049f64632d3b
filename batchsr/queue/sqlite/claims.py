"""A job in a worker's hands: claim, signs of life, commit, and every way to let go of it.

Each write after the claim is a compare-and-set: it names the claim's number and the states it may come
from, and a worker whose number is no longer the row's (it was reaped, cancelled, superseded) gets ClaimLost
instead of an effect. A claim itself is one UPDATE ... RETURNING in a BEGIN IMMEDIATE.

Longer than other modules: all ways to let go of a job are held against the same fence.
"""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from batchsr import faults
from batchsr.errors import ClaimLost
from batchsr.queue.job import Backend, Job, Result, State, loaded_path, stored_text
from batchsr.queue.sqlite import reports
from batchsr.queue.sqlite.control import pause_in
from batchsr.queue.sqlite.store import Store

if TYPE_CHECKING:
    from sqlite_utils import Database

_ELSEWHERE: Final = {
    "remarks_json": "remarks AS remarks_json",
    "report": "CASE WHEN state <> 'done' THEN (SELECT data FROM reports WHERE job = jobs.id) END AS report",
}
COLUMNS: Final = ", ".join(_ELSEWHERE.get(field.name, field.name) for field in dataclasses.fields(Job))
ROWS: Final = (
    'iif(instr(settings, \'"channels":"mono"\'), 1, coalesce(channels, 1)) * iif(instr(settings, \'"stems":"\'), 4, 1)'
)
"""How many rows of windows the model is given for a job, as `Settings.rows_of` says: their canonical JSON says what is
not at its default."""
FENCE: Final = "id = :id AND claim_seq = :claim_seq AND worker = :worker"
"""Who may write; every statement of an owner says it. A claim's number alone would do, were no backup ever restored."""

DUE: Final = """
    state = 'waiting' AND CASE WHEN run_boot = :boot THEN run_at_steady <= :steady
    ELSE run_at <= :now OR :now < changed_at END
"""
"""The backoff is over: by the steady clock, or after a reboot by the wall clock, unless that was set back."""


def to_job(row: dict[str, Any]) -> Job:
    """Return a row of `SELECT {COLUMNS}` as a Job."""
    values = {name: row[name] for name in Job.__dataclass_fields__}
    inode = values["inode"]
    return Job(
        **values
        | {
            "state": State(row["state"]),
            "source": loaded_path(row["source"]),
            "output": loaded_path(row["output"]),
            "overwrite": bool(row["overwrite"]),
            "inode": None if inode is None else inode % 2**64,
            "report": None if row["report"] is None else reports.unpacked(row["report"]),
        }
    )


def clock_values(store: Store) -> dict[str, Any]:
    """Return the parameters :now, :steady and :boot."""
    return {"now": store.clock.wall(), "steady": store.clock.steady(), "boot": store.clock.boot}


def register(store: Store, worker: str) -> None:
    """Write the row of a worker that holds its lock already."""
    values = clock_values(store)
    with store.writing_one() as db:
        db.table("workers").insert(
            {
                "id": worker,
                "pid": os.getpid(),
                "host": platform.node(),
                "boot": values["boot"],
                "started_at": values["now"],
                "started_steady": values["steady"],
            }
        )


def note_hung(store: Store, worker: str) -> None:
    """See Queue.note_hung."""
    with store.writing_one() as db:
        db.execute("UPDATE workers SET ending = 'hung' WHERE id = ? AND ended_at IS NULL", (worker,))


def sign_off(store: Store, worker: str, ending: str) -> None:
    """Close the row of a worker that owns nothing any more."""
    with store.writing_one() as db:
        db.execute(
            "UPDATE workers SET ended_at = ?, ending = ? "
            "WHERE id = ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE worker = ?)",
            (store.clock.wall(), ending, worker, worker),
        )


def claim(store: Store, worker: str, backend: Backend) -> Job | None:
    """Claim the next job that is open or names this variant: now owned by `worker` and bound to `backend`.

    None if there is none, or if the queue is paused. Windows that another backend made do not count. Raises
    ClaimLost if the worker itself was taken for dead, as when somebody removed its lock file: it must join anew.
    """
    values = clock_values(store) | dataclasses.asdict(backend) | {"worker": worker, "batch": store.batch}
    with store.writing_one() as db:
        if next(db.query("SELECT paused FROM control"))["paused"]:
            return None
        if db.table("workers").count_where("id = :worker AND ended_at IS NOT NULL", {"worker": worker}):
            raise ClaimLost(f"worker {worker} was taken for dead; it must join anew")
        _end_backoffs(db, values)
        same = " AND ".join(f"{name} IS :{name}" for name in _BINDING)
        sql = f"""
            UPDATE jobs SET state = 'running', worker = :worker, claim_seq = claim_seq + 1, attempts = attempts + 1,
                windows_done = CASE WHEN {same} THEN windows_done ELSE 0 END,
                windows_total = CASE WHEN {same} THEN windows_total END,
                {", ".join(f"{name} = :{name}" for name in (*_BINDING, "repository"))},
                started_at = coalesce(started_at, :now), finished_at = NULL, error_code = NULL, error = NULL,
                changed_at = :now, reason = 'claimed'
            WHERE id = (
                SELECT id FROM jobs INDEXED BY jobs_ready WHERE state = 'queued' AND held IS NULL
                AND (variant IS NULL OR variant = :variant){_only(store)} ORDER BY priority DESC, id LIMIT 1
            )
            RETURNING {COLUMNS}"""
        rows = list(db.query(sql, values))
        if not rows:
            return None
        job = to_job(rows[0])
        db.table("attempts").insert(
            {
                "job": job.id,
                "claim_seq": job.claim_seq,
                "worker": worker,
                "variant": backend.variant,
                "revision": backend.revision,
                "started_at": values["now"],
                "started_steady": values["steady"],
                "boot": values["boot"],
                "windows_done": job.windows_done,
                "seen_at": values["now"],
                "seen_steady": values["steady"],
                "wall_s": 0.0,
            }
        )
        db.execute(
            "UPDATE workers SET variant = :variant, device = :device WHERE id = :worker AND variant IS NOT :variant",
            values,
        )
    faults.point("claim.after")
    return job


_BINDING: Final = ("variant", "revision", "weights_sha256", "dtype", "device", "batch_windows")


def _end_backoffs(db: Database, values: dict[str, Any]) -> None:
    db.execute(
        "UPDATE jobs INDEXED BY jobs_waiting SET state = 'queued', run_at = NULL, run_at_steady = NULL, "
        "run_boot = NULL, changed_at = :now, "
        f"reason = 'backoff over' WHERE {DUE}",
        {name: values[name] for name in ("now", "steady", "boot")},
    )


def peek(store: Store, variant: str) -> Job | None:
    """Return the job that `claim` would give next, backoffs that are over included; pauses do not matter here."""
    first = f"AND (variant IS NULL OR variant = :variant){_only(store)} ORDER BY priority DESC, id LIMIT 1"
    ready = f"INDEXED BY jobs_ready WHERE state = 'queued' AND held IS NULL {first}"
    rows = store.rows(  # apart, so that each goes by its own index
        f"SELECT * FROM (SELECT {COLUMNS} FROM jobs {ready}) AS ready "
        f"UNION ALL SELECT * FROM (SELECT {COLUMNS} FROM jobs INDEXED BY jobs_waiting WHERE {DUE} {first}) AS due "
        "ORDER BY priority DESC, id LIMIT 1",
        clock_values(store) | {"variant": variant, "batch": store.batch},
    )
    return to_job(rows[0]) if rows else None


def _only(store: Store) -> str:
    """Return the condition that a job is of the batch that this connection is for, if it is for one, and asks for
    nothing that it leaves: the canonical settings name only what is not at its default."""
    of_batch = "" if store.batch is None else " AND batch = :batch"
    return of_batch + "".join(f" AND replace(settings, '\"{key}\"', '') = settings" for key in store.without)


def take_last_try(store: Store, variant: str) -> Job | None:
    """Return a quarantined job that was not tried again since, queued for that now; None if there is none."""
    values = {"variant": variant, "now": store.clock.wall(), "batch": store.batch}
    which = f"state = 'quarantined' AND last_try = 0 AND (variant IS NULL OR variant = :variant){_only(store)}"
    if not store.rows(f"SELECT 1 FROM jobs WHERE {which} LIMIT 1", values):  # without a lock, as nearly always
        return None
    sql = (
        "UPDATE jobs SET state = 'queued', last_try = 1, outages = 0, finished_at = NULL, error_code = NULL, "
        "error = NULL, changed_at = :now, reason = 'one last try, alone' "
        f"WHERE id = (SELECT id FROM jobs WHERE {which} ORDER BY priority DESC, id LIMIT 1) RETURNING {COLUMNS}"
    )
    with store.writing() as db:
        rows = list(db.query(sql, values))
    return to_job(rows[0]) if rows else None


def next_due_s(store: Store, variant: str) -> float | None:
    """Return seconds until the first backoff of a job for this variant is over; None if none waits."""
    rows = store.rows(
        "SELECT min(CASE WHEN run_boot = :boot THEN run_at_steady - :steady ELSE run_at - :now END) AS wait_s "
        "FROM jobs INDEXED BY jobs_waiting WHERE state = 'waiting' AND (variant IS NULL OR variant = :variant)"
        + _only(store),
        clock_values(store) | {"variant": variant, "batch": store.batch},
    )
    wait_s = rows[0]["wait_s"]
    return None if wait_s is None else max(0.0, wait_s)


def bound_variants(store: Store) -> list[str]:
    """Return the variants that jobs still to be done name or are bound to, most urgent first."""
    rows = store.rows(
        "SELECT variant FROM jobs WHERE state IN ('queued', 'waiting', 'running', 'committing') "
        f"AND variant IS NOT NULL{_only(store)} GROUP BY variant ORDER BY max(priority) DESC, min(id)",
        {"batch": store.batch},
    )
    return [row["variant"] for row in rows]


def progress(store: Store, job: Job, windows_done: int, windows_total: int) -> None:
    """Give a sign of life: so many windows are safe in the scratch. Raises ClaimLost."""
    with store.writing_one() as db:
        values = _owner(store, job) | {"done": windows_done, "total": windows_total}
        _update(
            db,
            job,
            "windows_done = :done, windows_total = :total, "
            "crashes = CASE WHEN :done > windows_done THEN 0 ELSE crashes END, "
            "outages = CASE WHEN :done > windows_done THEN 0 ELSE outages END, "
            "last_try = CASE WHEN :done > windows_done THEN 0 ELSE last_try END, "
            "failures = CASE WHEN :done > windows_done THEN 0 ELSE failures END",
            ("running",),
            values,
        )
        db.execute(
            "UPDATE attempts SET windows_start = coalesce(windows_start, :done), windows_done = :done "
            "WHERE job = :id AND claim_seq = :claim_seq",
            values,
        )
        _count_time(db, values)
    faults.point("slot.after_row")


def committing(store: Store, job: Job, result: Result, also: Callable[[Database], None] = lambda db: None) -> None:
    """Note what the output is, which is whole and about to get its name, so that a crash from here on loses
    nothing.

    `also` writes what else belongs into the same transaction.
    """
    values = _owner(store, job) | {name: getattr(result, name) for name in _RESULT}
    known = [name for name, value in values.items() if name in _RESULT and name != "wall_s" and value is not None]
    faults.point("committing.before")
    with store.writing_one() as db:
        sets = ", ".join(f"{name} = :{name}" for name in known)
        _update(db, job, f"state = 'committing', changed_at = :now, reason = '', {sets}", ("running",), values)
        _count_time(db, values, told_s=result.wall_s)
        reports.note(db, job.id, result.report)
        also(db)
    faults.point("committing.after")


_RESULT: Final = frozenset(field.name for field in dataclasses.fields(Result) if field.name != "report")


def finish(store: Store, job: Job, result: Result | None, reason: str = "", *, keep_report: bool = True) -> Job:
    """Note that the output stands under its name, safe from a power cut. Raises ClaimLost."""
    values = _owner(store, job) | {"reason": reason}
    sets = ""
    if result is not None:
        values |= {name: getattr(result, name) for name in _RESULT}
        sets = "".join(f", {name} = coalesce(:{name}, {name})" for name in sorted(_RESULT))
    faults.point("done.before")
    with store.writing_one() as db:  # no time is counted: what the sidecar says was told when the output was whole
        done = _update(
            db,
            job,
            "state = 'done', worker = NULL, finished_at = :now, changed_at = :now, reason = :reason, "
            f"failures = 0, crashes = 0, outages = 0, last_try = 0, error_code = NULL, error = NULL, "
            f"windows_done = coalesce(windows_total, windows_done){sets}",
            ("committing",),
            values,
        )
        _end_attempt(db, values, "done")
        if result is not None:
            reports.note(db, job.id, result.report)
        if not keep_report:
            reports.forget(db, job.id)
    faults.point("done.after")
    return done


def fail(
    store: Store, job: Job, code: str, message: str, wait_s: Callable[[int], float | None] = lambda failures: None
) -> Job:
    """Note that the attempt failed. `wait_s(failures in a row)` says how long to wait before the next; None gives up.

    Returns the job, which is then waiting or failed. Raises ClaimLost.
    """
    with store.writing_one() as db:
        values = _owner(store, job) | {"code": code, "message": stored_text(message)}
        failures = 1 + _current(db, job)["failures"]
        _count_time(db, values)
        pause_s = wait_s(failures)
        sets = "worker = NULL, failures = :failures, error_code = :code, error = :message"
        sets += ", changed_at = :now, reason = :code"
        if pause_s is None:
            sets += ", state = 'failed', finished_at = :now"
        else:
            sets += ", state = 'waiting', run_at = :run_at, run_at_steady = :run_at_steady, run_boot = :boot"
            values |= {"run_at": values["now"] + pause_s, "run_at_steady": values["steady"] + pause_s}
        failed = _update(db, job, sets, ("running", "committing"), values | {"failures": failures})
        _end_attempt(db, values, "failed" if pause_s is None else "retried", code, message)
    return failed


def release(store: Store, job: Job, outcome: str, reason: str) -> Job:
    """Back to queued at once, the attempt given back: the file was not at fault. Raises ClaimLost."""
    with store.writing_one() as db:
        return release_in(store, db, job, outcome, reason)


def give_back(store: Store, job: Job, reason: str, kind: str, probes: Sequence[str]) -> Job:
    """`release`, and the queue paused with the reason in the same transaction. `probes` are paths to try again."""
    with store.writing() as db:
        given = release_in(store, db, job, kind, reason)
        pause_in(store, db, kind, reason, probes)
    return given


def release_in(store: Store, db: Database, job: Job, outcome: str, reason: str) -> Job:
    values = _owner(store, job) | {"reason": stored_text(reason)}
    _current(db, job)
    _count_time(db, values)
    released = _update(
        db,
        job,
        "state = 'queued', worker = NULL, attempts = attempts - 1, changed_at = :now, reason = :reason",
        ("running", "committing"),
        values,
    )
    _end_attempt(db, values, outcome, None, reason)
    return released


def _owner(store: Store, job: Job) -> dict[str, Any]:
    return clock_values(store) | {"id": job.id, "claim_seq": job.claim_seq, "worker": job.worker}


def _update(db: Database, job: Job, sets: str, states: Sequence[str], values: dict[str, Any]) -> Job:
    """Compare and set. Raises ClaimLost when the row is no longer ours."""
    allowed = ", ".join(f"'{state}'" for state in states)
    rows = list(db.query(f"UPDATE jobs SET {sets} WHERE {FENCE} AND state IN ({allowed}) RETURNING {COLUMNS}", values))
    if not rows:
        now = _current(db, job)
        raise ClaimLost(
            f"job {job.id} is {now['state']} now, claim {now['claim_seq']}; this worker had claim {job.claim_seq}"
        )
    return to_job(rows[0])


def _current(db: Database, job: Job) -> dict[str, Any]:
    """Return the row as it is now, and let it be so until the transaction ends; the attempt's is locked after it."""
    for row in db.query("SELECT * FROM jobs WHERE id = ? /* pg: FOR UPDATE */", (job.id,)):
        return row
    raise ClaimLost(f"job {job.id} was forgotten; this worker had claim {job.claim_seq}")


def _count_time(db: Database, values: dict[str, Any], told_s: float | None = None) -> None:
    """Add the time since the last sign of life to the attempt and to the job; or what the worker tells, in all.

    Where the worker has several jobs in flight they share the time evenly, so that their times add up to the worker's.
    """
    names = {name: values[name] for name in ("id", "claim_seq", "worker", "now", "steady")}
    rows = list(
        db.query(
            """SELECT jobs.wall_s, max(0, :steady - seen_steady) / (
                SELECT max(1, count(*)) FROM jobs AS others WHERE others.worker = attempts.worker
            ) AS spent_s FROM attempts JOIN jobs ON jobs.id = attempts.job
            WHERE attempts.job = :id AND attempts.claim_seq = :claim_seq AND ended_at IS NULL""",
            {name: names[name] for name in ("id", "claim_seq", "steady")},
        )
    )
    if not rows:
        return
    names["spent_s"] = rows[0]["spent_s"]
    if told_s is not None:  # the figure in the sidecar: the shares to the microsecond, where ours are as of the signs
        names["spent_s"] = told_s - rows[0]["wall_s"]
    db.execute(
        "UPDATE attempts SET wall_s = max(0, wall_s + :spent_s), seen_at = :now, seen_steady = :steady "
        "WHERE job = :id AND claim_seq = :claim_seq",
        names,
    )
    db.execute(
        f"UPDATE jobs SET wall_s = max(0, wall_s + :spent_s) WHERE {FENCE}",
        {name: names[name] for name in ("id", "claim_seq", "worker", "spent_s")},
    )


def _end_attempt(
    db: Database, values: dict[str, Any], outcome: str, code: str | None = None, message: str | None = None
) -> None:
    db.execute(
        "UPDATE attempts SET ended_at = :now, outcome = :outcome, error_code = :code, error = :message "
        "WHERE job = :id AND claim_seq = :claim_seq",
        {
            "now": values["now"],
            "id": values["id"],
            "claim_seq": values["claim_seq"],
            "outcome": outcome,
            "code": code,
            "message": None if message is None else stored_text(message),
        },
    )
