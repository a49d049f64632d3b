"""Read sidecars that stand on the disk: input, which anybody may have written, not truth.

What decides about an output is checked against a schema here, types, lengths and signs included, and a document in
which it is wrong is refused. Of the rest, what is not of the published form is left out; what that form does not know
is kept as it is, but no larger and no deeper than our own ever are. Nothing here blocks or follows a link.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from batchsr import storage
from batchsr.display import shown
from batchsr.errors import SidecarForeign
from batchsr.restoration import sidecar_form

PREFIX: Final = "batchsr.sidecar/"
SCHEMA: Final = PREFIX + "2"
"""What is written. `sidecar.schema.json` describes it."""
READ: Final = (PREFIX + "1", SCHEMA)
"""What is read: every version there has been, since archives outlive programs."""
MOST_BYTES: Final = 13 << 20
"""Ours are a few kB. The most is a recording's million characters of texts, each 12 bytes as ASCII with escapes."""
MOST_LEVELS: Final = 16

_HEAD: Final = re.compile(rb'\s*\{\s*"schema"\s*:\s*"batchsr\.sidecar/')
"""How every sidecar of ours begins."""
_LONE_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class _Source(msgspec.Struct):
    sha256: Digest
    size_bytes: Count
    sample_rate_hz: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    channels: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    frames: Count
    duration_s: Seconds


class Output(msgspec.Struct):
    """What a sidecar says of the output that it stands beside."""

    sha256: Digest
    size_bytes: Count
    clipped_samples: Count


class _Model(msgspec.Struct):
    weights_sha256: str
    dtype: str
    device: str


class _Windows(msgspec.Struct):
    total: Count
    resumed: Count


class _Document(msgspec.Struct):
    schema: str
    settings_sha256: Digest
    source: _Source
    output: Output
    model: _Model
    windows: _Windows
    wall_s: Seconds
    rtf: Seconds


class _Head(msgspec.Struct):
    schema: str


class Record(msgspec.Struct):
    """A sidecar that can be believed as far as its form goes: its hashes are still to be compared."""

    said: _Document
    document: dict[str, Any]
    """All of it, as it is on the disk, but for what is not of the kind that the published form says."""
    twisted: tuple[str, ...] = ()
    """What was left out of the document for that, as `copies.0.path`."""


def is_ours(path: Path) -> bool:
    """Return whether a sidecar of ours, sound or not, stands under this name: a new one may replace it."""
    try:
        return is_of_ours(storage.read_small(path, MOST_BYTES))
    except OSError:
        return False


def was_ours(path: Path) -> bool:
    """Return whether a sidecar of ours stands under this name, or one that was cut or damaged since."""
    try:
        data = storage.read_small(path, MOST_BYTES)
    except OSError:
        return False
    return is_of_ours(data) or _HEAD.match(data) is not None


def is_of_ours(data: bytes) -> bool:
    """Return whether these are the bytes of a sidecar of ours, sound or not."""
    try:
        document = _decoded(data)
        return msgspec.convert(document, _Head).schema.startswith(PREFIX)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return False


def read(path: Path) -> Record | None:
    """Return the sidecar under this name; None if nothing is there. Raises SidecarForeign with the reason for doubt."""
    try:
        return parse(path, storage.read_small(path, MOST_BYTES))
    except FileNotFoundError:
        return None
    except OSError as e:
        raise _foreign(path, "it is a symbolic link" if os.path.islink(path) else e.strerror or str(e)) from e


def parse(path: Path, data: bytes) -> Record:
    """Return the same for bytes that were read; `path` is for the message."""
    try:
        document = _decoded(data)
        said = msgspec.convert(document, _Document)
    except RecursionError as e:
        raise _foreign(path, "it is nested too deeply") from e
    except (msgspec.MsgspecError, UnicodeError) as e:
        raise _foreign(path, str(e)[:300]) from e
    if said.schema not in READ:
        raise _foreign(path, f"its schema is {said.schema[:60]!r}, not one of {', '.join(READ)}")
    if _is_deep(document):
        raise _foreign(path, f"it is nested more than {MOST_LEVELS} levels deep")
    version = int(said.schema.removeprefix(PREFIX))
    return Record(said, *sidecar_form.fitted(document, sidecar_form.of_version(version, len(READ))))


class Copy(msgspec.Struct, frozen=True):
    """A copy for access, as the record of its output names it."""

    recorded: Path
    """Where it was written."""
    beside: Path
    """The same name beside the output: where it is after both were moved."""
    sha256: str
    format: str


def copies_of(document: Mapping[str, Any], output: Path, also: str) -> list[Copy]:
    """Return the copies for access that a record names. `also` are the formats that were asked for, joined by commas.

    Raises SidecarForeign where one of them is not named, or has a name that no file can have.
    """
    found = []
    listed = document.get("copies")
    for one in listed if isinstance(listed, list) else []:
        values = [one.get(key) for key in ("path", "sha256", "format")] if isinstance(one, dict) else []
        path, sha256, form = (value if isinstance(value, str) else "" for value in values or ("", "", ""))
        name = os.path.basename(path)
        if not storage.is_name(name) or not storage.is_path(path):
            why = f"names a copy {shown(name)}, which no file can be called"
            raise SidecarForeign(f"the record of {shown(output)} {why}", remedy="`batchsr explain` shows what it says")
        found.append(Copy(Path(path), output.with_name(name), sha256, form))
    if missing := set(filter(None, also.split(","))) - {one.format for one in found}:
        why = f"does not name its copy in {min(missing)}"
        raise SidecarForeign(f"the record of {shown(output)} {why}", remedy="`batchsr explain` shows what it says")
    return found


def _decoded(data: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises msgspec.MsgspecError, RecursionError, UnicodeDecodeError."""
    try:
        found: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError:
        if _LONE_SURROGATE.search(data) is None:
            raise
    else:
        return found
    # A name whose bytes are no UTF-8 has lone surrogates here, as Python keeps them; msgspec knows no such thing.
    try:
        return msgspec.convert(json.loads(data.decode("utf-8"), parse_constant=_no_number), dict[str, Any])
    except ValueError as e:
        raise msgspec.DecodeError(str(e)) from e


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _foreign(path: Path, why: str) -> SidecarForeign:
    return SidecarForeign(f"{path} is no sidecar that can be believed: {why}", remedy="move it away")


def _is_deep(document: object) -> bool:
    level: list[object] = [document]
    for _ in range(MOST_LEVELS):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(value for value in one.values() if isinstance(value, dict | list))
            elif isinstance(one, list):
                inner.extend(value for value in one if isinstance(value, dict | list))
        if not inner:
            return False
        level = inner
    return True
