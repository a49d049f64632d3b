"""Putting a backup in the place of a database, whatever state that one is in."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import shutil
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from batchsr import storage
from batchsr.errors import QueueBusy, QueueDamaged, QueueError, QueueVersion
from batchsr.queue.clock import Clock
from batchsr.queue.sqlite import damage, owners, versions
from batchsr.queue.sqlite.store import Store, errors_of
from batchsr.temporary import WITHOUT_LINKS, Temporary, whole_file

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        import pysqlite3 as sqlite3
    except ImportError:
        import sqlite3

_LOGS: Final = ("-wal", "-journal")
_BESIDE: Final = (*_LOGS, "-shm")


@dataclasses.dataclass(frozen=True, slots=True)
class Restored:
    """What a restoration of the database did."""

    jobs: int
    kept: Path | None
    """Where the database of before, and what stood beside it, is now."""
    taken_back: int
    """Jobs that were in flight when the backup was made, and are queued again."""


def restore(path: Path, backup: Path, workers_folder: Path, clock: Clock) -> Restored:
    """Put `backup` in the place of the database at `path`; that one is kept beside it.

    Refuses while workers live. A log that belongs to neither is put aside with the old database. Raises QueueBusy,
    QueueDamaged if the backup is not sound, QueueVersion, QueueError, ResourceError.
    """
    _refuse_living(path, workers_folder)
    if not backup.is_file():
        raise QueueError(f"{backup} is not there, or no file", remedy="name a file that `batchsr db backup` made")
    with storage.resource_errors(path.parent, "make"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with Temporary.beside(path) as temporary:
        _copy(backup, temporary.path, own=damage.identity(path) == damage.identity(backup))
        taken_back, jobs = _renewed(temporary.path, backup, clock)
        _refuse_living(path, workers_folder)
        with storage.resource_errors(path, "put the backup in the place of"):
            kept = _keep(path, clock)
            temporary.publish(overwrite=True)
            _remove_what_was_beside(path)
    damage.note_generation(path, damage.raw_generation(path))
    return Restored(jobs, kept, taken_back)


def _refuse_living(path: Path, folder: Path) -> None:
    for lock in sorted(folder.glob("*.lock")):
        with owners.lock_of_dead(folder, lock.stem) as dead:
            if not dead:
                raise QueueBusy(
                    f"a worker (process {lock.stem.partition('-')[0]}) is at work with {path}",
                    remedy="stop the workers first: Ctrl-C, or `kill` with its number",
                )


def _copy(backup: Path, target: Path, *, own: bool) -> None:
    """Copy a database as SQLite sees it; our own by itself, since the log beside it may be another's."""
    uri = f"file:{urllib.parse.quote(os.fsencode(os.path.abspath(backup)))}?mode=ro" + ("&immutable=1" if own else "")
    unlocked = f"file:{urllib.parse.quote(os.fsencode(target))}?vfs=unix-none"
    try:
        with (
            contextlib.closing(sqlite3.connect(uri, uri=True)) as source,
            contextlib.closing(sqlite3.connect(unlocked, uri=True)) as copy,
        ):
            copy.execute("PRAGMA journal_mode = MEMORY")
            source.backup(copy)
        _say_it_has_no_log(target)
        with contextlib.closing(sqlite3.connect(unlocked, uri=True)) as copy:
            problems = [row[0] for row in copy.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]
    except sqlite3.Error as e:
        raise QueueDamaged(f"{backup} cannot be restored: {e}", remedy="name another backup") from e
    if problems:
        raise QueueDamaged(f"{backup} is damaged itself: {problems[0]}", remedy="name another backup")


def _say_it_has_no_log(copy: Path) -> None:
    """Mark a closed database as one with a rollback journal (bytes 18 and 19, https://sqlite.org/fileformat2.html).

    A plain copy of a queue carries the mark of a write-ahead log, which a file that only we know cannot be opened with.
    """
    with storage.resource_errors(copy, "write"), open(copy, "r+b", buffering=0) as file:
        file.seek(18)
        file.write(b"\1\1")


def _renewed(copy: Path, backup: Path, clock: Clock) -> tuple[int, int]:
    """Bring the copy to this version, as a generation of its own, with nothing in anybody's hands."""
    store = Store.private(copy, clock)
    with contextlib.closing(store), errors_of(backup):
        try:
            versions.migrate(store, backup=False)
        except QueueVersion as e:
            raise QueueVersion(e.message.replace(str(copy), str(backup)), remedy=e.remedy) from e
        except QueueError as e:
            raise QueueError(e.message.replace(str(copy), str(backup)), remedy="name another backup") from e
        with store.writing() as db:
            now = clock.wall()
            db.execute(
                "UPDATE attempts SET ended_at = seen_at, outcome = 'interrupt', error = 'a backup was restored' "
                "WHERE ended_at IS NULL"
            )
            rows = list(
                db.query(
                    "UPDATE jobs SET state = 'queued', worker = NULL, attempts = max(0, attempts - 1), "
                    "changed_at = ?, reason = 'a backup was restored' WHERE worker IS NOT NULL RETURNING id",
                    (now,),
                )
            )
            db.execute(
                "UPDATE workers SET ended_at = ?, ending = 'a backup was restored' WHERE ended_at IS NULL", (now,)
            )
            db.execute("UPDATE control SET generation = lower(hex(randomblob(16)))")
        return len(rows), int(store.rows("SELECT count(*) AS jobs FROM jobs")[0]["jobs"])


def _keep(path: Path, clock: Clock) -> Path | None:
    """Give the old database, and the logs that belong to it, a second name. Returns it; None if there is none.

    Nothing is taken from the first name: whoever is killed here leaves the old database as it was. Once the new one has
    the name, the note of the generation tells that the log beside it is another's.
    """
    _forget_unfinished(path)
    stem = f"{path.name}.before-restore-{round(clock.wall())}"
    kept = path.with_name(stem)
    number = 1
    while os.path.lexists(kept):
        number += 1
        kept = path.with_name(f"{stem}-{number}")
    there = os.path.lexists(path)
    if there:
        _name_again(path, kept)
    for suffix in _LOGS:
        if _is_kept(path, suffix):
            continue
        with contextlib.suppress(FileNotFoundError):
            _name_again(damage.beside(path, suffix), damage.beside(kept, suffix))
            damage.note_generation(path, damage.raw_generation(path) or "unknown")
    storage.fsync_path(path.parent)
    return kept if there else None


def _is_kept(path: Path, suffix: str) -> bool:
    """Return whether a restoration that was killed has kept this log with the database that it belongs to.

    A log under the names of two databases would be emptied by whoever opens the wrong one.
    """
    log = damage.identity(damage.beside(path, suffix))
    return log is not None and log in map(damage.identity, _kept(path, suffix))


def _kept(path: Path, suffix: str = "") -> list[Path]:
    """Return what restorations kept of a database, or of its log with this suffix."""
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.before-restore-*{suffix}"))


def _name_again(path: Path, second: Path) -> None:
    """Give a file a second name; a copy gets it where there are no hard links, or none to another user's file."""
    try:
        os.link(path, second)
    except OSError as e:
        if e.errno not in WITHOUT_LINKS:
            raise
        with open(path, "rb") as file, whole_file(second) as copy:
            shutil.copyfileobj(file, copy)


def _forget_unfinished(path: Path) -> None:
    """Remove second names of the database that is there: of restorations that were killed before they replaced it."""
    for kept in _kept(path):
        if damage.identity(kept) == damage.identity(path) and not kept.name.endswith(_BESIDE):
            for suffix in (*_BESIDE, ""):
                damage.beside(kept, suffix).unlink(missing_ok=True)


def _remove_what_was_beside(path: Path) -> None:
    for suffix in _BESIDE:
        damage.beside(path, suffix).unlink(missing_ok=True)
    storage.fsync_path(path.parent)
