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
from batchsr.display import counted

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
    blocks = _Blocks(file, container)
    return blocks.read() or blocks.header()


class _Blocks:
    """The blocks of one file, read one after the other, and what they come to."""

    def __init__(self, file: BytesAt, container: str) -> None:
        self._file = file
        self._container = container
        self._stretches: list[tuple[Samples, list[Range]] | Gap] = []
        self._extended: tuple[int, int, int] | None = None
        """What an extended block said of the block of sound behind it: rate, codec, stereo."""
        self._files = 1
        self._blocks = self._loops = 0
        self._silence_s, self._too_silent = 0.0, False
        self._last_hz = 0
        """Rate of the last block of sound."""
        self._start = self._there = 0
        """Where the first sound begins, and how many bytes of sound there are."""
        self._promised: int | None = None
        """Where the last block ends by its length, if the file ends before."""

    def read(self) -> Header | None:
        """Read all blocks. Returns a header that says why, where they cannot be read; else None."""
        position = int.from_bytes(self._file.at(20, 2), "little")
        for _ in range(_MOST_BLOCKS):
            head = self._file.at(position, 4)
            if not head or head[0] == _END:  # the block that ends the file has no length, and may be missing
                behind_end = self._file.at(position + 1, 22)
                if not behind_end.startswith(_MAGIC):
                    return None
                self._files += 1
                position += 1 + int.from_bytes(behind_end[20:22], "little")
                continue
            length = int.from_bytes(head[1:], "little")
            body, position = position + 4, position + 4 + length
            if len(head) < 4 or position > self._file.size:
                self._promised = position
            if (refused := self._block(head[0], body, length)) is not None:
                return refused
            if len(self._stretches) > _MOST_PIECES:
                return self._mangled(f"it changes its rate or pauses more than {_MOST_PIECES:,} times")
            if self._promised is not None:
                return None
        return self._mangled(f"it has more than {_MOST_BLOCKS:,} blocks")

    def _mangled(self, detail: str) -> Header:
        return Header(self._container, "mangled", detail)

    def _block(self, kind: int, body: int, length: int) -> Header | None:
        """Read one block, whose body is to have `length` bytes. Returns a header if its sound cannot be read."""
        first = self._file.at(body, min(12, length))
        length = min(length, max(self._file.size - body, 0))
        if kind == _EXTENDED and len(first) >= 4:
            self._extended = struct.unpack_from("<HBB", first)
        elif kind == _SOUND and length >= 2:
            codec, samples = self._sound(first)
            if samples is None:
                return _unsupported(self._container, codec)
            self._add(samples, body, length, skip=2)
        elif kind == _NEW and length >= 12:
            rate_hz, bits, channels, codec = struct.unpack_from("<IBBH", first)
            samples = _samples(self._container, codec, rate_hz, channels)
            if samples is None or (codec in (0, 4) and bits != 8 * samples.sample_bytes):
                return _unsupported(self._container, codec)
            self._add(samples, body, length, skip=12)
        elif kind == _MORE and self._stretches and not isinstance(last := self._stretches[-1], Gap):
            self._add(last[0], body, length, skip=0)
        elif kind == _SILENCE and length >= 3:
            self._silence(int.from_bytes(first[:2], "little") + 1, 1_000_000 // (256 - first[2]))
        elif kind == _REPEAT:
            self._loops += 1
        return None

    def _sound(self, first: bytes) -> tuple[int, Samples | None]:
        """Return the codec of a block of sound, and its samples if that is known here; an extended block is used up."""
        channels, codec, rate_hz = 1, first[1], 1_000_000 // (256 - first[0])
        if self._extended is not None:
            constant, codec, stereo = self._extended
            channels = 2 if stereo else 1
            rate_hz = 256_000_000 // (65_536 - constant) // channels
            self._extended = None
        return codec, _samples(self._container, codec, rate_hz, channels)

    def _silence(self, frames: int, rate_hz: int) -> None:
        self._silence_s += frames / rate_hz
        if self._silence_s < _LONGEST_SILENCE_S:
            self._stretches.append(Gap(max(round(frames * (self._last_hz or rate_hz) / rate_hz), 1)))
        else:
            self._too_silent = True

    def _add(self, samples: Samples, body: int, length: int, *, skip: int) -> None:
        """Add a block of sound to the stretch before it, or begin another."""
        self._blocks += 1
        self._last_hz = samples.sample_rate
        self._start = self._start or body + skip
        one = Range(body + skip, max(length - skip, 0))
        self._there += one.length
        last = self._stretches[-1] if self._stretches else None
        if last is not None and not isinstance(last, Gap) and last[0] == samples:
            last[1].append(one)
        else:
            self._stretches.append((samples, [one]))

    def header(self) -> Header:
        """Return what the blocks come to, after `read`."""
        sounds = [one for one in self._stretches if not isinstance(one, Gap)]
        header = Header(self._container, data_start=self._start, data_bytes=self._there)
        if sounds:
            header = dataclasses.replace(header, rate_hz=sounds[0][0].sample_rate, channels=sounds[0][0].channels)
        pieces: tuple[Piece, ...] = tuple(one if isinstance(one, Gap) else raw_part(*one) for one in self._stretches)
        if self._promised is not None:
            detail = f"its blocks promise {self._promised:,} bytes, {self._file.size:,} are there"
            return dataclasses.replace(header, trouble="cut", detail=detail, rest=pieces if self._there else ())
        if not self._there:
            return dataclasses.replace(header, trouble="no_frames")
        header = dataclasses.replace(header, remarks=self._remarks({one[0].sample_rate for one in sounds}))
        if self._blocks == 1 and len(self._stretches) == 1:
            return dataclasses.replace(header, own=pieces, frames=self._there // sounds[0][0].frame_bytes)
        return dataclasses.replace(header, pieces=pieces)

    def _remarks(self, rates_hz: set[int]) -> tuple[Remark, ...]:
        remarks = []
        if self._too_silent:
            remarks.append(left_out(f"silence between its blocks beyond {_LONGEST_SILENCE_S // 3600} hour"))
        if self._loops:
            remarks.append(
                left_out(f"{counted(self._loops, 'mark that tells', 'marks that tell')} a player to repeat a part")
            )
        if self._files > 1:
            remarks.append(Remark(PARTS, f"it is {self._files:,} files joined one behind the other: all were read"))
        if len(rates_hz) > 1:
            low, high = min(rates_hz), max(rates_hz)
            remarks.append(Remark(PARTS, f"it has parts of {len(rates_hz)} sample rates, from {low:,} to {high:,} Hz"))
        return tuple(remarks)


def _samples(container: str, codec: int, rate_hz: int, channels: int) -> Samples | None:
    if codec not in _CODECS or not 1 <= channels <= 255 or not rate_hz:
        return None
    subtype, size = _CODECS[codec]
    return Samples(container, subtype, "LITTLE", rate_hz, channels, size)


def _unsupported(container: str, codec: int) -> Header:
    name = _PACKED.get(codec, f"number {codec}")
    return Header(container, "unsupported", f"its codec ({name}) is not one that is decoded here")
