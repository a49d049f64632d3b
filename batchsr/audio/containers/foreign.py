"""Name the parts of CAF, W64 and FLAC files that nobody here carries over, so that the report can list them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from batchsr.audio.containers.headers import MAX_CHUNKS, BytesAt


def parts_left_behind(fd: int, size: int, container: str) -> tuple[str, ...]:
    """What a CAF, W64 or FLAC file holds that nobody here carries over, by name. Other containers give nothing."""
    file = BytesAt(fd, size)
    known: tuple[bytes, ...]
    if container == "CAF":
        parts, known = (
            _caf_parts(file),
            (b"desc", b"data", b"info", b"free", b"pakt", b"kuki", b"chan", b"peak", b"fact"),
        )
    elif container == "W64":
        parts, known = _w64_parts(file), (b"fmt ", b"data", b"fact", b"junk", b"levl")
    elif container == "FLAC":
        parts, known = _flac_parts(file), ()
    else:
        return ()
    return tuple(f"chunk {part.decode('latin-1').strip()}" for part in parts if part not in known)


def _caf_parts(file: BytesAt) -> Iterator[bytes]:
    position = 8
    for _ in range(MAX_CHUNKS):
        head = file.at(position, 12)
        if len(head) < 12:
            return
        yield head[:4]
        (length,) = struct.unpack(">q", head[4:])
        if length < 0:
            return
        position += 12 + length


def _w64_parts(file: BytesAt) -> Iterator[bytes]:
    position = 40
    for _ in range(MAX_CHUNKS):
        head = file.at(position, 24)
        if len(head) < 24:
            return
        yield head[:4]
        (length,) = struct.unpack("<Q", head[16:])
        position += max(length + 7 & ~7, 24)


def _flac_parts(file: BytesAt) -> Iterator[bytes]:
    names = {2: b"APPLICATION", 5: b"CUESHEET"}  # pictures and comments are read by others
    position = 4
    for _ in range(MAX_CHUNKS):
        head = file.at(position, 4)
        if len(head) < 4:
            return
        if (kind := head[0] & 0x7F) in names:
            yield names[kind]
        if head[0] & 0x80:
            return
        position += 4 + int.from_bytes(head[1:], "big")
