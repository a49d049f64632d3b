"""Power below 50 Hz of a stream: a model may add there what few loudspeakers tell and loudness leaves out."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from batchsr.audio import loops
from batchsr.audio.windows import Block

EDGE_HZ: Final = 50.0
_SECTIONS: Final = np.array(
    [
        [
            1.1371216054794487e-10,
            2.2742432109588973e-10,
            1.1371216054794487e-10,
            1.0,
            -1.987936638808116,
            0.9879792180147118,
        ],
        [1.0, 2.0, 1.0, 1.0, -1.9949605067892113, 0.9950032364385927],
    ]
)
"""A Butterworth low-pass of order 4 at EDGE_HZ and 48 kHz, as scipy.signal designs it, which takes a second to load."""


class RumbleMeter:
    """Mean power below EDGE_HZ of a stream at 48 kHz, over all channels (Butterworth, order 4)."""

    def __init__(self, channels: int) -> None:
        self._state = np.zeros((channels, 2, 2))
        self._sums = np.zeros(channels)
        self._samples = 0

    def add(self, block: Block) -> None:
        """Take in the next (n, C) of the stream."""
        hop = 2**62  # no stretch becomes complete: the sums go on to the end
        none = np.empty((0, len(self._sums)))
        loops.energies(np.ascontiguousarray(block), _SECTIONS, self._state, self._sums, self._samples, hop, none)
        self._samples += len(block)

    @property
    def dbfs(self) -> float | None:
        """Root mean square in dB below full scale; None for nothing."""
        power = float(self._sums.sum()) / max(1, self._samples * len(self._sums))
        return 10 * math.log10(power) if power > 1e-18 else None
