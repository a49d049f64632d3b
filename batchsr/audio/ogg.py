"""Give an Ogg file a fixed serial number, so that the same samples make the same bytes.

libsndfile draws the number that marks a stream's pages at random. Each page carries a CRC, which need not be
computed again from the page: a CRC is linear, so the new one is the old one XOR that of the change alone.
Source: RFC 3533 (page layout, CRC polynomial 0x04C11DB7, initial value 0).
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

SERIAL: Final = 0x62617463
_POLYNOMIAL: Final = 0x04C11DB7


class _File(Protocol):
    def seek(self, offset: int, /) -> int: ...
    def read(self, count: int, /) -> bytes: ...
    def write(self, data: bytes, /) -> int: ...


def number_stream(file: _File, serial: int = SERIAL) -> None:
    """Put `serial` into every page of a file that holds one Ogg stream."""
    position = 0
    powers: dict[int, int] = {}
    while True:
        file.seek(position)
        head = file.read(27 + 255)
        if len(head) < 27 or head[:4] != b"OggS":
            return
        body_start = 27 + head[26]
        length = body_start + sum(head[27:body_start])
        old_serial, page, old_crc = struct.unpack("<III", head[14:26])
        # The four bytes of the number stand 18 bytes after the page's start; the rest of the page shifts their CRC on.
        change = int.from_bytes(struct.pack("<I", old_serial ^ serial), "big")
        behind = length - 18
        shift = powers.setdefault(behind, _power_of_x(8 * behind))
        crc = old_crc ^ _times(_times(change, _power_of_x(32)), shift)
        file.seek(position + 14)
        file.write(struct.pack("<III", serial, page, crc))
        position += length


def _times(a: int, b: int) -> int:
    """Product of two polynomials over GF(2), modulo the CRC's."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        b >>= 1
        a <<= 1
        if a >> 32:
            a ^= _POLYNOMIAL | 1 << 32
    return product


def _power_of_x(exponent: int) -> int:
    """x to the power of `exponent`, modulo the CRC's polynomial."""
    result, base = 1, 2
    while exponent:
        if exponent & 1:
            result = _times(result, base)
        base = _times(base, base)
        exponent >>= 1
    return result
