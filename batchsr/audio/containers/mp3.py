"""Give an MP3 file the length it does not say.

Without a Xing or VBRI header, libsndfile guesses the length from the first frame's bit rate: too long at a
constant rate, by half or more too short at a variable one, and it reads no further than its guess. So the
frames are counted here, and libsndfile is handed the file with an Info frame put before it.

Sources: ISO/IEC 11172-3 and 13818-3 (frame header); the Xing header as LAME writes it.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from typing import Final

from batchsr.audio.decoders.interface import Part, Piece
from batchsr.audio.decoders.virtual_file import Range

_HEAD_BYTES: Final = 4
_LOOK_BYTES: Final = 1 << 20
_RESYNC_BYTES: Final = 1 << 16
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

    @property
    def tag_at(self) -> int:
        """Where a Xing or Info tag stands in a frame: behind the header and the side information."""
        side = (17 if self.channels == 1 else 32) if self.mpeg1 else (9 if self.channels == 1 else 17)
        return _HEAD_BYTES + side

    def goes_with(self, other: Frame) -> bool:
        """Whether both can belong to one stream."""
        return (self.layer, self.mpeg1, self.rate_hz) == (other.layer, other.mpeg1, other.rate_hz)


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """The frames of an MP3 file."""

    start: int
    """First byte of the first frame."""
    first: Frame
    head: bytes
    """The first frame's header."""
    frames: int | None
    """How many there are, counted; None where the file says so itself."""
    cut: bool
    """Whether the file ends inside a frame, or before its own header says."""


def find(fd: int, size: int) -> Stream | None:
    """The stream of an open file, None if it is no MP3. Reads all of a file that does not say its length."""
    start = _behind_id3(fd)
    head = os.pread(fd, 4096, start)
    first = frame_header(head[:4])
    if first is None:
        return None
    following = frame_header(os.pread(fd, 4, start + first.length_bytes))
    if following is None or not first.goes_with(following):
        return None
    tag = head[first.tag_at : first.tag_at + 16]
    if tag[:4] in (b"Xing", b"Info"):
        (flags,) = struct.unpack(">I", tag[4:8])
        (total,) = struct.unpack(">I", tag[12:16]) if flags & 3 == 3 else (0,)
        return Stream(start, first, head[:4], None, start + total > size)
    if head[36:40] == b"VBRI":
        (total,) = struct.unpack(">I", head[46:50])
        return Stream(start, first, head[:4], None, start + total > size)
    frames, end = _count(fd, start, first)
    return Stream(start, first, head[:4], frames, end > size)


def frame_header(head: bytes) -> Frame | None:
    """Read the four bytes before a frame; None if they are something else."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, sample_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or rate_index in (0, 15) or sample_index == 3:
        return None
    mpeg1 = version == 3
    kilobits = (_RATES_1[layer - 1] if mpeg1 else _RATES_2[min(layer, 2) - 1])[rate_index - 1]
    rate_hz = _SAMPLE_RATES_HZ[sample_index] >> {3: 0, 2: 1, 0: 2}[version]
    padding = head[2] >> 1 & 1
    if layer == 1:
        length = (12_000 * kilobits // rate_hz + padding) * 4
    else:
        length = (144_000 if mpeg1 or layer == 2 else 72_000) * kilobits // rate_hz + padding
    return Frame(layer, mpeg1, rate_hz, 1 if head[3] >> 6 == 3 else 2, length)


def info_frame(stream: Stream) -> bytes:
    """A frame that sounds like nothing and says how many frames follow."""
    # 64 kbit/s or the like leaves room for the tag at every rate; no checksum, no padding.
    index = 5 if stream.first.mpeg1 else 8
    head = bytes([0xFF, stream.head[1] | 1, index << 4 | stream.head[2] & 0x0C, stream.head[3]])
    frame = frame_header(head)
    assert frame is not None
    tag = b"Info" + struct.pack(">II", 1, stream.frames or 0)
    return (head.ljust(frame.tag_at, b"\0") + tag).ljust(frame.length_bytes, b"\0")


def pieces(stream: Stream, size: int) -> tuple[Piece, ...]:
    """The audio of an MP3 file that does not say its length, with an Info frame before it; () for any other."""
    if stream.frames is None or stream.first.layer != 3:
        return ()
    return (Part((info_frame(stream), Range(stream.start, size - stream.start))),)


def _behind_id3(fd: int) -> int:
    """Where the audio may begin: behind any ID3v2 tags."""
    start = 0
    while (head := os.pread(fd, 10, start))[:3] == b"ID3" and len(head) == 10:
        length = 0
        for octet in head[6:]:
            length = length << 7 | octet & 0x7F
        start += 10 + length + (10 if head[5] & 0x10 else 0)
    return start


def _count(fd: int, start: int, first: Frame) -> tuple[int, int]:
    """(number of frames, where the last one ends or should end), also over junk between frames."""
    frames = 0
    position = start
    window, offset = b"", start
    while True:
        if position + 4 > offset + len(window):
            window, offset = os.pread(fd, _LOOK_BYTES, position), position
        frame = frame_header(window[position - offset : position - offset + 4])
        if frame is not None and frame.goes_with(first):
            frames += 1
            position += frame.length_bytes
            continue
        again = _resync(fd, position, first)
        if again is None:
            return frames, position
        position = again


def _resync(fd: int, position: int, first: Frame) -> int | None:
    """Where frames go on behind junk, two in a row; None if they do not."""
    junk = os.pread(fd, _RESYNC_BYTES, position)
    at = junk.find(b"\xff", 1)
    while at >= 0:
        frame = frame_header(junk[at : at + 4])
        if frame is not None and frame.goes_with(first):
            following = frame_header(os.pread(fd, 4, position + at + frame.length_bytes))
            if following is not None and following.goes_with(first):
                return position + at
        at = junk.find(b"\xff", at + 1)
    return None
