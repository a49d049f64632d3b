"""Name the parts of CAF and FLAC files that nobody here carries over, so that the report can list them."""

from __future__ import annotations

from collections.abc import Iterator

from batchsr.audio.containers import caf
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.chunks import MAX_CHUNKS

_UNDERSTOOD = (b"desc", b"data", b"info", b"free", b"pakt", b"kuki", b"chan", b"peak", b"fact")


def parts_left_behind(file: BytesAt, container: str) -> tuple[str, ...]:
    """Return what a CAF or FLAC file holds that nobody here carries over, by name. Other containers give nothing."""
    if container == "CAF":
        names = [chunk.key for chunk in caf.walk(file).chunks if chunk.key not in _UNDERSTOOD]
        parts = [name.decode("latin-1").strip() for name in names if all(32 <= c < 127 for c in name)]
    elif container == "FLAC":
        parts = list(_flac_parts(file))
    else:
        return ()
    return tuple(f"chunk {part}" for part in parts)


def _flac_parts(file: BytesAt) -> Iterator[str]:
    names = {2: "APPLICATION", 5: "CUESHEET"}  # pictures and comments are read by others
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
