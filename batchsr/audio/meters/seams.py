"""Whether the joints of windows stand out: spectral flux and level step there, against those close by.

Both are ordinary in any sound, and larger at every consonant and drum. What counts is the ratio: around each
joint, stretches of the same length at some distance to either side are measured alike, and the ratio of the
means is 1 when joints are like everywhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray

from batchsr.audio.windows import SAMPLE_RATE_HZ, Block

_FRAME_SAMPLES: Final = 960  # 20 ms
_HOP_SAMPLES: Final = 480
_STRETCH_SAMPLES: Final = 14_400
"""300 ms: the longest joint and what comes just before and after it."""
_AWAY_SAMPLES: Final = tuple(step * 16_800 for step in (-4, -3, -2, -1, 1, 2, 3, 4))
"""Where to compare: 0.35 to 1.4 s before and after."""
_REACH_SAMPLES: Final = max(_AWAY_SAMPLES) + _STRETCH_SAMPLES // 2 + 1
_EDGES_HZ: Final = np.geomspace(150, 24_000, 25)
_WINDOW: Final = np.hanning(_FRAME_SAMPLES + 2)[1:-1].astype(np.float32)
_FLOOR: Final = 1e-10  # -100 dBFS: below, a level is as good as silence


@dataclasses.dataclass(frozen=True, slots=True)
class Seams:
    """What joints do to a file. A ratio is None where there is no joint or nothing sounds beside one."""

    joints: int
    flux_ratio: float | None
    """Change of the spectrum from frame to frame, at joints over elsewhere."""
    step_ratio: float | None
    """Largest jump of the level, at joints over elsewhere."""


class SeamMeter:
    """Measures a stream at 48 kHz as it passes; holds three seconds of it."""

    def __init__(self, borders: Sequence[int]) -> None:
        """`borders` are the middles of the joints in samples, ascending (`Plan.borders`)."""
        self._borders = list(borders)
        self._next = 0
        self._held: list[NDArray[np.float32]] = []  # the mean of the channels
        self._start = 0  # first sample held
        self._end = 0
        self._here: list[tuple[float, float]] = []
        self._elsewhere: list[tuple[float, float]] = []

    def through(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Pass a stream on and measure it; the result is complete when the stream has ended."""
        for block in blocks:
            self.add(block)
            yield block
        self.finish()

    def add(self, block: Block) -> None:
        """Take in the next (n, C) of the stream."""
        self._held.append(np.asarray(sum(block.T) / np.float32(block.shape[1])))  # `mean` takes ten times as long
        self._end += len(block)
        while self._next < len(self._borders) and self._end >= self._borders[self._next] + _REACH_SAMPLES:
            self._measure(self._borders[self._next])
            self._next += 1
        wanted = self._borders[self._next] - _REACH_SAMPLES if self._next < len(self._borders) else self._end
        while self._held and self._start + len(self._held[0]) <= wanted:
            self._start += len(self._held.pop(0))

    def finish(self) -> None:
        """Measure the joints near the end of the stream too."""
        for border in self._borders[self._next :]:
            self._measure(border)
        self._next = len(self._borders)

    @property
    def result(self) -> Seams:
        """Ratios over all joints so far."""
        if not self._here or not self._elsewhere:
            return Seams(len(self._here), None, None)
        here, elsewhere = np.mean(self._here, axis=0), np.mean(self._elsewhere, axis=0)
        ratios = [float(a / b) if b > 1e-3 else None for a, b in zip(here, elsewhere, strict=True)]
        return Seams(len(self._here), ratios[0], ratios[1])

    def _measure(self, border: int) -> None:
        signal = np.concatenate(self._held) if self._held else np.zeros(0, np.float32)
        middle = border - self._start
        near = [self._borders[i] - self._start for i in (self._next - 1, self._next + 1) if 0 <= i < len(self._borders)]
        away = [
            middle + offset
            for offset in _AWAY_SAMPLES
            if all(abs(middle + offset - other) > _STRETCH_SAMPLES for other in near)
            and _holds(signal, middle + offset)
        ]
        if not _holds(signal, middle) or not away:
            return
        flux_db, step_db = _stretches(signal, [middle, *away])
        self._here.append((flux_db[0], step_db[0]))
        self._elsewhere.append((flux_db[1:].mean(), step_db[1:].mean()))


def _holds(signal: NDArray[np.float32], middle: int) -> bool:
    """Return whether the stream holds all of the stretch around a sample."""
    return middle >= _STRETCH_SAMPLES // 2 and middle + _STRETCH_SAMPLES // 2 <= len(signal)


def _stretches(signal: NDArray[np.float32], middles: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return flux and level step of the stretches around these samples, both in dB."""
    starts = np.array(middles)[:, None] - _STRETCH_SAMPLES // 2
    offsets = np.arange(0, _STRETCH_SAMPLES - _FRAME_SAMPLES + 1, _HOP_SAMPLES)
    frames = np.lib.stride_tricks.sliding_window_view(signal, _FRAME_SAMPLES)[starts + offsets]
    spectrum = scipy.fft.rfft(frames * _WINDOW)  # (stretches, frames, bins)
    power = (spectrum.real**2 + spectrum.imag**2) / (_WINDOW.sum() / 2) ** 2
    bins = np.minimum((_EDGES_HZ / SAMPLE_RATE_HZ * _FRAME_SAMPLES).astype(int), power.shape[2] - 1)
    bands = 10 * np.log10(np.add.reduceat(power, bins, axis=2)[:, :, :-1] + _FLOOR)
    level = 10 * np.log10(power.sum(axis=2) + _FLOOR)
    return np.abs(np.diff(bands, axis=1)).mean(axis=(1, 2)), np.abs(level[:, 2:] - level[:, :-2]).max(axis=1)
