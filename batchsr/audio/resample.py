"""Bring any rate to 48 kHz and back, as a stream: soxr's VHQ, with lengths and bytes that do not depend on block sizes.

VHQ keeps 28 bits, HQ 20; a 24-bit archive needs the former, and either costs nothing beside the model.
Both are of linear phase with the delay taken out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from batchsr.audio.windows import SAMPLE_RATE_HZ, Block

QUALITY: Final = "VHQ"
# soxr rounds differently when it is fed in other portions, so it is always fed the same ones.
_PORTION_FRAMES: Final = 16_384


def resample(x: NDArray[np.float32], rate_hz: int) -> Block:
    """Bring x (n, C) at `rate_hz` to 48 kHz: float32 (ceil(n * 48000 / rate_hz), C), the same as the stream gives."""
    blocks = list(resample_blocks([x], rate_hz, len(x)))
    return np.concatenate(blocks) if blocks else np.zeros((0, x.shape[1]), np.float32)


def resample_blocks(blocks: Iterable[Block], rate_hz: int | Fraction, frames: int) -> Iterator[Block]:
    """Bring a stream (n, C) of `frames` frames at `rate_hz` to 48 kHz; ceil(frames * 48000 / rate_hz) samples come out.

    48 kHz passes through untouched.
    """
    if rate_hz == SAMPLE_RATE_HZ:
        yield from blocks
        return
    yield from _convert(blocks, float(rate_hz), SAMPLE_RATE_HZ, int(-(-frames * SAMPLE_RATE_HZ // rate_hz)))


def at_rate(blocks: Iterable[Block], rate_hz: int, samples: int) -> Iterator[Block]:
    """Bring a stream (n, C) at 48 kHz to `rate_hz`, `samples` samples of it; 48 kHz passes through untouched."""
    if rate_hz == SAMPLE_RATE_HZ:
        yield from blocks
        return
    yield from _convert(blocks, SAMPLE_RATE_HZ, rate_hz, samples)


def convert_blocks(blocks: Iterable[Block], from_hz: float, to_hz: float, samples: int) -> Iterator[Block]:
    """Any rate to any rate, `samples` samples in total; what the stream lacks for them is taken as silence."""
    yield from _convert(blocks, from_hz, to_hz, samples)


def _convert(blocks: Iterable[Block], from_hz: float, to_hz: float, samples: int) -> Iterator[Block]:
    stream: soxr.ResampleStream | None = None
    left = samples
    channels = 0
    for portion in reblock(blocks, _PORTION_FRAMES):
        if stream is None:
            channels = portion.shape[1]
            stream = soxr.ResampleStream(from_hz, to_hz, channels, dtype="float32", quality=QUALITY)
        out = stream.resample_chunk(portion)[:left]
        left -= len(out)
        if len(out):
            yield out
    if stream is None:
        return
    # soxr stops at the nearest sample, we at the one behind the end. Silence behind the file fills the gap.
    silence = np.zeros((2 + int(2 * from_hz / to_hz), channels), np.float32)
    out = stream.resample_chunk(silence, last=True)[:left]
    left -= len(out)
    if len(out):
        yield out
    if left:
        raise AssertionError(f"soxr kept back {left} samples")


class Downsampler:
    """48 kHz to a lower rate for one channel that comes bit by bit: for listening, so of no exact length."""

    def __init__(self, rate_hz: int) -> None:
        self._stream = soxr.ResampleStream(SAMPLE_RATE_HZ, rate_hz, 1, dtype="float32", quality="HQ")

    def add(self, block: Block) -> Block:
        """Take in the next (n, 1), and return what is ready of it."""
        out: Block = self._stream.resample_chunk(np.ascontiguousarray(block))
        return out.reshape(-1, 1)

    def finish(self) -> Block:
        """Return the rest; nothing may be added behind it."""
        out: Block = self._stream.resample_chunk(np.zeros((0, 1), np.float32), last=True)
        return out.reshape(-1, 1)


def reblock(blocks: Iterable[Block], frames: int) -> Iterator[Block]:
    """Yield the same stream in blocks of exactly `frames` frames, and one shorter one at the end where there
    is a rest."""
    held: list[Block] = []
    count = 0
    for block in blocks:
        position = 0
        while count + len(block) - position >= frames:
            take = frames - count
            yield (
                np.concatenate([*held, block[position : position + take]])
                if held
                else block[position : position + take]
            )
            held, count, position = [], 0, position + take
        if position < len(block):
            held.append(block[position:])
            count += len(block) - position
    if held:
        yield np.concatenate(held)
