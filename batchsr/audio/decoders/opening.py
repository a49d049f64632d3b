"""From the pieces that a walk over the file found to one decoder of the whole recording."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Final

from batchsr.audio.decoders.interface import DecodeError, Decoder, Gap, Opener, Part, Piece
from batchsr.audio.decoders.joined import Joined, Opened
from batchsr.audio.decoders.libsndfile import LibsndfileDecoder
from batchsr.audio.decoders.virtual_file import VirtualFile

_LONGEST_GAP_S: Final = 24 * 3600
"""A clock that jumps further was set, or is damaged."""


def open_pieces(fd: int, pieces: Sequence[Piece]) -> Decoder:
    """Open the recording that `pieces` describe, or the file as it is where there are none. Raises DecodeError."""
    if not pieces:
        return LibsndfileDecoder(fd)
    opened = list(_timed((piece, piece if isinstance(piece, Gap) else _look(fd, piece)) for piece in pieces))
    whole = [piece for piece in opened if isinstance(piece, Opened)]
    if not whole:
        raise DecodeError("no part of it holds audio")
    if len(opened) == 1 and not whole[0].skip:
        decoder = whole[0].open()
        if decoder.frames == whole[0].frames:
            return decoder
        decoder.close()
    return Joined(opened)


def opens(fd: int, pieces: Sequence[Piece]) -> bool:
    """Return whether the recording's codec is one that is decoded. Raises DecodeError for a failing disk."""
    try:
        open_pieces(fd, pieces).close()
    except DecodeError as e:
        if e.system:
            raise
        return False
    return True


def _timed(pieces: Iterable[tuple[Piece, Opened | Gap]]) -> Iterator[Opened | Gap]:
    """Put silence between parts whose times say that something is missing there."""
    last: Fraction | None = None
    for piece, opened in pieces:
        if isinstance(opened, Gap) or isinstance(piece, Gap) or piece.ends_at is None:
            last = None
        else:
            last = piece.starts_at if piece.starts_at is not None else last
            if last is not None:
                missing = piece.ends_at - last - Fraction(opened.frames, opened.sample_rate)
                if 0 < missing <= _LONGEST_GAP_S:
                    yield Gap(round(missing * opened.sample_rate))
            last = piece.ends_at
        yield opened


def _look(fd: int, part: Part) -> Opened:
    """Open a part once to learn what it is."""
    opened = functools.partial(_open, fd, part)
    decoder = opened()
    try:
        there = max(decoder.frames - part.skip, 0)
        return Opened(
            opened,
            decoder.sample_rate,
            decoder.channels,
            decoder.format,
            decoder.subtype,
            there if part.frames is None else min(there, part.frames),
            part.skip,
        )
    finally:
        decoder.close()


def _open(fd: int, part: Part) -> Decoder:
    file = VirtualFile.whole(fd) if part.segments is None else VirtualFile(fd, part.segments)
    if part.opener is not None:
        opener: Opener = part.opener
        return opener(file)
    return LibsndfileDecoder(fd if part.segments is None else file)
