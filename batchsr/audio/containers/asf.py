"""Whether a Windows Media file is all there: its header says how long the file is, and ffmpeg does not compare.

Source: Advanced Systems Format specification (Microsoft), file properties object.
"""

from __future__ import annotations

from typing import Final, Protocol

MAGIC: Final = bytes.fromhex("3026b2758e66cf11")
_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_LONGEST_HEADER: Final = 1 << 16
_BROADCAST: Final = 1


class Bytes(Protocol):
    """A file that is read at any place."""

    @property
    def size(self) -> int: ...
    def at(self, start: int, length: int) -> bytes: ...


def size(file: Bytes) -> int | None:
    """Return how many bytes the header says the file has; None for a live stream's, whose header says nothing."""
    head = file.at(0, _LONGEST_HEADER)
    at = head.find(_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return None
    flags = int.from_bytes(head[at + 88 : at + 92], "little")
    return None if flags & _BROADCAST else int.from_bytes(head[at + 40 : at + 48], "little")


def is_cut(file: Bytes) -> bool:
    """Return whether the file is shorter than its header says."""
    return (size(file) or 0) > file.size
