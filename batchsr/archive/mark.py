"""The mark in a package: what it is, whose, and what the program put there, so that the rest is known as somebody's.

schema 1   batch and form alone; what was put there is read from SHA256SUMS
schema 2   the queue, the folder that names are below, every file with its hash and where it came from
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from batchsr import __version__, storage
from batchsr.archive import checksums

NAME: Final = "batchsr-export.json"
_SCHEMA: Final = 2
_MOST_BYTES: Final = 1 << 30


class Put(msgspec.Struct, frozen=True):
    """One file of the content."""

    sha256: str
    role: str = ""
    """`output`, `copy`, `sidecar`; `kept` for what somebody else put there."""
    way: str = ""
    """`copy`, `link`, `move`, or `kept`; "" where it is not on record."""
    origin: str = ""
    """Where it was brought from."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a package says of itself."""

    schema: Annotated[int, msgspec.Meta(ge=1)] = 1
    program: str = ""
    batch: str
    bag: bool
    recordings: int = 0
    queue: str = ""
    """The identity of the queue that it is of."""
    build: str = ""
    """Another one each time that the package is made."""
    base: str = ""
    """The folder that the names in it are below."""
    files: dict[str, Put] = {}
    """Path below the package -> what was put there."""
    made: dict[str, str] = {}
    """Path below the package -> SHA-256 of what was written about the content."""


def read(package: Path) -> Mark | None:
    """Return what a package says of itself; None where nothing does, or nothing that can be believed."""
    try:
        text = storage.read_small(package / NAME, _MOST_BYTES).decode("utf-8")
        found = msgspec.convert(json.loads(text), Mark)  # json: names that are no UTF-8 are lone surrogates
    except (OSError, ValueError, RecursionError):
        return None
    if found.files:
        return found
    files: dict[str, Put] = {}
    with contextlib.suppress(OSError):
        files = {
            path: Put(sha256)
            for path, sha256 in checksums.read_sums(storage.read_small(package / "SHA256SUMS", _MOST_BYTES)).items()
        }
    return msgspec.structs.replace(found, files=files)


def write(package: Path, mark: Mark) -> None:
    """Write a package's mark."""
    (package / NAME).write_text(json.dumps(msgspec.to_builtins(mark), indent=1) + "\n", encoding="ascii")


def new(
    *, batch: str, bag: bool, recordings: int, queue: str, base: str, files: Mapping[str, Put], made: Mapping[str, str]
) -> Mark:
    """Return the mark of a package that was made just now."""
    return Mark(
        schema=_SCHEMA,
        program=f"batchsr {__version__}",
        batch=batch,
        bag=bag,
        recordings=recordings,
        queue=queue,
        build=uuid.uuid4().hex,
        base=base,
        files=dict(files),
        made=dict(made),
    )


def outputs(mark: Mark) -> dict[str, str]:
    """Return path -> SHA-256 of the outputs in a package."""
    if mark.schema >= _SCHEMA:
        return {path: put.sha256 for path, put in mark.files.items() if put.role == "output"}
    return {path: put.sha256 for path, put in mark.files.items() if f"{path}.json" in mark.files}


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was looked at: by these a change is noticed."""

    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Seen:
        """Look at a file. Raises OSError."""
        status = path.lstat()
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)
