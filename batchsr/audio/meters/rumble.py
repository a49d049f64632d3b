"""Power below 50 Hz of a stream: a model may add there what few loudspeakers tell and loudness leaves out."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import scipy

from batchsr.audio import loops
from batchsr.audio.windows import SAMPLE_RATE_HZ, Block

EDGE_HZ: Final = 50.0


class RumbleMeter:
    """Mean power below EDGE_HZ of a stream at 48 kHz, over all channels (Butterworth, order 4)."""

    def __init__(self, channels: int) -> None:
        self._sections = scipy.signal.butter(4, EDGE_HZ, fs=SAMPLE_RATE_HZ, output="sos")
        self._state = np.zeros((channels, 2, 2))
        self._sums = np.zeros(channels)
        self._samples = 0

    def add(self, block: Block) -> None:
        """Take in the next (n, C) of the stream."""
        hop = 2**62  # no stretch becomes complete: the sums go on to the end
        none = np.empty((0, len(self._sums)))
        loops.energies(np.ascontiguousarray(block), self._sections, self._state, self._sums, self._samples, hop, none)
        self._samples += len(block)

    @property
    def dbfs(self) -> float | None:
        """Root mean square in dB below full scale; None for nothing."""
        power = float(self._sums.sum()) / max(1, self._samples * len(self._sums))
        return 10 * math.log10(power) if power > 1e-18 else None
