"""Loudness of a whole stream in LUFS, in bounded memory.

Sources: ITU-R BS.1770-5 (K-weighting, channel weights, gating), EBU Tech 3341 (momentary, 400 ms; short-term, 3 s; a
value each 100 ms) and 3342 (loudness range). Its blocks of 400 ms are kept as a histogram of
0.1 LU with the exact energy of each bin, so that the relative gate is off by half a bin at most and a day costs
what a minute costs. pyloudnorm computes the same from a whole file in memory, and the tests compare with it.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchsr.audio import loops
from batchsr.audio.windows import SAMPLE_RATE_HZ, Block

# K-weighting at 48 kHz: a shelf for the head, then a high-pass (BS.1770, tables 1 and 2).
_K_WEIGHTING: Final = np.array(
    [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
)
_HOP_SAMPLES: Final = SAMPLE_RATE_HZ // 10
_HOPS_PER_BLOCK: Final = 4
_HOPS_PER_SHORT_TERM: Final = 30
_ABSOLUTE_GATE_LUFS, _RELATIVE_GATE_LU = -70.0, -10.0
_RANGE_GATE_LU, _RANGE_FROM, _RANGE_TO = -20.0, 0.10, 0.95
_BINS_PER_LU: Final = 10
_HIGHEST_LUFS: Final = 250  # samples may be as large as 1e12
# Weights of WAV's loudspeakers: surrounds count 1.5 dB more, the subwoofer not at all.
_SURROUND: Final = 10**0.15
_WEIGHTS: Final = {5: (1, 1, 1, _SURROUND, _SURROUND), 6: (1, 1, 1, 0, _SURROUND, _SURROUND)}


class LoudnessMeter:
    """Loudness (integrated, momentary, short-term, range) and sample peak of a stream at 48 kHz."""

    def __init__(self, channels: int) -> None:
        self._weights = np.array(_WEIGHTS.get(channels, (1,) * channels), np.float64)
        self._state = np.zeros((channels, 2, 2))
        self._sums = np.zeros(channels)
        self._samples = 0
        self._hops: list[float] = []
        self._blocks = _Histogram()
        self._short_terms = _Histogram()
        self._most_momentary = 0.0
        self._most_short_term = 0.0
        self.peak = 0.0
        """Largest absolute sample; full scale is 1."""

    def add(self, block: Block) -> None:
        """Take in the next (n, C) of the stream."""
        filled = self._samples % _HOP_SAMPLES
        self._samples += len(block)
        energies = np.empty(((filled + len(block)) // _HOP_SAMPLES, len(self._weights)))
        block = np.ascontiguousarray(block)
        peak = loops.energies(block, _K_WEIGHTING, self._state, self._sums, filled, _HOP_SAMPLES, energies)
        self.peak = max(self.peak, peak)
        if len(energies):
            self._add_hops(energies @ self._weights / _HOP_SAMPLES)

    def _add_hops(self, energies: NDArray[np.float64]) -> None:
        before = len(self._hops)
        hops = np.array([*self._hops, *energies])
        self._hops = hops[-(_HOPS_PER_SHORT_TERM - 1) :].tolist()
        blocks = _means(hops[max(0, before - _HOPS_PER_BLOCK + 1) :], _HOPS_PER_BLOCK)
        self._blocks.add(blocks)
        self._most_momentary = max(self._most_momentary, *blocks, 0.0)
        short_terms = _means(hops[max(0, before - _HOPS_PER_SHORT_TERM + 1) :], _HOPS_PER_SHORT_TERM)
        self._short_terms.add(short_terms)
        self._most_short_term = max(self._most_short_term, *short_terms, 0.0)

    @property
    def lufs(self) -> float | None:
        """Integrated loudness; None when nothing is louder than -70 LUFS for 400 ms."""
        first = self._blocks.gate(_RELATIVE_GATE_LU)
        return None if first is None else float(_lufs(self._blocks.energy(first)))

    @property
    def range_lu(self) -> float | None:
        """Loudness range in LU; None when nothing is louder than -70 LUFS for 3 s."""
        first = self._short_terms.gate(_RANGE_GATE_LU)
        if first is None:
            return None
        return self._short_terms.quantile(first, _RANGE_TO) - self._short_terms.quantile(first, _RANGE_FROM)

    @property
    def max_momentary_lufs(self) -> float | None:
        """Loudest 400 ms; None for silence, and for less than 400 ms."""
        return float(_lufs(self._most_momentary)) if self._most_momentary > 0 else None

    @property
    def max_short_term_lufs(self) -> float | None:
        """Loudest 3 s; None for silence, and for less than 3 s."""
        return float(_lufs(self._most_short_term)) if self._most_short_term > 0 else None

    def measures(self) -> dict[str, float | None]:
        """Return all of them but the peak, to hundredths, by the names that the sidecar has."""
        values = {
            "integrated_lufs": self.lufs,
            "range_lu": self.range_lu,
            "max_momentary_lufs": self.max_momentary_lufs,
            "max_short_term_lufs": self.max_short_term_lufs,
        }
        return {name: None if value is None else round(value, 2) for name, value in values.items()}


class _Histogram:
    """Energies above the absolute gate, in bins of 0.1 LU, with the exact energy of each bin."""

    def __init__(self) -> None:
        self._counts = np.zeros((_HIGHEST_LUFS - int(_ABSOLUTE_GATE_LUFS)) * _BINS_PER_LU, np.int64)
        self._energies = np.zeros(len(self._counts))

    def add(self, energies: NDArray[np.float64]) -> None:
        energies = energies[energies > _energy(_ABSOLUTE_GATE_LUFS)]
        bins = ((_lufs(energies) - _ABSOLUTE_GATE_LUFS) * _BINS_PER_LU).astype(np.int64)
        np.add.at(self._counts, bins, 1)
        np.add.at(self._energies, bins, energies)

    def gate(self, relative_lu: float) -> int | None:
        """Return the first bin above the relative gate; None where there is nothing."""
        if not self._counts.any():
            return None
        gate_lufs = float(_lufs(self._energies.sum() / self._counts.sum())) + relative_lu
        return max(math.ceil((gate_lufs - _ABSOLUTE_GATE_LUFS) * _BINS_PER_LU - 0.5), 0)

    def energy(self, first: int) -> float:
        """Return the mean of what is in the bins from this one on."""
        return float(self._energies[first:].sum() / self._counts[first:].sum())

    def quantile(self, first: int, share: float) -> float:
        """Return the loudness that this share of what is in the bins from this one on does not exceed, in LUFS."""
        summed = np.cumsum(self._counts[first:])
        place = int(np.searchsorted(summed, share * (summed[-1] - 1), side="right"))
        return _ABSOLUTE_GATE_LUFS + (first + place + 0.5) / _BINS_PER_LU


def _means(hops: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the mean of each `count` hops in a row."""
    if len(hops) < count:
        return np.zeros(0)
    means: NDArray[np.float64] = np.convolve(hops, np.full(count, 1 / count), "valid")
    return means


def _lufs(energy: NDArray[np.float64] | float) -> NDArray[np.float64]:
    level: NDArray[np.float64] = 10 * np.log10(np.asarray(energy, np.float64)) - 0.691
    return level


def _energy(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))
