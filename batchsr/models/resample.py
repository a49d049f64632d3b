"""Resampling alone, as a model: a window comes out as it went in.

The honest baseline: what a restoration adds is what it adds to this. Its outputs, sidecars and reports are made as any
model's are, and so its figures can stand beside theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from batchsr.models.identity import About, ModelIdentity

if TYPE_CHECKING:
    from batchsr.models.interface import Rows, WindowFn

ABOUT: Final = About(name="resample", says="the baseline without a model", label="", synthesises=False)
FRAME_SAMPLES = 245_760
"""5.12 s, as FlashSR's windows."""
BATCH_WINDOWS = 16
_REVISION = "resample 1"


class Resample:
    """The model that gives every window back as it is."""

    def __init__(self) -> None:
        self.about = ABOUT
        self.frame_samples = FRAME_SAMPLES
        self.batch_windows = BATCH_WINDOWS
        self.identity = ModelIdentity(
            variant=ABOUT.name,
            repository=None,
            revision=_REVISION,
            weights_sha256=hashlib.sha256(_REVISION.encode()).hexdigest(),
            dtype="float32",
            device="none",
            mlx_version="none",
        )

    def windows(self, timestep: int, seed: int) -> WindowFn:
        """Return a function that gives back what it is given; both settings mean nothing to it."""
        return _as_they_are

    def shrink(self) -> bool:
        """There is nothing smaller."""
        return False


def _as_they_are(rows: Rows, indices: Sequence[int]) -> Rows:
    return rows.copy()
