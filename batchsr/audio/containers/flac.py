"""Find all the sound of a FLAC file: files joined, lengths unknown or untrue, and what the header is good for.

libsndfile believes STREAMINFO: it reads no further than the length there, and not at all where the length is unknown,
which is lawful. The frames tell: each says which sample it begins with. In a file that is as its header says the last
frame ends where the header does, and the frames count up from the first to the last; a few looks show that. Only where
they do not is the whole file searched.

Source: RFC 9639.

Longer than other modules: the search for frames and the header that is made for them go by the same fields.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import numpy as np

from batchsr.audio.decoders.flac import FlacDecoder
from batchsr.audio.decoders.interface import Decoder, Part
from batchsr.audio.decoders.joined import Joined, Opened
from batchsr.audio.decoders.virtual_file import Range, Segment, VirtualFile
from batchsr.audio.remarks import Remark

MAX_PARTS: Final = 500
_MAX_BLOCKS: Final = 10_000
_LOOK_BYTES: Final = 1 << 20
_LOOKS: Final = 16
_LONGEST_HEADER: Final = 16
_BEGINNING: Final = b"fLaC\x00\x00\x00\x22"
_BEGINNING_LAST: Final = b"fLaC\x80\x00\x00\x22"
_BLOCK_SIZES: Final = {1: 192, **{n: 576 << n - 2 for n in range(2, 6)}, **{n: 256 << n - 8 for n in range(8, 16)}}
_RATES_HZ: Final = (0, 88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
_BITS: Final = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}


class Bytes(Protocol):
    """A file that is read at any place."""

    @property
    def size(self) -> int: ...
    def at(self, start: int, length: int) -> bytes: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Info:
    """The STREAMINFO of one FLAC stream, and where its parts stand."""

    start: int
    """Where "fLaC" stands."""
    audio: int
    """Where its first frame begins."""
    block: int
    """Samples of every frame but the last one, in a stream of fixed blocks."""
    rate_hz: int
    channels: int
    bits: int
    samples: int
    """0 where the length is unknown."""
    md5: bytes

    @property
    def shape(self) -> tuple[int, int, int]:
        """What a frame's header has to agree with."""
        return self.rate_hz, self.channels, self.bits


@dataclasses.dataclass(slots=True)
class Found:
    """What a walk found."""

    parts: list[Part]
    """() where libsndfile reads the file well as it is."""
    infos: list[Info]
    remarks: list[Remark]
    end: int = 0
    """Samples by the last frame, of the last stream."""


def info_at(file: Bytes, start: int) -> Info | None:
    """Read the metadata blocks of the stream that begins at `start`; None if they are cut or none."""
    if file.at(start, 4) != b"fLaC":
        return None
    position, found = start + 4, None
    for _ in range(_MAX_BLOCKS):
        head = file.at(position, 4 + 34)
        if len(head) < 4:
            return None
        length = int.from_bytes(head[1:4], "big")
        if head[0] & 0x7F == 0 and len(head) == 38:
            packed = int.from_bytes(head[14:22], "big")
            shape = (packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1, packed & (1 << 36) - 1)
            found = (int.from_bytes(head[4:6], "big"), *shape, head[22:38])
        position += 4 + length
        if head[0] & 0x80:
            return None if found is None or position > file.size else Info(start, position, *found)
    return None


def walk(file: Bytes, first: Info) -> Found:
    """Look whether the file from `first` on is as its header says, and search all of it where it is not."""
    if first.samples and _is_as_told(file, first):
        return Found([], [first], [], first.samples)
    infos = list(_beginnings(file, first))
    remarks: list[Remark] = []
    if len(infos) > 1:
        message = f"{len(infos)} FLAC streams follow one another: all of them are restored"
        remarks.append(Remark("input.joined", message))
    parts: list[Part] = []
    end = 0
    for info, stop in zip(infos, [*(i.start for i in infos[1:]), file.size], strict=True):
        end = _end(file, info, stop)
        if info.samples and end > info.samples:
            message = f"its header says {info.samples:,} samples, {end:,} are there: all of them are restored"
            remarks.append(Remark("input.longer_than_header", message))
        parts.append(_part(file, info, stop, max(end, info.samples)))
    return Found(parts, infos, remarks, end)


def without_last_frame(file: Bytes, last: Info, parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return how a file is to be read whose last frame is not whole: the same parts, up to that frame. () if none is
    left."""
    end = _end(file, last, file.size, before_last=True)
    before = tuple(parts[:-1])
    return (*before, _part(file, last, file.size, end)) if end else before


def last_frame(file: Bytes, start: int) -> int | None:
    """Return where the last frame begins of the streams that stand from `start` on; None where none is found."""
    info = info_at(file, start)
    stop = file.size
    while info is not None and stop > info.audio:
        begin = max(stop - _LOOK_BYTES // 4, info.audio)
        places = [at for at, _, _ in _frames(file, info, begin, stop)]
        if places:
            return places[-1]
        stop = begin
    return None


def open_stream(file: VirtualFile) -> Decoder:
    """Open the FLAC streams in a virtual file, as a part's opener."""
    seen = _Seen(file)
    info = info_at(seen, 0)
    if info is None:
        return FlacDecoder(file, 0, bytes(16))
    found = walk(seen, info)
    if not found.parts:
        return FlacDecoder(file, info.bits, info.md5, info.block)

    def opened(part: Part) -> Opened:
        assert part.segments is not None
        inside = VirtualFile(file.fd, tuple(s for segment in part.segments for s in seen.within(segment)))
        begin = functools.partial(part.opener or open_plain, inside)
        d = begin()
        d.close()
        return Opened(begin, d.sample_rate, d.channels, d.format, d.subtype, d.frames)

    return Joined([opened(part) for part in found.parts])


def open_plain(file: VirtualFile) -> Decoder:
    """Open one FLAC stream that is as its header says, as a part's opener; its MD5 is checked on the way."""
    info = info_at(_Seen(file), 0)
    return FlacDecoder(file, info.bits, info.md5, info.block) if info else FlacDecoder(file, 0, bytes(16))


class _Seen:
    """A virtual file, read at any place."""

    def __init__(self, file: VirtualFile) -> None:
        self._file, self.size = file, file.length

    def at(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        return self._file.read(length)

    def within(self, segment: Segment) -> Iterator[Segment]:
        """Yield a stretch of the virtual file as stretches of the file below."""
        if isinstance(segment, bytes):
            yield segment
            return
        at, left = segment.start, segment.length
        base = 0
        for inner in self._file.segments:
            length = len(inner) if isinstance(inner, bytes) else inner.length
            begin, end = max(at, base), min(at + left, base + length)
            if begin < end:
                if isinstance(inner, bytes):
                    yield inner[begin - base : end - base]
                else:
                    yield Range(inner.start + begin - base, end - begin)
            base += length


def _part(file: Bytes, info: Info, stop: int, samples: int) -> Part:
    """Return the stream with its length in its header."""
    rest = Range(info.audio, stop - info.audio)
    if samples == info.samples:
        return Part((Range(info.start, stop - info.start),), opener=open_plain)
    head = bytearray(file.at(info.start, info.audio - info.start))
    position = 4
    while head[position] & 0x7F:
        position += 4 + int.from_bytes(head[position + 1 : position + 4], "big")
    packed = int.from_bytes(head[position + 14 : position + 22], "big") & ~((1 << 36) - 1)
    head[position + 14 : position + 22] = (packed | samples).to_bytes(8, "big")
    # The MD5 is that of the samples which the header counts, so it says nothing about these.
    head[position + 22 : position + 38] = bytes(16) if info.samples else info.md5
    return Part((bytes(head), rest), opener=open_plain)


def _is_as_told(file: Bytes, info: Info) -> bool:
    """Return whether the last frame ends where the header says, and the frames in between count up to it."""
    if _end(file, info, file.size) != info.samples:
        return False
    before = -1
    step = (file.size - info.audio) // _LOOKS
    for look in range(_LOOKS if step > _LOOK_BYTES // 4 else 0):
        begin = info.audio + look * step
        sample = next((s for _, s, _ in _frames(file, info, begin, min(begin + _LOOK_BYTES // 8, file.size))), None)
        if sample is None or sample < before:
            return False
        before = sample
    return step > _LOOK_BYTES // 4 or len(list(_beginnings(file, info))) == 1


def _end(file: Bytes, info: Info, stop: int, *, before_last: bool = False) -> int:
    """Return samples by the last frame before `stop`, or up to that frame; 0 if there is none."""
    begin = stop
    while begin > info.audio:
        upper = min(begin + _LONGEST_HEADER, stop)
        begin = max(begin - _LOOK_BYTES // 4, info.audio)
        ends = [sample + (0 if before_last else count) for _, sample, count in _frames(file, info, begin, upper)]
        if ends:
            return ends[-1]
    return 0


def _beginnings(file: Bytes, first: Info) -> Iterator[Info]:
    """Yield the streams of the file, in order."""
    yield first
    position, count = first.audio, 1
    while position < file.size and count <= MAX_PARTS:
        text = file.at(position, _LOOK_BYTES)
        places = [at for at in (text.find(_BEGINNING), text.find(_BEGINNING_LAST)) if at >= 0]
        if not places:
            position += max(len(text) - len(_BEGINNING) + 1, 1)
            if len(text) < len(_BEGINNING):
                return
            continue
        position += min(places)
        info = info_at(file, position)
        if info is not None:
            count += 1
            yield info
        position = info.audio if info is not None else position + 4


def _frames(file: Bytes, info: Info, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(where, first sample, samples) of the frames that begin between two places."""
    while begin < end:
        data = file.at(begin, min(_LOOK_BYTES, end - begin) + _LONGEST_HEADER)
        octets = np.frombuffer(data, np.uint8)
        if len(octets) < 6:
            return
        for at in np.flatnonzero((octets[:-1] == 0xFF) & ((octets[1:] | 1) == 0xF9)).tolist():
            frame = _frame(data[at : at + _LONGEST_HEADER], info)
            if frame is not None and begin + at < end:
                yield begin + at, *frame
        begin += _LOOK_BYTES


def _frame(head: bytes, info: Info) -> tuple[int, int] | None:
    """(first sample, samples) by a frame's header; None if it is none of this stream's."""
    if len(head) < 6 or head[3] & 1:
        return None
    size_code, rate_code, channel_code, bits_code = head[2] >> 4, head[2] & 15, head[3] >> 4, head[3] >> 1 & 7
    channels = channel_code + 1 if channel_code < 8 else 2
    if size_code == 0 or rate_code == 15 or channel_code > 10 or channels != info.channels:
        return None
    if bits_code and _BITS.get(bits_code) != info.bits:
        return None
    if 0 < rate_code < 12 and _RATES_HZ[rate_code] != info.rate_hz:
        return None
    number, at = _coded_number(head, 4)
    if number is None:
        return None
    extra = {6: 1, 7: 2}.get(size_code, 0)
    count = int.from_bytes(head[at : at + extra], "big") + 1 if extra else _BLOCK_SIZES[size_code]
    at += extra + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    return (number if head[1] & 1 else number * info.block), count


def _coded_number(head: bytes, at: int) -> tuple[int | None, int]:
    """Return a number written the way UTF-8 writes a character, up to 36 bits: (number, where it ends)."""
    first = head[at]
    if first < 0x80:
        return first, at + 1
    length = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= length <= 7 or len(head) < at + length:
        return None, at
    number = first & (1 << 7 - length) - 1
    for octet in head[at + 1 : at + length]:
        if octet & 0xC0 != 0x80:
            return None, at
        number = number << 6 | octet & 0x3F
    return number, at + length


def _crc8(data: bytes) -> int:
    crc = 0
    for octet in data:
        crc = _CRC8[crc ^ octet]
    return crc


def _crc8_of(octet: int) -> int:
    for _ in range(8):
        octet = (octet << 1 ^ 0x07 if octet & 0x80 else octet << 1) & 0xFF
    return octet


_CRC8: Final = bytes(_crc8_of(octet) for octet in range(256))
