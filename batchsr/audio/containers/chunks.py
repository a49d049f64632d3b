"""The one walker of chunks: RIFF, RIFX, RF64, BW64, W64, AIFF, 8SVX and CAF are lists of chunks, laid out alike.

A chunk is a name, a length and a body. What archives hold breaks that in a few ways, all of which are met here: lengths
that were never filled in, that were written long before the end or wrapped at 4 GB, that reach beyond the file (also by
2^63), odd bodies without the byte that pads them, other files joined behind. Nothing here raises for what a file says,
and no file makes a walk longer than MAX_CHUNKS.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from batchsr.audio.containers import behind
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.chunk_layouts import CAF, CHAIN_CHUNKS, Layout, fills, is_name

MAX_CHUNKS: Final = 10_000
_SEARCH_BYTES: Final = 1 << 20
_SHORT_REST_BYTES: Final = 1 << 16
_MOST_SEARCHES: Final = 8
_MOST_TRIES: Final = 4_096
_NEVER_FILLED_IN: Final = frozenset((0x7FFF_FFFF, 0x8000_0000, 0x7FFF_F000, 2**64 - 1))
"""Lengths that programs write which cannot go back to write the right one, as into a pipe."""
_MOST_WRAPS: Final = 4_096


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk."""

    key: bytes
    """The first four bytes of its name."""
    start: int
    """First byte of the body."""
    claimed: int | None
    """Length of the body as it is written down; None where it was never filled in."""
    end: int
    """Where the body ends in truth: never beyond the file; behind the claimed end where audio goes on there."""

    @property
    def cut(self) -> bool:
        """Whether it claims more than is there."""
        return self.claimed is not None and self.claimed > self.end - self.start

    @property
    def longer(self) -> bool:
        """Whether more is there than it claims."""
        return self.claimed is None or self.claimed < self.end - self.start


@dataclasses.dataclass(frozen=True, slots=True)
class Walk:
    """The chunks of one file, which may be the first of several that were joined."""

    chunks: Sequence[Chunk]
    next_file: int | None = None
    """Where another file of the kind begins."""
    left_out: str = ""
    """What stands behind the chunks and is neither chunk nor audio, for a person; "" where there is nothing."""
    mended: bool = False
    """Whether a length before the audio led nowhere, and the audio was searched for."""
    too_many: bool = False
    """Whether there are more chunks than anybody would write."""

    def named(self, key: bytes) -> list[Chunk]:
        """Return the chunks of this name, in order."""
        return [chunk for chunk in self.chunks if chunk.key == key]


def walk(file: BytesAt, layout: Layout, begin: int, start: int) -> Walk:
    """Return the chunks of the file that begins at `begin`, whose first chunk stands at `start`."""
    return _Walker(file, layout, begin).walk(start)


class _Walker:
    """One walk, with what it has learnt on its way."""

    def __init__(self, file: BytesAt, layout: Layout, begin: int) -> None:
        self.file, self.layout, self.begin = file, layout, begin
        self.magic = file.at(begin, 4)
        self.long_lengths: dict[bytes, int] = {}
        """Lengths that a ds64 chunk gives, by the names of their chunks; that of the whole file as RIFF."""

    def walk(self, start: int) -> Walk:
        """Walk from the first chunk on."""
        file, layout = self.file, self.layout
        chunks: list[Chunk] = []
        found_audio, searches = False, 0
        position = start
        while len(chunks) < MAX_CHUNKS:
            if position > start and self.is_file(position):
                return Walk(chunks, position, "", searches > 0)
            chunk = self.chunk_at(position)
            if chunk is None:
                break
            if chunk.key == b"ds64":
                self.long_lengths = _long_lengths(file.at(chunk.start, min(chunk.end - chunk.start, 1 << 16)))
            if chunk.key == layout.audio:
                found_audio = True
                chunk, position, left_out = self.audio_chunk(chunk)
                chunks.append(chunk)
                if position >= file.size or left_out:
                    return Walk(chunks, None, left_out, searches > 0)
                continue
            named = is_name(layout, file.at(position, layout.head_bytes))
            if not found_audio and (chunk.cut or not named):
                searches += 1
                after = chunk.start if named else position
                again = self.search(after) if searches <= _MOST_SEARCHES else None
                if again is None:
                    chunks.append(chunk)
                    break
                chunks.append(dataclasses.replace(chunk, end=again))
                position = again
                continue
            chunks.append(chunk)
            position = self.behind(chunk)
        more = f"chunks beyond the first {MAX_CHUNKS:,}" if len(chunks) >= MAX_CHUNKS and position < file.size else ""
        return Walk(chunks, None, more, searches > 0, bool(more))

    def chunk_at(self, position: int) -> Chunk | None:
        """Return the chunk whose head stands there, whatever it says; None at the end of the file."""
        file, layout = self.file, self.layout
        head = file.at(position, layout.head_bytes)
        if len(head) < layout.head_bytes:
            return None
        key = head[:4]
        (length,) = struct.unpack_from(layout.length_format, head, layout.length_at)
        start = position + layout.head_bytes
        claimed: int | None = length
        if length == layout.unknown:
            claimed = self.long_lengths.get(key) or (None if key == layout.audio else length)
            if claimed in _NEVER_FILLED_IN:
                claimed = None
        elif key == layout.audio and length in _NEVER_FILLED_IN and start + length > file.size:
            claimed = None
        elif layout.counts_head:
            claimed = max(length - layout.head_bytes, 0)
        if claimed is not None and claimed < 0:
            claimed = file.size if key != layout.audio else None
        end = file.size if claimed is None else min(start + claimed, file.size)
        return Chunk(key, start, claimed, end)

    def behind(self, chunk: Chunk) -> int:
        """Return where the next chunk begins: padded as the format wants, or not, as some writers leave it."""
        places = self.places_behind(chunk.start, chunk.end)
        return places[0] if len(places) == 1 else max(places, key=self.likeness)

    def places_behind(self, start: int, end: int) -> list[int]:
        """Return where a chunk may begin behind a body, the likeliest first."""
        align = self.layout.align
        if align != 2:
            return [-(-end // align) * align]
        return list(dict.fromkeys((end + (end - start & 1), end, end + (end & 1))))

    def likeness(self, position: int) -> int:
        """Return how much like a chunk that fits it looks there: 0 not at all, 1 by its letters, 2 it is a
        known one."""
        chunk = self.chunk_at(position)
        if chunk is None or (chunk.cut and chunk.key not in self.layout.names):
            return 0
        if chunk.key in self.layout.names:
            return 2
        return int(is_name(self.layout, self.file.at(position, self.layout.head_bytes)))

    def audio_chunk(self, chunk: Chunk) -> tuple[Chunk, int, str]:
        """Return the chunk of audio with its true end, where the walk goes on, and what else stands behind it."""
        file, layout = self.file, self.layout
        if chunk.cut:
            return chunk, file.size, ""
        if chunk.claimed is None:
            end = behind.audio_end(file, chunk.start + layout.audio_head_bytes, self.chunks_before)
            return dataclasses.replace(chunk, end=end), end, ""
        for end in self.possible_ends(chunk):
            for at in sorted(self.places_behind(chunk.start, end), key=self.likeness, reverse=True):
                if file.size - at < layout.head_bytes:
                    return dataclasses.replace(chunk, end=min(end, file.size)), file.size, ""
                if self.is_chain(at):
                    return dataclasses.replace(chunk, end=end), at, ""
        wrapped = behind.wrapped_end(file, chunk.end)
        if wrapped is not None:
            return dataclasses.replace(chunk, end=wrapped), file.size, ""
        head = file.at(chunk.end, layout.head_bytes)
        if layout is CAF and head[:4].isalpha() and file.size - chunk.end <= _SHORT_REST_BYTES:
            return chunk, file.size, f"a chunk {head[:4].decode()} behind its audio, with a length that leads nowhere,"
        rest = behind.judge(file, chunk.end, self.chunks_before)
        if rest.audio_end is not None:
            return dataclasses.replace(chunk, end=rest.audio_end), rest.audio_end, ""
        return chunk, file.size, rest.left_out

    def possible_ends(self, chunk: Chunk) -> Iterable[int]:
        """Return where the audio may end by its length, which may have lost multiples of 4 GB on its way.

        A length of 64 bits as well: programs fill it from a count of 32.
        """
        return itertools.islice(range(chunk.end, self.file.size + 1, 1 << 32), _MOST_WRAPS)

    def is_chain(self, position: int) -> bool:
        """Return whether chunks stand there, and not samples."""
        file, layout = self.file, self.layout
        known = False
        for count in range(CHAIN_CHUNKS):
            if count and file.size - position < layout.head_bytes:
                return True
            if self.is_file(position):
                return True
            chunk = self.chunk_at(position)
            if chunk is None or not is_name(layout, file.at(position, layout.head_bytes)):
                return known or (count > 0 and behind.judge(file, position).audio_end is None)
            known = known or chunk.key in layout.names
            if known and not chunk.cut:
                return True
            if chunk.claimed is None or chunk.cut:
                # Letters may be samples of 8 bits: a chunk that was cut off ends where the file was to end.
                return known or self.is_last_announced(chunk, position)
            position = self.behind(chunk)
        return True

    def is_last_announced(self, chunk: Chunk, position: int) -> bool:
        """Return whether a chunk that is not all there would end where the file was to end; endless ones only
        in W64."""
        layout, end = self.layout, self.announced_end()
        if end < position + layout.head_bytes or chunk.claimed is None:
            return False
        if layout.tails:
            return True  # names of 16 bytes are no samples
        return 0 <= end - (chunk.start + chunk.claimed) <= 1

    def announced_end(self) -> int:
        """Return where the file is to end by the length at its beginning; 0 where that says nothing."""
        layout, begin = self.layout, self.begin
        if layout is CAF:
            return 0
        if layout.counts_head:
            return begin + int.from_bytes(self.file.at(begin + 16, 8), "little")
        (length,) = struct.unpack(layout.length_format, self.file.at(begin + 4, 4).ljust(4, b"\0"))
        if length == layout.unknown:
            length = self.long_lengths.get(b"RIFF", -begin - 8)
        return begin + 8 + int(length)

    def chunks_before(self, start: int, end: int) -> int | None:
        """Return where known chunks begin that fill what is before `end`, from behind `start`; None if there
        are none."""
        first = max(start, end - _SEARCH_BYTES // 4)
        tail = self.file.at(first, end - first)
        layout = self.layout
        places = sorted(at for name in layout.names for at in behind.finds(tail, name))
        for at in places[:_MOST_TRIES]:
            if fills(memoryview(tail)[at:], layout, first + at):
                return first + at
        return None

    def is_file(self, position: int) -> bool:
        """Return whether another file of the same kind begins there."""
        head = self.file.at(position, 12)
        kin = {self.magic, *((b"RIFF", b"RF64", b"BW64") if self.magic[:2] != b"FO" else ())}
        if len(head) < 12 or head[:4] not in kin:
            return False
        if self.magic == b"caff":
            return head[4:6] == b"\0\1"
        return head[8:12] in (b"WAVE", b"AIFF", b"AIFC", b"8SVX", b"16SV") or self.magic == b"riff"

    def search(self, position: int) -> int | None:
        """Return where chunks go on that a wrong length had jumped over: at the format's or the audio's, if
        they fit."""
        layout = self.layout
        head = self.file.at(position, _SEARCH_BYTES)
        keys = [layout.audio, *((b"fmt ", b"desc") if layout.audio == b"data" else (b"COMM", b"VHDR"))]
        places = sorted(at for key in keys for at in behind.finds(head, key))
        for at in places[:_MOST_TRIES]:
            chunk = self.chunk_at(position + at)
            if not at or chunk is None or chunk.cut:
                continue
            if not layout.tails or any(head[at : at + 16].endswith(tail) for tail in layout.tails):
                return position + at
        return None


def _long_lengths(body: bytes) -> dict[bytes, int]:
    """Return what a ds64 chunk says: lengths that did not fit into 32 bits."""
    lengths: dict[bytes, int] = {}
    if len(body) >= 16:
        lengths[b"RIFF"], lengths[b"data"] = struct.unpack_from("<QQ", body)
    if len(body) >= 28:
        (count,) = struct.unpack_from("<I", body, 24)
        for at in range(28, min(28 + 12 * count, len(body) - 11), 12):
            key, length = struct.unpack_from("<4sQ", body, at)
            lengths.setdefault(key, length)
    return lengths
