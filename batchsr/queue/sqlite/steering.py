"""What a person changes about jobs in the queue: their instructions, their folders, whether they are there at all.

Each change is one statement for one job that is in nobody's hands, within a transaction of some hundreds, so workers
hardly wait. A number is never given twice: a fence is a job's number and its claim's, and both must stay unique.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from batchsr.queue.job import (
    OWNED,
    Job,
    State,
    dedupe_key_of,
    exact_key,
    folded_key,
    loaded_path,
    signed,
    stored_path,
    stored_text,
)
from batchsr.queue.sqlite.claims import ROWS
from batchsr.queue.sqlite.enqueue import numbered
from batchsr.queue.sqlite.folders import folder_id
from batchsr.queue.sqlite.store import Store
from batchsr.queue.steering import Answer, Changed, Instructions, Move, Speed

if TYPE_CHECKING:
    from sqlite_utils import Database

CHANNEL_S: Final = f"{ROWS} * j.audio_s * (a.windows_done - coalesce(a.windows_start, 0)) / j.windows_total"
"""Seconds of audio, of one channel, that an attempt a has restored of its job j."""
HAS_WORKED: Final = (
    "a.ended_at > a.started_at AND j.windows_total > 0 AND a.windows_done > coalesce(a.windows_start, 0)"
)
_CHUNK: Final = 500
_LATEST: Final = 400  # attempts that tell how fast this machine is
_CHANGEABLE: Final = (State.QUEUED, State.WAITING, State.FAILED, State.QUARANTINED)
_HOLDS: Final = "state NOT IN ('cancelled', 'superseded')"


def instruct(store: Store, wanted: Iterable[Instructions]) -> Iterator[Changed]:
    """Give jobs other settings, or another output, and say for each, in order, what happened."""
    source = iter(wanted)
    while chunk := list(itertools.islice(source, _CHUNK)):
        with store.writing() as db:
            answers = [_instruct(db, one, store.clock.wall()) for one in chunk]
        yield from answers


def _instruct(db: Database, wanted: Instructions, now: float) -> Changed:
    row = _row(db, wanted.job_id)
    if row is None:
        return Changed(wanted.job_id, Answer.GONE)
    state, output = State(row["state"]), loaded_path(row["output"])
    dedupe_key = dedupe_key_of(wanted.identity, wanted.settings, wanted.variant, wanted.output)
    if (refused := _refused(state, done_too=wanted.again)) is not None:
        return Changed(wanted.job_id, refused, output)
    if (twin := _twin(db, wanted.job_id, dedupe_key)) is not None:
        return Changed(wanted.job_id, Answer.TWIN, loaded_path(twin["output"]), twin["id"])
    is_over = state in (State.FAILED, State.QUARANTINED, State.DONE)
    if dedupe_key == row["dedupe_key"] and not (wanted.again and is_over):
        return Changed(wanted.job_id, Answer.UNCHANGED, output)
    names = itertools.chain((wanted.output, wanted.alt_output), numbered(wanted.alt_output))
    output = next(name for name in names if _is_free(db, wanted.job_id, name))
    queued_again = ""
    if wanted.again and (is_over or state is State.WAITING):
        queued_again = (
            "state = 'queued', failures = 0, crashes = 0, outages = 0, last_try = 0, run_at = NULL, "
            "run_at_steady = NULL, run_boot = NULL, finished_at = NULL, error_code = NULL, error = NULL, "
        )
    db.execute("DELETE FROM reports WHERE job = ?", (wanted.job_id,))
    db.execute(
        f"UPDATE jobs SET {queued_again}settings = :settings, wanted_variant = :variant, variant = :variant, "
        "repository = NULL, revision = NULL, weights_sha256 = NULL, dtype = NULL, device = NULL, batch_windows = NULL, "
        "output = :output, output_key = :output_key, output_folder = :folder, wanted_key = :wanted_key, "
        "dedupe_key = :dedupe_key, provenance = :provenance, overwrite = :overwrite, windows_done = 0, "
        "windows_total = NULL, wall_s = 0.0, output_sha256 = NULL, output_bytes = NULL, held = NULL, note = :note, "
        "changed_at = :now, reason = 'other settings' WHERE id = :id",
        {
            "id": wanted.job_id,
            "settings": wanted.settings,
            "variant": wanted.variant,
            "output": stored_path(output),
            "output_key": folded_key(output),
            "folder": _folder(db, output),
            "wanted_key": folded_key(wanted.output),
            "dedupe_key": dedupe_key,
            "provenance": wanted.provenance,
            "overwrite": int(wanted.overwrite),
            "note": row["note"],
            "now": now,
        },
    )
    return Changed(wanted.job_id, Answer.CHANGED, output)


def relocate(store: Store, moves: Iterable[Move]) -> Iterator[Changed]:
    """Write down where the files of jobs are now, and say for each, in order, what happened."""
    source = iter(moves)
    while chunk := list(itertools.islice(source, _CHUNK)):
        with store.writing() as db:
            answers = [_relocate(db, move) for move in chunk]
        yield from answers


def _relocate(db: Database, move: Move) -> Changed:
    row = _row(db, move.job_id)
    if row is None:
        return Changed(move.job_id, Answer.GONE)
    if State(row["state"]) in OWNED:
        return Changed(move.job_id, Answer.IN_HAND, loaded_path(row["output"]))
    if row["state"] != State.SUPERSEDED and (twin := _twin(db, move.job_id, move.dedupe_key)) is not None:
        return Changed(move.job_id, Answer.TWIN, loaded_path(twin["output"]), twin["id"])
    if row["state"] not in (State.CANCELLED, State.SUPERSEDED) and not _is_free(db, move.job_id, move.output):
        sql = f"SELECT id, output FROM jobs WHERE (output_key = ? OR source_key = ?) AND id <> ? AND {_HOLDS}"
        found = next(iter(db.query(sql, (folded_key(move.output), exact_key(move.output), move.job_id))), None)
        return Changed(move.job_id, Answer.TWIN, move.output, found["id"] if found else None)
    db.execute(
        "UPDATE jobs SET source = :source, source_key = :source_key, source_folder = :source_folder, output = :output, "
        "output_key = :output_key, output_folder = :output_folder, wanted_key = :wanted_key, identity = :identity, "
        "dedupe_key = :dedupe_key, size_bytes = :size_bytes, mtime_ns = :mtime_ns, inode = :inode, "
        "source_device = :device, held = NULL WHERE id = :id",
        {
            "id": move.job_id,
            "source": stored_path(move.source),
            "source_key": exact_key(move.source),
            "source_folder": _folder(db, move.source),
            "output": stored_path(move.output),
            "output_key": folded_key(move.output),
            "output_folder": _folder(db, move.output),
            "wanted_key": folded_key(move.wanted),
            "identity": stored_text(move.identity),
            "dedupe_key": move.dedupe_key,
            "size_bytes": move.size_bytes,
            "mtime_ns": move.mtime_ns,
            "inode": signed(move.inode),
            "device": signed(move.device),
        },
    )
    return Changed(move.job_id, Answer.CHANGED, move.output)


def forget(store: Store, ids: Iterable[int]) -> list[int]:
    """Take jobs that nobody has in hand out of the record, with their history, and return which. No file is touched."""
    gone: list[int] = []
    source = iter(sorted(ids))
    while chunk := list(itertools.islice(source, _CHUNK)):
        with store.writing() as db:
            rows = db.query(
                "SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?)) AND worker IS NULL",
                (json.dumps(chunk),),
            )
            found = [row["id"] for row in rows]
            which = json.dumps(found)
            if found:  # so that no later job gets one of these numbers
                db.execute("UPDATE control SET last_id = max(last_id, (SELECT max(id) FROM jobs))")
            for table in ("events", "attempts", "reports"):
                db.execute(f"DELETE FROM {table} WHERE job IN (SELECT value FROM json_each(?))", (which,))
            db.execute("DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(?))", (which,))
            db.execute("DELETE FROM places WHERE id NOT IN (SELECT held FROM jobs WHERE held IS NOT NULL)")
        gone += found
    return gone


def undone(store: Store, job: Job, said: str) -> bool:
    """Note that the output of a job that is done was taken away. False if the job is no longer as it was read."""
    fence = "id = ? AND claim_seq = ? AND output_sha256 IS ? AND state = "
    which = (job.id, job.claim_seq, job.output_sha256)
    now = store.clock.wall()
    with store.writing() as db:
        changed = db.execute(
            f"UPDATE jobs SET state = 'queued', changed_at = ?, reason = 'undone' WHERE {fence} 'done'", (now, *which)
        ).rowcount
        if changed:  # in one step from done to cancelled the database knows no way, so that nobody else finds one
            db.execute(
                "UPDATE jobs SET state = 'cancelled', error_code = 'undone', error = ?, output_bytes = NULL, "
                "output_sha256 = NULL, windows_done = 0, windows_total = NULL, finished_at = ?, changed_at = ?, "
                f"reason = 'undone' WHERE {fence} 'queued'",
                (stored_text(said), now, now, *which),
            )
            db.execute("DELETE FROM reports WHERE job = ?", (job.id,))
    return bool(changed)


def recent_speed(store: Store, variant: str | None) -> Speed | None:
    """Return how fast the latest work went (for a variant); None if nothing was done yet. Concurrent work
    counts once."""
    rows = store.rows(
        f"SELECT a.job, a.started_at, a.ended_at, a.variant, j.device, {CHANNEL_S} AS channel_s "
        f"FROM attempts a JOIN jobs j ON j.id = a.job WHERE {HAS_WORKED} AND a.variant = coalesce(?, a.variant) "
        "ORDER BY a.rowid DESC LIMIT ?",
        (variant, _LATEST),
    )
    same = [row for row in rows if (row["variant"], row["device"]) == (rows[0]["variant"], rows[0]["device"])]
    busy_s, ends = busy((row["started_at"], row["ended_at"]) for row in same)
    channel_s = sum(row["channel_s"] or 0.0 for row in same)
    if not channel_s or busy_s <= 0:
        return None
    files = len({row["job"] for row in same})
    return Speed(files, channel_s, busy_s, str(same[0]["variant"]), str(same[0]["device"] or ""), ends)


def busy(spans: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return in how many seconds at least one of the spans (start, end) lasted, and when the last one ended."""
    busy_s, ends = 0.0, float("-inf")
    for start, end in sorted(spans):
        busy_s += max(0.0, end - max(start, ends))
        ends = max(ends, end)
    return busy_s, ends


def _row(db: Database, job_id: int) -> dict[str, Any] | None:
    sql = "SELECT id, state, output, dedupe_key, note FROM jobs WHERE id = ?"
    return next(iter(list(db.query(sql, (job_id,)))), None)


def _refused(state: State, *, done_too: bool) -> Answer | None:
    if state in OWNED:
        return Answer.IN_HAND
    if state is State.DONE:
        return None if done_too else Answer.DONE
    return None if state in _CHANGEABLE else Answer.OVER


def _twin(db: Database, job_id: int, dedupe_key: str) -> dict[str, Any] | None:
    sql = "SELECT id, output FROM jobs WHERE dedupe_key = ? AND id <> ? AND state <> 'superseded'"
    return next(iter(list(db.query(sql, (dedupe_key, job_id)))), None)


def _is_free(db: Database, job_id: int, name: str) -> bool:
    """Return whether no other job writes to this name, and none reads from it."""
    jobs = db.table("jobs")
    if jobs.count_where(f"output_key = ? AND id <> ? AND {_HOLDS}", (folded_key(name), job_id)):
        return False
    return not jobs.count_where("source_key = ?", (exact_key(name),))


def _folder(db: Database, path: str) -> int:
    return folder_id(db, stored_path(path.rpartition("/")[0] or "/"))
