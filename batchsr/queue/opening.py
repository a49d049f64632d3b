"""Opening a queue: the one place that knows how it is kept."""

from __future__ import annotations

from pathlib import Path

from batchsr.queue.clock import Clock
from batchsr.queue.interface import Queue
from batchsr.queue.sqlite import restoring
from batchsr.queue.sqlite.api import SqliteQueue
from batchsr.queue.sqlite.restoring import Restored
from batchsr.queue.sqlite.store import describe

__all__ = ["Restored", "describe", "open_queue", "preview_of", "restore_backup"]


def open_queue(path: str | Path, *, clock: Clock | None = None) -> Queue:
    """Open the queue in this database, making or migrating it as needed. Raises the QueueError family."""
    return SqliteQueue.open(Path(path), clock=clock)


def preview_of(path: str | Path, *, clock: Clock | None = None) -> Queue:
    """A copy in memory, empty if there is no database yet: what is done to it leaves no trace."""
    return SqliteQueue.preview_of(Path(path), clock=clock)


def restore_backup(path: str | Path, backup: str | Path, *, clock: Clock | None = None) -> Restored:
    """Put a backup in the place of the database, which is kept beside it. Raises the QueueError family."""
    path, backup = Path(path), Path(backup)
    return restoring.restore(path, backup, path.with_name(path.name + ".workers"), clock or Clock())
