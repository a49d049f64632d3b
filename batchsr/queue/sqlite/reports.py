"""Reports of finished jobs. Beside its output a report stands as the sidecar; where there is none, it is kept here."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batchsr.display import remarks_in

if TYPE_CHECKING:
    from sqlite_utils import Database

    from batchsr.queue.sqlite.store import Store


def packed(text: str) -> bytes:
    """Return a report as it is kept."""
    return zlib.compress(text.encode(), 9)


def remarks_of(text: str | None) -> str | None:
    """Return what a person is to be told by a report (`remarks_in`), as JSON; None if nothing."""
    try:
        found = remarks_in(json.loads(text or "{}"))
    except ValueError:
        return None
    return json.dumps(found) if found else None


def unpacked(data: bytes) -> str:
    """Return what `packed` was given."""
    return zlib.decompress(data).decode()


def note(db: Database, job_id: int, report: Mapping[str, Any] | None) -> None:
    """Keep the report of a job, and in its row what it says was odd about the source."""
    if report is not None:
        text = json.dumps(report)
        db.execute("INSERT OR REPLACE INTO reports VALUES (?, ?)", (job_id, packed(text)))
        if (remarks := remarks_of(text)) is not None:
            db.execute("UPDATE jobs SET remarks = ? WHERE id = ?", (remarks, job_id))


def forget(db: Database, job_id: int) -> None:
    """Keep it no longer."""
    db.execute("DELETE FROM reports WHERE job = ?", (job_id,))


def report_of(store: Store, job_id: int) -> dict[str, Any] | None:
    """Return the report that is kept of a job; None if there is none, as where it has a sidecar."""
    rows = store.rows("SELECT data FROM reports WHERE job = ?", (job_id,))
    return dict(json.loads(unpacked(rows[0]["data"]))) if rows else None
