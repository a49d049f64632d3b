"""The token without which the server answers nobody: made once, kept in a file that its owner alone reads."""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from batchsr import storage
from batchsr.display import shown
from batchsr.errors import ConfigError, ResourceError

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def path_of(database: Path) -> Path:
    """Return where the token of a queue's server is kept."""
    return database.with_name(database.name + ".serve-token")


def take(path: Path) -> tuple[str, bool]:
    """Return the token, and whether it was made just now.

    Raises ConfigError where others may read the file or it is not a token, ResourceError where it cannot be written.
    """
    storage.make_folder(path.parent)  # of a fleet's host; a queue's file stands in it
    made = secrets.token_urlsafe(32)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read(path), False
    except OSError as e:
        raise ResourceError(f"{shown(path)} cannot be written: {e.strerror}", remedy="put the queue elsewhere") from e
    with os.fdopen(fd, "w") as file:
        file.write(made + "\n")
    return made, True


def _read(path: Path) -> str:
    remedy = f"rm {shown(path)}; the next start makes a new one and shows its link"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise ConfigError(f"{shown(path)} cannot be read: {e.strerror}", remedy=remedy) from e
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.geteuid():
            raise ConfigError(f"{shown(path)} may be read or written by others", remedy=remedy)
        token = file.read(200).decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{shown(path)} holds no token", remedy=remedy)
    return token
