"""AIFF, AIFF-C, 8SVX and 16SV: what their chunks say of the audio, and how it is read where they say it badly.

Sources: Apple, Audio Interchange File Format (1989) and AIFF-C draft (1991); Electronic Arts, "8SVX" IFF 8-Bit Sampled
Voice (1985).
"""

from __future__ import annotations

import dataclasses
import struct
from fractions import Fraction
from typing import Final

from batchsr.audio.containers import chunks as walker
from batchsr.audio.containers.chunks import BytesAt, Chunk, Walk
from batchsr.audio.containers.found import PARTS, Header, left_out, longer, raw_part
from batchsr.audio.decoders.interface import Part, Piece
from batchsr.audio.decoders.raw import Deltas, Planar, Samples
from batchsr.audio.decoders.virtual_file import Range
from batchsr.audio.remarks import Remark

_FORMS: Final = {b"AIFF": walker.AIFF, b"AIFC": walker.AIFF, b"8SVX": walker.SVX, b"16SV": walker.SVX}
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
_MOST_FILES: Final = 1_000
_STEREO: Final = 6


def walk(file: BytesAt, begin: int = 0) -> Walk:
    """Return the chunks of the file that begins at `begin`."""
    layout = _FORMS.get(file.at(begin + 8, 4), walker.AIFF)
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
    while begin is not None and len(headers) < _MOST_FILES:
        found = walk(file, begin)
        headers.append(_aiff(file, container, found, begin))
        begin = found.next_file
    if begin is not None:
        return Header(container, "mangled", f"it is more than {_MOST_FILES:,} files joined one behind the other")
    first = headers[0]
    if len(headers) == 1 or first.trouble not in (None, "cut"):
        return first
    pieces = tuple(piece for one in headers for piece in one.pieces or one.own or one.rest)
    remark = Remark(PARTS, f"it is {len(headers):,} files joined one behind the other: all were read")
    last = headers[-1]
    return dataclasses.replace(
        first,
        trouble=last.trouble if last.trouble == "cut" else None,
        detail=last.detail,
        frames=None,
        own=(),
        rest=pieces,
        pieces=pieces,
        remarks=(remark, *(r for one in headers[:20] for r in one.remarks)),
        still_growing=any(one.still_growing for one in headers),
    )


def extended_rate(raw: bytes) -> Fraction:
    """Return a number of 80 bits, as COMM holds the rate; 0 for what is none."""
    if len(raw) < 10:
        return Fraction(0)
    exponent, mantissa = struct.unpack(">HQ", raw[:10])
    shift = (exponent & 0x7FFF) - 16_383 - 63
    if exponent & 0x8000 or not -128 < shift < 64:
        return Fraction(0)
    return Fraction(mantissa << shift) if shift >= 0 else Fraction(mantissa, 1 << -shift)


def _aiff(file: BytesAt, container: str, found: Walk, begin: int) -> Header:
    comm = next((file.at(c.start, min(c.end - c.start, 64)) for c in found.named(b"COMM")), b"")
    sound = found.named(b"SSND")
    if len(comm) < 18:
        return (
            _without_sound(file, container, found, begin)
            if not sound or not comm
            else Header(container, "cut", "its COMM chunk is cut")
        )
    channels, frames_said, bits = struct.unpack_from(">HIH", comm)
    rate = extended_rate(comm[8:18])
    codec = comm[18:22] if file.at(begin + 8, 4) == b"AIFC" and len(comm) >= 22 else b"NONE"
    if not sound:
        return Header(container, "no_frames") if not frames_said else _without_sound(file, container, found, begin)
    chunk = sound[0]
    offset, block = struct.unpack(">II", file.at(chunk.start, 8).ljust(8, b"\0"))
    start = (
        min(chunk.start + 8 + offset, chunk.end)
        if offset < chunk.end - chunk.start
        else min(chunk.start + 8, chunk.end)
    )
    exact = rate if rate.denominator != 1 else None
    remarks = [left_out(found.left_out)] if found.left_out else []
    header = Header(
        container, None, "", round(rate), channels or None, None, start, chunk.end - start, exact_rate=exact
    )
    plain = _PLAIN.get(codec)
    if plain is None:
        name = _NAMES.get(codec)
        if name is not None:
            detail = f"its codec ({name}, {codec.decode('latin-1').strip()}) is not one that is decoded here"
            return dataclasses.replace(header, trouble="unsupported", detail=detail)
        if chunk.cut:
            return _cut(header, chunk, start)
        return dataclasses.replace(header, remarks=tuple(remarks))  # libsndfile has the word
    size, subtype, endian = plain
    if not size:
        size = min(max(-(-bits // 8), 1), 4)
        subtype = ("PCM_S8", "PCM_16", "PCM_24", "PCM_32")[size - 1]
    if not 1 <= channels <= 1024:
        return header
    samples = Samples(container, subtype, endian, max(round(rate), 1), channels, size)
    there = (chunk.end - start) // samples.frame_bytes
    pieces: tuple[Piece, ...] = (raw_part(samples, [Range(start, chunk.end - start)]),)
    if chunk.cut or (chunk.end >= file.size and frames_said > there and not chunk.longer):
        said = max((chunk.claimed or 0) - (start - chunk.start), frames_said * samples.frame_bytes)
        header = dataclasses.replace(header, data_bytes=said, rest=pieces if there else ())
        return _cut(header, chunk, start)
    if not there:
        return dataclasses.replace(
            header, trouble="no_frames" if not frames_said else "unpatched", detail="its audio is missing"
        )
    is_longer = chunk.longer or (
        frames_said < there and not block and (there - frames_said) * samples.frame_bytes >= 16
    )
    if not is_longer:
        there = min(there, frames_said) if block or frames_said + 16 > there else there
    elif chunk.longer:
        remarks.append(longer(frames_said, there, "samples"))
    else:
        remarks.append(longer(frames_said, there, "samples"))
    header = dataclasses.replace(header, frames=there, remarks=tuple(remarks), still_growing=is_longer)
    part = Part(pieces[0].segments, frames=there, opener=samples) if isinstance(pieces[0], Part) else pieces[0]
    if is_longer or found.mended or offset:
        return dataclasses.replace(header, pieces=(part,))
    return dataclasses.replace(header, own=(part,))


def _cut(header: Header, chunk: Chunk, start: int) -> Header:
    promised = max(header.data_bytes, (chunk.claimed or 0) - (start - chunk.start))
    detail = f"its header promises {promised:,} bytes of audio, {max(chunk.end - start, 0):,} are there"
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
    """An Amiga's sampled voice: one octave, channels one behind the other, perhaps compressed."""
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
    if found.left_out:
        remarks.append(left_out(found.left_out))
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
