"""What ffmpeg is given of a file: the whole, or one after another the files that were joined to it."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Final

from batchsr.audio.containers import asf, behind, framed, mp4, stream_ends
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.decoders import ffmpeg
from batchsr.audio.decoders.interface import DecodeError, Part
from batchsr.audio.decoders.virtual_file import Range
from batchsr.audio.remarks import Remark

_CUT: Final = "input.cut_short"
_LATE_S: Final = 0.001
_MAX_TAG_BYTES: Final = 1 << 16
_STRAY_BYTES: Final = 8


def parts(file: BytesAt, *, accept_truncated: bool) -> tuple[tuple[Part, ...], tuple[Remark, ...]]:
    """Return the parts that ffmpeg decodes, each a whole file to it, and what is odd about them.

    Raises DecodeError, with `cut` set for a file that ends too early, unless that is accepted; OSError for a disk
    that fails.
    """
    joined = framed.joined(file)
    if len(joined) > framed.MAX_PARTS:
        raise DecodeError(f"more than {framed.MAX_PARTS} files were joined in it: split it")
    remarks = []
    if joined:
        message = f"it is {len(joined):,} files joined one behind the other: all were read"
        remarks.append(Remark("input.joined", message))
    found = []
    for start, end in joined or ((0, file.size),):
        part = framed.Stretch(file, start, end)
        last_frame = framed.last_frame(part)
        told = None if joined else stream_ends.told_end(file)
        detail = _cut(part, last_frame) if told is None else ""
        if detail and not accept_truncated:
            raise DecodeError(detail, cut=True)
        if detail:
            message = f"it is cut short: {detail}; what is there was read, as --accept-truncated asks"
            remarks.append(Remark(_CUT, message))
        is_mp4 = part.at(4, 4) in mp4.FIRST
        duration = mp4.duration(part) if is_mp4 else None
        late = mp4.pause(part) if is_mp4 else Fraction(0)
        if late >= _LATE_S:
            message = f"its sound begins {float(late):.3f} s late by its edit list: the output begins with the sound"
            remarks.append(Remark("input.begins_late", message))
        opener = functools.partial(
            ffmpeg.FfmpegDecoder, duration=duration, pause=late, accept_truncated=accept_truncated
        )
        remarks += _left_out(file, told)
        length = told or _without_tag(part, last_frame)
        range_ = (Range(start, length),) if joined or length < part.size else None
        found.append(Part(range_, opener=opener))
    return tuple(found), tuple(remarks)


def _left_out(file: BytesAt, end: int | None) -> tuple[Remark, ...]:
    """Return what is to be said of the bytes behind a file's own end, unless they are tags or filling."""
    if end is None:
        return ()
    stop = behind.without_tags(file, end)
    start = min(behind.behind_tags(file, end), stop)
    if stop - start < _STRAY_BYTES or behind.is_zero(file, start, stop):
        return ()
    message = f"{stop - start:,} bytes behind its end are of no known kind and were left out"
    return (Remark("input.bytes_left_out", message),)


def _cut(file: framed.Stretch, last_frame: tuple[int, int] | None) -> str:
    """Return how it is seen that the file ends too early; "" if it does not, or if only decoding will tell."""
    head = file.at(0, 16)
    if head[4:8] in mp4.FIRST:
        return "its last box is longer than what is there of it" if mp4.is_cut(file) else ""
    if head.startswith(asf.MAGIC):
        missing = (asf.size(file) or 0) - file.size
        return f"{missing:,} of the bytes that its header promises are missing" if missing > 0 else ""
    if last_frame is None or last_frame[1] <= file.size:
        return ""
    start, end = last_frame
    return f"its last frame has {file.size - start:,} of {end - start:,} bytes"


def _without_tag(file: framed.Stretch, last_frame: tuple[int, int] | None) -> int:
    """Return how many bytes are there without a short tag behind the last frame, for which ffmpeg would give that frame
    up."""
    end = last_frame[1] if last_frame else file.size
    return end if 0 < file.size - end <= _MAX_TAG_BYTES else file.size
