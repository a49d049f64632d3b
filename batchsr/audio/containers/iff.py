"""AIFF, AIFF-C, 8SVX and 16SV: what their chunks say of the audio, and how it is read where they say it badly.

Sources: Apple, Audio Interchange File Format (1989) and AIFF-C draft (1991); Electronic Arts, "8SVX" IFF 8-Bit Sampled
Voice (1985).
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from batchsr.audio.containers import behind
from batchsr.audio.containers import chunks as walker
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.chunk_layouts import AIFF, SVX
from batchsr.audio.containers.chunks import Chunk, Walk
from batchsr.audio.containers.found import (
    MENDED,
    MOST_FILES,
    PARTS,
    Header,
    Trouble,
    has_wrapped,
    joined,
    left_out,
    longer,
    raw_part,
)
from batchsr.audio.decoders.interface import Part
from batchsr.audio.decoders.raw import Deltas, Planar, Samples
from batchsr.audio.decoders.virtual_file import Range
from batchsr.audio.remarks import Remark

_FORMS: Final = {b"AIFF": AIFF, b"AIFC": AIFF, b"8SVX": SVX, b"16SV": SVX}
# Sample bytes (0: by the bits that COMM says), subtype, byte order.
_PLAIN: Final = {
    b"NONE": (0, "", "BIG"),
    b"twos": (0, "", "BIG"),
    b"sowt": (0, "", "LITTLE"),
    b"raw ": (1, "PCM_U8", "BIG"),
    b"in24": (3, "PCM_24", "BIG"),
    b"in32": (4, "PCM_32", "BIG"),
    b"42ni": (3, "PCM_24", "LITTLE"),
    b"42n1": (3, "PCM_24", "LITTLE"),
    b"23ni": (4, "PCM_32", "LITTLE"),
    b"fl32": (4, "FLOAT", "BIG"),
    b"FL32": (4, "FLOAT", "BIG"),
    b"fl64": (8, "DOUBLE", "BIG"),
    b"FL64": (8, "DOUBLE", "BIG"),
    b"ulaw": (1, "ULAW", "BIG"),
    b"ULAW": (1, "ULAW", "BIG"),
    b"alaw": (1, "ALAW", "BIG"),
    b"ALAW": (1, "ALAW", "BIG"),
}
_NAMES: Final = {
    b"MAC3": "MACE 3:1",
    b"MAC6": "MACE 6:1",
    b"QDMC": "QDesign Music",
    b"QDM2": "QDesign Music 2",
    b"Qclp": "QUALCOMM PureVoice",
    b"rt24": "RT24",
    b"rt29": "RT29",
    b"ADP4": "Intel ADPCM",
    b"dvi ": "DVI ADPCM",
    b".mp3": "MPEG Layer III",
    b"SDX2": "SDX2",
}
_STEREO: Final = 6
_STRAY_BYTES: Final = 16


def walk(file: BytesAt, begin: int = 0) -> Walk:
    """Return the chunks of the file that begins at `begin`."""
    layout = _FORMS.get(file.at(begin + 8, 4), AIFF)
    return walker.walk(file, layout, begin, begin + 12)


def inspect(file: BytesAt, container: str) -> Header:
    """Read the chunks of an open file that begins with FORM."""
    form = file.at(8, 4)
    if form in (b"8SVX", b"16SV"):
        return _voice(file, walk(file), 1 if form == b"8SVX" else 2)
    if form not in _FORMS:
        return Header("")
    headers: list[Header] = []
    begin: int | None = 0
    while begin is not None and len(headers) <= MOST_FILES:
        found = walk(file, begin)
        headers.append(_aiff(file, container, found, begin))
        begin = found.next_file
    return joined(headers)


def extended_rate(raw: bytes) -> Fraction:
    """Return a number of 80 bits, as COMM holds the rate; 0 for what is none."""
    if len(raw) < 10:
        return Fraction(0)
    exponent, mantissa = struct.unpack(">HQ", raw[:10])
    shift = (exponent & 0x7FFF) - 16_383 - 63
    if exponent & 0x8000 or not -128 < shift < 64:
        return Fraction(0)
    return Fraction(mantissa << shift) if shift >= 0 else Fraction(mantissa, 1 << -shift)


@dataclasses.dataclass(frozen=True, slots=True)
class _Common:
    """A COMM chunk."""

    channels: int
    frames: int
    bits: int
    rate: Fraction
    codec: bytes

    def samples(self, container: str) -> Samples | None:
        """Return what its samples are; None for codecs of blocks."""
        if self.codec not in _PLAIN or not 1 <= self.channels <= 1024:
            return None
        size, subtype, endian = _PLAIN[self.codec]
        if not size:
            size = min(max(-(-self.bits // 8), 1), 4)
            subtype = ("PCM_S8", "PCM_16", "PCM_24", "PCM_32")[size - 1]
        return Samples(container, subtype, endian, max(round(self.rate), 1), self.channels, size)


def _aiff(file: BytesAt, container: str, found: Walk, begin: int) -> Header:
    body = next((file.at(c.start, min(c.end - c.start, 64)) for c in found.named(b"COMM")), b"")
    sound = found.named(b"SSND")
    if sound and not body:
        return Header(container, "no_data", "it has no COMM chunk: nothing says its rate or encoding")
    if len(body) < 18:
        detail = "its COMM chunk is cut"
        return Header(container, "cut", detail) if body else _without_sound(file, container, found, begin)
    is_aifc = file.at(begin + 8, 4) == b"AIFC" and len(body) >= 22
    channels, frames, bits = struct.unpack_from(">HIH", body)
    common = _Common(channels, frames, bits, extended_rate(body[8:18]), body[18:22] if is_aifc else b"NONE")
    if not sound:
        return Header(container, "no_frames") if not frames else _without_sound(file, container, found, begin)
    ranges = [_samples_of(file, chunk) for chunk in sound]
    exact = common.rate if common.rate.denominator != 1 else None
    there = sum(one.length for one in ranges)
    header = Header(
        container, None, "", round(common.rate), channels or None, None, ranges[0].start, there, exact_rate=exact
    )
    if common.codec in _NAMES:
        name = f"{_NAMES[common.codec]}, {common.codec.decode('latin-1').strip()}"
        detail = f"its codec ({name}) is not one that is decoded here"
        return dataclasses.replace(header, trouble="unsupported", detail=detail)
    remarks = [left_out(found.left_out)] if found.left_out else []
    header = dataclasses.replace(header, remarks=tuple(remarks))
    samples = common.samples(container)
    if samples is None:  # libsndfile has the word
        return _cut(header, sound[-1], 0) if sound[-1].cut else header
    return _plain(header, file, found, common, samples, ranges)


def _samples_of(file: BytesAt, chunk: Chunk) -> Range:
    """Return where the samples of an SSND chunk stand: behind its offset, if that lies in it."""
    first = min(chunk.start + 8, chunk.end)
    offset = int.from_bytes(file.at(chunk.start, 4), "big")
    start = first + offset if offset <= chunk.end - first else first
    return Range(start, chunk.end - start)


def _plain(
    header: Header, file: BytesAt, found: Walk, common: _Common, samples: Samples, ranges: Sequence[Range]
) -> Header:
    """Judge samples of fixed size: COMM and SSND both say how many there are."""
    sound = found.named(b"SSND")
    first, last = sound[0], sound[-1]
    size = samples.frame_bytes
    there = sum(one.length // size for one in ranges)
    part = raw_part(samples, ranges)
    said, claimed = common.frames, sum(chunk.claimed or 0 for chunk in sound)
    whole_file = last.end >= file.size and not any(chunk.longer for chunk in sound)
    if last.cut or (whole_file and said > there):
        header = dataclasses.replace(header, rest=(part,) if there else ())
        return _cut(header, last, max(said * size, claimed - 8 * len(sound)))
    if not there:
        trouble: Trouble = "no_frames" if not said else "unpatched"
        detail = "its audio is missing" if said else behind.nothing_there(file, last.end)
        return dataclasses.replace(header, trouble=trouble, detail=detail)
    remarks = list(header.remarks)
    blocks = int.from_bytes(file.at(first.start + 4, 4), "big")
    is_longer = any(chunk.longer for chunk in sound) or (not blocks and (there - said) * size >= _STRAY_BYTES)
    if is_longer:
        in_bytes = said == there  # only the length of the chunk is wrong
        remarks.append(
            longer(max(claimed - 8 * len(sound), 0), there * size) if in_bytes else longer(said, there, "samples")
        )
    elif said > there:
        remarks.append(Remark(MENDED, f"its COMM chunk says {said:,} samples, its audio holds {there:,}"))
    elif len(sound) == 1:
        there = said or there  # what fills up a block is no sound
    if len(sound) > 1:
        remarks.append(Remark(PARTS, f"its audio stands in {len(sound)} chunks, which were joined"))
    part = dataclasses.replace(part, frames=there)
    header = dataclasses.replace(header, frames=there, remarks=tuple(remarks))
    header = dataclasses.replace(
        header, still_growing=is_longer and not has_wrapped(claimed, header.data_bytes + 8 * len(sound))
    )
    if is_longer or found.mended or len(sound) > 1 or ranges[0].start != first.start + 8:
        return dataclasses.replace(header, pieces=(part,))
    return dataclasses.replace(header, own=(part,))


def _cut(header: Header, chunk: Chunk, promised: int) -> Header:
    promised = max(promised, (chunk.claimed or 0) - 8)
    detail = f"its header promises {promised:,} bytes of audio, {header.data_bytes:,} are there"
    return dataclasses.replace(header, trouble="cut", detail=detail)


def _without_sound(file: BytesAt, container: str, found: Walk, begin: int) -> Header:
    promised = int.from_bytes(file.at(begin + 4, 4), "big") + 8
    if promised > file.size - begin or any(chunk.cut for chunk in found.chunks):
        there = file.size - begin
        return Header(
            container, "cut", f"its header promises {promised:,} bytes, {there:,} are there, none of them audio"
        )
    return Header(container, "no_data", "it has no chunk of audio")


def _voice(file: BytesAt, found: Walk, sample_bytes: int) -> Header:
    """Return an Amiga's sampled voice: one octave, channels one behind the other, perhaps compressed."""
    vhdr = next((file.at(c.start, 20) for c in found.named(b"VHDR")), b"")
    body = found.named(b"BODY")
    if len(vhdr) < 20 or not body:
        if any(chunk.cut for chunk in found.chunks) or len(vhdr) < 20:
            return Header("SVX", "cut", "it ends before its audio begins")
        return Header("SVX", "no_data", "it has no chunk of audio")
    once, repeat, _, rate_hz, octaves, compression = struct.unpack_from(">IIIHBB", vhdr)
    chan = next((int.from_bytes(file.at(c.start, 4), "big") for c in found.named(b"CHAN")), 2)
    channels = 2 if chan == _STEREO else 1
    chunk = body[0]
    there = chunk.end - chunk.start
    header = Header("SVX", None, "", rate_hz, channels, None, chunk.start, there)
    if chunk.cut:
        return dataclasses.replace(
            header,
            trouble="cut",
            detail=f"its header promises {chunk.claimed or 0:,} bytes of audio, {there:,} are there",
            rest=_voice_parts(chunk.start, there, 1, rate_hz, sample_bytes, compression) if channels == 1 else (),
        )
    if not there:
        return dataclasses.replace(header, trouble="no_frames")
    if compression > 2:
        return dataclasses.replace(header, trouble="unsupported", detail=f"its compression ({compression}) is unknown")
    remarks = []
    if octaves > 1 and compression == 0:
        first = min((once + repeat) * sample_bytes * channels, there)
        if 0 < first < there and channels == 1:
            there = first
            remarks.append(left_out(f"{octaves - 1} further octaves of the same instrument"))
    is_longer = chunk.longer
    if is_longer:
        remarks.append(longer(chunk.claimed, there))
    if found.left_out or found.next_file is not None:
        remarks.append(left_out(found.left_out or f"another file joined behind, at byte {found.next_file:,},"))
    header = dataclasses.replace(header, remarks=tuple(remarks), still_growing=is_longer)
    parts = _voice_parts(chunk.start, there, channels, rate_hz, sample_bytes, compression)
    if channels == 1 and not compression and not remarks and not found.mended:
        return dataclasses.replace(header, own=parts, frames=there // sample_bytes)
    return dataclasses.replace(header, pieces=parts)


def _voice_parts(
    start: int, length: int, channels: int, rate_hz: int, sample_bytes: int, compression: int
) -> tuple[Part, ...]:
    one: Samples | Deltas
    if compression:
        one = Deltas("FIBONACCI" if compression == 1 else "EXPONENTIAL", rate_hz)
    else:
        one = Samples("SVX", "PCM_S8" if sample_bytes == 1 else "PCM_16", "BIG", rate_hz, 1, sample_bytes)
    each = length // channels
    each -= each % sample_bytes
    segments = tuple(Range(start + n * each, each) for n in range(channels))
    return (Part(segments, opener=one if channels == 1 else Planar(one)),)
