"""Files of different kinds that were joined one behind the other, read as one recording by whoever reads each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from batchsr.audio import formats
from batchsr.audio.containers import behind, first_bytes, followers, frame_rows, headers
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.headers import Header
from batchsr.audio.decoders import ffmpeg, ffmpeg_parts
from batchsr.audio.decoders.interface import DecodeError, Gap, Part, Piece
from batchsr.audio.decoders.opening import opens
from batchsr.audio.decoders.virtual_file import Range
from batchsr.audio.remarks import Remark

MIXED: Final = "MIXED"
"""The container of what more than one program decodes."""
_MOST_FILES: Final = 250
_LOOK_BYTES: Final = 64


def joined(file: BytesAt, header: Header, *, accept_truncated: bool) -> Header | None:
    """Return what a file is behind whose recording others of other kinds were joined; None for any other file.

    `header` is what the walk over the whole file found. Raises DecodeError, with `cut` set where one of them ends too
    early and that is not accepted; OSError when the file cannot be read.
    """
    starts, one = [0], header
    while (at := followers.next_file(file, one, starts[-1])) is not None:
        starts.append(at)
        if len(starts) > _MOST_FILES:
            return Header(header.container, "mangled", f"it is more than {_MOST_FILES:,} files joined")
        one = headers.inspect_part(file, at, file.size)
    if len(starts) == 1:
        return None
    pieces: list[Piece] = []
    remarks: list[Remark] = []
    kinds: list[str] = []
    readers = set()
    for start, end in zip(starts, [*starts[1:], file.size], strict=True):
        kind = _kind(file, start)
        kinds.append(kind)
        one = headers.inspect_part(file, start, end)
        if one.trouble == "cut" and not (accept_truncated and one.rest):
            raise DecodeError(f"of the files that are joined in it, the one at byte {start:,}: {one.detail}", cut=True)
        refused = one.detail if one.trouble not in (None, "cut", "no_frames") else ""
        found: Sequence[Piece] = one.rest if one.trouble == "cut" else one.pieces
        if one.trouble == "no_frames":
            found = ()
        elif not one.container:
            if ffmpeg.program() is None:
                refused = "ffmpeg is not there, which reads it"
            else:
                found, said = _by_ffmpeg(file, start, end, accept_truncated=accept_truncated)
                remarks += said
        if not refused and found and not opens(file.fd, found):
            refused = "it cannot be decoded"
        if refused:
            detail = f"{end - start:,} bytes of another file ({kind}) are joined in it at byte {start:,}: {refused}"
            remedy = f"split it, and restore the parts: tail -c +{start + 1} {{name}} | head -c {end - start} > PART"
            return Header(one.container or header.container, "unsupported", detail, remedy=remedy)
        readers.add(one.container and "libsndfile")
        pieces += found
        remarks += one.remarks
    message = f"it is {len(starts):,} files joined one behind the other ({', '.join(kinds[:8])}): all were read"
    container = {("", "libsndfile"): MIXED, ("",): "FOREIGN"}.get(tuple(sorted(readers)), "JOINED")
    return dataclasses.replace(
        header,
        container=container,
        detail=kinds[0],
        frames=None,
        own=(),
        rest=(),
        pieces=tuple(pieces),
        remarks=(Remark("input.joined", message), *remarks[:20]),
    )


def _kind(file: BytesAt, start: int) -> str:
    """Return what the file is that begins there, for a person."""
    start = behind.behind_tags(file, start)
    form = first_bytes.format_of(file.at(start, _LOOK_BYTES))
    if form is None and (row := frame_rows.kind_at(file, start)):
        form = formats.BY_EXTENSION[row]
    return form.title if form is not None else "a stream of another kind"


def _by_ffmpeg(
    file: BytesAt, start: int, end: int, *, accept_truncated: bool
) -> tuple[tuple[Piece, ...], tuple[Remark, ...]]:
    """Return the parts of one of the files, by their places in the whole."""
    parts, remarks = ffmpeg_parts.parts(BytesAt(file.fd, end - start, start), accept_truncated=accept_truncated)
    return tuple(_moved(part, start, end) for part in parts), remarks


def _moved(part: Part | Gap, start: int, end: int) -> Piece:
    if isinstance(part, Gap):
        return part
    segments = part.segments if part.segments is not None else (Range(0, end - start),)
    moved = tuple(s if isinstance(s, bytes) else Range(s.start + start, s.length) for s in segments)
    return dataclasses.replace(part, segments=moved)
