"""Places in trouble: which jobs are held for them, until they work again.

A held job is a queued one that names a place; claims pass it by, through their index. The file systems are not looked
at here: workers say what is the matter (batchsr.worker.places).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from batchsr.queue.job import Job, loaded_path, stored_path, stored_text
from batchsr.queue.sqlite.claims import COLUMNS, release_in, to_job
from batchsr.queue.sqlite.store import Store
from batchsr.queue.trouble import Place, Trouble

if TYPE_CHECKING:
    from sqlite_utils import Database

_CHUNK: Final = 5000  # rows a transaction: some tens of milliseconds
_FOLDER: Final = {"source": "source_folder", "output": "output_folder"}


def hold(store: Store, job: Job, trouble: Trouble) -> Job:
    """Give a job in flight back, the attempt with it, held for the place. Raises ClaimLost."""
    with store.writing() as db:
        release_in(store, db, job, "resource", trouble.reason)
        place = _note(store, db, trouble)
        sql = f"UPDATE jobs SET held = ? WHERE id = ? RETURNING {COLUMNS}"
        (row,) = db.query(sql, (place, job.id))
        return to_job(row)


def hold_queued(store: Store, job: Job, trouble: Trouble, *, alike: bool) -> int:
    """Hold a job that is queued; with `alike` all that have the same folder on the side of the trouble, or for
    trouble with the scratch all there are. Returns how many."""
    which, values = "id = :id", {"id": job.id}
    if alike:
        which = "true"
        if (column := _FOLDER.get(trouble.side)) is not None:
            which = f"{column} = (SELECT {column} FROM jobs WHERE id = :id)"
    held = 0
    while True:
        with store.writing() as db:
            place = _note(store, db, trouble)
            rows = list(
                db.query(
                    "UPDATE jobs SET held = :place WHERE id IN (SELECT id FROM jobs WHERE state = 'queued' "
                    f"AND held IS NULL AND {which} LIMIT {_CHUNK}) RETURNING id",
                    values | {"place": place},
                )
            )
            _forget_if_empty(db, place)
        held += len(rows)
        if len(rows) < _CHUNK:
            return held


def free(store: Store, place: Place | None) -> int:
    """Let the jobs that are held for a place be claimed again, or with None all that are held. Returns how many."""
    which = "held IS NOT NULL" if place is None else "held = :place"
    values = {} if place is None else {"place": place.id}
    freed = 0
    while True:
        with store.writing() as db:
            rows = list(
                db.query(
                    f"UPDATE jobs SET held = NULL WHERE id IN (SELECT id FROM jobs WHERE {which} LIMIT {_CHUNK}) "
                    "RETURNING id",
                    values,
                )
            )
        freed += len(rows)
        if len(rows) < _CHUNK:
            return freed


def places(store: Store, variant: str | None = None, *, counted: bool = True) -> list[Place]:
    """Return the places in trouble that jobs (for this variant, or open ones) are held for, the longest first.

    Not `counted`, `jobs` is 1 where there are any: counting takes milliseconds with a hundred thousand.
    """
    condition = "" if variant is None else " AND (variant IS NULL OR variant = :variant)"
    condition += "" if store.batch is None else " AND batch = :batch"
    jobs = f"FROM jobs WHERE held = p.id{condition}"
    count = f"(SELECT count(*) {jobs})" if counted else f"EXISTS (SELECT 1 {jobs})"
    rows = store.rows(
        f"SELECT p.*, {count} AS jobs FROM places p ORDER BY p.since, p.id",
        {"variant": variant, "batch": store.batch},
    )
    return [_place(row) for row in rows if row["jobs"]]


def held_job(store: Store, place: Place) -> Job | None:
    """Return the least demanding of the jobs that are held for a place: what it cannot have, none can."""
    rows = store.rows(
        f"SELECT {COLUMNS} FROM jobs WHERE held = ? ORDER BY coalesce(frames * channels, 0), id LIMIT 1", (place.id,)
    )
    return to_job(rows[0]) if rows else None


def _note(store: Store, db: Database, trouble: Trouble) -> int:
    """Return the place's row, made or brought up to date."""
    values: dict[str, Any] = {
        "path": stored_path(trouble.path),
        "side": trouble.side,
        "code": trouble.code,
        "reason": stored_text(trouble.reason),
        "remedy": stored_text(trouble.remedy),
        "whole_system": int(trouble.whole_system),
        "since": store.clock.wall(),
    }
    sql = (
        f"INSERT INTO places ({', '.join(values)}) VALUES ({', '.join(':' + name for name in values)}) "
        "ON CONFLICT (path, side) DO UPDATE SET code = :code, reason = :reason, remedy = :remedy, "
        "whole_system = :whole_system RETURNING id"
    )
    (row,) = db.query(sql, values)
    return int(row["id"])


def _forget_if_empty(db: Database, place: int) -> None:
    db.execute("DELETE FROM places WHERE id = ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE held = ?)", (place, place))


def _place(row: dict[str, Any]) -> Place:
    trouble = Trouble(
        path=loaded_path(row["path"]),
        side=row["side"],
        code=row["code"],
        reason=row["reason"],
        remedy=row["remedy"],
        whole_system=bool(row["whole_system"]),
    )
    return Place(row["id"], trouble, row["since"], row["jobs"])
