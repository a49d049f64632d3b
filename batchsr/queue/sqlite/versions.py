"""How an older database becomes a newer one.

Each migration runs once, all pending ones in a single BEGIN IMMEDIATE (sqlite-utils alone lets two processes
apply the same one), after a backup of a database that held something. `user_version` counts them, so that
opening a database that is up to date costs one read.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from batchsr import faults, storage
from batchsr.errors import OutputExists, QueueError, QueueVersion
from batchsr.queue.clock import Clock
from batchsr.queue.sqlite.damage import APPLICATION_ID
from batchsr.queue.sqlite.store import Store
from batchsr.temporary import Temporary

VERSION: Final = 4
"""How many migrations there are."""


def create(path: Path, clock: Clock) -> None:
    """Make an empty database, whole or not at all, unless another process is faster. Raises ResourceError."""
    storage.make_folder(path.parent)
    with Temporary.beside(path) as temporary:
        with contextlib.closing(Store.private(temporary.path, clock)) as store:
            migrate(store)
        with contextlib.suppress(OutputExists):
            temporary.publish(overwrite=False)


def migrate(store: Store, *, backup: bool = True) -> None:
    """Bring the database to this program's version. Raises QueueVersion if it is past that already, QueueDamaged."""
    if (version := _version(store)) == VERSION:
        if _number(store, "application_id") != APPLICATION_ID:
            raise QueueError(f"{store.path} is a database of another program", remedy="name another one with --db")
        return
    if version == 0 and store.rows("SELECT 1 FROM sqlite_schema LIMIT 1"):
        raise QueueError(f"{store.path} is a database of another program", remedy="name another one with --db")
    from batchsr.queue.sqlite import schema  # with sqlite-utils, which takes 0.2 s

    with store.writing() as db:
        version = _version(store)  # another process may have been faster
        if version == VERSION:
            return
        if version > VERSION:
            raise QueueVersion(
                f"{store.path} was made by a newer batchsr (schema {version}, this one knows {VERSION})",
                remedy="update batchsr, or name another database with --db",
            )
        if version == 0 and db.table_names():
            raise QueueError(f"{store.path} is a database of another program", remedy="name another one with --db")
        if version and backup:
            store.backup(store.path.with_name(f"{store.path.name}.backup-schema{version}-{round(store.clock.wall())}"))
        schema.migrations.apply(db)
        faults.point("migration.during")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")


def _version(store: Store) -> int:
    return _number(store, "user_version")


def _number(store: Store, pragma: str) -> int:
    return int(store.rows(f"PRAGMA {pragma}")[0][pragma])
