"""Folders of sources and outputs, each noted once: a place in trouble holds the jobs of a folder in one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database


def folder_id(db: Database, folder: str | bytes) -> int:
    """Return the number of a folder, as `stored_path` gives it."""
    found = db.conn.execute("SELECT id FROM folders WHERE path = ?", (folder,)).fetchone()
    if found is None:
        found = db.conn.execute("INSERT INTO folders (path) VALUES (?) RETURNING id", (folder,)).fetchone()
    return int(found[0])
