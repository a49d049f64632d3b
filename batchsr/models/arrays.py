"""Which arrays and numbers a model takes from a program, and what is wrong with the others."""

from __future__ import annotations

import numpy as np

from batchsr.display import counted
from batchsr.errors import InputEmpty, InputFormat, InputLimits, InputNotFinite

MAX_LEVEL = 1e30
"""Louder than this cannot be computed with in float32."""
MAX_CHANNELS = 64
RATES_HZ = (1_000, 768_000)


def checked(x: np.ndarray, ndims: tuple[int, ...], expected: str) -> np.ndarray:
    """x as a float array that can be restored."""
    x = np.asarray(x)
    if x.ndim not in ndims:
        raise InputFormat(f"the sound has {x.ndim} axes instead of {expected}")
    if x.dtype.kind != "f":
        remedy = "scale integers to +-1 first" if x.dtype.kind in "iu" else "pass floats within +-1, or int16 or int32"
        raise InputFormat(f"the sound is of type {x.dtype} instead of float", remedy=remedy)
    if x.size == 0:
        raise InputEmpty("the sound holds no sample")
    if not max(-x.min(), x.max()) <= MAX_LEVEL:  # nor if it is NaN
        raise InputNotFinite("the sound holds NaN, infinity, or samples too large to compute with")
    return x


def scaled(x: np.ndarray) -> np.ndarray:
    """Integers of 16 and 32 bits as float32 with full scale 1; everything else as it is."""
    x = np.asarray(x)
    if x.dtype in (np.int16, np.int32):
        return (x / np.float64(-float(np.iinfo(x.dtype).min))).astype(np.float32)
    return x


def check_channels_last(x: np.ndarray) -> None:
    """Raise InputFormat for an array that has its channels first."""
    if x.ndim == 2 and x.shape[1] > MAX_CHANNELS and x.shape[0] < x.shape[1]:
        raise InputFormat(
            f"the sound has the shape {x.shape}: {x.shape[1]:,} channels of {counted(x.shape[0], 'sample')}",
            remedy="it must be (samples, channels): pass x.T",
        )
    if x.ndim == 2 and x.shape[1] > MAX_CHANNELS:
        raise InputLimits(f"the sound has {x.shape[1]:,} channels; 1 to {MAX_CHANNELS} are accepted")


def whole_hz(sample_rate: float) -> int:
    low, high = RATES_HZ
    if not is_number(sample_rate):
        raise InputLimits(f"sample_rate = {sample_rate!r} is no number", remedy="pass it in Hz, like 8000")
    if not low <= sample_rate <= high:
        raise InputLimits(f"sample_rate = {sample_rate!r} lies outside {low} to {high} Hz")
    if sample_rate != int(sample_rate):
        raise InputLimits(f"sample_rate = {sample_rate!r} is no whole number of Hz", remedy="resample it first")
    return int(sample_rate)


def is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
