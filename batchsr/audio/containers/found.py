"""What a walk over a file's header, chunks, pages or frames finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, Literal

from batchsr.audio.decoders.interface import Part, Piece
from batchsr.audio.decoders.raw import Samples
from batchsr.audio.decoders.virtual_file import Range
from batchsr.audio.remarks import Remark

Trouble = Literal["cut", "unpatched", "mid_sample", "no_data", "no_frames", "unsupported", "mangled"]
"""cut: the header promises more than is there. unpatched: a length that the writer never filled in. mid_sample: the
audio is no whole number of frames. no_data: no chunk of audio. no_frames: a chunk of audio that is rightly empty.
unsupported: a codec, or a way to store one, that nobody here decodes. mangled: what is there is no recording any more,
and nothing is to be made of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What could be read without decoding. None or 0 where the container does not say."""

    container: str
    trouble: Trouble | None = None
    detail: str = ""
    rate_hz: int | None = None
    channels: int | None = None
    codec_tag: int | None = None
    data_start: int = 0
    data_bytes: int = 0
    pieces: tuple[Piece, ...] = ()
    """How the audio is to be read where libsndfile would not read the file as it is; () where it does."""
    remarks: tuple[Remark, ...] = ()
    """What is odd, and does not keep the file from being restored."""
    frames: int | None = None
    """How many there are; None where only decoding tells. Where libsndfile finds another number, `own` is right."""
    own: tuple[Piece, ...] = ()
    """The audio as the walk found it, for files that libsndfile should read as they are but reads wrongly."""
    rest: tuple[Piece, ...] = ()
    """What is there of a file that is cut short, for `--accept-truncated`."""
    still_growing: bool = False
    """Whether the file looks as one does that is being written: its header says less than is there."""
    exact_rate: Fraction | None = None
    """The sample rate where it is no whole number of hertz."""
    remedy: str = ""
    """What to do about the trouble, with {name} for the file; "" for the usual."""
    walked: tuple[Range, ...] = ()
    """Stretches, in order, in which the walk saw this recording and nothing else; () where it did not look at all."""


MOST_FILES: Final = 1_000
"""How many files are taken for joined; more are made to cost much."""
LONGER = "input.longer_than_header"
PARTS = "input.several_parts"
MENDED = "input.header_mended"
LEFT_OUT = "input.bytes_left_out"
CUT = "input.cut_short"


def joined(found: Sequence[Header]) -> Header:
    """Return what files joined one behind the other are together; a single one is itself."""
    first, last = found[0], found[-1]
    if len(found) == 1 or first.trouble not in (None, "cut"):
        return first
    if len(found) > MOST_FILES:
        detail = f"it is more than {MOST_FILES:,} files joined one behind the other"
        return Header(first.container, "mangled", detail)
    pieces = tuple(piece for one in found for piece in one.pieces or one.own or one.rest)
    silent = sum(not (one.pieces or one.own or one.rest) for one in found)
    remarks = [Remark(PARTS, f"it is {len(found):,} files joined one behind the other: all were read")]
    if silent:
        remarks = [
            left_out(f"{silent:,} of the {len(found):,} files that are joined in it, which hold nothing that is read,")
        ]
    return dataclasses.replace(
        first,
        trouble="cut" if last.trouble == "cut" else None,
        detail=last.detail,
        frames=None,
        own=(),
        rest=pieces,
        pieces=pieces,
        remarks=(*remarks, *(remark for one in found[:20] for remark in one.remarks)),
        still_growing=any(one.still_growing for one in found),
    )


def raw_part(samples: Samples, ranges: Sequence[Range], frames: int | None = None) -> Part:
    """Return samples without a header as a part: of each range whole frames."""
    whole = [Range(one.start, one.length - one.length % samples.frame_bytes) for one in ranges]
    return Part(tuple(whole), frames=frames, opener=samples)


def has_wrapped(claimed: int | None, there: int) -> bool:
    """Return whether a length in bytes is what a count of 32 bits leaves of the true one: then the file is whole, and
    nothing writes to it any more."""
    return claimed is not None and there > claimed and (there - claimed) % 2**32 == 0


def longer(claimed: int | None, there: int, unit: str = "bytes") -> Remark:
    """Return the remark for a header that says less than the file holds; `claimed` None or 0: it says nothing."""
    if not claimed:
        said = "the header's length was never filled in"
    else:
        said = f"the header says {claimed:,} {unit} of audio, {there:,} are there"
    wrapped = unit == "bytes" and has_wrapped(claimed, there)
    why = "as a count of 32 bits leaves it beyond 4 GB" if wrapped else "as a recorder leaves it that lost power"
    return Remark(LONGER, f"{said}, {why}: all of it was read")


def left_out(what: str) -> Remark:
    """Return the remark for what stands behind the audio and is none."""
    return Remark(LEFT_OUT, f"{what} were left out" if what[:1].isdigit() else f"{what} was left out")
