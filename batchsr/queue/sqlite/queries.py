"""Looking at the queue. Nothing here writes, and nothing holds a read transaction while the caller thinks.

Longer than other modules: each question's SQL stands beside the shape of its answer.
"""

from __future__ import annotations

import json
import os
import statistics
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from batchsr import storage
from batchsr.queue.filters import Sort
from batchsr.queue.interface import Pulse
from batchsr.queue.job import LIVE, Job, State, folded_key, iso, loaded_path, stored_text
from batchsr.queue.sqlite import control, places
from batchsr.queue.sqlite.claims import COLUMNS, to_job
from batchsr.queue.sqlite.enqueue import same_file_as_output
from batchsr.queue.sqlite.store import Store
from batchsr.queue.trouble import Pause

_PAGE: Final = 500
_QUEUES: Final = uuid.UUID("2b0c7a52-5a8e-4b65-9f43-4f4a1d1f6f0e")
HUNG_AFTER_S: Final = 600.0
HUNG_AFTER_MEDIANS: Final = 20
_MEDIAN_OF: Final = 200  # latest attempts
_LEAST_FREE_BYTES: Final = 1 << 20  # below it the next commits fail


def own_id(store: Store) -> str:
    """Return the queue's identity: made from the microsecond in which its tables were, which is in the database."""
    (row,) = store.rows("SELECT min(applied_at) AS born FROM _sqlite_migrations")
    return str(uuid.uuid5(_QUEUES, str(row["born"])))


def jobs(
    store: Store,
    *,
    states: Iterable[State | str] = (),
    batch: str | None = None,
    ids: Iterable[int] | None = None,
    source: str | None = None,
    newest_first: bool = False,
    limit: int | None = None,
    sort: Sort = "id",
    failures_first: bool = False,
) -> Iterator[Job]:
    """Yield jobs in an order, by default the one they came in. `source` is a part of the source's path."""
    conditions, values = ["1"], dict[str, Any]()
    if wanted := [str(State(state)) for state in states]:
        conditions.append("state IN (SELECT value FROM json_each(:states))")
        values["states"] = json.dumps(wanted)
    if batch is not None:
        conditions.append("batch = :batch")
        values["batch"] = stored_text(batch)
    if ids is not None:
        conditions.append("id IN (SELECT value FROM json_each(:ids))")
        values["ids"] = json.dumps(sorted(ids))
    if source is not None:
        conditions.append("instr(CAST(source AS TEXT), :source)")
        values["source"] = stored_text(source)
    if failures_first or sort != "id":
        yield from _in_order(store, " AND ".join(conditions), values, _order(sort, failures_first, newest_first), limit)
        return
    beyond, order = ("id < :last", "id DESC") if newest_first else ("id > :last", "id")
    values["last"] = 2**62 if newest_first else -1
    left = limit if limit is not None else 2**62
    while left > 0:
        where = " AND ".join((*conditions, beyond))
        sql = f"SELECT {COLUMNS} FROM jobs WHERE {where} ORDER BY {order} LIMIT {min(left, _PAGE)}"
        page = [to_job(row) for row in store.rows(sql, values)]
        yield from page
        if len(page) < _PAGE:
            return
        left -= len(page)
        values["last"] = page[-1].id


_SORTS: Final[Mapping[Sort, str]] = {
    "id": "",
    "path": "CAST(source AS BLOB), ",
    "length": "coalesce(audio_s, 0) DESC, ",
    "rtf": "CASE WHEN audio_s > 0 THEN wall_s / audio_s ELSE 0 END DESC, ",
    "changed": "changed_at DESC, ",
}


def _order(sort: Sort, failures_first: bool, newest_first: bool) -> str:
    """Return what stands behind ORDER BY; ties by the number."""
    first = "state NOT IN ('failed', 'quarantined'), " if failures_first else ""
    return first + _SORTS[sort] + ("id DESC" if newest_first else "id")


def _in_order(store: Store, where: str, values: Mapping[str, Any], order: str, limit: int | None) -> Iterator[Job]:
    """Yield jobs in any order: SQLite sorts their numbers, of which each takes eight bytes here; rows come in pages.

    A job that is forgotten meanwhile is left out; no read transaction is held between pages.
    """
    few = "" if limit is None else f" LIMIT {limit}"
    ids = store.column(f"SELECT id FROM jobs WHERE {where} ORDER BY {order}{few}", values)
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        sql = f"SELECT {COLUMNS} FROM jobs WHERE id IN (SELECT value FROM json_each(?))"
        found = {row["id"]: row for row in store.rows(sql, (json.dumps(page.tolist()),))}
        yield from (to_job(found[one]) for one in page if one in found)


_MADE_OF: Final[Mapping[str, tuple[str, ...]]] = {"rtf": ("wall_s", "audio_s"), "retry_at": ("run_at",)}
_TIMES: Final = frozenset(("created_at", "started_at", "finished_at"))


def rows(
    store: Store,
    columns: Sequence[str],
    *,
    states: Iterable[State | str] = (),
    batch: str | None = None,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Read these columns of `Job.to_dict` alone, in the order the jobs came in."""
    needed = dict.fromkeys(("id", *(part for name in columns for part in _MADE_OF.get(name, (name,)))))
    conditions, values = ["id > :last"], dict[str, Any](last=-1)
    if wanted := [str(State(state)) for state in states]:
        conditions.append("state IN (SELECT value FROM json_each(:states))")
        values["states"] = json.dumps(wanted)
    if batch is not None:
        conditions.append("batch = :batch")
        values["batch"] = stored_text(batch)
    sql = f"SELECT {', '.join(needed)} FROM jobs NOT INDEXED WHERE {' AND '.join(conditions)} ORDER BY id LIMIT "
    left = limit if limit is not None else 2**62
    while left > 0:
        page = store.rows(f"{sql}{min(left, _PAGE)}", values)
        for row in page:
            values["last"] = row["id"]
            yield {name: _shown(name, row) for name in columns}
        if len(page) < _PAGE:
            return
        left -= len(page)


def _shown(name: str, row: Mapping[str, Any]) -> Any:
    """Return a column's value as `Job.to_dict` has it."""
    if name in ("source", "output"):
        return loaded_path(row[name])
    if name in _TIMES:
        return iso(row[name])
    if name == "rtf":
        return row["wall_s"] / row["audio_s"] if row["audio_s"] else None
    if name == "retry_at":
        return iso(row["run_at"])
    if name == "remarks":
        return json.loads(row[name] or "[]")
    return bool(row[name]) if name == "overwrite" else (row[name] is not None) if name == "held" else row[name]


def get(store: Store, job_id: int) -> Job | None:
    """Return a job, or None."""
    return next(jobs(store, ids=[job_id]), None)


def in_flight(store: Store) -> list[Job]:
    """Return the jobs that workers own now."""
    return [to_job(row) for row in store.rows(f"SELECT {COLUMNS} FROM jobs WHERE worker IS NOT NULL")]


def batches(store: Store) -> list[str]:
    """Return the names of the batches that have jobs, sorted; "" for jobs without one."""
    return [str(row["batch"]) for row in store.rows("SELECT DISTINCT batch FROM jobs ORDER BY batch")]


def totals(store: Store, batch: str | None = None) -> dict[str, dict[str, float]]:
    """Return for each state how many jobs, seconds of audio and seconds spent."""
    if batch is None:
        return _totals(store, "", {})
    return _totals(store, "WHERE batch = :batch ", {"batch": stored_text(batch)})


def totals_of_run(store: Store) -> dict[str, dict[str, float]]:
    """Return `totals` of the jobs that are left, and of those that ended since the oldest of them was enqueued."""
    left = ", ".join(f"'{state}'" for state in LIVE)
    oldest = f"(SELECT min(created_at) FROM jobs WHERE state IN ({left}))"
    return _totals(store, f"WHERE state IN ({left}) OR changed_at >= {oldest} ", {})


def _totals(store: Store, condition: str, values: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {str(state): {"jobs": 0, "audio_s": 0.0, "wall_s": 0.0} for state in State}
    rows = store.rows(
        "SELECT state, count(*) AS jobs, coalesce(sum(audio_s), 0.0) AS audio_s, sum(wall_s) AS wall_s FROM jobs "
        + condition
        + "GROUP BY state",
        values,
    )
    for row in rows:
        found[row.pop("state")] = row
    return found


def status(store: Store) -> dict[str, Any]:
    """Return the queue at a glance; see Queue.status."""
    with store.reading():  # one moment for all of it
        found = totals(store)
        pause = control.current(store) or (_full_disk(store) if store.on_own_disk else None)
        alive = store.rows(
            "SELECT w.id, w.pid, w.host, w.variant, w.device, w.started_at, w.boot, j.id AS job, j.source, "
            "j.windows_done, j.windows_total, a.seen_steady FROM workers w LEFT JOIN jobs j ON j.worker = w.id "
            "LEFT JOIN attempts a ON a.job = j.id AND a.claim_seq = j.claim_seq "
            "WHERE w.ended_at IS NULL ORDER BY w.started_at, w.id, a.started_steady"
        )
        hung_after_s = _hung_after_s(store)
        held = places.places(store)
    held_log = store.held_log()
    idle_s: dict[str, float] = {}  # of a worker, since the latest window of any of its jobs
    for row in alive:
        if row["job"] is not None and row["boot"] == store.clock.boot:
            one_s = max(0.0, store.clock.steady() - row["seen_steady"])
            idle_s[row["id"]] = min(one_s, idle_s.get(row["id"], one_s))
    workers = [
        {key: row[key] for key in ("id", "pid", "host", "variant", "device", "job", "windows_done", "windows_total")}
        | {
            "started_at": iso(row["started_at"]),
            "source": None if row["source"] is None else loaded_path(row["source"]),
            "idle_s": idle_s.get(row["id"]),
            "hung": idle_s.get(row["id"], 0.0) > hung_after_s,
        }
        for row in alive
    ]
    return {
        "database": str(store.path),
        "jobs": {state: int(total["jobs"]) for state, total in found.items()},
        "audio_s": {state: total["audio_s"] for state, total in found.items()},
        "workers": workers,
        "held": sum(place.jobs for place in held),
        "places": [
            {
                "path": place.trouble.path,
                "needed_for": place.trouble.side,
                "code": place.trouble.code,
                "reason": place.trouble.reason,
                "remedy": place.trouble.remedy,
                "since": iso(place.since),
                "jobs": place.jobs,
            }
            for place in held
        ],
        "unserved": _unserved(queued_for(store), workers),
        "log": None
        if held_log is None
        else {
            "bytes": held_log.bytes,
            "held_by": list(held_log.pids),
            "reason": str(held_log),
            "remedy": held_log.remedy,
        },
        "paused": pause is not None,
        "paused_kind": pause.kind if pause else None,
        "paused_reason": pause.reason if pause else None,
        "paused_since": iso(pause.since) if pause else None,
    }


def _unserved(queued: Mapping[str, int], workers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the jobs that none of the workers here will take, by the variant that they name."""
    here = {worker["variant"] for worker in workers}
    if None in here:  # one has claimed nothing yet, and may take anything
        return {}
    return {variant: jobs for variant, jobs in queued.items() if variant and workers and variant not in here}


def _full_disk(store: Store) -> Pause | None:
    """Return a pause that could not be written down, because the database's own disk is full."""
    free_bytes = storage.free_bytes(store.path.parent)
    if free_bytes >= _LEAST_FREE_BYTES:
        return None
    reason = f"no space left for {store.path}: {free_bytes} bytes free"
    return Pause("resource", reason, store.clock.wall(), (str(store.path.parent),))


def _hung_after_s(store: Store) -> float:
    """Return how long a worker may go without a window: ten minutes, or 20 times what a window usually takes."""
    rows = store.rows(
        "SELECT wall_s / (windows_done - windows_start) AS window_s FROM attempts WHERE windows_done > windows_start "
        f"ORDER BY rowid DESC LIMIT {_MEDIAN_OF}"
    )
    if not rows:
        return HUNG_AFTER_S
    return max(HUNG_AFTER_S, HUNG_AFTER_MEDIANS * statistics.median([float(row["window_s"]) for row in rows]))


def queued_for(store: Store) -> dict[str, int]:
    """Return how many jobs are queued or waiting for each variant that they name; "" are those that any worker
    takes."""
    rows = store.rows(
        "SELECT coalesce(variant, '') AS variant, count(*) AS jobs FROM ("
        "SELECT variant FROM jobs INDEXED BY jobs_ready WHERE state = 'queued' AND held IS NULL UNION ALL "
        "SELECT variant FROM jobs INDEXED BY jobs_held WHERE held IS NOT NULL UNION ALL "
        "SELECT variant FROM jobs INDEXED BY jobs_waiting WHERE state = 'waiting') AS left_over "
        "GROUP BY 1 ORDER BY 1"
    )
    return {row["variant"]: row["jobs"] for row in rows}


def asking_for(store: Store, settings: Collection[str]) -> dict[str, int]:
    """Return how many of the next 10,000 queued jobs ask for each of these settings; those that none asks for are not
    in it. More are not looked at: `status` is quick."""
    if not settings:
        return {}
    rows = store.rows(
        "SELECT settings, count(*) AS jobs FROM (SELECT settings FROM jobs INDEXED BY jobs_ready "
        "WHERE state = 'queued' AND held IS NULL ORDER BY priority DESC, id LIMIT 10000) AS next_jobs GROUP BY settings"
    )
    found = {one: sum(row["jobs"] for row in rows if f'"{one}"' in row["settings"]) for one in settings}
    return {one: jobs for one, jobs in found.items() if jobs}


def pulse(store: Store) -> Pulse:
    """Return whether workers get on; by indexes alone, whatever the number of jobs."""
    with store.reading():
        owned = store.rows(
            "SELECT w.id, w.pid, w.boot, j.windows_done, a.seen_steady FROM jobs j INDEXED BY jobs_owned "
            "JOIN workers w ON w.id = j.worker JOIN attempts a ON a.job = j.id AND a.claim_seq = j.claim_seq "
            "WHERE j.worker IS NOT NULL"
        )
        (latest,) = store.rows(
            "SELECT max(id) AS done FROM events WHERE new = 'done' AND id > (SELECT max(id) FROM events) - 500"
        )
        hung_after_s = _hung_after_s(store) if owned else HUNG_AFTER_S
    idle_s: dict[tuple[int, str], float] = {}
    for row in owned:
        if row["boot"] == store.clock.boot:
            one, one_s = (row["pid"], row["id"]), store.clock.steady() - row["seen_steady"]
            idle_s[one] = min(one_s, idle_s.get(one, one_s))
    return Pulse(
        (latest["done"] or 0, sum(row["windows_done"] for row in owned)),
        {pid: worker for (pid, worker), seconds in idle_s.items() if seconds > hung_after_s},
    )


def files_ended(store: Store, since: float, pid: int | None) -> int:
    """Return how many files were brought to an end, done or failed, by workers that began after a wall time."""
    rows = store.rows(
        "SELECT count(*) AS files FROM attempts a JOIN workers w ON w.id = a.worker "
        "WHERE w.started_at >= :since AND w.pid = coalesce(:pid, w.pid) AND a.outcome IN ('done', 'failed')",
        {"pid": pid, "since": since},
    )
    return int(rows[0]["files"])


def events(store: Store, job_id: int) -> list[dict[str, Any]]:
    """Return every change of state of a job, oldest first."""
    rows = store.rows("SELECT * FROM events WHERE job = ? ORDER BY id", [job_id])
    return [row | {"at": iso(row["at"])} for row in rows]


def attempts(store: Store, job_id: int) -> list[dict[str, Any]]:
    """Return every claim of a job, oldest first."""
    rows = store.rows("SELECT * FROM attempts WHERE job = ? ORDER BY claim_seq", [job_id])
    dropped = ("started_steady", "seen_steady", "boot", "seen_at")
    return [
        {key: value for key, value in row.items() if key not in dropped}
        | {"started_at": iso(row["started_at"]), "ended_at": iso(row["ended_at"])}
        for row in rows
    ]


def is_output(store: Store, path: str) -> bool:
    """Return whether a job writes, or wrote, this very file."""
    rows = store.rows(
        "SELECT output FROM jobs WHERE output_key = ? AND state NOT IN ('cancelled', 'superseded')", (folded_key(path),)
    )
    return same_file_as_output((loaded_path(row["output"]) for row in rows), path)


def output_folders(store: Store) -> set[str]:
    """Return the folders in which outputs of jobs that were ever claimed stand; read in pages, two columns of
    each row."""
    found: set[str] = set()
    last = -1
    while page := store.rows(
        f"SELECT id, output FROM jobs WHERE id > ? AND claim_seq > 0 ORDER BY id LIMIT {20 * _PAGE}", (last,)
    ):
        found.update(os.path.dirname(loaded_path(row["output"])) for row in page)
        last = page[-1]["id"]
    return found
