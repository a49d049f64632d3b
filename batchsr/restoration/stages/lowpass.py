"""What the model must not take for sound of the recording is taken away above a frequency."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from batchsr.audio.filters import condition, reach_samples
from batchsr.audio.treatment import Treatment
from batchsr.audio.windows import Block
from batchsr.restoration.stages.entries import number, part
from batchsr.restoration.stages.interface import Listening, Position, Quiet
from batchsr.settings.profile import Settings

if TYPE_CHECKING:
    from batchsr.restoration.spool import Spool


@dataclasses.dataclass(frozen=True, slots=True)
class LowPass(Quiet):
    """Takes away what the model must not take for sound of the recording: all above a frequency."""

    cutoff_hz: float
    context_samples: int
    name: str = "lowpass"
    version: int = 1
    position: Position = "model"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The frequency."""
        return {"cutoff_hz": self.cutoff_hz}

    def channels(self, channels: int) -> int:
        """Return as many."""
        return channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """Yield the stream without what lies above the frequency."""
        return condition(blocks, total_samples, self.cutoff_hz)


def decide(recording: Listening, treatment: Treatment) -> None:
    """Decide nothing: the frequency is found with the band that is kept (batchsr.audio.treatment)."""
    return


def made(settings: Settings, treatment: Treatment, rate_hz: float, filled: Spool | None) -> LowPass | None:
    """Return the stage where the treatment has a frequency."""
    hz = treatment.lowpass_hz
    return None if hz is None else LowPass(hz, reach_samples(hz))


def fact(entry: Mapping[str, Any]) -> None:
    """It has no line: the treatment says it."""
    return


def sentence(entry: Mapping[str, Any]) -> str:
    """Return where it stood."""
    return f"A low-pass at {number(part(entry, 'settings'), 'cutoff_hz') or 0:,.0f} Hz stood before the model."
