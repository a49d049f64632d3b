"""RIFF, RIFX, RF64, BW64 and W64: what their chunks say of the audio, and how it is read where they say it badly.

libsndfile reads a file that is as it should be. Where chunks stand in another order, come twice, or say less than is
there, the samples are read from where they are (batchsr.audio.decoders.raw), or under a header that is right.

Sources: Microsoft, Multimedia Programming Interface (1991); EBU Tech 3306 (RF64); ITU-R BS.2088 (BW64); Sony, Wave64.

Longer than other modules: five formats that differ in a few fields are judged by the same rules.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final

from batchsr.audio.containers import behind
from batchsr.audio.containers import chunks as walker
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.chunk_layouts import RIFF, RIFX, W64, Layout
from batchsr.audio.containers.chunks import Chunk, Walk
from batchsr.audio.containers.found import MENDED, PARTS, Header, has_wrapped, left_out, longer, raw_part
from batchsr.audio.containers.wave_format import ALAW, EXTENSIBLE, FLOAT, GSM, IMA_ADPCM, MS_ADPCM, PCM, ULAW, Format
from batchsr.audio.decoders.interface import Part, Piece
from batchsr.audio.decoders.raw import Samples
from batchsr.audio.decoders.virtual_file import Range
from batchsr.audio.remarks import Remark

_MOST_FILES: Final = 10_000
_MOST_PARTS: Final = 1_000
_MOST_WRAPS: Final = 4
_LONGEST_FORMAT: Final = 4_096
_GSM_BLOCK_BYTES: Final = 65
_LARGEST_RIFF: Final = 0xFFFFFFFF - 65_536
# Codecs that libsndfile has, of its own kinds of block.
_BLOCKS: Final = {MS_ADPCM, IMA_ADPCM, GSM, 0x0038, 0x0040, 0x0014, 0x0055}


def layout_of(container: str) -> Layout:
    """Return the layout of chunks of WAV, RF64, BW64, RIFX or W64."""
    return {"W64": W64, "RIFX": RIFX}.get(container, RIFF)


def walk(file: BytesAt, container: str, begin: int = 0) -> Walk:
    """Return the chunks of the file that begins at `begin`."""
    return walker.walk(file, layout_of(container), begin, begin + (40 if container == "W64" else 12))


def inspect(file: BytesAt, container: str) -> Header:
    """Read the chunks of an open file that begins with the letters of `container`."""
    head = file.at(0, 40)
    if container != "W64" and head[8:12] != b"WAVE":
        return Header("")
    remarks: list[Remark] = []
    stretches: list[_Stretch] = []
    begin: int | None = 0
    audio_at = 0
    while begin is not None and len(stretches) < _MOST_FILES:
        name = container if not begin else {b"RF64": "RF64", b"BW64": "BW64"}.get(file.at(begin, 4), container)
        found = walk(file, name, begin)
        one = _stretch(file, name, found, begin)
        if isinstance(one, Header):
            if not stretches:
                return one
            remarks.append(
                left_out(f"a further file joined behind, at byte {begin:,}, that holds no audio ({one.detail})")
            )
            break
        stretches.append(one)
        audio_at = audio_at or found.named(b"data")[0].end
        begin = found.next_file
    if begin is not None and len(stretches) >= _MOST_FILES:
        return Header(container, "mangled", f"it is more than {_MOST_FILES:,} files joined one behind the other")
    header = _header(container, stretches, remarks)
    if header.trouble == "no_frames":
        return dataclasses.replace(header, detail=behind.nothing_there(file, audio_at))
    return header


@dataclasses.dataclass(frozen=True, slots=True)
class _Stretch:
    """The audio of one file of those that may have been joined."""

    container: str
    format: Format
    ranges: tuple[Range, ...]
    claimed: int | None
    """Bytes by the header; None where they were never filled in."""
    fact: int | None
    cut: bool
    longer: bool
    plain: bool
    """Whether libsndfile can be expected to find the audio by itself."""
    remarks: tuple[Remark, ...]

    @property
    def there(self) -> int:
        return sum(one.length for one in self.ranges)

    @property
    def only_pad_missing(self) -> bool:
        """Whether every frame is there, and only the byte that pads them is not."""
        samples = self.format.samples(self.container)
        size = samples.frame_bytes if samples is not None else 2
        return (
            self.claimed is not None and self.claimed - self.there == 1 and self.claimed // size == self.there // size
        )


def _stretch(file: BytesAt, container: str, found: Walk, begin: int, depth: int = 0) -> _Stretch | Header:
    big_endian = container == "RIFX"
    bodies = [file.at(c.start, min(c.end - c.start, _LONGEST_FORMAT)) for c in found.named(b"fmt ")]
    formats = [one for body in bodies if (one := Format.of(body, big_endian)) is not None]
    data = found.named(b"data")
    if found.too_many and (not data or len(data) > _MOST_PARTS):
        return Header(container, "mangled", f"it has more than {walker.MAX_CHUNKS:,} chunks")
    lists = [file.at(c.start, 4) for c in found.named(b"LIST")]
    if not data and b"wavl" in lists:
        detail = "its audio stands in a list of waves and silences (wavl), which nobody here decodes"
        return Header(
            container, "unsupported", detail, remedy="open it in the program that made it and save a plain WAV"
        )
    if not data:
        return _without_data(file, container, begin, found)
    if not formats:
        if any(c.cut for c in found.chunks):
            return _without_data(file, container, begin, found)
        return Header(container, "no_data", "it has no fmt chunk: nothing says its rate or encoding")
    form, remarks, plain = _choose_format(found, formats, data[0])
    claims = [chunk.claimed for chunk in data]
    ranges = tuple(Range(c.start, c.end - c.start) for c in data if c.end > c.start)
    inner = _inner(file, container, data[0], form, begin, depth)
    if inner is not None:
        return inner
    if len(data) > 1:
        remarks.append(Remark(PARTS, f"its audio stands in {len(data)} chunks, which were joined"))
    if found.mended:
        remarks.append(
            Remark(MENDED, "a chunk before its audio has a length that leads nowhere: the audio was searched for")
        )
    if found.left_out:
        remarks.append(left_out(found.left_out))
    is_longer = any(chunk.longer and (chunk.end > chunk.start) for chunk in data) and not all(_is_pad(c) for c in data)
    return _Stretch(
        container,
        form,
        ranges,
        None if None in claims else sum(c for c in claims if c is not None),
        _fact(file, found, big_endian),
        any(chunk.cut for chunk in data),
        is_longer,
        plain and len(data) == 1 and not found.mended and not is_longer and container != "BW64",
        tuple(remarks),
    )


def _is_pad(chunk: Chunk) -> bool:
    return chunk.claimed is not None and chunk.end - chunk.start - chunk.claimed <= 0


def _choose_format(found: Walk, formats: list[Format], data: Chunk) -> tuple[Format, list[Remark], bool]:
    """Return the format that holds, what is odd about it, and whether libsndfile would see it so."""
    before = [chunk for chunk in found.named(b"fmt ") if chunk.start < data.start]
    form = formats[min(max(len(before) - 1, 0), len(formats) - 1)]
    remarks = []
    if len(formats) > 1 and any(not form.same_sound(other) for other in formats):
        said = " and ".join(f"{one.rate_hz:,} Hz, {one.channels} channels, {one.bits} bit" for one in formats[:2])
        message = f"it has {len(formats)} fmt chunks that disagree ({said}): the last one before the audio was believed"
        remarks.append(Remark(MENDED, message))
    if not before:
        remarks.append(Remark(MENDED, "its fmt chunk stands behind its audio"))
    size = form.sample_bytes
    if form.extensible and form.tag == EXTENSIBLE:
        form = dataclasses.replace(form, tag=PCM)
        size = form.sample_bytes
        remarks.append(
            Remark(MENDED, "its fmt chunk does not say which encoding it is: it was taken for whole numbers")
        )
    aligned = not size or form.block_bytes == size * form.channels
    if not aligned:
        taken = size * form.channels
        message = (
            f"its header says {form.block_bytes} bytes a frame, {form.channels} channels of its encoding take {taken}"
        )
        remarks.append(Remark(MENDED, message))
    return form, remarks, aligned and len(formats) == 1 and bool(before) and form in formats


def _inner(file: BytesAt, container: str, data: Chunk, form: Format, begin: int, depth: int) -> _Stretch | None:
    """Return the audio of a whole WAV that stands, header and all, where the samples of another should."""
    head = file.at(data.start, 12)
    if depth >= _MOST_WRAPS or head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
        return None
    inside = BytesAt(file.fd, data.end, file.begin)
    name = "WAV" if head[:4] == b"RIFF" else "RF64"
    found = _stretch(inside, name, walk(inside, name, data.start), data.start, depth + 1)
    if isinstance(found, Header):
        return None
    message = "its audio is a whole WAV file with a header of its own, as a tool makes it that wraps twice"
    return dataclasses.replace(
        found, container=container, plain=False, remarks=(Remark(MENDED, message), *found.remarks)
    )


def _fact(file: BytesAt, found: Walk, big_endian: bool) -> int | None:
    """Return samples of one channel by the fact chunk."""
    for chunk in found.named(b"fact"):
        body = file.at(chunk.start, min(8, chunk.end - chunk.start))
        if len(body) >= 4:
            return int.from_bytes(body[:4], "big" if big_endian else "little")
    return None


def _without_data(file: BytesAt, container: str, begin: int, found: Walk) -> Header:
    layout = layout_of(container)
    if container == "W64":
        promised = int.from_bytes(file.at(begin + 16, 8), "little")
    else:
        (promised,) = struct.unpack(layout.length_format, file.at(begin + 4, 4).ljust(4, b"\0"))
        promised += 8
    if promised > file.size - begin or any(chunk.cut for chunk in found.chunks):
        detail = f"its header promises {promised:,} bytes, {file.size - begin:,} are there, none of them audio"
        return Header(container, "cut", detail)
    return Header(container, "no_data", "it has no chunk of audio")


def _header(container: str, stretches: list[_Stretch], remarks: list[Remark]) -> Header:
    """Return what all joined files are together."""
    first = stretches[0]
    form = first.format
    remarks = [*(r for one in stretches[:20] for r in one.remarks), *remarks]
    if len(stretches) > 1:
        remarks.insert(0, Remark(PARTS, f"it is {len(stretches):,} files joined one behind the other: all were read"))
    header = Header(
        container,
        None,
        "",
        form.rate_hz,
        form.channels,
        form.tag,
        first.ranges[0].start if first.ranges else 1,
        sum(one.there for one in stretches),
    )
    samples = form.samples(container)
    pieces = tuple(_pieces(stretches))
    if len(pieces) > _MOST_PARTS:
        return Header(container, "mangled", f"it changes its rate or encoding more than {_MOST_PARTS:,} times")
    is_longer = any(one.longer for one in stretches)
    claimed: int | None = 0
    if is_longer:
        claimed = None if any(one.claimed is None for one in stretches) else sum(one.claimed or 0 for one in stretches)
        remarks.append(longer(claimed, header.data_bytes))
    header = dataclasses.replace(
        header, remarks=tuple(remarks), still_growing=is_longer and not has_wrapped(claimed, header.data_bytes)
    )
    if form.tag not in (PCM, FLOAT, ALAW, ULAW) and form.tag not in _BLOCKS:
        return header  # libsndfile, or another decoder, has the word
    if form.tag in (PCM, FLOAT) and samples is None and 1 <= form.channels <= 1024:
        kind = "whole numbers" if form.tag == PCM else "floats"
        detail = f"its encoding ({kind} of {form.bits} bits) is not one that is decoded here"
        remedy = "save it as 24-bit whole numbers or 32-bit floats in the program that made it"
        return dataclasses.replace(header, trouble="unsupported", detail=detail, remedy=remedy)
    if not header.data_bytes and not any(one.cut for one in stretches):
        return dataclasses.replace(header, trouble="no_frames")
    plain = len(stretches) == 1 and first.plain
    last = stretches[-1]
    if last.cut and not last.only_pad_missing:
        promised = last.claimed or 0
        detail = f"its header promises {promised:,} bytes of audio, {last.there:,} are there"
        return dataclasses.replace(header, trouble="cut", detail=detail, rest=pieces)
    frames = None
    if samples is not None and all(one.format.same_sound(form) for one in stretches):
        frames = sum(one.length // samples.frame_bytes for s in stretches for one in s.ranges)
        if plain and _ends_within(last.there, samples.frame_bytes):
            detail = f"its {last.there:,} bytes of audio end in the middle of a frame of {samples.frame_bytes} bytes"
            return dataclasses.replace(header, trouble="mid_sample", detail=detail, rest=pieces)
    if plain:
        return _with_fact(dataclasses.replace(header, frames=frames, own=pieces if samples else ()), first)
    return dataclasses.replace(header, frames=frames, pieces=pieces)


def _ends_within(length: int, frame_bytes: int) -> bool:
    # Some writers count the byte that pads a chunk to an even length; it is no cut sample.
    padded = length % 2 == 0 and (length - 1) % frame_bytes == 0
    return length % frame_bytes != 0 and not padded


def _with_fact(header: Header, one: _Stretch) -> Header:
    """Return the header with what is sound of a block codec's last block, which is filled up: its fact chunk
    says where the sound ends."""
    form, block = one.format, one.format.frame_samples
    block_bytes = _GSM_BLOCK_BYTES if form.tag == GSM else form.block_bytes
    if not block or not block_bytes:
        return header
    capacity = one.there // block_bytes * block
    if not one.fact:
        whole = _whole_blocks(one)
        return dataclasses.replace(header, pieces=(Part(frames=whole),)) if whole else header
    if one.fact > capacity + block:
        message = f"its fact chunk says {one.fact:,} samples, its blocks hold {capacity:,}: all of them were read"
        return dataclasses.replace(header, remarks=(*header.remarks, Remark("input.longer_fact", message)))
    if capacity - block < one.fact <= capacity:
        return dataclasses.replace(header, pieces=(Part(frames=one.fact),))
    if 0 < one.fact <= capacity - block:
        message = f"its fact chunk says {one.fact:,} samples, its blocks hold {capacity:,}: all of them were read"
        return dataclasses.replace(header, remarks=(*header.remarks, Remark("input.longer_than_header", message)))
    return header


def _whole_blocks(one: _Stretch) -> int | None:
    """Return samples of GSM 6.10 in whole blocks: libsndfile takes the byte that pads an odd number of them for one.

    None for other codecs, and where the last block is cut.
    """
    blocks, rest = divmod(one.there, _GSM_BLOCK_BYTES)
    return blocks * one.format.frame_samples if one.format.tag == GSM and blocks and rest <= 1 else None


def _pieces(stretches: list[_Stretch]) -> list[Piece]:
    """Return the audio of every stretch; neighbours of the same sound are one part."""
    pieces: list[Piece] = []
    held: list[Range] = []
    sound: Samples | None = None
    for one in stretches:
        samples = one.format.samples(one.container)
        if samples is None:
            pieces += [raw_part(sound, held)] if sound is not None and held else []
            held, sound = [], None
            pieces += [_under_a_header(one)] if one.ranges else []
            continue
        if sound is not None and sound != samples and held:
            pieces.append(raw_part(sound, held))
            held = []
        sound = samples
        held += one.ranges
    return [*pieces, raw_part(sound, held)] if sound is not None and held else pieces


def _under_a_header(one: _Stretch) -> Part:
    """Return a block codec's audio under a header that says how much it is."""
    form = one.format
    total = min(one.there, _LARGEST_RIFF)
    length = struct.Struct(">I" if form.big_endian else "<I").pack
    body = form.body + b"\0" * (len(form.body) & 1)
    head = b"fmt " + length(len(form.body)) + body
    head = b"WAVE" + head + b"data" + length(total)
    head = (b"RIFX" if form.big_endian else b"RIFF") + length(len(head) + total) + head
    return Part((head, *one.ranges), frames=_whole_blocks(one))
