"""All channels mixed down to one, before anything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from batchsr.audio.channels import mix_down
from batchsr.audio.treatment import Treatment
from batchsr.audio.windows import Block
from batchsr.restoration.stages.interface import Listening, Position, Quiet
from batchsr.settings.profile import Settings

if TYPE_CHECKING:
    from batchsr.restoration.spool import Spool


@dataclasses.dataclass(frozen=True, slots=True)
class Mono(Quiet):
    """All channels as their mean."""

    name: str = "mono"
    version: int = 1
    position: Position = "recording"
    context_samples: int = 0

    @property
    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def channels(self, channels: int) -> int:
        """Return one."""
        return 1

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """Yield the mean of each block's channels."""
        return mix_down(blocks)


def decide(recording: Listening, treatment: Treatment) -> None:
    """Decide nothing: nothing has to be known."""
    return


def made(settings: Settings, treatment: Treatment, rate_hz: float, filled: Spool | None) -> Mono | None:
    """Return the stage where one channel is asked for."""
    return Mono() if settings.channels == "mono" else None


def fact(entry: Mapping[str, Any]) -> None:
    """It has no line: the channels of the output say it."""
    return


def sentence(entry: Mapping[str, Any]) -> str:
    """Return that the channels were mixed down."""
    return "Its channels were mixed down to one, their mean."
