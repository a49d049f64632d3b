"""Lines of mains hum are subtracted, as far as they stand out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from batchsr.audio.repair import dehum
from batchsr.audio.treatment import Treatment
from batchsr.audio.windows import Block
from batchsr.restoration.stages.entries import number, part, plain_sentence
from batchsr.restoration.stages.interface import Listening, Position, Quiet
from batchsr.settings.profile import Settings

if TYPE_CHECKING:
    from batchsr.restoration.spool import Spool


@dataclasses.dataclass(frozen=True, slots=True)
class Dehum(Quiet):
    """Subtracts the lines of mains hum that stand out."""

    hum: dehum.Hum
    rate_hz: float
    name: str = "dehum"
    version: int = 1
    position: Position = "recording"

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

    @property
    def done(self) -> str:
        """Say so where there was hum."""
        return "de-hummed" if self.hum else ""

    def channels(self, channels: int) -> int:
        """Return as many."""
        return channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """Yield the stream without hum."""
        return dehum.dehum(blocks, self.hum, self.rate_hz)


def decide(recording: Listening, treatment: Treatment) -> dehum.Hum | None:
    """Find the lines in one pass."""
    if recording.settings.dehum != "auto":
        return None
    return dehum.find(recording.at_own_rate(treatment), recording.info.sample_rate)


def made(settings: Settings, treatment: Treatment, rate_hz: float, filled: Spool | None) -> Dehum | None:
    """Return the stage where hum was looked for."""
    hum = treatment.decided.get("dehum")
    return Dehum(hum, rate_hz) if isinstance(hum, dehum.Hum) else None


def fact(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return how many lines were subtracted."""
    found = part(entry, "found")
    channels, base_hz = found.get("multiples"), number(found, "base_hz")
    lines = sum(len(one) for one in channels if isinstance(one, list)) if isinstance(channels, list) else 0
    return "Hum", f"{lines} lines of {base_hz:.0f} Hz were subtracted" if base_hz and lines else "none stands out"


def sentence(entry: Mapping[str, Any]) -> str:
    """Return what was subtracted, or that nothing was."""
    if not part(entry, "found"):
        return plain_sentence(entry)
    return f"Mains hum was looked for: {fact(entry)[1]}."
