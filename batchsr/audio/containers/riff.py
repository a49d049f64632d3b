"""Lay out a WAV file, or an RF64 one where 4 GB are not enough.

libsndfile can write both, but neither bext, cue and iXML chunks through its Python binding, nor a float
file without the time of writing in it. The layout is a header before the samples and a few patches after.

Sources: Microsoft multimedia programming interface (1991); EBU Tech 3285 (bext), 3306 (RF64).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from batchsr.audio.formats import SAMPLE_BYTES
from batchsr.audio.windows import SAMPLE_RATE_HZ

RIFF_LIMIT_BYTES: Final = 0xFFFFFFFF
_DS64_BYTES: Final = 28
# What loudspeakers n channels usually are (Microsoft's KSAUDIO_SPEAKER_*); the source's own mask goes before.
_USUAL_MASKS: Final = {3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x13F, 8: 0x63F}
_SUBFORMAT_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")


def chunk(key: bytes, body: bytes) -> bytes:
    """Return one RIFF chunk, padded to an even length."""
    return key + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


class RiffLayout:
    """Header and final patches of one WAV file."""

    def __init__(
        self,
        channels: int,
        subtype: str,
        extra: Sequence[tuple[bytes, bytes]] = (),
        channel_mask: int | None = None,
        frames: int | None = None,
        rate_hz: int = SAMPLE_RATE_HZ,
    ) -> None:
        """Without `frames` the header keeps room for becoming an RF64 in the end."""
        self._sample_bytes = SAMPLE_BYTES[subtype]
        self._frame_bytes = channels * self._sample_bytes
        before = b"".join(chunk(key, body) for key, body in extra if key in (b"bext", b"iXML"))
        behind = b"".join(chunk(key, body) for key, body in extra if key not in (b"bext", b"iXML"))
        form = chunk(b"fmt ", _format(channels, subtype, channel_mask, rate_hz))
        fact = chunk(b"fact", bytes(4)) if subtype == "FLOAT" else b""
        rest = len(before + form + fact + behind) + 8 + 12
        expected = 0 if frames is None else frames * self._frame_bytes
        self.long = rest + expected + 1 > RIFF_LIMIT_BYTES
        """Whether it is an RF64."""
        self._roomy = self.long or frames is None
        room = chunk(b"ds64" if self.long else b"JUNK", bytes(_DS64_BYTES)) if self._roomy else b""
        self._fact_at = 12 + len(room) + len(before) + len(form) + 8 if fact else 0
        self._before_at = 12 + len(room)
        self._extra = tuple(extra)
        self._body = room + before + form + fact + behind
        self._frames = frames or 0

    def header(self) -> bytes:
        """Everything before the first sample, true if as many samples follow as were expected."""
        empty = b"RIFF" + bytes(4) + b"WAVE" + self._body + b"data" + bytes(4)
        whole = bytearray(empty)
        for position, patch in self._sizes(self._frames):
            whole[position : position + len(patch)] = patch
        return bytes(whole)

    def position_of(self, key: bytes) -> int | None:
        """Return where the body of a bext or iXML chunk begins in the file; None if there is none."""
        at = self._before_at
        for name, body in self._extra:
            if name not in (b"bext", b"iXML"):
                continue
            if name == key:
                return at + 8
            at += len(chunk(name, body))
        return None

    def finish(self, samples: int) -> Iterator[tuple[int, bytes]]:
        """Yield what is to be written where, (position, bytes), when `samples` samples of each channel have been."""
        data_bytes = samples * self._frame_bytes
        if data_bytes & 1:
            yield 12 + len(self._body) + 8 + data_bytes, b"\0"
        yield from self._sizes(samples)

    def _sizes(self, samples: int) -> Iterator[tuple[int, bytes]]:
        data_bytes = samples * self._frame_bytes
        riff_bytes = 4 + len(self._body) + 8 + data_bytes + (data_bytes & 1)
        if self._roomy and riff_bytes > RIFF_LIMIT_BYTES:
            self.long = True
        if self.long:
            sizes = struct.pack("<QQQI", riff_bytes, data_bytes, samples, 0)
            yield 12, b"ds64" + struct.pack("<I", _DS64_BYTES) + sizes
        yield 0, b"RF64" if self.long else b"RIFF"
        yield 4, _size32(riff_bytes, self.long)
        yield 12 + len(self._body) + 4, _size32(data_bytes, self.long)
        if self._fact_at:
            yield self._fact_at, _size32(samples, samples > RIFF_LIMIT_BYTES)


def _size32(size: int, long: bool) -> bytes:
    return struct.pack("<I", 0xFFFFFFFF if long else size)


def _format(channels: int, subtype: str, channel_mask: int | None, rate_hz: int) -> bytes:
    tag = 3 if subtype == "FLOAT" else 1
    frame_bytes = channels * SAMPLE_BYTES[subtype]
    bits = 8 * SAMPLE_BYTES[subtype]
    shape = struct.pack("<HIIHH", channels, rate_hz, rate_hz * frame_bytes, frame_bytes, bits)
    if channels > 2:
        mask = _USUAL_MASKS.get(channels, 0) if channel_mask is None else channel_mask
        return struct.pack("<H", 0xFFFE) + shape + struct.pack("<HHIH", 22, bits, mask, tag) + _SUBFORMAT_TAIL
    return struct.pack("<H", tag) + shape + (struct.pack("<H", 0) if tag == 3 else b"")
