"""Frames of sound without a container, known by their standing in a row: each says how long it is.

Sources: ISO/IEC 11172-3 and 13818-3 (MPEG audio); those of batchsr.audio.containers.first_bytes.
"""

from __future__ import annotations

from typing import Final

from batchsr.audio.containers import first_bytes, mp3_frames
from batchsr.audio.containers.asf import Bytes

IN_A_ROW: Final = 6
"""So many frames of one kind, each where the one before says, are no accident, whatever stands around them."""
_EXTENSIONS: Final = {0x56: ".latm", 0xFF: ".aac", 0x7F: ".dts", 0x0B: ".ac3"}


def kind_at(file: Bytes, at: int, in_a_row: int = IN_A_ROW) -> str:
    """Return the extension of the headerless stream whose frames begin there in a row; "" where none do.

    Raises OSError when the file cannot be read.
    """
    head = file.at(at, 8)
    mpeg = mp3_frames.frame_header(head[:4])
    if mpeg is not None and mpeg.length_bytes and _mpeg_row(file, at, mpeg, in_a_row):
        return ".mp3" if mpeg.layer == 3 else ".mp2"
    return _EXTENSIONS[head[0]] if first_bytes.frame_length(head) and _row(file, at, head[0], in_a_row) else ""


def find(file: Bytes, start: int, end: int, in_a_row: int = IN_A_ROW) -> tuple[int, str] | None:
    """Return (where, extension) of the first row of frames that begins between two places; None where none does."""
    block = file.at(start, end - start)
    for i, octet in enumerate(block[:-1]):
        if octet in _EXTENSIONS and (kind := kind_at(file, start + i, in_a_row)):
            return start + i, kind
    return None


def _row(file: Bytes, at: int, first: int, in_a_row: int) -> bool:
    for _ in range(in_a_row):
        head = file.at(at, 8)
        length = first_bytes.frame_length(head)
        if not length or head[0] != first:
            return False
        at += length
    return True


def _mpeg_row(file: Bytes, at: int, first: mp3_frames.Frame, in_a_row: int) -> bool:
    for _ in range(in_a_row):
        frame = mp3_frames.frame_header(file.at(at, 4))
        if frame is None or not frame.length_bytes or not frame.goes_with(first):
            return False
        at += frame.length_bytes
    return True
