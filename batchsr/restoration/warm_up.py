"""What a process loads and compiles once, done before its first file, so that it is no file's time."""

from __future__ import annotations

import functools

import numpy as np

from batchsr.audio import blas
from batchsr.audio.cutoff import BandLevels
from batchsr.audio.dither import quantise
from batchsr.audio.meters.loudness import LoudnessMeter
from batchsr.audio.meters.true_peak import TruePeakMeter


@functools.cache
def warm_up() -> None:
    """Call each loop that numba compiles for reading and writing once, and load what each file needs of SciPy.

    On a machine's first run that takes seconds, later a second, which may pass beside the loading of a model: it may
    be called from any thread. What a process has done is not done again.
    """
    blas.load()  # before scipy.fft does, which would not tell it the processor
    silence = np.zeros((48_000, 1), np.float32)
    LoudnessMeter(1).add(silence)
    TruePeakMeter(1).add(silence)
    BandLevels(48_000).add(silence)
    quantise(silence, 24, 0)
