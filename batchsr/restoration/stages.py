"""Steps between the reader and the model's windows, in the order in which a recording goes through them.

    reader -> [recording] -> resampler -> [resampled] -> band that is kept; and -> [model] -> windows
              at its own rate              at 48 kHz                               for the model alone

A stage is a function from a stream of blocks (n, C) float32 to one of the same length, of its settings and nothing
else: no sample may depend on where an attempt began, on threads or on the size of blocks. Its identity goes into the
scratch's key, so windows that were made from another stage's output are not believed, and its entry into the sidecar.

To add a stage, write a class here and give it its place in `chain`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from batchsr.audio.channels import mix_down
from batchsr.audio.filters import condition, reach_samples
from batchsr.audio.windows import Block
from batchsr.settings.profile import Settings

Place = Literal["recording", "resampled", "model"]
"""Where on the way: before the resampler, behind it, or for the model alone."""


class Stage(Protocol):
    """One step. Made anew for each stream, so it may keep what it finds in itself."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int:
        """Raise it when the same stream and settings would give other samples."""
        ...

    @property
    def place(self) -> Place: ...
    @property
    def context_samples(self) -> int:
        """How far before and behind a sample the stage looks, in samples of its stream, at most."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its samples depend on beside the stream, JSON-able."""
        ...

    def channels(self, channels: int) -> int:
        """How many channels come out for so many."""
        ...

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """The stream behind it; `total_samples` is the length of one channel."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Mono:
    """All channels as their mean."""

    name: str = "mono"
    version: int = 1
    place: Place = "recording"
    context_samples: int = 0

    @property
    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def channels(self, channels: int) -> int:
        """One."""
        return 1

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """The mean of each block's channels."""
        return mix_down(blocks)


@dataclasses.dataclass(frozen=True, slots=True)
class LowPass:
    """Takes away what the model must not take for sound of the recording: all above a frequency."""

    cutoff_hz: float
    context_samples: int
    name: str = "lowpass"
    version: int = 1
    place: Place = "model"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The frequency."""
        return {"cutoff_hz": self.cutoff_hz}

    def channels(self, channels: int) -> int:
        """As many."""
        return channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """The stream without what lies above the frequency."""
        return condition(blocks, total_samples, self.cutoff_hz)


def chain(settings: Settings, lowpass_hz: float | None) -> list[Stage]:
    """The stages of one restoration, in order. `lowpass_hz` was decided from the settings and the recording."""
    stages: list[Stage] = []
    if settings.channels == "mono":
        stages.append(Mono())
    if lowpass_hz is not None:
        stages.append(LowPass(lowpass_hz, reach_samples(lowpass_hz)))
    return stages


def run(stages: Sequence[Stage], place: Place, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
    """The stream behind all stages of one place."""
    for stage in stages:
        if stage.place == place:
            blocks = stage.run(blocks, total_samples)
    return blocks


def entries(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """What the sidecar and the scratch's key say of them."""
    return [
        {
            "name": stage.name,
            "version": stage.version,
            "place": stage.place,
            "context_samples": stage.context_samples,
            "settings": dict(stage.settings),
        }
        for stage in stages
    ]
