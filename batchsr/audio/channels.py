"""What channels have in common: equal ones are restored once, silent ones not at all, all of them mixed on request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.windows import Block


class Alikeness:
    """Which channels of a stream are the same, sample for sample, and which are all zero."""

    def __init__(self, channels: int) -> None:
        self._same = np.ones((channels, channels), bool)
        self._silent = np.ones(channels, bool)

    def add(self, block: Block) -> None:
        """Take in the next (n, C) of the stream."""
        for a, b in zip(*np.nonzero(np.triu(self._same, 1)), strict=True):
            self._same[a, b] = np.array_equal(block[:, a], block[:, b])
        for channel in np.flatnonzero(self._silent):
            self._silent[channel] = not block[:, channel].any()

    @property
    def first_alike(self) -> tuple[int, ...]:
        """For each channel the first one that is the same, itself if none is: (0, 0) is a dual-mono file."""
        return tuple(
            int(np.flatnonzero(np.triu(self._same)[: channel + 1, channel])[0]) for channel in range(len(self._silent))
        )

    @property
    def silent(self) -> tuple[bool, ...]:
        """For each channel whether it is all zero."""
        return tuple(bool(silent) for silent in self._silent)

    @property
    def dual_mono(self) -> bool:
        """Whether there are several channels and all are the same."""
        return len(self._silent) > 1 and not any(self.first_alike)


def first_alike(window: NDArray[np.float32]) -> tuple[int, ...]:
    """For each channel of one window (C, T) the first one that is the same, itself if none is."""
    alike = Alikeness(len(window))
    alike.add(window.T)
    return alike.first_alike


def mix_down(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the mean of all channels as a stream (n, 1). A mean cannot clip; a dead channel costs 6 dB of a stereo
    file."""
    for block in blocks:
        yield block.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
