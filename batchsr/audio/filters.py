"""Zero-phase filters as streams: the low-pass the model was trained behind, and the crossover that keeps the band.

Every function takes and gives blocks (n, C) of one rate, as many samples out as in, without delay, in bytes
that do not depend on the sizes of the blocks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import scipy  # its parts load when they are first used: scipy.signal takes a second
from numpy.typing import NDArray

from batchsr.audio.resample import convert_blocks, reblock
from batchsr.audio.windows import SAMPLE_RATE_HZ, Block

_PORTION_SAMPLES: Final = 65_536
_ORDER, _RIPPLE_DB = 8, 0.1
_DECAY: Final = 1e-7  # -140 dB: what a ringing may still have when it is cut off
# soxr's VHQ is flat up to here, as a share of the lower rate's Nyquist frequency.
_FLAT_SHARE: Final = 0.91


def condition(blocks: Iterable[Block], samples: int, cutoff_hz: float) -> Iterator[Block]:
    """Low-pass a stream of `samples` samples at 48 kHz as the model's training data was.

    `lowpass`, then down to twice the cutoff and back, which ends the filter's skirt. At 24 kHz nothing is done.
    """
    if cutoff_hz >= SAMPLE_RATE_HZ / 2:
        return iter(blocks)
    low_hz = 2 * round(cutoff_hz)
    low_samples = -(-samples * low_hz // SAMPLE_RATE_HZ)
    down = convert_blocks(lowpass(blocks, cutoff_hz), SAMPLE_RATE_HZ, low_hz, low_samples)
    return convert_blocks(down, low_hz, SAMPLE_RATE_HZ, samples)


def reach_samples(cutoff_hz: float) -> int:
    """Return how far before and behind a sample `condition` looks, until its effect lies 120 dB below the sound."""
    if cutoff_hz >= SAMPLE_RATE_HZ / 2:
        return 0
    return 2 * _decay_samples(scipy.signal.cheby1(_ORDER, _RIPPLE_DB, cutoff_hz, fs=SAMPLE_RATE_HZ, output="sos"))


def lowpass(blocks: Iterable[Block], cutoff_hz: float, rate_hz: int = SAMPLE_RATE_HZ) -> Iterator[Block]:
    """Chebyshev-I low-pass, order 8, 0.1 dB, forwards and backwards: zero phase.

    The forward filter runs through. The backward one starts anew for each portion, so far behind the portion's
    end that its start has died away. The ends of the stream are treated as `scipy.signal.sosfiltfilt` does
    (odd extension), and the result is that of the filter over the whole stream to better than -90 dB.
    """
    sos = scipy.signal.cheby1(_ORDER, _RIPPLE_DB, cutoff_hz, fs=rate_hz, output="sos")
    ahead = _decay_samples(sos)
    edge = 3 * (2 * len(sos) + 1)
    settled = scipy.signal.sosfilt_zi(sos)[:, :, None]
    state: NDArray[np.float64] | None = None
    tail = np.zeros((0, 0), np.float32)  # the last samples of the stream so far, for its odd extension
    forward = np.zeros((0, 0))  # forward-filtered, not yet filtered backwards
    for block in reblock(blocks, max(_PORTION_SAMPLES, edge + 1)):
        if state is None:
            before = _odd(block[: edge + 1])[::-1]
            state = settled * (before[0] if len(before) else block[0].astype(np.float64))
            _, state = _filter(sos, before, state)
            tail, forward = block[:0], np.zeros((0, block.shape[1]))
        out, state = _filter(sos, block.astype(np.float64), state)
        tail = np.concatenate([tail, block])[-edge - 1 :]
        forward = np.concatenate([forward, out])
        if len(forward) > ahead:
            done = len(forward) - ahead
            yield _backwards(sos, forward, settled * forward[-1])[:done].astype(np.float32)
            forward = forward[done:]
    if state is None:
        return
    behind = _odd(tail[::-1])
    out, _ = _filter(sos, behind, state)
    whole = np.concatenate([forward, out])
    yield _backwards(sos, whole, settled * whole[-1])[: len(forward)].astype(np.float32)


def _odd(edge: Block) -> NDArray[np.float64]:
    """Return the odd extension before an edge (m + 1, C), nearest sample first: (m, C)."""
    values = edge.astype(np.float64)
    extension: NDArray[np.float64] = 2 * values[0] - values[1:]
    return extension


def _filter(
    sos: NDArray[np.float64], x: NDArray[np.float64], state: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not len(x):  # which scipy does not take
        return x, state
    y, state = scipy.signal.sosfilt(sos, x, axis=0, zi=state)
    return y, state


def _backwards(sos: NDArray[np.float64], x: NDArray[np.float64], state: NDArray[np.float64]) -> NDArray[np.float64]:
    return _filter(sos, x[::-1], state)[0][::-1]


def _decay_samples(sos: NDArray[np.float64]) -> int:
    """Return how long the filter rings, in samples, until `_DECAY` is left of it."""
    slowest = max(float(np.abs(np.roots(section[3:])).max()) for section in sos)
    return math.ceil(math.log(_DECAY) / math.log(slowest))


@dataclasses.dataclass(frozen=True, slots=True)
class Crossover:
    """Where the recording ends and the restoration begins."""

    pass_hz: float
    """Below this the output is the recording."""
    stop_hz: float
    """Above this it is the restoration."""

    @classmethod
    def below(cls, band_hz: float, source_rate_hz: int, *, exact: bool = False) -> Crossover:
        """Return the crossover for a recording whose band ends at `band_hz`.

        An edge that was detected may be 10 % too high, and behind the true edge the recording has nothing: a
        crossover there would leave a hole, so it lies well below. One that was given (`exact`) is believed. Either
        way it keeps clear of where the resampler falls off.
        """
        share = 1.0 if exact else 0.92
        stop_hz = min(share * band_hz, _FLAT_SHARE * min(source_rate_hz, SAMPLE_RATE_HZ) / 2)
        return cls(0.95 * stop_hz, stop_hz)

    def kernel(self) -> NDArray[np.float64]:
        """Return the low-pass, of odd length and linear phase: within -90 dB of 1 below `pass_hz` and of 0 above
        `stop_hz`."""
        width_hz = max(self.stop_hz - self.pass_hz, 20.0)
        length, beta = scipy.signal.kaiserord(90.0, width_hz / (SAMPLE_RATE_HZ / 2))
        middle_hz = (self.pass_hz + self.stop_hz) / 2
        kernel: NDArray[np.float64] = scipy.signal.firwin(
            length | 1, middle_hz, window=("kaiser", beta), fs=SAMPLE_RATE_HZ
        )
        return kernel


def keep_band(recording: Iterable[Block], restored: Iterable[Block], crossover: Crossover) -> Iterator[Block]:
    """Yield the recording below the crossover, the restoration above it; both at 48 kHz and equally long.

    The two filters are complementary, so one is enough: output = restored + lowpass(recording - restored).
    Raises ValueError when the streams' lengths differ.
    """
    kernel = crossover.kernel()
    half = len(kernel) // 2
    portion = max(_PORTION_SAMPLES, 4 * half)
    length = scipy.fft.next_fast_len(portion + len(kernel) - 1, real=True)
    response = scipy.fft.rfft(kernel, length)[:, None]
    waiting: Block | None = None  # restored, for which the filtered difference is still to come
    overlap = np.zeros((0, 0))  # what earlier portions add to the ones to come
    skip = half  # the filter's delay, taken out at the start
    for known, made in _together(recording, restored, portion):
        if waiting is None:
            waiting, overlap = made[:0], np.zeros((len(kernel) - 1, made.shape[1]))
        waiting = np.concatenate([waiting, made])
        difference = known.astype(np.float64) - made
        filtered = scipy.fft.irfft(scipy.fft.rfft(difference, length, axis=0) * response, length, axis=0)
        filtered = filtered[: len(known) + len(kernel) - 1]
        filtered[: len(overlap)] += overlap[: len(filtered)]
        ready, overlap = filtered[: len(known)], filtered[len(known) :]
        ready, skip = ready[skip:], max(skip - len(ready), 0)
        yield (waiting[: len(ready)] + ready).astype(np.float32)
        waiting = waiting[len(ready) :]
    if waiting is not None:
        yield (waiting + overlap[skip : skip + len(waiting)]).astype(np.float32)


def _together(one: Iterable[Block], other: Iterable[Block], samples: int) -> Iterator[tuple[Block, Block]]:
    """Yield two streams in step, in blocks of `samples` samples. Raises ValueError when their lengths differ."""
    for a, b in zip(reblock(one, samples), reblock(other, samples), strict=True):
        if a.shape != b.shape:
            raise ValueError(f"the streams differ: {a.shape} against {b.shape}")
        yield a, b
