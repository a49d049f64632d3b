"""Find where a recording's band ends, in one pass over its blocks and in bounded memory.

Adding up the spectrum until 98.3 % is reached, as the model's authors do, fails on hiss: at 30 dB below the
programme it moves the edge of a telephone line from 3.4 to 19 kHz. Two things tell programme from noise instead:
programme comes and goes, hiss stays (a band's loud moments against its quiet ones); and programme that was cut
off ends in a step, while noise runs on smoothly. The higher one of the two ends is taken. A filter's skirt moves
with the programme, so from there the search walks down to the knee.

Measured on 13 clips and two synthetic programmes, low-passed at 2, 3.4, 6, 8, 12 and 16 kHz, clean and with white and
pink hiss at 20 to 50 dB: 794 of 801 edges are within 10 %. In the other seven, all with white hiss at 20 dB, the
programme below the edge lies under the hiss.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable
from typing import Final, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from batchsr.audio.windows import Block

FULL_BAND_HZ: Final = 20_000.0
"""A recording whose band ends above this has nothing that could be restored."""
LOWEST_HZ: Final = 1_000.0
"""Below this it is hum or rumble that ends, not a programme."""

_BIN_HZ: Final = 23.4375
_BANDS_FROM_HZ: Final = 100.0
_BAND_RATIO: Final = 1.02
_FRAMES_PER_MOMENT: Final = 4  # 85 ms, about a phoneme: longer ones blur consonants, shorter ones make noise flicker
_FEWEST_MOMENTS: Final = 6  # half a second: less shows no coming and going
_MOMENTS_AT_ONCE: Final = 64
_LOUD, _QUIET = 0.98, 0.10  # quantiles over moments
_ACTIVE_RANGE_DB: Final = 70.0  # moments further below the loudest are digital silence rather than quiet
_SILENCE_DB: Final = -120.0
_SPECTRUM_RANGE_DB: Final = 75.0
_STEP_DB: Final = 6.0
_KNEE_DB: Final = 8.0
_FLOOR_MARGIN_DB: Final = 1.5
# Histograms of the bands' levels, one for each class of the moment's own level.
_LOWEST_DB, _HIGHEST_DB, _CLASS_DB = -200, 240, 10


@dataclasses.dataclass(frozen=True, slots=True)
class Cutoff:
    """Where the band ends."""

    hz: float | None
    """The edge; None where there is none to be found: silence, hum, or noise up to the end."""
    nyquist_hz: float
    """Half the recording's rate: it can hold nothing above."""
    how: Literal["modulation", "step", "none"]
    """By what the edge was found."""

    @property
    def full_band(self) -> bool:
        """Whether the recording has everything already and is only to be resampled."""
        return self.hz is not None and self.hz > FULL_BAND_HZ

    @property
    def band_hz(self) -> float:
        """The highest frequency at which the recording has programme, by the edge or else by its rate."""
        return self.nyquist_hz if self.hz is None else self.hz


def find_cutoff(blocks: Iterable[Block], rate_hz: int) -> Cutoff:
    """Return the cutoff of a stream (n, C) at its own rate, from all channels together. Never raises on any finite
    sound."""
    spectrum = BandLevels(rate_hz)
    for block in blocks:
        spectrum.add(block)
    return spectrum.cutoff()


class BandLevels:
    """Histograms of the levels that each band of frequencies has over time."""

    def __init__(self, rate_hz: int) -> None:
        half = max(round(rate_hz / _BIN_HZ / 2), 8)
        self._frame, self._hop, self._nyquist_hz = 2 * half, half, rate_hz / 2
        self._window = (np.sin(np.pi * np.arange(self._frame) / self._frame) ** 2).astype(np.float32)
        bin_hz = rate_hz / self._frame
        edges = [max(_BANDS_FROM_HZ, 2 * bin_hz)]
        while edges[-1] < self._nyquist_hz - 2 * bin_hz:
            edges.append(max(edges[-1] + 2 * bin_hz, edges[-1] * _BAND_RATIO))
        edges[-1] = self._nyquist_hz
        self._edges_hz = np.array(edges)
        self._bins = np.minimum(np.ceil(self._edges_hz / bin_hz).astype(int), half)
        shape = len(edges) - 1, _HIGHEST_DB - _LOWEST_DB
        self._counts = collections.defaultdict[int, NDArray[np.uint32]](lambda: np.zeros(shape, np.uint32))
        self._moment_samples = _FRAMES_PER_MOMENT * self._hop  # one moment to the next; each needs half a frame more
        self._rest: Block | None = None
        self._moments = 0

    def add(self, block: Block) -> None:
        """Take in the next (n, C) of the stream."""
        held = block if self._rest is None else np.concatenate([self._rest, block])
        start = 0
        while (count := min((len(held) - start - self._hop) // self._moment_samples, _MOMENTS_AT_ONCE)) > 0:
            length = count * self._moment_samples
            self._add_moments(held[start : start + length + self._hop], count)
            start += length
        self._rest = held[start:]

    def _add_moments(self, samples: Block, count: int) -> None:
        frames = np.lib.stride_tricks.sliding_window_view(samples, self._frame, axis=0)[:: self._hop]
        spectrum = scipy.fft.rfft(frames * self._window, axis=2)  # (frames, C, bins)
        power = (spectrum.real**2 + spectrum.imag**2).sum(axis=1, dtype=np.float64) / (self._hop / 2) ** 2
        power = power.reshape(count, _FRAMES_PER_MOMENT, -1).mean(axis=1)
        sums = np.add.reduceat(power[:, :-1], self._bins[:-1], axis=1)  # a column a band; the last runs to Nyquist
        levels = _level(_decibel(sums / np.diff(np.append(self._bins[:-1], self._hop))))
        # A sine spreads over 1.5 bins through this window, so this is 0 dB for one of full scale.
        classes = _level(_decibel(power[:, 1:].sum(axis=1) / 1.5)) // _CLASS_DB
        for number in np.unique(classes):
            np.add.at(self._counts[int(number)], (np.arange(levels.shape[1]), levels[classes == number]), 1)
        self._moments += count

    def cutoff(self) -> Cutoff:
        """Return what the stream so far says."""
        nothing = Cutoff(None, self._nyquist_hz, "none")
        if self._moments < _FEWEST_MOMENTS:
            return nothing
        loudest_db = float(max(self._counts) * _CLASS_DB + _LOWEST_DB + _CLASS_DB)
        lowest_db = max(loudest_db - _ACTIVE_RANGE_DB - _CLASS_DB, _SILENCE_DB)
        lowest = int(lowest_db - _LOWEST_DB) // _CLASS_DB
        loud_enough = [counts for number, counts in self._counts.items() if number >= lowest]
        if not loud_enough:
            return nothing
        active = np.stack(loud_enough).sum(axis=0, dtype=np.int64)
        sums = np.cumsum(active, axis=1)
        return self._judge(*(_quantile(active, sums, share) for share in (_LOUD, 0.5, _QUIET)))

    def _judge(
        self, loud_db: NDArray[np.float64], usual_db: NDArray[np.float64], quiet_db: NDArray[np.float64]
    ) -> Cutoff:
        edges_hz = self._edges_hz
        centres_hz = np.sqrt(edges_hz[1:] * edges_hz[:-1])
        heard = loud_db > loud_db.max() - _SPECTRUM_RANGE_DB
        moving = self._last_moving(heard & (loud_db - quiet_db > self._flicker_db()))
        step = _last_step(centres_hz, edges_hz, usual_db, heard, moving)
        last = max(moving, step)
        if last < 0:
            return Cutoff(None, self._nyquist_hz, "none")
        hz = float(edges_hz[_knee(centres_hz, loud_db, last) + 1])
        if hz < LOWEST_HZ:
            return Cutoff(None, self._nyquist_hz, "none")
        return Cutoff(hz, self._nyquist_hz, "step" if step > moving else "modulation")

    def _flicker_db(self) -> NDArray[np.float64]:
        """Return how far the loud moments of each band have to stand above its quiet ones.

        The level of steady noise, averaged over K independent values, varies by 4.34 / sqrt(K) dB, and the
        quantiles used here are 3.3 deviations apart. A Hann window at half overlap makes 0.6 of the values independent.
        """
        values = (
            0.6 * _FRAMES_PER_MOMENT * np.maximum(np.diff(self._edges_hz) / (2 * self._nyquist_hz / self._frame), 1)
        )
        return np.clip(1.5 + 1.3 * 3.3 * 4.34 / np.sqrt(values), 3.5, 9.0)

    @staticmethod
    def _last_moving(moving: NDArray[np.bool_]) -> int:
        """Return the highest band that moves and has a neighbour that does; -1 for none. A single one is chance."""
        neighbour = np.zeros_like(moving)
        neighbour[1:] |= moving[:-1]
        neighbour[:-1] |= moving[1:]
        return int(np.flatnonzero(moving & neighbour).max(initial=-1))


def _last_step(
    centres_hz: NDArray[np.float64],
    edges_hz: NDArray[np.float64],
    level_db: NDArray[np.float64],
    heard: NDArray[np.bool_],
    lowest: int,
) -> int:
    """Return the highest band above `lowest` behind which the level falls in a step; -1 for none.

    A step is a fall across the edge that is larger, by `_STEP_DB`, than the slope on either side of it.
    """
    sums = np.concatenate([[0.0], np.cumsum(level_db)])
    f = edges_hz[1:]

    def mean(low: float, high: float) -> NDArray[np.float64]:
        """For each edge the mean level from `low` to `high` of its frequency; NaN where there are no two bands."""
        first, last = np.searchsorted(centres_hz, low * f), np.searchsorted(centres_hz, high * f)
        level: NDArray[np.float64] = (sums[last] - sums[first]) / np.where(last - first > 1, last - first, np.nan)
        return level

    below, above = mean(0.82, 0.99), mean(1.05, 1.28)
    slope = np.fmax(np.fmax(np.abs(mean(0.64, 0.80) - below), np.abs(above - mean(1.3, 1.6))), 0.0)
    is_step = heard & (below - above - slope > _STEP_DB)  # false where a mean is missing
    is_step[: lowest + 1] = False
    return int(np.flatnonzero(is_step).max(initial=-1))


def _knee(centres_hz: NDArray[np.float64], loud_db: NDArray[np.float64], last: int) -> int:
    """Return the highest band up to `last` that is about as loud as those below it; what lies above is a filter's
    skirt."""
    above = (centres_hz >= 1.12 * centres_hz[last]) & (centres_hz <= 1.9 * centres_hz[last])
    floor_db = float(np.median(loud_db[above])) if above.any() else float(_LOWEST_DB)
    programme = np.where(
        loud_db > floor_db + _FLOOR_MARGIN_DB, _decibel(10 ** (loud_db / 10) - 10 ** (floor_db / 10)), floor_db - 3
    )
    programme = np.maximum(programme, floor_db - 3)
    for band in range(last, 0, -1):
        below = (centres_hz >= 0.72 * centres_hz[band]) & (centres_hz <= 0.93 * centres_hz[band])
        if not below.any() or programme[band] >= programme[below].mean() - _KNEE_DB:
            return band
    return last


def _decibel(power: NDArray[np.float64]) -> NDArray[np.float64]:
    level: NDArray[np.float64] = 10 * np.log10(np.maximum(power, 10.0 ** (_LOWEST_DB / 10)))
    return level


def _level(level_db: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the histogram's bin of a level."""
    return np.clip(np.floor(level_db).astype(np.int64) - _LOWEST_DB, 0, _HIGHEST_DB - _LOWEST_DB - 1)


def _quantile(counts: NDArray[np.int64], sums: NDArray[np.int64], q: float) -> NDArray[np.float64]:
    """Return the level in dB below which the share `q` of each band's moments lies, interpolated inside a bin of 1 dB.

    sums: those of the counts up to each level.
    """
    wanted = q * sums[:, -1:]
    bins = np.argmax(sums >= wanted, axis=1)
    rows = np.arange(len(counts))
    before = sums[rows, bins] - counts[rows, bins]
    inside = (wanted[:, 0] - before) / np.maximum(counts[rows, bins], 1)
    level: NDArray[np.float64] = bins + np.clip(inside, 0, 1) + _LOWEST_DB
    return level
