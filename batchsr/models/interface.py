"""What a restoration asks of a model. FlashSR is one, plain resampling another (batchsr.models.registry)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
    """A model, loaded. Only one thread ever calls it."""

    @property
    def frame_samples(self) -> int: ...
    @property
    def batch_windows(self) -> int: ...
    @property
    def identity(self) -> Identity: ...
    def windows(self, timestep: int, seed: int) -> WindowFn: ...
    def shrink(self) -> bool:
        """After a ModelMemory: compute in smaller passes from now on. False if they are the smallest already."""
        ...
