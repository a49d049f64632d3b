"""What ffmpeg does not use of an MPEG-4 or QuickTime file: where its last sample is, and whether its boxes are whole.

An AAC encoder puts a thousand samples or two before the sound and fills up its last frame. ffmpeg leaves out the
former. Where the sound ends, the edit list, the sum of the frames' durations or iTunes' comment say.

Sources: ISO/IEC 14496-12 (boxes, mvhd, mdhd, elst, stts); QuickTime File Format Specification (Apple); iTunSMPB as
iTunes writes it.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Final, Protocol

FIRST: Final = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Types of the boxes with which such a file begins; they stand behind four bytes of length."""
_MOST_BOXES: Final = 10_000
_MOST_ENTRIES: Final = 100_000
_LONGEST_TABLE: Final = 1 << 20
_WITHIN: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"ilst", b"----")


class Bytes(Protocol):
    """A file that is read at any place."""

    @property
    def size(self) -> int: ...
    def at(self, start: int, length: int) -> bytes: ...


def is_cut(file: Bytes) -> bool:
    """Return whether a box of the outermost level is longer than what is there of it."""
    return any(end > file.size for _, _, end in _boxes(file, 0, file.size, overrunning=True))


def duration(file: Bytes) -> Fraction | None:
    """Return how long the first audio track sounds, in seconds, without delay and filling; None where nothing tells."""
    for key, start, end in _boxes(file, 0, file.size):
        if key == b"moov":
            return _in_movie(file, start, end)
    return None


def pause(file: Bytes) -> Fraction:
    """Return how long the edit list has the first audio track wait before it sounds, in seconds."""
    for key, start, end in _boxes(file, 0, file.size):
        if key != b"moov":
            continue
        scale = 0
        for name, begin, stop in _boxes(file, start, end):
            if name == b"mvhd":
                scale = _scale(file.at(begin, 32))
            boxes = {path: place for path, *place in _deep(file, begin, stop)} if name == b"trak" else {}
            if scale and file.at(boxes.get(b"mdia/hdlr", [0])[0], 12)[8:12] == b"soun":
                edits = _edits(file, *boxes[b"edts/elst"]) if b"edts/elst" in boxes else ()
                waits = itertools.takewhile(lambda edit: edit[1] < 0, edits)
                return Fraction(sum(length for length, _ in waits), scale)
    return Fraction(0)


def _in_movie(file: Bytes, start: int, end: int) -> Fraction | None:
    scale = 0
    told: Fraction | None = None
    for key, begin, stop in _boxes(file, start, end):
        if key == b"mvhd":
            scale = _scale(file.at(begin, 32))
        elif key == b"trak" and told is None:
            told = _in_track(file, begin, stop, scale)
    text = file.at(start, min(end - start, _LONGEST_TABLE))
    at = text.find(b"iTunSMPB")
    if told is not None and at >= 0:
        words = text[at + 8 : at + 200].decode("latin-1").split()
        hexes = [w for w in words if len(w) in (8, 16) and all(c in "0123456789ABCDEFabcdef" for c in w)]
        rate = _rate(file, start, end)
        if len(hexes) >= 4 and rate and int(hexes[3], 16):
            return Fraction(int(hexes[3], 16), rate)
    return told


def _in_track(file: Bytes, start: int, end: int, movie_scale: int) -> Fraction | None:
    boxes = {path: (begin, stop) for path, begin, stop in _deep(file, start, end)}
    handler = file.at(boxes.get(b"mdia/hdlr", (0, 0))[0], 12)
    if handler[8:12] != b"soun" or b"mdia/mdhd" not in boxes or b"mdia/minf/stbl/stts" not in boxes:
        return None
    scale = _scale(file.at(boxes[b"mdia/mdhd"][0], 32))
    total = _frames(file, *boxes[b"mdia/minf/stbl/stts"])
    if not scale or not total:
        return None
    whole = Fraction(total, scale)
    if b"edts/elst" not in boxes or not movie_scale:
        return whole
    edits = [(length, at) for length, at in _edits(file, *boxes[b"edts/elst"]) if at >= 0]
    if len(edits) != 1:
        return None
    length, at = edits[0]
    by_edit, by_frames = Fraction(length, movie_scale), whole - Fraction(at, scale)
    # The edit list counts in milliseconds, as a rule; the frames in samples.
    return by_frames if abs(by_edit - by_frames) <= Fraction(1, movie_scale) or not length else by_edit


def _deep(file: Bytes, start: int, end: int, above: bytes = b"", depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    for key, begin, stop in _boxes(file, start, end):
        path = above + b"/" + key if above else key
        yield path, begin, stop
        if key in _WITHIN and depth < 5:
            yield from _deep(file, begin, stop, path, depth + 1)


def _boxes(file: Bytes, start: int, end: int, *, overrunning: bool = False) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte of the body, end) of the boxes between two places."""
    for _ in range(_MOST_BOXES):
        head = file.at(start, 16)
        if start + 8 > end or len(head) < 8:
            return
        length, body = int.from_bytes(head[:4], "big"), 8
        if length == 1 and len(head) == 16:
            length, body = int.from_bytes(head[8:], "big"), 16
        stop = end if length == 0 else start + length
        if (length and length < body) or (stop > end and not overrunning):
            return
        yield head[4:8], start + body, stop
        start = stop


def _scale(header: bytes) -> int:
    """Return ticks a second, of an mvhd or mdhd."""
    at = 20 if header[:1] == b"\1" else 12
    return int.from_bytes(header[at : at + 4], "big")


def _frames(file: Bytes, start: int, end: int) -> int:
    """Return ticks of all frames of a track."""
    table = file.at(start, min(end - start, 8 + 8 * _MOST_ENTRIES))
    pairs = struct.iter_unpack(">II", table[8 : 8 + (len(table) - 8) // 8 * 8]) if len(table) >= 8 else ()
    return sum(count * ticks for count, ticks in pairs)


def _edits(file: Bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(length in the movie's ticks, first tick of the media or -1 for a pause) of each edit."""
    table = file.at(start, min(end - start, 8 + 20 * 100))
    form = ">Qq4x" if table[:1] == b"\1" else ">Ii4x"
    size = struct.calcsize(form)
    for at in range(8, len(table) - size + 1, size):
        length, begin = struct.unpack_from(form, table, at)
        yield length, begin


def _rate(file: Bytes, start: int, end: int) -> int:
    for path, begin, _ in _deep(file, start, end):
        if path == b"trak/mdia/mdhd":
            return _scale(file.at(begin, 32))
    return 0
