"""Walk the pages of an Ogg file: every stream in it, one behind another or side by side, and what is lost of each.

libsndfile reads the first stream of a file and closes its eyes to the rest, and where a page is lost it plays on
without the missing time. So each stretch of whole pages is handed over as a part, behind its stream's header pages,
and the time at which it ends, which its last page says, tells how much silence belongs before it.

A page's checksum is CRC-32 with the polynomial of zlib's, but with the bits the other way round; so is computed by
zlib from mirrored bytes. Longer than other modules: what is lost, doubled or out of place is seen on the same walk.

Sources: RFC 3533 (Ogg), RFC 7845 (Opus in Ogg), Vorbis I specification, FLAC in Ogg mapping (xiph.org).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from batchsr.audio.containers import flac
from batchsr.audio.decoders.beside import Beside
from batchsr.audio.decoders.interface import Decoder, Part, Piece
from batchsr.audio.decoders.opening import open_pieces
from batchsr.audio.decoders.virtual_file import Range, Segment, VirtualFile
from batchsr.audio.remarks import Remark

MAX_PARTS: Final = 500
_HEAD_BYTES: Final = 27
_MIRRORED: Final = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))
_LOOK_BYTES: Final = 1 << 16
_LARGEST_PAGE: Final = 65_307
_MOST_IN_VAIN_BYTES: Final = 1 << 26
"""What may be summed up for pages that are none: a hostile file is full of beginnings."""
_LONGEST_LOST_BEGIN_S: Final = 60
_NO_TIME: Final = 2**64 - 1
_NAMES: Final = (
    (b"\x01vorbis", "Vorbis", 3),
    (b"OpusHead", "Opus", 2),
    (b"\x7fFLAC", "FLAC", 0),
    (b"Speex   ", "Speex", 2),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One page whose checksum is right."""

    start: int
    length: int
    body: int
    """Where its packets begin."""
    flags: int
    serial: int
    number: int
    time: int
    """Samples up to the end of the last packet that ends in it; 2**64 - 1 if none does."""
    ended: int
    """Packets that end in it."""
    checksum: int

    @property
    def first(self) -> bool:
        """Whether it begins a stream."""
        return bool(self.flags & 2)

    @property
    def last(self) -> bool:
        """Whether it ends a stream."""
        return bool(self.flags & 4)


@dataclasses.dataclass(slots=True)
class Stream:
    """The pages of one stream."""

    codec: str
    """"Vorbis", "Opus", "FLAC", "Speex", or "" for what is no audio that is known here."""
    rate_hz: int
    """What the pages' times count in."""
    packets_before: int
    """Packets of its header, which stand on pages of their own."""
    head: bytes
    headers: list[Page] = dataclasses.field(default_factory=list)
    runs: list[list[Page]] = dataclasses.field(default_factory=lambda: [[]])
    """Pages of audio, each list without a page missing in it."""
    header_packets: int = 0
    header_lost: bool = False
    number: int = 0
    ended: bool = False
    begins_lost: int = 0
    """Pages that are missing between its header and its first sound."""
    repeated: int = 0
    """Pages that stood there a second time, and were left out."""
    disordered: bool = False
    """Whether its pages do not stand in the order of their numbers."""
    known: set[tuple[int, int]] = dataclasses.field(default_factory=set)
    """The numbers and checksums of its pages."""

    def add(self, page: Page) -> None:
        """Take up the stream's next page."""
        if (page.number, page.checksum) in self.known:
            self.repeated += 1
            return
        self.known.add((page.number, page.checksum))
        missing = bool(self.headers) and page.number != self.number + 1
        self.disordered |= page.number < self.number
        before, self.number = self.number, page.number
        self.ended = page.last
        if not self.headers or self.header_packets < self.packets_before:
            self.header_lost |= missing
            self.headers.append(page)
            self.header_packets += page.ended
        elif missing and self.runs[-1]:
            self.runs.append([page])
        else:
            self.header_lost |= missing  # it cannot be known whether a page of the header is among the lost ones
            self.begins_lost += max(page.number - before - 1, 0)
            self.runs[-1].append(page)

    @property
    def pages(self) -> list[Page]:
        """All of them, in order."""
        return [*self.headers, *(page for run in self.runs for page in run)]

    @property
    def lost_at_its_begin(self) -> bool:
        """Whether its first pages of sound were lost, by their number and its clock; not where it was joined late."""
        times = [page.time for page in self.runs[0] if page.time != _NO_TIME]
        short = bool(times) and times[0] <= _LONGEST_LOST_BEGIN_S * self.rate_hz
        return bool(self.begins_lost) and short and self.codec in ("Vorbis", "Opus")

    def in_order(self) -> Stream:
        """Return it with its pages in the order of their numbers, where that is the order of their times as well."""
        pages = sorted(self.pages, key=lambda page: page.number)
        times = [page.time for page in pages if page.time != _NO_TIME]
        if len({page.number for page in pages}) < len(pages) or times != sorted(times):
            return self
        made = Stream(self.codec, self.rate_hz, self.packets_before, self.head, repeated=self.repeated)
        for page in pages:
            made.add(page)
        made.disordered = True
        return made


@dataclasses.dataclass(slots=True)
class Found:
    """What a walk over the pages found."""

    groups: list[list[Stream]]
    """Streams that begin together lie side by side; groups follow one another."""
    bad_pages: int = 0
    """Pages whose checksum is wrong."""
    cut: str = ""
    """How it is seen that the file ends too early."""
    given_up: bool = False


def walk(fd: int, size: int, start: int = 0) -> Found:
    """Find the pages from `start` to `size`. Raises OSError."""
    found = Found([])
    open_streams: dict[int, Stream] = {}
    position, in_vain = start, 0
    together = False
    while position < size:
        raw = os.pread(fd, _LARGEST_PAGE, position)
        page, why = _page(raw, position)
        if page is None:
            if why == "cut" and position + len(raw) >= size:
                following = raw.find(b"OggS\0", 4)
                if following < 0:
                    found.cut = "it ends in the middle of a page"
                    break
            found.bad_pages += why in ("sum", "cut")
            in_vain += len(raw) if why == "sum" else 0
            if in_vain > _MOST_IN_VAIN_BYTES + 4 * size:
                found.given_up = True
                break
            position = _next(fd, size, position + 1)
            continue
        if page.first:
            stream = _stream(raw[page.body - position : page.length])
            if not together:
                found.groups.append([])
            together = True
            found.groups[-1].append(stream)
            open_streams[page.serial] = stream
        else:
            together = False
        if (known := open_streams.get(page.serial)) is not None:
            known.add(page)
        else:
            found.bad_pages += 1
        position += page.length
    found.groups = [[s.in_order() if s.disordered else s for s in group] for group in found.groups]
    return found


def pieces(fd: int, size: int, found: Found) -> tuple[tuple[Piece, ...], list[Remark]]:
    """Return how the file is to be read, and what is odd. No pieces: libsndfile reads it well as it is."""
    groups = [[s for s in group if s.codec] for group in found.groups]
    groups = [group for group in groups if any(run for s in group for run in s.runs)]
    remarks: list[Remark] = []
    if len(groups) > 1:
        remarks.append(
            Remark("input.joined", f"{len(groups)} Ogg streams follow one another: all of them are restored")
        )
    for group in groups:
        if len(group) > 1:
            message = f"{len(group)} streams lie side by side in it: the output has the channels of all, in their order"
            remarks.append(Remark("input.side_by_side", message))
        if any(not s.ended for s in group) and not found.cut:
            message = "the page that should end a stream is not there: what is there is restored"
            remarks.append(Remark("input.no_end", message))
    if found.bad_pages:
        message = f"{found.bad_pages:,} pages are damaged: what they held is silent in the output"
        remarks.append(Remark("input.gap", message))
    lost = sum(len(s.runs) - 1 for group in groups for s in group)
    if lost and not found.bad_pages:
        message = f"pages are missing in {lost:,} places: what they held is silent in the output"
        remarks.append(Remark("input.gap", message))
    remarks += _out_of_place([s for group in groups for s in group])
    if _is_plain(fd, found, groups):
        return (), remarks
    made: list[Piece] = []
    for group in groups:
        parts = [_parts(fd, stream) for stream in group]
        if len(parts) == 1:
            made += parts[0]
        else:
            made.append(Part(opener=functools.partial(_open_beside, parts)))
    return tuple(made), remarks


def pages_of(found: Found) -> tuple[Range, ...]:
    """Return where pages stand whose checksums are right, in order."""
    pages = [page for group in found.groups for stream in group for page in stream.pages]
    return _ranges(sorted(pages, key=lambda page: page.start))


def _out_of_place(streams: Sequence[Stream]) -> list[Remark]:
    """Return what is odd about pages that stand twice, in another order, or not behind the header."""
    remarks = []
    if repeated := sum(s.repeated for s in streams):
        remarks.append(Remark("input.pages_repeated", f"{repeated:,} pages stand in it twice: each was heard once"))
    if any(s.disordered for s in streams):
        message = "its pages are not in the order of their numbers: they were put in order where their times agree"
        remarks.append(Remark("input.pages_disordered", message))
    if lost := sum(s.begins_lost for s in streams):
        message = f"{lost:,} pages are missing before its first sound, as where a broadcast was joined late"
        if any(s.lost_at_its_begin for s in streams):
            message = f"{lost:,} pages are missing before its first sound: what they held is silent in the output"
        remarks.append(Remark("input.gap", message))
    return remarks


def _is_plain(fd: int, found: Found, groups: Sequence[Sequence[Stream]]) -> bool:
    if len(found.groups) != 1 or len(found.groups[0]) != 1 or found.bad_pages or not groups:
        return False
    (stream,) = groups[0]
    if stream.codec == "Opus" and (not stream.ended or _late(fd, stream.runs[0])):
        return False
    if stream.repeated or stream.disordered or stream.lost_at_its_begin:
        return False
    return stream.codec != "FLAC" and len(stream.runs) == 1 and stream.headers[0].start == 0


def _open_beside(streams: Sequence[Sequence[Piece]], file: VirtualFile) -> Decoder:
    return Beside([open_pieces(file.fd, stream) for stream in streams])


def _parts(fd: int, stream: Stream) -> list[Piece]:
    if stream.codec == "FLAC":
        return list(_flac(stream))
    headers = _ranges(stream.headers)
    begins_lost = stream.lost_at_its_begin
    whole = len(stream.runs) == 1 and not begins_lost
    # Opus counts what is to be skipped at the beginning as well.
    ahead = int.from_bytes(stream.head[10:12], "little") if stream.codec == "Opus" and begins_lost else 0
    made: list[Piece] = []
    for run in stream.runs:
        times = [page.time for page in run if page.time != _NO_TIME]
        if not times:
            continue
        ends_at = None if whole else Fraction(max(times[-1] - ahead, 0), stream.rate_hz)
        starts_at = Fraction(0) if begins_lost and run is stream.runs[0] else None
        if stream.codec == "Opus" and (_late(fd, run) or not run[-1].last):
            head, sound = _from_zero(fd, stream, run, keep_skip=run is stream.runs[0] and not begins_lost)
            made.append(Part((*head, *sound), ends_at=ends_at, starts_at=starts_at))
        else:
            made.append(Part((*headers, *_ranges(run)), ends_at=ends_at, starts_at=starts_at))
    return made


def _late(fd: int, run: Sequence[Page]) -> int:
    """By how many samples an Opus stream's clock is ahead of its sound where the run begins."""
    samples = 0
    for page in run:
        samples += _opus_samples(os.pread(fd, page.length, page.start))
        if page.time != _NO_TIME:
            return max(page.time - samples, 0)
    return 0


def _opus_samples(page: bytes) -> int:
    """Return how long the packets that end in a page sound, at 48 kHz; the end of one that began before does
    not count."""
    lacing = page[_HEAD_BYTES : _HEAD_BYTES + page[26]]
    at, samples = _HEAD_BYTES + len(lacing), 0
    begun, continued = at, bool(page[5] & 1)
    for length in lacing:
        at += length
        if length < 255:
            if not continued and at > begun:
                samples += _packet_samples(page[begun : begun + 2])
            begun, continued = at, False
    return samples


def _packet_samples(head: bytes) -> int:
    config, code = head[0] >> 3, head[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    count = (1, 2, 2)[code] if code < 3 else head[1] & 0x3F if len(head) > 1 else 0
    return frame * count


def _from_zero(
    fd: int, stream: Stream, run: Sequence[Page], *, keep_skip: bool
) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
    """(Header pages, pages of sound) of an Opus run whose clock begins with it, and whose last page ends it.

    libsndfile takes a clock that begins later for silence, and a stream without an end for a damaged one. What a
    header says is to be skipped stands before the first run only.
    """
    headers: list[Segment] = list(_ranges(stream.headers))
    if not keep_skip:
        first = bytearray(os.pread(fd, stream.headers[0].length, stream.headers[0].start))
        body = _HEAD_BYTES + first[26]
        first[body + 10 : body + 12] = bytes(2)
        headers = [_summed(bytes(first)), *_ranges(stream.headers[1:])]
    late = _late(fd, run)
    sound: list[Segment] = []
    for page in run:
        raw = bytearray(os.pread(fd, page.length, page.start))
        if page.time != _NO_TIME:
            struct.pack_into("<Q", raw, 6, max(page.time - late, 0))
        raw[5] = raw[5] & 3 | (4 if page is run[-1] else 0)
        sound.append(_summed(bytes(raw))[: page.body - page.start])
        sound.append(Range(page.body, page.start + page.length - page.body))
    return tuple(headers), tuple(sound)


def _summed(page: bytes) -> bytes:
    """Return the page with its checksum made right."""
    return page[:22] + struct.pack("<I", checksum(page[:22] + bytes(4) + page[26:])) + page[26:]


def _flac(stream: Stream) -> tuple[Piece, ...]:
    """Return the FLAC file that the packets of FLAC in Ogg are, one behind another, but for nine bytes before it."""
    bodies: list[Segment] = [Range(page.body, page.start + page.length - page.body) for page in stream.pages]
    first = bodies[0]
    assert isinstance(first, Range)
    bodies[0] = Range(first.start + 9, first.length - 9)
    return (Part(tuple(bodies), opener=flac.open_stream),)


def _ranges(pages: Sequence[Page]) -> tuple[Range, ...]:
    made: list[Range] = []
    for page in pages:
        if made and made[-1].start + made[-1].length == page.start:
            made[-1] = Range(made[-1].start, made[-1].length + page.length)
        else:
            made.append(Range(page.start, page.length))
    return tuple(made)


def _page(raw: bytes, position: int) -> tuple[Page | None, str]:
    """Return the page at the beginning of `raw`, or why there is none: "none", "cut" (it ends too early), "sum"."""
    if raw[:5] != b"OggS\0"[: len(raw)]:
        return None, "none"
    if len(raw) < _HEAD_BYTES or len(raw) < _HEAD_BYTES + raw[26]:
        return None, "cut"
    lacing = raw[_HEAD_BYTES : _HEAD_BYTES + raw[26]]
    body = _HEAD_BYTES + len(lacing)
    length = body + sum(lacing)
    if length > len(raw):
        return None, "cut"
    flags, time, serial, number, told = struct.unpack_from("<xBQIII", raw, 4)
    if checksum(raw[:22] + bytes(4) + raw[26:length]) != told:
        return None, "sum"
    ended = len(lacing) - lacing.count(255)
    return Page(position, length, position + body, flags, serial, number, time, ended, told), ""


def checksum(data: bytes) -> int:
    """Return Ogg's CRC of a page whose own four bytes of it are zero."""
    mirrored = zlib.crc32(data.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")


def _next(fd: int, size: int, position: int) -> int:
    """Return where the next page may begin."""
    while position < size:
        text = os.pread(fd, _LOOK_BYTES, position)
        at = text.find(b"OggS\0")
        if at >= 0:
            return position + at
        if len(text) < 5:
            return size
        position += len(text) - 4
    return size


def _stream(body: bytes) -> Stream:
    for magic, codec, packets in _NAMES:
        if body.startswith(magic):
            return Stream(codec, _rate(codec, body), packets or _flac_packets(body), body[:64])
    return Stream("", 1, 0, body[:64])


def _rate(codec: str, body: bytes) -> int:
    try:
        if codec == "Vorbis":
            return max(int(struct.unpack_from("<I", body, 12)[0]), 1)
        if codec == "FLAC":
            return max(int.from_bytes(body[27:30], "big") >> 4, 1)
    except struct.error:
        return 1
    return 48_000


def _flac_packets(body: bytes) -> int:
    return 1 + int.from_bytes(body[7:9], "big")
