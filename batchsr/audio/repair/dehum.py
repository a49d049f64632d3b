"""Take mains hum out of a recording at its own rate, as a stream: only lines that stand out, and only what is steady.

A pass over the whole recording finds the lines: multiples of 50 or 60 Hz that stand STANDS_OUT_DB over their
neighbours in most blocks of 4 s. A second one fits the exact frequency in each block, then each line's size and
phase behind a Hann window of 8 s, and subtracts the sum of the blocks' lines, which overlap by half. Such a window
hears a quarter of a hertz on either side of a line: a voice passes through that, hum stands in it.

The blocks lie on a grid from the recording's start, so the bytes depend neither on the sizes of what comes in nor on
where an attempt began.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import scipy
from numpy.typing import NDArray

from batchsr.audio.loops import add_lines, line_sums
from batchsr.audio.resample import reblock
from batchsr.audio.windows import Block

HOP_S: Final = 4.0
"""Seconds from block to block where hum is subtracted; each is twice as long."""
_FIND_HOP_S: Final = 2.0
"""The same where it is looked for."""
STANDS_OUT_DB: Final = 10.0
_BASES_HZ: Final = (50.0, 60.0)
_OFF_HZ: Final = 0.25
"""How far a mains frequency is looked for from its nominal value."""
_MOST_HZ: Final = 1_000.0
_MOST_SHARE_OF_RATE: Final = 0.4
_STEPS: Final = 101
_MOST_OF_BLOCKS: Final = 0.6
_FEWEST_BLOCKS: Final = 3
_NEIGHBOURS_HZ: Final = (2.0, 8.0)
_SILENT: Final = 1e-14


@dataclasses.dataclass(frozen=True, slots=True)
class Hum:
    """The lines that were found in a whole recording."""

    base_hz: float = 0.0
    """50 or 60; 0: there is none."""
    lines: tuple[tuple[int, ...], ...] = ()
    """For each channel the multiples of it that stand out."""
    excess_db: float = 0.0
    """By how much the strongest stands over its neighbours, on the average of the blocks."""

    def __bool__(self) -> bool:
        return any(self.lines)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types, for the sidecar."""
        return {
            "base_hz": self.base_hz or None,
            "multiples": [list(lines) for lines in self.lines],
            "strongest_over_neighbours_db": round(self.excess_db, 1) if self else None,
        }


def find(blocks: Iterable[Block], rate_hz: float) -> Hum:
    """Listen to a whole recording (n, C) and return its hum; none in one that is shorter than 8 s."""
    counted = 0
    standing: list[NDArray[np.float64]] = []  # for each base: (C, multiples), in how many blocks a line stands out
    excess: list[NDArray[np.float64]] = []
    for block in _overlapping(blocks, round(_FIND_HOP_S * rate_hz), whole_only=True):
        spectra = _spectra(block)
        found = [_excess_db(spectra, len(block), rate_hz, base) for base in _BASES_HZ]
        if not standing:
            standing = [np.zeros(one.shape) for one in found]
            excess = [np.zeros(one.shape) for one in found]
        for of_base, sums, one in zip(standing, excess, found, strict=True):
            of_base += one >= STANDS_OUT_DB
            sums += one
        counted += 1
    if counted < _FEWEST_BLOCKS:
        return Hum()
    best = Hum()
    most = 0.0
    for base_hz, of_base, sums in zip(_BASES_HZ, standing, excess, strict=True):
        steady = of_base >= _MOST_OF_BLOCKS * counted
        steady &= steady[:, :2].any(axis=1, keepdims=True)  # hum has its first line or its second
        weight = float((sums * steady).sum())
        if weight > most:
            lines = tuple(tuple(int(k) + 1 for k in np.flatnonzero(row)) for row in steady)
            best, most = Hum(base_hz, lines, float(sums[steady].max()) / counted), weight
    return best


def dehum(blocks: Iterable[Block], hum: Hum, rate_hz: float) -> Iterator[Block]:
    """Subtract the lines of `hum` from a stream (n, C); as many samples come out. Without any it passes untouched."""
    if not hum:
        yield from blocks
        return
    hop = round(HOP_S * rate_hz)
    before: NDArray[np.float64] | None = None  # what the block before says of the half that both share
    for block in _overlapping(blocks, hop):
        inside = _inside(block, hop)
        estimate = np.zeros((2 * hop, block.samples.shape[1]))
        for channel, lines in enumerate(hum.lines):
            if lines:
                estimate[:, channel] = _estimate(block.samples[:, channel], inside, lines, hum.base_hz, rate_hz)
        first, second = estimate[:hop], estimate[hop:]
        if before is not None:
            known = block.samples[: min(hop, block.stop)]
            yield (known - (before + first)[: len(known)]).astype(np.float32)
        before = second


@dataclasses.dataclass(frozen=True, slots=True)
class _Piece:
    """Two hops of a recording, as float64 (2 * hop, C), zeros outside of it."""

    samples: NDArray[np.float64]
    start: int
    """Where in it the recording begins."""
    stop: int
    """Where it ends."""

    def __len__(self) -> int:
        return len(self.samples)


def _overlapping(blocks: Iterable[Block], hop: int, *, whole_only: bool = False) -> Iterator[_Piece]:
    """Yield the recording in pieces of two hops, one hop apart, the first of them a hop before its start."""
    last: NDArray[np.float64] | None = None
    last_length = 0
    for block in reblock(blocks, hop):
        now = np.zeros((hop, block.shape[1]))
        now[: len(block)] = block
        if last is None:
            last = np.zeros_like(now)
            if not whole_only:
                yield _Piece(np.concatenate([last, now]), hop, hop + len(block))
        elif not whole_only or len(block) == hop:
            yield _Piece(np.concatenate([last, now]), 0, hop + len(block))
        last, last_length = now, len(block)
    if last is not None and not whole_only:
        yield _Piece(np.concatenate([last, np.zeros_like(last)]), 0, last_length)


def _inside(piece: _Piece, hop: int) -> NDArray[np.float64]:
    """Return the window, zero where the piece has no recording."""
    window: NDArray[np.float64] = scipy.signal.windows.hann(2 * hop, sym=False)
    window[: piece.start] = 0
    window[piece.stop :] = 0
    return window


def _spectra(piece: _Piece) -> NDArray[np.float64]:
    """Return the power (C, bins) of a piece behind its window, with twice the bins that it has samples for."""
    window = scipy.signal.windows.hann(len(piece), sym=False)
    length = scipy.fft.next_fast_len(2 * len(piece), real=True)
    spectrum = scipy.fft.rfft(piece.samples * window[:, None], length, axis=0)
    return np.ascontiguousarray(np.square(np.abs(spectrum)).T)


def _excess_db(spectra: NDArray[np.float64], samples: int, rate_hz: float, base_hz: float) -> NDArray[np.float64]:
    """By how much each multiple of a base stands over its neighbours, (C, multiples); 0 in silence."""
    length = scipy.fft.next_fast_len(2 * samples, real=True)
    bin_hz = rate_hz / length
    multiples = int(min(_MOST_HZ, _MOST_SHARE_OF_RATE * rate_hz) // base_hz)
    near, far = _NEIGHBOURS_HZ
    excess = np.zeros((len(spectra), multiples))
    for k in range(1, multiples + 1):
        middle = k * base_hz
        off_hz = min(_OFF_HZ * k, near / 2)
        low, high = round((middle - off_hz) / bin_hz), round((middle + off_hz) / bin_hz) + 1
        line = spectra[:, low:high].max(axis=1)
        sides = [
            spectra[:, round((middle + a) / bin_hz) : round((middle + b) / bin_hz)]
            for a, b in ((-far, -near), (near, far))
        ]
        floor = np.mean(np.concatenate(sides, axis=1), axis=1)
        sounding = line > _SILENT * samples**2
        excess[:, k - 1] = np.where(sounding, 10 * np.log10(np.maximum(line, 1e-30) / np.maximum(floor, 1e-30)), 0.0)
    return np.clip(excess, -20.0, 80.0)


def _estimate(
    x: NDArray[np.float64], window: NDArray[np.float64], lines: Sequence[int], base_hz: float, rate_hz: float
) -> NDArray[np.float64]:
    """Return the hum of one channel's piece, behind the window: (2 * hop,)."""
    multiples = np.array(lines, np.float64)
    weighed = x * window
    exact_hz = _exact(weighed, multiples, base_hz, rate_hz)
    total = float(window.sum())
    out = np.zeros(len(x))
    if total <= 0:
        return out
    radians = 2 * np.pi * exact_hz * multiples / rate_hz
    sums = line_sums(weighed, radians)
    add_lines(out, window, radians, 2 * sums / total)
    # As two overlapping windows add up to 1 also at the recording's ends, the window weighs what is subtracted.
    return out


def _exact(weighed: NDArray[np.float64], multiples: NDArray[np.float64], base_hz: float, rate_hz: float) -> float:
    """Return the base's frequency in one piece: where its multiples together hold most, each beside what is
    around it."""
    length = scipy.fft.next_fast_len(4 * len(weighed), real=True)
    power = np.square(np.abs(scipy.fft.rfft(weighed, length)))
    bin_hz = rate_hz / length
    tried = base_hz + np.linspace(-_OFF_HZ, _OFF_HZ, _STEPS)
    score = np.zeros(_STEPS)
    for k in multiples:
        at = k * tried / bin_hz
        low = at.astype(int)
        share = at - low
        here = (1 - share) * power[low] + share * power[low + 1]
        around = np.median(power[max(0, low[0] - 200) : low[-1] + 200])
        score += here / max(float(around), 1e-30)
    best = int(np.argmax(score))
    if not 0 < best < _STEPS - 1:
        return float(tried[best])
    left, middle, right = score[best - 1 : best + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(tried[best] + shift * (tried[1] - tried[0]))
