"""A record that is made to speak of the file that stands there: another claim of the job has made it."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from batchsr.queue.job import Backend, Job, Result
from batchsr.queue.postgres.store import PgStore
from batchsr.queue.sqlite import claims, reports

_RESULT: Final = tuple(field.name for field in dataclasses.fields(Result) if field.name != "report")
_MADE_WITH: Final = tuple(field.name for field in dataclasses.fields(Backend) if field.name != "variant")
_AS_READ: Final = (
    "id = :id AND claim_seq = :claim_seq AND state = 'done' AND overwrite = 1 AND output_sha256 = :recorded"
)


def correct(store: PgStore, job: Job, result: Result | None) -> Job | None:
    """Record another result of a job that is done, with what it was made with; None queues the job again.

    Returns the job; None where it is no longer as it was read.
    """
    values: dict[str, Any] = {"id": job.id, "claim_seq": job.claim_seq, "recorded": job.output_sha256}
    values["now"] = store.clock.wall()
    if result is None:
        sets = (
            "state = 'queued', failures = 0, crashes = 0, outages = 0, last_try = 0, wall_s = 0.0, finished_at = NULL, "
            "output_sha256 = NULL, output_bytes = NULL, reason = 'another claim''s output, made otherwise, stood there'"
        )
    else:
        made_with = (result.report or {}).get("model", {})
        values |= {name: getattr(result, name) for name in _RESULT}
        values |= {name: made_with[name] for name in _MADE_WITH if made_with.get(name) is not None}
        known = [name for name in (*_RESULT, *_MADE_WITH) if values.get(name) is not None]
        sets = ", ".join(f"{name} = :{name}" for name in known)
        sets += ", windows_done = coalesce(:windows_total, windows_done)"
        sets += ", reason = 'the record follows the output, which another claim had made'"
    with store.writing() as db:
        sql = f"UPDATE jobs SET {sets}, changed_at = :now WHERE {_AS_READ} RETURNING {claims.COLUMNS}"
        rows = list(db.query(sql, values))
        if rows and result is not None:
            reports.note(db, job.id, result.report)  # type: ignore[arg-type]
    return claims.to_job(rows[0]) if rows else None
