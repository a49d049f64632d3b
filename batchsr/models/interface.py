"""What a restoration asks of a model that is loaded. FlashSR is one, plain resampling another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from batchsr.models.identity import About

Rows = NDArray[np.float32]
"""Samples at 48 kHz, (rows, frame_samples)."""
WindowFn = Callable[[Rows, Sequence[int]], Rows]
"""Rows and each one's window index -> the restored rows."""


class Identity(Protocol):
    """What made the windows; every field goes into the scratch's key and the sidecar."""

    @property
    def weights_sha256(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...


class WindowModel(Protocol):
    """A model, loaded. Only one thread ever calls it. It restores sound at 48 kHz, a window of one channel a row."""

    @property
    def about(self) -> About: ...
    @property
    def frame_samples(self) -> int: ...
    @property
    def batch_windows(self) -> int: ...
    @property
    def identity(self) -> Identity: ...
    def windows(self, timestep: int, seed: int) -> WindowFn:
        """Return what restores rows: any number of them, each to the same bits in whatever company.

        Passes are of `batch_windows` rows; a recording of more channels has more in one call.
        """
        ...

    def shrink(self) -> bool:
        """After a ModelMemory: compute in smaller passes from now on. False if they are the smallest already."""
        ...
