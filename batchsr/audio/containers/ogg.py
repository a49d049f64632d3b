"""What Ogg files have of their own: the order of channels, and a serial number that has to be fixed.

Vorbis and Opus put the loudspeakers of surround sound in another order than WAV, and libsndfile passes
that order on. Here the order is WAV's everywhere.

libsndfile draws the serial number that marks a stream's pages at random, while the same samples are to make
the same bytes. Each page carries a CRC, which need not be computed again from the whole page: a CRC is linear,
so the new one is the old one XOR that of the change alone.

Sources: Vorbis I specification, 4.3.9 (channel order); RFC 3533 (page layout; CRC polynomial 0x04C11DB7, initial
value 0).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

SERIAL: Final = 0x62617463
_POLYNOMIAL: Final = 0x04C11DB7
# Where WAV's n-th channel stands in an Ogg file; the counts that are left out agree.
WAV_ORDER: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType(
    {
        3: (0, 2, 1),
        5: (0, 2, 1, 3, 4),
        6: (0, 2, 1, 5, 3, 4),
        7: (0, 2, 1, 6, 5, 3, 4),
        8: (0, 2, 1, 7, 5, 6, 3, 4),
    }
)


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
    """Return the product of two polynomials over GF(2), modulo the CRC's."""
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
