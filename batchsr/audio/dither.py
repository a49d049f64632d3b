"""Bring float samples to whole numbers: triangular dither by position, rounding, and a clamp that counts.

Without dither, quiet passages would turn into distortion. The dither of a sample depends on the sample's
position in the file alone (a counter-based generator), so neither block sizes nor a resumed run change a
byte. It is the same in all channels, which keeps a dual-mono file dual-mono, and it leaves exact zeros
alone, which keeps digital silence and dead channels silent.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.windows import Block

_KEY: Final = 0x6261746368737221  # "batchsr!"; a constant, so that the same samples always give the same file
_START_SAMPLES: Final = 1 << 18  # a little more than a window


def triangular(position: int, count: int) -> NDArray[np.float64]:
    """Dither of the samples `position` to `position + count`: (count,), in (-1, 1) quantisation steps, mean 0."""
    if position + count <= _START_SAMPLES:
        return _start()[position : position + count]
    return _drawn(position, count)


@functools.cache
def _start() -> NDArray[np.float64]:
    """Return what every file begins with, and many a clip ends with."""
    return _drawn(0, _START_SAMPLES)


def _drawn(position: int, count: int) -> NDArray[np.float64]:
    skip = position % 4  # Philox gives four words for each value of its counter
    words = np.random.Philox(key=_KEY, counter=position // 4).random_raw(count + skip)[skip:]
    from batchsr.audio import loops  # with the first sample: numba takes 0.14 s, which `enqueue` need not wait

    dither: NDArray[np.float64] = loops.triangular(words)
    dither.flags.writeable = False  # it may be shared
    return dither


def quantise(block: Block, bits: int, position: int) -> tuple[NDArray[np.int32], int]:
    """Return samples (n, C), full scale 1, as whole numbers of `bits` bits, and how many did not fit and were clamped.

    `position` is the place of the block's first frame in the file. Down to 24 bits the word length falls (a
    float32 has 24 and an exponent), and dither is added. What only the dither pushes over the edge is no clip.
    """
    from batchsr.audio import loops  # as in _drawn

    dither = triangular(position, len(block) if bits <= 24 else 0)
    whole = np.empty(block.shape, np.int32)
    return whole, int(loops.quantise(np.ascontiguousarray(block), 2.0 ** (bits - 1), dither, whole))
