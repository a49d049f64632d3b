"""Find all the sound of an MPEG audio file (Layers I to III) by walking its frames, and give each stretch its length.

libsndfile believes a Xing or VBRI header, and without one guesses the length from the first frame's bit rate; it reads
no further than that, takes pictures for frames, and stops where the rate or the number of channels changes. So the
frames are walked here, whatever the header says. A file that is one stretch of frames with a true header is left to
libsndfile as it is; every other one is handed over as parts, each behind an Info frame that tells the truth.

Layers I and II have no Info frame. There libsndfile guesses by size, so the stretch is shown to it often enough that
the guess is not too short, and the surplus is never read.

Longer than other modules: three layers and all their headers are told apart on the same walk.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from typing import Final

from batchsr.audio.containers.mp3_frames import Frame, Tag, Window, end_of_sound, frame_header, no_sound, tag_at
from batchsr.audio.decoders.interface import Part, Piece
from batchsr.audio.decoders.virtual_file import Range, Segment
from batchsr.audio.remarks import Remark

MAX_STRETCHES: Final = 500
"""A recording with more changes of rate or channels is no recording, and each costs a decoder."""
_SURE: Final = 4
"""So many frames in a row are no accident, whatever stands before them."""
_FEW: Final = 8
"""Bytes as long as so many whole frames, where frames should be, are frames that were damaged."""
_ZEROS_BYTES: Final = 8
_FIRST_LOOK_BYTES: Final = 4_096
_LONGEST_LOOK_BYTES: Final = 1 << 20
_PICTURES: Final = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"TAG")
_RATIO_OF_RATES: Final = 14
"""The largest bit rate of a layer over the smallest one."""


@dataclasses.dataclass(slots=True)
class Stretch:
    """Frames of one kind, as one decoder reads them."""

    first: Frame
    head: bytes
    """The first frame's header."""
    segments: list[Segment] = dataclasses.field(default_factory=list)
    """The frames, without the tag's; those that were lost are silent ones of our own."""
    frames: int = 0
    """How many there are, those that were lost included."""
    tag: Tag | None = None
    tag_frame: bytes = b""
    """The frame before the others that holds the tag; b"" if there is none."""
    read_frames: int = 0
    read_bytes: int = 0
    """Those that are in the file."""

    def add(self, position: int, length: int) -> None:
        """Take up the frame at `position`."""
        last = self.segments[-1] if self.segments else None
        if isinstance(last, Range) and last.start + last.length == position:
            self.segments[-1] = Range(last.start, last.length + length)
        else:
            self.segments.append(Range(position, length))
        self.frames += 1
        self.read_frames += 1
        self.read_bytes += length

    def add_muted(self, raw: bytes, frame: Frame) -> None:
        """Take up a Layer III frame that cannot be heard, because it begins in bytes that are lost.

        Its own bytes stay, for the frames behind it begin in them.
        """
        begin, end = frame.side_at(raw)
        self.segments.append(raw[:begin] + bytes(end - begin) + raw[end:])
        self.frames += 1
        self.read_frames += 1
        self.read_bytes += len(raw)

    def add_silent(self, frames: int) -> None:
        """Put frames that sound like nothing in the place of lost ones."""
        silent = (self.head[:1] + bytes([self.head[1] | 1]) + self.head[2:]).ljust(self.first.length_bytes, b"\0")
        self.segments += [silent] * frames
        self.frames += frames

    @property
    def length_bytes(self) -> int:
        """Bytes of all its frames but the tag's."""
        return sum(s.length if isinstance(s, Range) else len(s) for s in self.segments)


@dataclasses.dataclass(slots=True)
class Stream:
    """What a walk over the frames found."""

    start: int
    """First byte of the first frame."""
    end: int = 0
    """Behind the last byte of the last whole frame."""
    first_in_file: bool = True
    """Whether nothing but ID3v2 stands before it, so that libsndfile sees it."""
    stretches: list[Stretch] = dataclasses.field(default_factory=list)
    cut: str = ""
    """How it is seen that the file ends too early; "" if it does not."""
    too_many: bool = False
    """Whether the walk was given up after MAX_STRETCHES."""
    remarks: list[Remark] = dataclasses.field(default_factory=list)

    @property
    def first(self) -> Frame:
        """The first frame."""
        return self.stretches[0].first


def find(fd: int, size: int, start: int = 0) -> Stream | None:
    """Walk the frames from `start` to `size`; None if there are none. Raises OSError."""
    window = Window(fd, start, end_of_sound(fd, size) if start == 0 else size)
    walk = _Walk(window, tagged=window.end < size)
    walk.run()
    return walk.stream


def behind_id3(fd: int, size: int) -> int:
    """Return where the ID3v2 tags at the beginning of an open file end; 0 if there are none. Raises OSError."""
    window, position = Window(fd, 0, size), 0
    while window.at(position, 3) == b"ID3" and (length := no_sound(window, position)):
        position += length
    return position


def pieces(stream: Stream, *, whole: bool) -> tuple[Piece, ...]:
    """Return how the file is to be read; () where libsndfile reads it well as it is, if `whole` says that it would see
    it."""
    if whole and _is_told_truly(stream):
        return ()
    return tuple(_part(stretch) for stretch in stream.stretches)


def frames_of(stream: Stream) -> tuple[Range, ...]:
    """Return where the frames of a stream stand that are heard as they are, in order."""
    return tuple(s for stretch in stream.stretches for s in stretch.segments if isinstance(s, Range))


def info_frame(stretch: Stretch) -> bytes:
    """Return a frame that sounds like nothing and says how many frames follow, and what the file's own one said."""
    if stretch.tag is not None and stretch.tag.name != "VBRI" and stretch.tag.frames is not None:
        frame = bytearray(stretch.tag_frame)
        struct.pack_into(">I", frame, stretch.tag.at + 8, stretch.frames)
        if stretch.tag.length_bytes is not None:
            struct.pack_into(">I", frame, stretch.tag.at + 12, len(frame) + stretch.length_bytes)
        return bytes(frame)
    # 64 kbit/s or the like leaves room for the tag at every rate; no checksum, no padding.
    index = 5 if stretch.first.mpeg1 else 8
    head = bytes([0xFF, stretch.head[1] | 1, index << 4 | stretch.head[2] & 0x0C, stretch.head[3]])
    silent = frame_header(head)
    assert silent is not None
    tag = b"Info" + struct.pack(">II", 1, stretch.frames)
    return (head.ljust(silent.tag_at, b"\0") + tag).ljust(silent.length_bytes, b"\0")


def _part(stretch: Stretch) -> Part:
    sound = tuple(stretch.segments)
    if stretch.first.layer == 3:
        return Part((info_frame(stretch), *sound))
    often = 2 + min(stretch.first.length_bytes * stretch.frames // stretch.length_bytes, _RATIO_OF_RATES)
    return Part(sound * often, frames=stretch.frames * stretch.first.samples)


def _is_told_truly(stream: Stream) -> bool:
    """Return whether libsndfile, which believes the tag, reads all frames and nothing else."""
    (stretch, *more) = stream.stretches
    if more or stretch.tag is None or len(stretch.segments) != 1 or not stream.first_in_file:
        return False
    return stretch.tag.frames == stretch.frames


class _Walk:
    """One way through a file's frames."""

    def __init__(self, window: Window, *, tagged: bool) -> None:
        self._window = window
        self._tagged = tagged
        """Whether tags stand behind the window's end: then nobody cut the file, whatever its last frame says."""
        self._position = window.start
        self._left_out_bytes = 0
        self._before_bytes = 0
        self._odd_front = False
        self._reservoir: int | None = None
        """Bytes of main data since frames were lost; None when no frame can miss any."""
        self._gaps: list[tuple[float, float]] = []
        self.stream: Stream | None = None

    def run(self) -> None:
        """Walk to the end."""
        window = self._window
        while self._position < window.end:
            frame = window.frame(self._position)
            if frame is not None and self._take(frame):
                continue
            length = no_sound(window, self._position)
            if length:
                self._odd_front |= window.at(self._position, 3) != b"ID3"
                self._position += length
            elif not self._search():
                break
            if self.stream is not None and self.stream.too_many:
                return
        if self.stream is not None:
            self._judge(self.stream)

    def _take(self, frame: Frame) -> bool:
        """Take up the frame at the position, if it is one."""
        window, position = self._window, self._position
        stream = self.stream
        stretch = stream.stretches[-1] if stream is not None else None
        goes_on = stretch is not None and frame.continues(stretch.first)
        if position + frame.length_bytes > window.end:
            if stream is None or not goes_on:
                return False
            if self._tagged:
                message = "its last frame is incomplete, and was left out"
                stream.remarks.append(Remark("input.bytes_left_out", message))
            else:
                stream.cut = "it ends inside a frame"
            self._position = window.end
            return True
        if not goes_on and self._row(position, frame) < 2:
            return False
        tag = tag_at(window, position, frame)
        if stream is None:
            self.stream = stream = Stream(position, first_in_file=not self._odd_front)
        if stretch is None or not goes_on or tag is not None:
            raw = window.at(position, frame.length_bytes)
            stretch = Stretch(frame, raw[:4], [], 0, tag, raw if tag is not None else b"")
            stream.stretches.append(stretch)
            stream.too_many = len(stream.stretches) > MAX_STRETCHES
            self._reservoir = None
        if tag is None:
            self._add(stretch, position, frame)
        self._position = stream.end = position + frame.length_bytes
        return True

    def _add(self, stretch: Stretch, position: int, frame: Frame) -> None:
        if self._reservoir is None or frame.layer != 3:
            stretch.add(position, frame.length_bytes)
            return
        raw = self._window.at(position, frame.length_bytes)
        begin, end = frame.side_at(raw)
        bits = 9 if frame.mpeg1 else 8
        if int.from_bytes(raw[begin : begin + 2], "big") >> 16 - bits <= self._reservoir:
            stretch.add(position, frame.length_bytes)
            self._reservoir = None
        else:
            stretch.add_muted(raw, frame)
            self._reservoir += frame.length_bytes - end

    def _row(self, position: int, frame: Frame, wanted: int = _SURE) -> int:
        """Return how many frames of one kind stand in a row; a row that ends with the file or at a tag is as good as
        any."""
        count, first = 0, frame
        while count < wanted:
            count += 1
            position += frame.length_bytes
            if count > 1 and (position == self._window.end or no_sound(self._window, position)):
                return wanted
            following = self._window.frame(position)
            if following is None or not following.continues(first):
                break
            frame = following
        return count

    def _search(self) -> bool:
        """Find where frames go on behind other bytes, and go there."""
        begin = self._position
        for position in self._candidates(begin + 1):
            if self._window.at(position, 3) == b"ID3":
                if no_sound(self._window, position):
                    return self._leave_out(begin, position)
                continue
            frame = self._window.frame(position)
            if frame is None or position + frame.length_bytes > self._window.end:
                continue
            known = self.stream is not None and frame.continues(self.stream.stretches[-1].first)
            row = self._row(position, frame)
            last = known and position + frame.length_bytes == self._window.end
            if last or row >= (2 if known else _SURE):
                return self._leave_out(begin, position)
        return False

    def _candidates(self, position: int) -> Iterator[int]:
        """Yield where frames or an ID3 tag may begin, in order."""
        look = _FIRST_LOOK_BYTES
        while position < self._window.end:
            stop = min(position + look, self._window.end)
            found = self._window.syncs(position, stop)
            text = self._window.at(position, stop - position + 2)
            at = text.find(b"ID3")
            while at >= 0:
                found.append(position + at)
                at = text.find(b"ID3", at + 1)
            yield from sorted(found)
            position, look = stop, min(2 * look, _LONGEST_LOOK_BYTES)

    def _leave_out(self, begin: int, end: int) -> bool:
        self._position = end
        if self.stream is None:
            self._odd_front = True
            self._before_bytes += end - begin
            return True
        frame = self._window.frame(end)
        stretch = self.stream.stretches[-1]
        if frame is None or not frame.continues(stretch.first) or tag_at(self._window, end, frame) is not None:
            self._left_out_bytes += end - begin
        elif lost := self._lost(stretch, begin, end):
            begin_s = sum(s.frames * s.first.samples / s.first.rate_hz for s in self.stream.stretches)
            self._gaps.append((begin_s, lost * frame.samples / frame.rate_hz))
            stretch.add_silent(lost)
            self._reservoir = 0
        else:
            self._left_out_bytes += end - begin
        return True

    def _lost(self, stretch: Stretch, begin: int, end: int) -> int:
        """Return how many frames the bytes that are none took the place of; 0 where somebody put them between
        frames."""
        head = self._window.at(begin, min(end - begin, _LONGEST_LOOK_BYTES))
        if not stretch.read_frames or any(word in head for word in _PICTURES):
            return 0
        mean = stretch.read_bytes / stretch.read_frames
        lost = round((end - begin) / mean)
        if stretch.tag is not None and stretch.tag.frames is not None:  # it counted them when all were there
            without = stretch.tag.frames - stretch.frames - (self._window.end - end) / mean
            return lost if abs(without - lost) < abs(without) else 0
        if not any(self._window.at(begin - _ZEROS_BYTES, 2 * _ZEROS_BYTES)):
            return lost  # zeros that begin inside the frame before
        return lost if lost <= _FEW and abs(end - begin - lost * mean) <= lost + 1 else 0

    def _judge(self, stream: Stream) -> None:
        """Say what is odd, and whether the file is shorter than it claims."""
        tags = [s.tag for s in stream.stretches if s.tag is not None]
        stream.stretches = [s for s in stream.stretches if s.frames]
        if not stream.stretches:
            self.stream = None
            return
        if len(stream.stretches) > 1:
            kinds = {(s.first.rate_hz, s.first.channels) for s in stream.stretches}
            change = " of different rates or channels" if len(kinds) > 1 else ""
            message = f"{len(stream.stretches)} MPEG streams{change} follow one another: all of them are restored"
            stream.remarks.append(Remark("input.joined", message))
        if len(tags) == 1 and stream.stretches[0].tag is not None:
            self._compare(stream, tags[0])
        for begin_s, lost_s in self._gaps:
            message = f"about {lost_s:.2f} s are lost {begin_s:.2f} s after its start: they are silent in the output"
            stream.remarks.append(Remark("input.gap", message))
        if self._before_bytes:
            message = f"{self._before_bytes:,} bytes of something else stand before its frames: they were left out"
            stream.remarks.append(Remark("input.bytes_left_out", message))
        if self._left_out_bytes:
            message = f"{self._left_out_bytes:,} bytes between its frames are no audio and were left out"
            stream.remarks.append(Remark("input.bytes_left_out", message))

    def _compare(self, stream: Stream, tag: Tag) -> None:
        """Hold the only tag, which stands before all frames, against what is there."""
        there = sum(s.frames for s in stream.stretches)
        if tag.frames is None or stream.cut or abs(tag.frames - there) <= 1:
            return
        # A tag that is right about the bytes was never a promise of more sound.
        told = tag.length_bytes
        if tag.frames > there and (
            told is None or told > stream.end - stream.start + len(stream.stretches[0].tag_frame)
        ):
            stream.cut = f"its {tag.name} header promises {tag.frames:,} frames, {there:,} are there"
            return
        message = f"its {tag.name} header says {tag.frames:,} frames, {there:,} are there: all of them are restored"
        code = "input.longer_than_header" if there > tag.frames else "input.length_wrong"
        stream.remarks.append(Remark(code, message))
