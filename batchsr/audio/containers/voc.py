"""Creative Voice: blocks of sound, each with its own rate, silences and marks between them.

libsndfile reads one block; what goes on behind it is joined here.

Source: Creative Labs, Sound Blaster Series Hardware Programming Guide (1991), appendix D.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final

from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.found import PARTS, Header, left_out, raw_part
from batchsr.audio.decoders.interface import Gap, Piece
from batchsr.audio.decoders.raw import Samples
from batchsr.audio.decoders.virtual_file import Range
from batchsr.audio.remarks import Remark

_END, _SOUND, _MORE, _SILENCE, _MARK, _TEXT, _REPEAT, _AGAIN, _EXTENDED, _NEW = range(10)
_CODECS: Final = {0: ("PCM_U8", 1), 4: ("PCM_16", 2), 6: ("ALAW", 1), 7: ("ULAW", 1)}
_PACKED: Final = {
    1: "Creative ADPCM, 4 bit",
    2: "Creative ADPCM, 2.6 bit",
    3: "Creative ADPCM, 2 bit",
    0x200: "Creative ADPCM",
}
_MAGIC: Final = b"Creative Voice File\x1a"
_MOST_BLOCKS: Final = 250_000
_MOST_PIECES: Final = 1_000
_LONGEST_SILENCE_S: Final = 3_600


def inspect(file: BytesAt, container: str) -> Header:
    """Read the blocks of an open VOC file."""
    position = int.from_bytes(file.at(20, 2), "little")
    stretches: list[tuple[Samples, list[Range]] | Gap] = []
    extended: tuple[int, int, int] | None = None
    remarks: list[Remark] = []
    blocks = cut = loops = 0
    files = 1
    silence_s, too_silent, last_hz = 0.0, False, 0
    start = there = promised = 0
    for _ in range(_MOST_BLOCKS):
        head = file.at(position, 4)
        if not head or head[0] == _END:  # the block that ends the file has no length, and may be missing
            behind_end = file.at(position + 1, 22)
            if not behind_end.startswith(_MAGIC):
                break
            files += 1
            position += 1 + int.from_bytes(behind_end[20:22], "little")
            continue
        length = int.from_bytes(head[1:], "little")
        body, position = position + 4, position + 4 + length
        if len(head) < 4 or position > file.size:
            cut, promised = 1, position
        kind = head[0]
        first = file.at(body, min(12, length))
        length = min(length, max(file.size - body, 0))
        samples, skip = None, 0
        if kind == _EXTENDED and len(first) >= 4:
            constant, codec, stereo = struct.unpack_from("<HBB", first)
            extended = (constant, codec, stereo)
        elif kind == _SOUND and length >= 2:
            channels, codec, rate_hz = 1, first[1], 1_000_000 // (256 - first[0])
            if extended is not None:
                channels, codec = (2 if extended[2] else 1), extended[1]
                rate_hz = 256_000_000 // (65_536 - extended[0]) // channels
                extended = None
            samples, skip = _samples(container, codec, rate_hz, channels), 2
            if samples is None:
                return _unsupported(container, codec)
        elif kind == _NEW and length >= 12:
            rate_hz, bits, channels, codec = struct.unpack_from("<IBBH", first)
            samples, skip = _samples(container, codec, rate_hz, channels), 12
            if samples is None or (codec in (0, 4) and bits != 8 * samples.sample_bytes):
                return _unsupported(container, codec)
        elif kind == _MORE and stretches and not isinstance(stretches[-1], Gap):
            samples = stretches[-1][0]
        elif kind == _SILENCE and length >= 3:
            frames = int.from_bytes(first[:2], "little") + 1
            rate_hz = 1_000_000 // (256 - first[2])
            at_hz = last_hz or rate_hz
            silence_s += frames / rate_hz
            if silence_s < _LONGEST_SILENCE_S:
                stretches.append(Gap(max(round(frames * at_hz / rate_hz), 1)))
            else:
                too_silent = True
        elif kind == _REPEAT:
            loops += 1
        if samples is not None:
            blocks += 1
            last_hz = samples.sample_rate
            start = start or body + skip
            one = Range(body + skip, max(length - skip, 0))
            there += one.length
            if stretches and not isinstance(stretches[-1], Gap) and stretches[-1][0] == samples:
                stretches[-1][1].append(one)
            else:
                stretches.append((samples, [one]))
        if len(stretches) > _MOST_PIECES:
            return Header(container, "mangled", f"it changes its rate or pauses more than {_MOST_PIECES:,} times")
        if cut:
            break
    else:
        return Header(container, "mangled", f"it has more than {_MOST_BLOCKS:,} blocks")
    sounds = [one for one in stretches if not isinstance(one, Gap)]
    header = Header(container, data_start=start, data_bytes=there)
    if sounds:
        header = dataclasses.replace(header, rate_hz=sounds[0][0].sample_rate, channels=sounds[0][0].channels)
    pieces: tuple[Piece, ...] = tuple(one if isinstance(one, Gap) else raw_part(*one) for one in stretches)
    if cut:
        detail = f"its blocks promise {promised:,} bytes, {file.size:,} are there"
        return dataclasses.replace(header, trouble="cut", detail=detail, rest=pieces if there else ())
    if not there:
        return dataclasses.replace(header, trouble="no_frames")
    if too_silent:
        remarks.append(left_out(f"silence between its blocks beyond {_LONGEST_SILENCE_S // 3600} hour"))
    if loops:
        remarks.append(left_out(f"{loops} marks that tell a player to repeat a part"))
    if files > 1:
        remarks.append(Remark(PARTS, f"it is {files:,} files joined one behind the other: all were read"))
    rates = sorted({one[0].sample_rate for one in sounds})
    if len(rates) > 1:
        remarks.append(
            Remark(PARTS, f"it has parts of {len(rates)} sample rates, from {rates[0]:,} to {rates[-1]:,} Hz")
        )
    if blocks == 1 and len(stretches) == 1:
        frames = there // sounds[0][0].frame_bytes
        return dataclasses.replace(header, own=pieces, frames=frames, remarks=tuple(remarks))
    return dataclasses.replace(header, pieces=pieces, remarks=tuple(remarks))


def _samples(container: str, codec: int, rate_hz: int, channels: int) -> Samples | None:
    if codec not in _CODECS or not 1 <= channels <= 255 or not rate_hz:
        return None
    subtype, size = _CODECS[codec]
    return Samples(container, subtype, "LITTLE", rate_hz, channels, size)


def _unsupported(container: str, codec: int) -> Header:
    name = _PACKED.get(codec, f"number {codec}")
    return Header(container, "unsupported", f"its codec ({name}) is not one that is decoded here")
