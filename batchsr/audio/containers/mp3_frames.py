"""The frames of MPEG audio, and the tags that stand before, between and behind them: what their first bytes say.

Sources: ISO/IEC 11172-3 and 13818-3 (frame header); the Xing header as LAME writes it; Fraunhofer's VBRI header;
ID3v1 and ID3v2 (id3.org); APEv2 (Hydrogenaudio wiki); Lyrics3 v1 and v2 (id3.org).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import struct
from typing import Final, Literal

import numpy as np

HEAD_BYTES: Final = 4
_WINDOW_BYTES: Final = 1 << 20
_LONGEST_FREE_FRAME: Final = 8_192
_LONGEST_LYRICS: Final = 1 << 20
_TAG_FRAME_BYTES: Final = 256
"""A frame's header, its side information, and a Xing header with all its parts fit into these."""
# Kilobits a second by index, for layers 1, 2, 3 of MPEG-1 and of MPEG-2 (2 and 3 agree there).
_RATES_1: Final = (
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_RATES_2: Final = (
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_SAMPLE_RATES_HZ: Final = (44_100, 48_000, 32_000)


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """What the four bytes before a frame say."""

    layer: int
    mpeg1: bool
    rate_hz: int
    channels: int
    length_bytes: int
    """Length of the whole frame; 0 in free format, where only the next frame tells."""
    padding_bytes: int = 0
    """How many of them fill up to the bit rate: in free format frames differ by these alone."""

    @property
    def samples(self) -> int:
        """Samples of one channel that it holds."""
        return 384 if self.layer == 1 else 1152 if self.layer == 2 or self.mpeg1 else 576

    @property
    def tag_at(self) -> int:
        """Where a Xing or Info tag stands in a frame: behind the header and the side information."""
        side = (17 if self.channels == 1 else 32) if self.mpeg1 else (9 if self.channels == 1 else 17)
        return HEAD_BYTES + side

    def side_at(self, head: bytes) -> tuple[int, int]:
        """Return where the side information of Layer III begins and ends, given the frame's header."""
        behind_checksum = 0 if head[1] & 1 else 2
        return HEAD_BYTES + behind_checksum, self.tag_at + behind_checksum

    def goes_with(self, other: Frame) -> bool:
        """Return whether both can belong to one stream."""
        return (self.layer, self.mpeg1, self.rate_hz) == (other.layer, other.mpeg1, other.rate_hz)

    def continues(self, other: Frame) -> bool:
        """Return whether one decoder can go from one to the other without a word: also the channels agree."""
        return self.goes_with(other) and self.channels == other.channels


@functools.lru_cache(maxsize=8192)  # the same few headers again and again
def frame_header(head: bytes) -> Frame | None:
    """Read the four bytes before a frame; None if they are something else."""
    if len(head) < HEAD_BYTES or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, sample_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or rate_index == 15 or sample_index == 3:
        return None
    mpeg1 = version == 3
    rate_hz = _SAMPLE_RATES_HZ[sample_index] >> {3: 0, 2: 1, 0: 2}[version]
    channels = 1 if head[3] >> 6 == 3 else 2
    padding = (head[2] >> 1 & 1) * (4 if layer == 1 else 1)
    if rate_index == 0:
        return Frame(layer, mpeg1, rate_hz, channels, 0, padding)
    kilobits = (_RATES_1[layer - 1] if mpeg1 else _RATES_2[min(layer, 2) - 1])[rate_index - 1]
    if layer == 1:
        length = 12_000 * kilobits // rate_hz * 4 + padding
    else:
        length = (144_000 if mpeg1 or layer == 2 else 72_000) * kilobits // rate_hz + padding
    return Frame(layer, mpeg1, rate_hz, channels, length, padding)


class Window:
    """Bytes of an open file from `start` to `end`, read a megabyte at a time. Raises OSError."""

    def __init__(self, fd: int, start: int, end: int) -> None:
        self.fd, self.start, self.end = fd, start, end
        self._data, self._at = b"", start
        self._free_bytes: dict[bytes, int] = {}
        """Length of a free frame without padding, by what its headers have in common: it does not change in a file."""

    def at(self, position: int, length: int) -> bytes:
        """Return the bytes there are, at most `length`."""
        inside = position - self._at
        if inside < 0 or inside + length > len(self._data):
            room = self.end - position
            if room <= 0:
                return b""
            self._data, self._at = os.pread(self.fd, min(max(_WINDOW_BYTES, length), room), position), position
            inside = 0
        return self._data[inside : inside + length]

    def frame(self, position: int) -> Frame | None:
        """Return the frame whose header stands there; in free format with its length, found by looking ahead."""
        head = self.at(position, HEAD_BYTES)
        if len(head) < HEAD_BYTES or head[0] != 0xFF:
            return None
        frame = frame_header(head)
        if frame is None or frame.length_bytes:
            return frame
        return self._free(position, head, frame)

    def syncs(self, position: int, stop: int) -> list[int]:
        """Return where, from `position` to before `stop`, the two bytes stand that a frame begins with."""
        data = np.frombuffer(self.at(position, min(stop, self.end) - position + 1), np.uint8)
        if len(data) < 2:
            return []
        found: list[int] = (np.flatnonzero((data[:-1] == 0xFF) & (data[1:] >= 0xE0)) + position).tolist()
        return found

    def _free(self, position: int, head: bytes, frame: Frame) -> Frame | None:
        """Return a free frame with its length: as long as the way to the next header that agrees in all that
        stays the same."""
        kind = head[:2] + bytes([head[2] & 0xFC])
        if (bare := self._free_bytes.get(kind)) is not None:
            return dataclasses.replace(frame, length_bytes=bare + frame.padding_bytes)
        ahead = self.at(position, 2 * _LONGEST_FREE_FRAME + 2 * HEAD_BYTES)
        for at in range(HEAD_BYTES, min(len(ahead) - HEAD_BYTES, _LONGEST_FREE_FRAME)):
            if ahead[at] != 0xFF or not _alike(head, ahead[at : at + HEAD_BYTES]):
                continue
            if at < frame.tag_at:
                return None
            second = frame_header(ahead[at : at + HEAD_BYTES])
            assert second is not None
            third = at + at - frame.padding_bytes + second.padding_bytes
            if position + third == self.end or _alike(head, ahead[third : third + HEAD_BYTES]):
                self._free_bytes[kind] = at - frame.padding_bytes
                return dataclasses.replace(frame, length_bytes=at)
        return None


def _alike(head: bytes, other: bytes) -> bool:
    """Return whether two headers differ in nothing but padding, mode extension and the like."""
    return other[:2] == head[:2] and len(other) == HEAD_BYTES and other[2] & 0xFC == head[2] & 0xFC


@dataclasses.dataclass(frozen=True, slots=True)
class Tag:
    """A frame that holds no sound but says something about those behind it."""

    name: Literal["Xing", "Info", "VBRI"]
    at: int
    """Where the tag begins in the frame."""
    frames: int | None
    """How many frames it says follow."""
    length_bytes: int | None
    """How many bytes it says they have, this frame included."""


def tag_of(raw: bytes, frame: Frame) -> Tag | None:
    """Read the tag in the first bytes of a frame, if there is one."""
    if frame.layer != 3:
        return None
    for at in (frame.tag_at, frame.tag_at + 2):  # the latter behind a checksum
        name = raw[at : at + 4]
        if name in (b"Xing", b"Info") and len(raw) >= at + 8:
            (flags,) = struct.unpack_from(">I", raw, at + 4)
            values: list[int | None] = []
            position = at + 8
            for bit in (1, 2):
                there = flags & bit and len(raw) >= position + 4
                values.append(struct.unpack_from(">I", raw, position)[0] if there else None)
                position += 4 if flags & bit else 0
            return Tag("Xing" if name == b"Xing" else "Info", at, values[0], values[1])
    if raw[36:40] == b"VBRI" and len(raw) >= 54:
        length, frames = struct.unpack_from(">II", raw, 46)
        return Tag("VBRI", 36, frames, length)
    return None


def tag_at(window: Window, position: int, frame: Frame) -> Tag | None:
    """`tag_of` for the frame at a position."""
    if frame.layer != 3:
        return None
    raw = window.at(position, min(_TAG_FRAME_BYTES, frame.length_bytes))
    return tag_of(raw, frame) if b"Xing" in raw or b"Info" in raw or b"VBRI" in raw else None


def no_sound(window: Window, position: int) -> int:
    """Return how many bytes at `position` are a tag of a known kind (ID3v2, ID3v1, APEv2, Lyrics3); 0 if none."""
    head = window.at(position, 32)
    room = window.end - position
    length = 0
    if head[:3] == b"ID3" and len(head) >= 10 and head[3] < 0xFF and head[4] < 0xFF and max(head[6:10]) < 0x80:
        for octet in head[6:10]:
            length = length << 7 | octet
        length += 20 if head[5] & 0x10 else 10
    elif head[:8] == b"APETAGEX" and len(head) == 32:
        size, _, flags = struct.unpack_from("<III", head, 12)
        length = size + 32 if flags >> 29 & 1 else 32  # a header is not counted in the size; a footer stands alone
    elif head[:3] == b"TAG" and room in (128, 128 + 227):
        length = room
    elif head[:4] == b"TAG+" and room >= 227:
        length = 227
    elif head[:3] == b"TAG":
        # Between joined files: the title, artist and so on are text padded with NUL or blanks.
        body = window.at(position, 128)
        texts = body[3:125].translate(None, bytes(range(1, 32)))
        length = 128 if len(body) == 128 and len(texts) == 122 else 0
    elif head[:11] == b"LYRICSBEGIN":
        text = window.at(position, min(_LONGEST_LYRICS, room))
        ends = [at + 9 for word in (b"LYRICS200", b"LYRICSEND") if (at := text.find(word)) >= 0]
        length = min(ends, default=0)
    return length if length <= room else 0


def end_of_sound(fd: int, size: int) -> int:
    """Return where the tags begin that stand at the end of an open file: ID3v1, APEv2, Lyrics3. Raises OSError."""
    end = size
    for _ in range(8):
        before = end
        tail = os.pread(fd, 128 + 227, max(end - 128 - 227, 0))
        if tail[-128:-125] == b"TAG":
            end -= 128 + (227 if tail[:4] == b"TAG+" else 0)
        elif tail[-32:-24] == b"APETAGEX":
            length, _, flags = struct.unpack_from("<III", tail, len(tail) - 20)
            end -= length + (32 if flags >> 31 else 0)
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            end -= int(tail[-15:-9]) + 15
        elif tail[-9:] == b"LYRICSEND":
            text = os.pread(fd, 5_120, max(end - 5_120, 0))
            end -= len(text) - at if (at := text.rfind(b"LYRICSBEGIN")) >= 0 else 0
        if end == before or end < 0:
            return max(before if end < 0 else end, 0)
    return end
