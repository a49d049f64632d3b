"""A file made of ranges of another one and of bytes of our own: what a decoder shall see instead of what is there."""

from __future__ import annotations

import bisect
import dataclasses
import os
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """`length` bytes of the file from `start` on. What lies behind the file's end reads as nothing."""

    start: int
    length: int


Segment: TypeAlias = bytes | Range


class VirtualFile:
    """Segments of an open file, one after another, with the methods that libsndfile's binding calls.

    The descriptor's own position is left alone, and the descriptor stays open. A failure of the system in a read is
    kept in `failure`: libsndfile calls `read` from C, where an exception would be printed and forgotten.
    """

    def __init__(self, fd: int, segments: Sequence[Segment]) -> None:
        self._fd = fd
        self._segments = [s for s in segments if _length(s) > 0]
        self._starts = [0, *accumulate(_length(s) for s in self._segments)]
        self._position = 0
        self.failure: OSError | None = None

    @classmethod
    def whole(cls, fd: int) -> VirtualFile:
        """Return the file as it is."""
        return cls(fd, [Range(0, os.fstat(fd).st_size)])

    @property
    def fd(self) -> int:
        """The descriptor of the file below."""
        return self._fd

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What it is made of."""
        return tuple(self._segments)

    @property
    def length(self) -> int:
        """Bytes in all."""
        return self._starts[-1]

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes, at most `count` (-1: all), and move on."""
        if count < 0:
            count = self.length
        parts: list[bytes] = []
        while count > 0 and 0 <= self._position < self.length:
            index = bisect.bisect_right(self._starts, self._position) - 1
            segment = self._segments[index]
            inside = self._position - self._starts[index]
            wanted = min(count, _length(segment) - inside)
            part = (
                segment[inside : inside + wanted] if isinstance(segment, bytes) else self._at(segment, inside, wanted)
            )
            if not part:
                break
            parts.append(part)
            self._position += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.length}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def _at(self, segment: Range, inside: int, wanted: int) -> bytes:
        try:
            return os.pread(self._fd, wanted, segment.start + inside)
        except OSError as e:
            self.failure = e
            return b""


def _length(segment: Segment) -> int:
    return len(segment) if isinstance(segment, bytes) else max(segment.length, 0)
