"""Test our kernels: they are used where they give the right numbers, and elsewhere plain operations, with a warning."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from batchsr.models.compute import proven

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict(Generic[T]):
    """How the test of the kernels ended."""

    used: T | None
    """The kernels, or None where plain operations compute instead."""
    reason: str = ""
    """Why not, in a line."""


def judged(
    what: str,
    make: Callable[[], T],
    distance: Callable[[T], float],
    tolerance: float,
    circumstances: str | None = None,
) -> Verdict[T]:
    """Return what `make` makes; nothing, with a warning, where that fails, does not run or misses the tolerance.

    `what` begins the warning's sentence. `distance` runs what was made; NaN is never within the tolerance. With
    `circumstances` (batchsr.models.compute.proven) a test that was passed is not made again in the same.
    """
    try:
        candidate = make()
        known = proven.remembered(what, circumstances) if circumstances is not None else None
        if known is not None and not known < tolerance:
            known = None  # only what was passed is remembered, so it is made again
        worst = distance(candidate) if known is None else known
    except (RuntimeError, ValueError) as e:
        log.warning("%s cannot be used here, so slower plain operations are: %s", what, e)
        return Verdict(None, (str(e).strip().splitlines() or [type(e).__name__])[0][:200])
    if not worst < tolerance:
        log.warning("%s: wrong here by %.1e, so slower plain operations are used", what, worst)
        return Verdict(None, f"wrong by {worst:.1e}")
    if known is None and circumstances is not None:
        proven.remember(what, circumstances, worst)
    return Verdict(candidate)
