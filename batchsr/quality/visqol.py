"""What listeners would say of a restoration beside its original, guessed by ViSQOL: from 1 to 5.

In its mode for audio alone, which hears 48 kHz, in 32 bands from 50 Hz to 15 kHz. Its mode for speech hears 16 kHz, so
it is blind to all that is added to what had that rate, and it guesses one to two points too much unless a network of
another package is installed. What differs in level alone or is late is brought together first, so neither counts.

Source: M. Chinen, F. S. C. Lim, J. Skoglund, N. Gureev, F. O'Gorman, A. Hines, ViSQOL v3: An Open Source Production
Ready Objective Speech and Audio Metric, QoMEX 2020; computed by visqol-python.
"""

from __future__ import annotations

import functools
import math
import os
from typing import Any, Final

import numpy as np

from batchsr.quality.measure import SAMPLE_RATE_HZ, Signal

BEST: Final = 4.73
"""What the same sound twice is given."""
SHORTEST_SAMPLES: Final = SAMPLE_RATE_HZ * 96 // 100
"""Of less ViSQOL makes no patch to compare."""


def mos(reference: Signal, restored: Signal) -> float | None:
    """Return the opinion, 1 to 5, of a restoration of a 48 kHz original, both (n,).

    None where there is nothing to have one of: either is silent, or they are shorter than 0.96 s. Not for several
    threads at once. Raises ModuleNotFoundError without the package (`batchsr.settings.extras.need_visqol`).
    """
    if min(len(reference), len(restored)) < SHORTEST_SAMPLES or not (np.any(reference) and np.any(restored)):
        return None
    a, b = np.asarray(reference, np.float64), np.asarray(restored, np.float64)
    found = float(_api().measure_from_arrays(a, b, sample_rate=SAMPLE_RATE_HZ).moslqo)
    return found if math.isfinite(found) else None


@functools.cache
def _api() -> Any:
    threading_layer = os.environ.get("NUMBA_THREADING_LAYER")
    import visqol

    if threading_layer is None:  # which the package sets for the whole process, and for programs that it starts
        os.environ.pop("NUMBA_THREADING_LAYER", None)
    api = visqol.VisqolApi()
    api.create(mode="audio")
    return api
