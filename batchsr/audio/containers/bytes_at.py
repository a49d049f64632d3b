"""Bytes of an open file by their place, as the readers of headers ask for them: few, near each other, in any order."""

from __future__ import annotations

import os
from typing import Final

_BLOCK_BYTES: Final = 1 << 15


class BytesAt:
    """Random access to an open file that leaves its position alone, or to the stretch of it that begins at `begin`."""

    def __init__(self, fd: int, size: int, begin: int = 0) -> None:
        self.fd, self.size, self.begin = fd, size, begin
        self._start, self._block = 0, b""

    def at(self, start: int, length: int) -> bytes:
        """Return the bytes there are, at most `length`; none beyond the file, however far."""
        inside = start - self._start
        if not 0 <= inside <= len(self._block) - length:
            if length > _BLOCK_BYTES // 2 or not 0 <= start < self.size:
                return self._read(start, length)
            self._start, self._block = start, self._read(start, _BLOCK_BYTES)
            inside = 0
        return self._block[inside : inside + max(length, 0)]

    def _read(self, start: int, length: int) -> bytes:
        parts = []
        length = min(length, self.size - start)
        while length > 0 and start >= 0 and (part := os.pread(self.fd, length, self.begin + start)):
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
