"""Kernels on trial: used where they give the right numbers, and elsewhere plain operations, with a warning."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


def passed(what: str, make: Callable[[], T], distance: Callable[[T], float], tolerance: float) -> T | None:
    """What `make` returns; None and a warning where that cannot be made, does not run or is not within the tolerance.

    `what` begins the warning's sentence. `distance` runs what was made; NaN is never within the tolerance.
    """
    try:
        candidate = make()
        worst = distance(candidate)
    except (RuntimeError, ValueError) as e:
        log.warning("%s cannot be used here, so slower plain operations are: %s", what, e)
        return None
    if not worst < tolerance:
        log.warning("%s: wrong here by %.1e, so slower plain operations are used", what, worst)
        return None
    return candidate
