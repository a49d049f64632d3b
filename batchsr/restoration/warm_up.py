"""What a process loads and compiles once, done before its first file, so that it is no file's time."""

from __future__ import annotations

import numpy as np

from batchsr.audio.dither import quantise
from batchsr.audio.meters.loudness import LoudnessMeter


def warm_up() -> None:
    """Call each loop that numba compiles for reading and writing once; on a machine's first run that takes seconds."""
    silence = np.zeros((48_000, 1), np.float32)
    LoudnessMeter(1).add(silence)
    quantise(silence, 24, 0)
