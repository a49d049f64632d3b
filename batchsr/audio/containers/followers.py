"""Where a file of another kind begins that was joined behind a recording.

Each reader reads its own kind to the end and looks at nothing behind it. Here the rest is searched for the beginnings
of all kinds of sound files, by words long enough to be no accident in coded sound. What a container says of its own
length tells where the rest begins; where it says nothing, everything behind the first bytes is searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from batchsr.audio.containers import beginnings, behind, first_bytes, flac, frame_rows, stream_ends
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.found import Header
from batchsr.audio.decoders.interface import Part
from batchsr.audio.decoders.virtual_file import Range

_FRAMES_WITHIN: Final = 1 << 16
_OGG_FLAC: Final = b"\x7fFLAC"
_WITHOUT_END: Final = ("NUT", "MKA", "TAK", "RM", "RA")
"""Kinds that are known by a word and may not say where they end."""
_MORE_THAN_LACED: Final = 10
"""So many frames stand in a row in no container's packets: those that put frames together put eight."""
_LONGEST_FRAME: Final = 4096
_AT_THE_END: Final = (b"ajkg", b"MP+", b"\x02dss", b"\x03dss", b"\x03ds2", b"dns.")
"""Words too short to be searched for; they count where the recording ends."""
_OWN_JOINS: Final = {"FLAC": ("FLAC",), "OGG": ("OGG",)}
_BY_FRAMED: Final = ("WV", "AMR", "TTA", "DSF", "ASF", "MP4")
"""Kinds of which batchsr.audio.containers.framed finds the further ones."""


def next_file(file: BytesAt, header: Header, start: int = 0) -> int | None:
    """Return where a file begins that stands behind the one at `start`, of which `header` tells; None where none does.

    Files of the same kind that the kind's own reader joins are none. Raises OSError when the file cannot be read.
    """
    kind = beginnings.kind_of(file.at(start, beginnings.LONGEST_WORD))
    if header.container:
        begin, end, own = _native(file, header, start, kind)
    else:
        end = stream_ends.end_of_stream(BytesAt(file.fd, file.size - start, start), kind)
        begin = start + (end if end is not None and kind != "AMR" else 16)  # its frames look like anything
        end = None if end is None else _behind_own(file, start, start + end, kind)
        own = (kind,) if kind in _BY_FRAMED or (kind in ("MKA", "RM", "RA") and end is None) else ()
    if end is not None and end >= file.size and begin >= end:
        return None
    found = _search(file, begin, own, header.walked)
    if end is not None and found is not None and found < end:
        return found
    if end is not None:
        found = _at_the_end(file, end, found, frame_rows.kind_at(file, start))
    elif found is None and (kind in _WITHOUT_END or (header.still_growing and not header.walked)):
        found = _frames_to_the_end(file, begin)
    return found if found is not None and found > start else None


def _frames_to_the_end(file: BytesAt, begin: int) -> int | None:
    """Return where frames without a container begin, in a file that ends with them."""
    tail = max(file.size - _FRAMES_WITHIN, begin)
    if frame_rows.find(file, tail, file.size, _MORE_THAN_LACED) is None:
        return None
    for start in range(begin, file.size, beginnings.BLOCK_BYTES):
        stop = min(start + beginnings.BLOCK_BYTES, file.size)
        if (row := frame_rows.find(file, start, stop, _MORE_THAN_LACED)) is not None:
            return row[0]
    return None


def _behind_own(file: BytesAt, start: int, end: int, kind: str) -> int:
    """Return where the files end that stand one behind another, all of the first one's kind, and are joined
    elsewhere."""
    form = first_bytes.format_of(file.at(start, 32)) if kind in _BY_FRAMED else None
    while form is not None and start < end < file.size:
        start = behind.behind_tags(file, end)
        if first_bytes.format_of(file.at(start, 32)) is not form:
            break
        end = start + (stream_ends.end_of_stream(BytesAt(file.fd, file.size - start, start), kind) or file.size - start)
    return end


def _native(file: BytesAt, header: Header, start: int, kind: str) -> tuple[int, int | None, tuple[str, ...]]:
    """(where the search begins, where the recording ends if that is known, the kinds that its reader joins)."""
    if header.container in ("FLAC", "OGG"):
        if header.container == "OGG":
            last = stream_ends.last_page_end(file, start)
        else:
            last = header.walked[-1].start + header.walked[-1].length if header.walked else flac.last_frame(file, start)
        return start + 16, last, _OWN_JOINS.get(kind or header.container, ())
    end = header.data_start + header.data_bytes
    if header.container == "MP3":
        return header.data_start, end, ()
    if header.still_growing:  # what its header does not count may be sound up to there
        return header.data_start, None, ()
    for piece in (*header.pieces, *header.own):
        for segment in piece.segments or () if isinstance(piece, Part) else ():
            if isinstance(segment, Range):
                end = max(end, segment.start + segment.length)
    return end, end, ()


def _search(file: BytesAt, begin: int, own: tuple[str, ...], walked: Sequence[Range] = ()) -> int | None:
    """Return where the first word of a kind stands that is none of the recording's own, outside what was `walked`."""
    for start, stop in _stretches(begin, file.size, walked):
        for at, kind in beginnings.words(file, start, stop):
            inside_ogg = kind == "FLAC" and _OGG_FLAC in file.at(max(at - 9, 0), min(at, 9))
            if kind not in own and not inside_ogg:
                return at
    return None


def _stretches(begin: int, size: int, walked: Sequence[Range]) -> Iterator[tuple[int, int]]:
    """Yield what was not walked, and the last frame before: one that was cut took the beginning of another."""
    for one in walked:
        if begin < one.start:
            yield begin, one.start
        begin = max(begin, one.start + max(one.length - _LONGEST_FRAME, 0))
    yield begin, size


def _at_the_end(file: BytesAt, end: int, found: int | None, own: str) -> int | None:
    """Return where frames of another kind than `own` or a short word stand behind the recording, or what was found
    further."""
    at = min(behind.behind_tags(file, end), file.size)
    if at >= file.size:
        return found
    if file.at(at, 4).startswith(_AT_THE_END) or first_bytes.format_of(file.at(at, 32)) is not None:
        return at
    stop = min(at + _FRAMES_WITHIN, file.size, file.size if found is None else found)
    row = frame_rows.find(file, at, stop)
    if not row or row[1] == own:
        return found
    return end if row[0] == at and file.at(end, 3) == b"ID3" else row[0]  # the tag is that of what follows
