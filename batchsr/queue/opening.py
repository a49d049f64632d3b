"""Opening a queue: the one place that knows how it is kept."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from batchsr.errors import UsageError
from batchsr.queue import roots
from batchsr.queue.clock import Clock
from batchsr.queue.interface import Queue
from batchsr.queue.postgres.place import FleetPlace, checked, secrets_of, without_password
from batchsr.queue.sqlite import restoring
from batchsr.queue.sqlite.api import SqliteQueue
from batchsr.queue.sqlite.restoring import Restored
from batchsr.queue.sqlite.store import describe

__all__ = [
    "QueueAddress",
    "Restored",
    "check_fleet",
    "describe",
    "fleet_url",
    "init_fleet",
    "migrate_fleet",
    "open_fleet",
    "open_queue",
    "preview_of",
    "restore_backup",
    "without_password",
]


@dataclasses.dataclass(frozen=True, slots=True)
class QueueAddress:
    """Where a queue is kept, as one process tells another: a password goes through the environment alone."""

    file: Path | None = None
    """The database of a queue of one machine."""
    fleet: str | None = dataclasses.field(default=None, repr=False)
    """The URL of a fleet's database, which may hold a password."""
    host_folder: Path | None = None
    """Where this host of a fleet keeps what is its own."""

    def open(self) -> Queue:
        """Open it. Raises the QueueError family."""
        if self.file is not None:
            return open_queue(self.file)
        return open_fleet(str(self.fleet), Path(str(self.host_folder)))

    @property
    def shown(self) -> str:
        """Names the queue to people: the database's path, or a fleet's URL without its password."""
        return str(self.file) if self.file is not None else without_password(str(self.fleet))

    def words(self) -> list[str]:
        """Return the words of a command line that name this queue; none for a fleet, see `environment`."""
        return ["--db", os.path.abspath(self.file)] if self.file is not None else []

    def environment(self) -> dict[str, str]:
        """Return the variables that name this queue; none for a file, see `words`."""
        if self.file is not None:
            return {}
        named = os.pathsep.join(f"{name}={folder}" for name, folder in roots.places().items())
        return {
            "BATCHSR_FLEET": str(self.fleet),
            "BATCHSR_FLEET_FOLDER": str(self.host_folder),
            **({"BATCHSR_ROOTS": named} if named else {}),
        }

    @classmethod
    def of(cls, file: str, environment: Mapping[str, str]) -> Self:
        """Return the address that another process gave: the file, or "" and `environment`. Sets the named roots."""
        if file:
            return cls(Path(file))
        if named := environment.get("BATCHSR_ROOTS"):
            roots.use(roots.listed(named))
        return cls(None, environment["BATCHSR_FLEET"], Path(environment["BATCHSR_FLEET_FOLDER"]))


def open_queue(path: str | Path, *, clock: Clock | None = None) -> Queue:
    """Open the queue in this database, making or migrating it as needed. Raises the QueueError family."""
    return SqliteQueue.open(Path(path), clock=clock)


def preview_of(path: str | Path, *, clock: Clock | None = None) -> Queue:
    """Return a copy in memory, empty if there is no database yet: what is done to it leaves no trace."""
    return SqliteQueue.preview_of(Path(path), clock=clock)


def open_fleet(url: str, folder: Path) -> Queue:
    """Open the queue of a fleet; `folder` is where this host keeps what is its own. Raises the QueueError family,
    UsageError where the extra is missing."""
    queue: Queue = _postgres().PostgresQueue.connect(FleetPlace(url, folder))
    return queue


def init_fleet(url: str, folder: Path, lease_s: float) -> bool:
    """Make the tables of a fleet. Returns whether there were none."""
    return bool(_postgres().initialise(FleetPlace(url, folder), lease_s))


def migrate_fleet(url: str, folder: Path) -> tuple[int, int]:
    """Bring the tables of a fleet to this program's version. Returns the versions before and now."""
    before, now = _postgres().migrate(FleetPlace(url, folder))
    return before, now


def check_fleet(url: str, folder: Path, *, restored: bool) -> dict[str, Any]:
    """Return what `batchsr fleet check` tells of the database, JSON-able; with `restored` raise every claim first."""
    _postgres()  # raises, in our words, where the extra is not installed
    from batchsr.queue.postgres import server

    return server.checked(FleetPlace(url, folder), restored=restored)


def fleet_url(url: str, *, typed: bool) -> str:
    """Return the URL of a fleet. Raises UsageError for what is none, and for a password that was typed."""
    url = checked(url)
    if typed and secrets_of(url):
        raise UsageError(
            "a password in a command line can be read by everybody on this machine",
            remedy="put it into a PGPASSFILE (~/.pgpass), or give the URL in BATCHSR_FLEET",
        )
    return url


def _postgres() -> Any:
    try:
        from batchsr.queue.postgres import api
    except ImportError as e:
        raise UsageError(
            f"a fleet needs psycopg, which is not installed ({e.name})", remedy="pip install 'batchsr[fleet]'"
        ) from e
    return api


def restore_backup(path: str | Path, backup: str | Path, *, clock: Clock | None = None) -> Restored:
    """Put a backup in the place of the database, which is kept beside it. Raises the QueueError family."""
    path, backup = Path(path), Path(backup)
    return restoring.restore(path, backup, path.with_name(path.name + ".workers"), clock or Clock())
