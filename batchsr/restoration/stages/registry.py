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
from batchsr.audio.denoising import Denoising
from batchsr.audio.filters import condition, reach_samples
from batchsr.audio.repair import declick, dehum
from batchsr.audio.treatment import Treatment
from batchsr.audio.windows import Block
from batchsr.restoration import spool
from batchsr.settings.profile import Settings
from batchsr.speech import denoiser

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

    @property
    def found(self) -> Mapping[str, Any]:
        """What it found and decided, JSON-able; empty for a stage that decides nothing."""
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

    @property
    def found(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def channels(self, channels: int) -> int:
        """One."""
        return 1

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """The mean of each block's channels."""
        return mix_down(blocks)


@dataclasses.dataclass(frozen=True, slots=True)
class Declick:
    """Interpolates clicks, but for a recording of which too much would be touched: that stays as it is."""

    threshold: float
    clicks: declick.Clicks
    context_samples: int = declick.CONTEXT_SAMPLES
    name: str = "declick"
    version: int = 1
    place: Place = "recording"

    @property
    def settings(self) -> Mapping[str, Any]:
        """From how many times the usual prediction error on a sample is a click's."""
        return {"threshold": self.threshold}

    @property
    def found(self) -> Mapping[str, Any]:
        """How much it touches, or would have."""
        return self.clicks.to_dict()

    def channels(self, channels: int) -> int:
        """As many."""
        return channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """The stream without clicks."""
        if self.clicks.steps_back or not self.clicks.touched_share:
            return blocks
        return declick.declick(blocks, self.threshold, total_samples)


@dataclasses.dataclass(frozen=True, slots=True)
class Dehum:
    """Subtracts the lines of mains hum that stand out."""

    hum: dehum.Hum
    rate_hz: float
    name: str = "dehum"
    version: int = 1
    place: Place = "recording"

    @property
    def context_samples(self) -> int:
        """A block on either side."""
        return round(2 * dehum.HOP_S * self.rate_hz)

    @property
    def settings(self) -> Mapping[str, Any]:
        """None beside the recording's own rate."""
        return {}

    @property
    def found(self) -> Mapping[str, Any]:
        """The lines."""
        return self.hum.to_dict()

    def channels(self, channels: int) -> int:
        """As many."""
        return channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """The stream without hum."""
        return dehum.dehum(blocks, self.hum, self.rate_hz)


@dataclasses.dataclass(frozen=True, slots=True)
class Denoise:
    """Denoises speech, in the spool that the recording keeps (batchsr.restoration.spool); this says so."""

    denoising: Denoising
    name: str = "denoise"
    version: int = 1
    place: Place = "resampled"
    context_samples: int = (spool.LEAD_PAGES + 1) * spool.PAGE

    @property
    def settings(self) -> Mapping[str, Any]:
        """The limit and the gain, and what computes."""
        of_network = dict(denoiser.identity()) if self.denoising.on else {}
        return {"limit_db": self.denoising.limit_db, "gain_db": self.denoising.gain_db, **of_network}

    @property
    def found(self) -> Mapping[str, Any]:
        """What was decided, and from what."""
        return self.denoising.to_dict()

    def channels(self, channels: int) -> int:
        """As many."""
        return channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """The stream as it is: the recording gives it to the spool behind all stages of its place."""
        return blocks


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

    @property
    def found(self) -> Mapping[str, Any]:
        """Nothing: the treatment says where the frequency is from."""
        return {}

    def channels(self, channels: int) -> int:
        """As many."""
        return channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """The stream without what lies above the frequency."""
        return condition(blocks, total_samples, self.cutoff_hz)


def chain(settings: Settings, treatment: Treatment, rate_hz: float) -> list[Stage]:
    """The stages of one restoration, in order. `treatment` was decided from the settings and the recording.

    `rate_hz` is the recording's. What the treatment does not name, as while it is still being decided, is left out.
    """
    stages: list[Stage] = []
    if settings.channels == "mono":
        stages.append(Mono())
    if settings.declick != "off" and treatment.clicks is not None:
        stages.append(Declick(settings.declick, treatment.clicks))
    if treatment.hum is not None:
        stages.append(Dehum(treatment.hum, rate_hz))
    if treatment.denoising is not None:
        stages.append(Denoise(treatment.denoising))
    if treatment.lowpass_hz is not None:
        stages.append(LowPass(treatment.lowpass_hz, reach_samples(treatment.lowpass_hz)))
    return stages


def run(stages: Sequence[Stage], place: Place, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
    """The stream behind all stages of one place."""
    for stage in stages:
        if stage.place == place:
            blocks = stage.run(blocks, total_samples)
    return blocks


def entries(stages: Sequence[Stage], filled: spool.Spool | None = None) -> list[dict[str, Any]]:
    """What the sidecar and the scratch's key say of them; with a spool that was filled, also what was removed."""
    return [
        {
            "name": stage.name,
            "version": stage.version,
            "place": stage.place,
            "context_samples": stage.context_samples,
            "settings": dict(stage.settings),
            **_found(stage, filled),
        }
        for stage in stages
    ]


def _found(stage: Stage, filled: spool.Spool | None) -> dict[str, Any]:
    more = filled.found() if filled is not None and stage.name == "denoise" else {}
    return {"found": {**stage.found, **more}} if stage.found else {}
