"""Pieces of a recording read one after another as if they were one, whatever rates and channels they have.

All are brought to the highest rate among them, by the same converter that brings a recording to 48 kHz, and to the
largest number of channels: one channel sounds from both sides of a stereo recording, other channels keep their places
and the missing ones are silent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from batchsr.audio.decoders.interface import DecodeError, Decoder, Gap
from batchsr.audio.remarks import Remark, bounded
from batchsr.audio.resample import convert_blocks
from batchsr.audio.windows import Block

_PORTION_FRAMES = 16_384


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A part whose facts are known; `open` begins it anew."""

    open: Callable[[], Decoder]
    sample_rate: int
    channels: int
    format: str
    subtype: str
    frames: int
    """How many frames of the part belong to the recording."""
    skip: int = 0
    """Frames of the part that stand before those."""


class Joined:
    """Parts and gaps as one decoder. At least one part; frames of a part that cannot be read are an error."""

    def __init__(self, pieces: Sequence[Opened | Gap], *, sample_rate: int = 0) -> None:
        """`sample_rate` is at least that of the output, where it is to be higher than that of every part."""
        parts = [piece for piece in pieces if isinstance(piece, Opened)]
        self._pieces = pieces
        self.sample_rate = max(sample_rate, *(part.sample_rate for part in parts))
        self.channels = max(part.channels for part in parts)
        self.format, self.subtype = parts[0].format, parts[0].subtype
        self._rates = _rates(pieces)
        self.frames = sum(
            self._at_our_rate(piece.frames, rate) for piece, rate in zip(pieces, self._rates, strict=True)
        )
        self._remarks: list[Remark] = []
        self._stream: Iterator[Block] = self._blocks()
        self._held: Block = np.zeros((0, self.channels), np.float32)
        self._decoder: Decoder | None = None

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What the parts' decoders found odd."""
        return bounded(self._remarks)

    def read(self, frames: int) -> Block:
        """Return the next samples, (n, channels)."""
        blocks = [self._held[:frames]]
        self._held = self._held[frames:]
        count = len(blocks[0])
        while count < frames and (block := next(self._stream, None)) is not None:
            blocks.append(block[: frames - count])
            self._held = block[frames - count :]
            count += len(blocks[-1])
        return blocks[1] if len(blocks) == 2 and not len(blocks[0]) else np.concatenate(blocks)

    def seek(self, frame: int) -> None:
        """Go to a frame, by reading up to it from the beginning."""
        self.close()
        self._stream = self._blocks()
        self._held = self._held[:0]
        while frame > 0 and len(block := self.read(min(frame, _PORTION_FRAMES))):
            frame -= len(block)

    def close(self) -> None:
        """Close the part that is open."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _at_our_rate(self, frames: int, rate: int) -> int:
        return -(-frames * self.sample_rate // rate)

    def _blocks(self) -> Iterator[Block]:
        for piece, rate in zip(self._pieces, self._rates, strict=True):
            total = self._at_our_rate(piece.frames, rate)
            if isinstance(piece, Gap):
                for start in range(0, total, _PORTION_FRAMES):
                    yield np.zeros((min(_PORTION_FRAMES, total - start), self.channels), np.float32)
            elif rate == self.sample_rate:
                yield from self._part(piece)
            else:
                yield from convert_blocks(self._part(piece), rate, self.sample_rate, total)

    def _part(self, part: Opened) -> Iterator[Block]:
        self._decoder = decoder = part.open()
        left_out, left = part.skip, part.frames
        while left_out > 0:
            dropped = len(decoder.read(min(left_out, _PORTION_FRAMES)))
            if not dropped:
                raise DecodeError("a part of it ends before its sound begins")
            left_out -= dropped
        while left > 0:
            block = decoder.read(min(left, _PORTION_FRAMES))
            if not len(block):
                raise DecodeError(f"a part of it ends {left:,} frames early")
            left -= len(block)
            yield _spread(block, self.channels)
        self._remarks += decoder.remarks
        self.close()


def _rates(pieces: Sequence[Opened | Gap]) -> list[int]:
    """Return the rate at which each piece's frames are counted: a gap's is that of the part before it, or behind."""
    rates: list[int] = []
    last = next(piece.sample_rate for piece in pieces if isinstance(piece, Opened))
    for piece in pieces:
        last = piece.sample_rate if isinstance(piece, Opened) else last
        rates.append(last)
    return rates


def _spread(block: Block, channels: int) -> Block:
    have = block.shape[1]
    if have == channels:
        return block
    out = np.zeros((len(block), channels), np.float32)
    out[:, :have] = block
    if have == 1:
        out[:, 1] = block[:, 0]
    return out
