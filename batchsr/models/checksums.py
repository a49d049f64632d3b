"""Whether a file is what was published: its SHA-256 or, of small files, git's own hash, which the hub calls ETag.

Weights have hundreds of megabytes, so a digest is remembered for a file as it is (device, inode, size, both times) in
the user's cache. Without that cache the program works as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

import platformdirs

from batchsr import storage
from batchsr.errors import BatchsrError
from batchsr.temporary import write_atomic

SHA256: Final = re.compile(r"[0-9a-f]{64}")
GIT: Final = re.compile(r"[0-9a-f]{40}")
_MOST_REMEMBERED: Final = 100
_MOST_BYTES: Final = 1 << 20
"""Most bytes of a file of ours that is read back: a longer one is not ours."""


def sha256(path: Path, *, anew: bool = False) -> str:
    """Return a file's SHA-256, hexadecimal, remembered unless the file changed or `anew`. Raises OSError."""
    path = path.resolve()
    identity = _identity(path)
    known = _remembered()
    entry = known.get(str(path))
    if not anew and isinstance(entry, dict) and entry.get("identity") == identity:
        digest = entry.get("sha256")
        if isinstance(digest, str) and SHA256.fullmatch(digest):
            return digest
    digest = storage.sha256(path)
    if _identity(path) == identity:
        known.pop(str(path), None)
        known[str(path)] = {"identity": identity, "sha256": digest}
        kept = dict(list(known.items())[-_MOST_REMEMBERED:])
        write_json(_path(), kept)
    return digest


def matches(path: Path, etag: str, *, anew: bool = False) -> bool:
    """Return whether a file is what an ETag of the hub says: 64 digits of SHA-256, or 40 of git's hash. Raises
    OSError."""
    if SHA256.fullmatch(etag):
        return sha256(path, anew=anew) == etag
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == etag


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file of ours, or {} where there is none or it is something else.

    Never blocks and follows no link: a FIFO or a device of that name is something else too.
    """
    try:
        values = json.loads(storage.read_small(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a small JSON file of ours, if it can be written."""
    with contextlib.suppress(BatchsrError, OSError):
        storage.make_folder(path.parent)
        write_atomic(path, json.dumps(values, indent=1).encode())


def _identity(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _remembered() -> dict[str, Any]:
    return read_json(_path())


def _path() -> Path:
    return platformdirs.user_cache_path("batchsr") / "checksums.json"
