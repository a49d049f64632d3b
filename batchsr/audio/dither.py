"""Bring float samples to whole numbers: triangular dither by position, rounding, and a clamp that counts.

Without dither, quiet passages would turn into distortion. The dither of a sample depends on the sample's
position in the file alone (a counter-based generator), so neither block sizes nor a resumed run change a
byte. It is the same in all channels, which keeps a dual-mono file dual-mono, and it leaves exact zeros
alone, which keeps digital silence and dead channels silent.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.windows import Block

_KEY: Final = 0x6261746368737221  # "batchsr!"; a constant, so that the same samples always give the same file


def triangular(position: int, count: int) -> NDArray[np.float64]:
    """Dither of the samples `position` to `position + count`: (count,), in (-1, 1) quantisation steps, mean 0."""
    skip = position % 4  # Philox gives four words for each value of its counter
    words = np.random.Philox(key=_KEY, counter=position // 4).random_raw(count + skip)[skip:]
    halves = (words & np.uint64(0xFFFFFFFF)) + (words >> np.uint64(32))
    dither = halves.astype(np.float64)
    dither += 1
    dither *= 2.0**-32
    dither -= 1
    return dither


def quantise(block: Block, bits: int, position: int) -> tuple[NDArray[np.int32], int]:
    """Samples (n, C) with full scale 1 as whole numbers of `bits` bits, and how many did not fit and were clamped.

    `position` is the place of the block's first frame in the file. Down to 24 bits the word length falls (a
    float32 has 24 and an exponent), and dither is added. What only the dither pushes over the edge is no clip.
    """
    scale = 2.0 ** (bits - 1)
    values = block.astype(np.float64) * scale
    clipped = int(np.count_nonzero((values >= scale - 0.5) | (values < -scale - 0.5)))
    if bits <= 24:
        np.add(values, triangular(position, len(block))[:, None], out=values, where=block != 0)
    np.clip(np.rint(values, out=values), -scale, scale - 1, out=values)
    return values.astype(np.int32), clipped
