"""Clicks of a record are interpolated, as far as few samples are touched."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from batchsr.audio.repair import declick
from batchsr.audio.treatment import Treatment
from batchsr.audio.windows import Block
from batchsr.restoration.stages.entries import number, part, plain_sentence
from batchsr.restoration.stages.interface import Listening, Position, Quiet
from batchsr.settings.profile import Settings

if TYPE_CHECKING:
    from batchsr.restoration.spool import Spool


@dataclasses.dataclass(frozen=True, slots=True)
class Declick(Quiet):
    """Interpolates clicks, but for a recording of which too much would be touched: that stays as it is."""

    threshold: float
    clicks: declick.Clicks
    context_samples: int = declick.CONTEXT_SAMPLES
    name: str = "declick"
    version: int = 1
    position: Position = "recording"

    @property
    def settings(self) -> Mapping[str, Any]:
        """From how many times the usual prediction error on a sample is a click's."""
        return {"threshold": self.threshold}

    @property
    def found(self) -> Mapping[str, Any]:
        """How much it touches, or would have."""
        return self.clicks.to_dict()

    @property
    def done(self) -> str:
        """Say so where clicks were interpolated."""
        return "de-clicked" if self._touches else ""

    def channels(self, channels: int) -> int:
        """Return as many."""
        return channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """Yield the stream without clicks."""
        return declick.declick(blocks, self.threshold, total_samples) if self._touches else blocks

    @property
    def _touches(self) -> bool:
        return bool(self.clicks.touched_share) and not self.clicks.steps_back


def decide(recording: Listening, treatment: Treatment) -> declick.Clicks | None:
    """Find the clicks in one pass, and remark where there are too many."""
    if recording.settings.declick == "off":
        return None
    clicks = declick.find(recording.at_own_rate(treatment), recording.settings.declick, recording.info.frames)
    if (said := clicks.remark()) is not None:
        recording.remark(said)
    return clicks


def made(settings: Settings, treatment: Treatment, rate_hz: float, filled: Spool | None) -> Declick | None:
    """Return the stage where clicks were looked for."""
    clicks = treatment.decided.get("declick")
    if settings.declick == "off" or not isinstance(clicks, declick.Clicks):
        return None
    return Declick(settings.declick, clicks)


def fact(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return how much was interpolated, or would have been."""
    found = part(entry, "found")
    if (touched := number(found, "touched_share")) is None:
        return None
    share = f"{100 * touched:.3f} % of the samples"
    return "Clicks", f"stepped back: {share} stand out" if found.get("stepped_back") else f"{share} were interpolated"


def sentence(entry: Mapping[str, Any]) -> str:
    """Return what was touched, or that nothing was."""
    if (said := fact(entry)) is None:
        return plain_sentence(entry)
    threshold = number(part(entry, "settings"), "threshold")
    looked = "Clicks were looked for" + (f" (threshold {threshold:g})" if threshold is not None else "")
    if part(entry, "found").get("stepped_back"):
        return f"{looked}, and too many found to take out, so it stayed as it was: {said[1]}."
    return f"{looked}: {said[1]}."
