"""The loops over samples that NumPy would make in many passes, compiled by numba when first called, then kept on disk.

They run without Python's lock, which the model's thread needs to keep a GPU busy.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_making = threading.Lock()


class _Loop:
    """A function that becomes machine code when it is first called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._made: Callable[..., Any] | None = None
        self._ready: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self._ready is None:
            with _making:
                self._ready = self._make()
        return self._ready(*arguments)

    def _make(self) -> Callable[..., Any]:
        """Return what numba makes of it. The loops that it can call become numba's too: numba knows no others."""
        import numba  # with the first call: it takes 0.3 s, for which a command that computes nothing need not wait

        if self._made is None:
            options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
            try:
                self._made = numba.njit(cache=True, **options)(self._function)
            except RuntimeError:  # no folder for the cache can be written
                self._made = numba.njit(**options)(self._function)
            around = getattr(self._function, "__globals__", {})
            for name, value in list(around.items()):
                if isinstance(value, _Loop):
                    around[name] = value._make()
        made: Callable[..., Any] = self._made
        return made


def is_kept(loop: Callable[..., Any]) -> bool:
    """Return whether a loop's machine code is on the disk, so that its first call compiles nothing."""
    made = loop._make() if isinstance(loop, _Loop) else loop
    folder = getattr(getattr(made, "_cache", None), "cache_path", None)  # None where no folder can be written
    return folder is not None and any(Path(folder).glob(f"*.{getattr(made, '__name__', '')}-*.nbi"))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as machine code that runs without Python's lock; the decorator of
    batchsr.models.compute.loops too.

    Arithmetic stays as it is written: what the compiler may fuse, it fuses in another way in the next process.
    """
    return _Loop(function)


@compiled
def energies(
    x: np.ndarray, sections: np.ndarray, state: np.ndarray, sums: np.ndarray, filled: int, hop: int, out: np.ndarray
) -> float:
    """Sum up the energies of stretches of `hop` samples of x (n, C) behind two biquads; return the largest |sample|.

    sections (2, 6) as SciPy's, with b0 first and a0 = 1. What runs on from block to block is changed in place: the
    filters' state (C, 2, 2), and sums (C), the energy of the `filled` samples of the stretch that is not complete. out
    (stretches that become complete, C) gets their sums of squares.
    """
    (b0, b1, b2, _, a1, a2), (d0, d1, d2, _, c1, c2) = sections[0], sections[1]
    peak = 0.0
    for channel in range(x.shape[1]):
        # y = b0 * x + p, written so that the next p does not wait for y.
        p, q = state[channel, 0]
        r, s = state[channel, 1]
        energy, at, stretch = sums[channel], filled, 0
        for i in range(len(x)):
            sample = np.float64(x[i, channel])
            peak = max(peak, abs(sample))
            y = b0 * sample + p
            p, q = ((b1 - a1 * b0) * sample + q) - a1 * p, (b2 - a2 * b0) * sample - a2 * p
            z = d0 * y + r
            r, s = ((d1 - c1 * d0) * y + s) - c1 * r, (d2 - c2 * d0) * y - c2 * r
            energy += z * z
            at += 1
            if at == hop:
                out[stretch, channel] = energy
                energy, at, stretch = 0.0, 0, stretch + 1
        state[channel, 0, 0], state[channel, 0, 1] = p, q
        state[channel, 1, 0], state[channel, 1, 1] = r, s
        sums[channel] = energy
    return peak


@compiled
def triangular(words: np.ndarray) -> np.ndarray:
    """Return the sum of both halves of random words (n,) uint64, as float64 in (-1, 1) with mean 0."""
    out = np.empty(len(words))
    for i in range(len(words)):
        halves = (words[i] & np.uint64(0xFFFFFFFF)) + (words[i] >> np.uint64(32))
        out[i] = (np.float64(halves) + 1) * 2.0**-32 - 1
    return out


@compiled
def quantise(x: np.ndarray, scale: float, dither: np.ndarray, out: np.ndarray) -> int:
    """Write x (n, C) times `scale` as whole numbers to out (n, C) int32; return how many had to be clamped.

    dither (n,) is added to all channels of a frame but where they are zero; (0,) is none.
    """
    clipped = 0
    for i in range(len(x)):
        for channel in range(x.shape[1]):
            value = np.float64(x[i, channel]) * scale
            clipped += int(value >= scale - 0.5 or value < -scale - 0.5)
            if value != 0 and len(dither):
                value += dither[i]
            out[i, channel] = np.int32(min(max(np.rint(value), -scale), scale - 1))
    return clipped


@compiled
def line_sums(x: np.ndarray, radians: np.ndarray) -> np.ndarray:
    """Return the sums of x (n,) times exp(-i * radians * n) for each of radians (k,), complex128 (k,)."""
    out = np.zeros(len(radians), np.complex128)
    for line in range(len(radians)):
        total = 0j
        for start in range(0, len(x), 1024):  # the phasor is set anew now and then, or its rounding would add up
            phasor = np.exp(-1j * radians[line] * start)
            turn = np.exp(-1j * radians[line])
            for i in range(start, min(start + 1024, len(x))):
                total += x[i] * phasor
                phasor *= turn
        out[line] = total
    return out


@compiled
def add_lines(out: np.ndarray, window: np.ndarray, radians: np.ndarray, sizes: np.ndarray) -> None:
    """Add to out (n,) the real parts of sizes (k,) times exp(i * radians * n), weighed by window (n,)."""
    for line in range(len(radians)):
        for start in range(0, len(out), 1024):
            phasor = sizes[line] * np.exp(1j * radians[line] * start)
            turn = np.exp(1j * radians[line])
            for i in range(start, min(start + 1024, len(out))):
                out[i] += window[i] * phasor.real
                phasor *= turn
