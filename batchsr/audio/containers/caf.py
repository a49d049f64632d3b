"""CAF, AU and NIST SPHERE: what their headers say of the audio, and how it is read where they say it badly.

Sources: Apple, Core Audio Format; Sun, audio file format (au(5)); NIST, SPHERE 2.6.
"""

from __future__ import annotations

import dataclasses
import struct
from fractions import Fraction
from typing import Final

from batchsr.audio.containers import behind
from batchsr.audio.containers import chunks as walker
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.chunk_layouts import CAF
from batchsr.audio.containers.chunks import Walk
from batchsr.audio.containers.found import MOST_FILES, PARTS, Header, has_wrapped, joined, left_out, longer, raw_part
from batchsr.audio.decoders.raw import Samples
from batchsr.audio.decoders.virtual_file import Range
from batchsr.audio.remarks import Remark

_FLOAT, _LITTLE = 1, 2
_AU_CODES: Final = {
    1: ("ULAW", 1),
    2: ("PCM_S8", 1),
    3: ("PCM_16", 2),
    4: ("PCM_24", 3),
    5: ("PCM_32", 4),
    6: ("FLOAT", 4),
    7: ("DOUBLE", 8),
    27: ("ALAW", 1),
}
_STREAMED: Final = 0xFFFFFFFF
_LARGEST_SPHERE_HEADER: Final = 1 << 20


def walk(file: BytesAt, begin: int = 0) -> Walk:
    """Return the chunks of the CAF file that begins at `begin`."""
    return walker.walk(file, CAF, begin, begin + 8)


def inspect(file: BytesAt, container: str) -> Header:
    """Read the chunks of an open CAF file, and of those that were joined behind it."""
    found: list[Header] = []
    begin: int | None = 0
    while begin is not None and len(found) <= MOST_FILES:
        chunks = walk(file, begin)
        found.append(_caf(file, container, chunks))
        begin = chunks.next_file
    return joined(found)


def _caf(file: BytesAt, container: str, found: Walk) -> Header:
    desc = next((file.at(c.start, 32) for c in found.named(b"desc")), b"")
    data = found.named(b"data")
    if not data:
        if any(chunk.cut for chunk in found.chunks) or len(desc) < 32:
            return Header(container, "cut", "it ends before its audio begins")
        return Header(container, "no_data", "it has no chunk of audio")
    if len(desc) < 32:
        return Header(container, "no_data", "it has no desc chunk: nothing says its rate or encoding")
    rate, codec, flags, packet_bytes, _, channels, bits = struct.unpack(">d4sIIIII", desc)
    rate = rate if 0 < rate < 2**31 else 0.0
    exact = Fraction(rate) if rate != int(rate) else None
    # The chunk begins with an edit count.
    ranges = [Range(min(c.start + 4, c.end), max(c.end - c.start - 4, 0)) for c in data]
    there = sum(one.length for one in ranges)
    header = Header(container, None, "", round(rate), channels, None, ranges[0].start, there, exact_rate=exact)
    samples = _caf_samples(container, codec, flags, round(rate), channels, bits, packet_bytes)
    pieces = (raw_part(samples, ranges),) if samples is not None and there else ()
    if data[-1].cut:
        detail = f"its header promises {(data[-1].claimed or 0) - 4:,} bytes of audio, {there:,} are there"
        return dataclasses.replace(header, trouble="cut", detail=detail, rest=pieces)
    if not there:
        return dataclasses.replace(header, trouble="no_frames", detail=behind.nothing_there(file, data[-1].end))
    remarks = [left_out(found.left_out)] if found.left_out else []
    if len(data) > 1:
        remarks.append(Remark(PARTS, f"its audio stands in {len(data)} chunks, of which all that could be were read"))
    if samples is None:
        return dataclasses.replace(header, remarks=tuple(remarks))
    frame_bytes = samples.frame_bytes
    is_longer = any(chunk.claimed is not None and chunk.longer for chunk in data)
    claimed = max(sum(chunk.claimed or 0 for chunk in data) - 4 * len(data), 0)
    if is_longer:
        remarks.append(longer(claimed, there))
    elif there % frame_bytes and data[-1].claimed is not None:
        detail = f"its {there:,} bytes of audio end in the middle of a frame of {frame_bytes} bytes"
        return dataclasses.replace(header, trouble="mid_sample", detail=detail, rest=pieces)
    frames = sum(one.length // frame_bytes for one in ranges)
    header = dataclasses.replace(header, frames=frames, remarks=tuple(remarks), own=pieces)
    header = dataclasses.replace(header, still_growing=is_longer and not has_wrapped(claimed, there))
    if is_longer or found.mended or len(data) > 1:
        return dataclasses.replace(header, pieces=pieces)
    return header


def _caf_samples(
    container: str, codec: bytes, flags: int, rate_hz: int, channels: int, bits: int, packet_bytes: int
) -> Samples | None:
    if not 1 <= channels <= 1024 or not rate_hz:
        return None
    endian = "LITTLE" if flags & _LITTLE else "BIG"
    if codec in (b"ulaw", b"alaw"):
        return Samples(container, codec.decode().upper(), "BIG", rate_hz, channels, 1)
    if codec != b"lpcm":
        return None
    size = packet_bytes // channels if packet_bytes else -(-bits // 8)
    if flags & _FLOAT:
        subtype = {4: "FLOAT", 8: "DOUBLE"}.get(size)
    else:
        subtype = {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}.get(size)
    return Samples(container, subtype, endian, rate_hz, channels, size) if subtype else None


def inspect_au(file: BytesAt, container: str) -> Header:
    """Read the header of an open AU file, of either byte order."""
    head = file.at(0, 24)
    if len(head) < 24:
        return Header(container, "cut", "it ends inside its header")
    big_endian = head[:4] == b".snd"
    start, length, code, rate_hz, channels = struct.unpack((">" if big_endian else "<") + "4x5I", head)
    samples = None
    if code in _AU_CODES and 1 <= channels <= 1024:
        subtype, size = _AU_CODES[code]
        samples = Samples(container, subtype, "BIG" if big_endian else "LITTLE", rate_hz, channels, size)
    if start > file.size:
        return Header(container, "cut", f"its audio is to begin at byte {start:,}, {file.size:,} are there")
    # An unknown length is lawful in this format: the audio goes on to the end of the file.
    claimed = None if length == _STREAMED else length
    header = Header(container, None, "", rate_hz, channels, None, start or 24)
    return with_length(file, header, samples, claimed)


def inspect_nist(file: BytesAt, container: str) -> Header:
    """Read the header of an open SPHERE file."""
    lines = file.at(0, _LARGEST_SPHERE_HEADER if file.at(8, 7).strip() != b"1024" else 1024).split(b"\n", 4_000)
    fields: dict[str, str] = {}
    for line in lines[2:]:
        if line.strip() == b"end_head":
            break
        part = line.decode("latin-1").split(None, 2)
        if len(part) == 3:
            fields[part[0]] = part[2].strip()
    coding = fields.get("sample_coding", "pcm").lower()
    if "shorten" in coding or "wavpack" in coding or "shortpack" in coding:
        detail = f"its samples are compressed ({coding[:60]})"
        remedy = "expand it with LDC's sph2pipe: sph2pipe -f wav {name} OUT.wav; ffmpeg cannot"
        return Header(container, "unsupported", detail, remedy=remedy)
    try:
        start = int(lines[1][:16])
        frames, channels, size = (
            int(fields.get(key, default)[:18])
            for key, default in (("sample_count", "0"), ("channel_count", "1"), ("sample_n_bytes", "0"))
        )
        rate_hz = int(fields.get("sample_rate", "0")[:18])
    except (IndexError, ValueError):
        return Header(container)
    if min(start, frames, channels, size) < 0 or max(start, frames, channels, size) > 2**62:
        return Header(container)
    base = coding.split(",")[0]
    subtype = {"ulaw": "ULAW", "mu-law": "ULAW", "alaw": "ALAW"}.get(base)
    size = size or (1 if subtype else 2)
    subtype = subtype or {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}.get(size)
    endian = "LITTLE" if fields.get("sample_byte_format", "10").startswith("01") else "BIG"
    samples = None
    if subtype and rate_hz and 1 <= channels <= 1024 and base in ("pcm", "ulaw", "mu-law", "alaw"):
        samples = Samples(container, subtype, endian, rate_hz, channels, size)
    header = Header(container, None, "", rate_hz or None, channels, None, start)
    if start > file.size:
        return dataclasses.replace(header, trouble="cut", detail="it ends inside its header")
    known = "sample_count" in fields
    return with_length(file, header, samples, frames * channels * size if known else None)


def with_length(file: BytesAt, header: Header, samples: Samples | None, claimed: int | None) -> Header:
    """Judge a file that is a header and samples to its end. `claimed` None: it does not say, which may be lawful."""
    start = header.data_start
    there = file.size - start
    if claimed is not None and claimed > there:
        detail = f"its header promises {claimed:,} bytes of audio, {there:,} are there"
        pieces = (raw_part(samples, [Range(start, there)]),) if samples and there else ()
        return dataclasses.replace(header, trouble="cut", detail=detail, data_bytes=claimed, rest=pieces)
    remarks: list[Remark] = []
    end = behind.audio_end(file, start)
    is_longer = False
    wrapped: int | None = None
    if claimed is not None:
        wrapped = behind.wrapped_end(file, start + claimed)
        rest = behind.judge(file, start + claimed) if wrapped is None else behind.Rest(wrapped)
        end = rest.audio_end or start + claimed
        is_longer = rest.audio_end is not None
        if is_longer:
            remarks.append(longer(claimed, end - start))
        elif rest.left_out:
            remarks.append(left_out(rest.left_out))
    header = dataclasses.replace(
        header, data_bytes=end - start, remarks=tuple(remarks), still_growing=is_longer and wrapped is None
    )
    if end == start:
        return dataclasses.replace(header, trouble="no_frames", detail=behind.nothing_there(file, start))
    if samples is None:
        if is_longer:
            return dataclasses.replace(header, remarks=tuple(remarks))
        return header
    pieces = (raw_part(samples, [Range(start, end - start)]),)
    if (end - start) % samples.frame_bytes and not is_longer and claimed is not None:
        detail = f"its {end - start:,} bytes of audio end in the middle of a frame of {samples.frame_bytes} bytes"
        return dataclasses.replace(header, trouble="mid_sample", detail=detail, rest=pieces)
    frames = (end - start) // samples.frame_bytes
    header = dataclasses.replace(header, frames=frames, own=pieces)
    return dataclasses.replace(header, pieces=pieces) if is_longer else header
