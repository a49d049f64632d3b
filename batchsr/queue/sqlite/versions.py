"""How an older database becomes a newer one.

Each migration runs once, all pending ones in a single BEGIN IMMEDIATE (sqlite-utils alone lets two processes
apply the same one), after a backup of a database that held something. `user_version` counts them, so that
opening a database that is up to date costs one read.
"""

from __future__ import annotations

from typing import Final

from batchsr import faults
from batchsr.errors import QueueError, QueueVersion
from batchsr.queue.sqlite.store import Store

APPLICATION_ID: Final = 0x42535251  # "BSRQ"
VERSION: Final = 2
"""How many migrations there are."""


def migrate(store: Store) -> None:
    """Bring the database to this program's version. Raises QueueVersion if it is past that already."""
    if _version(store) == VERSION:
        return
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
        if version:
            store.backup(store.path.with_name(f"{store.path.name}.backup-schema{version}-{round(store.clock.wall())}"))
        schema.migrations.apply(db)
        faults.point("migration.during")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")


def _version(store: Store) -> int:
    return int(store.rows("PRAGMA user_version")[0]["user_version"])
