"""What keeps jobs from being claimed: a pause of the whole queue, or a place that some of them need."""

from __future__ import annotations

import dataclasses
from typing import Literal

PauseKind = Literal["user", "resource", "source"]
Side = Literal["source", "output", "scratch"]
"""What a job needs a place for."""
PlaceCode = Literal["full", "quota", "short", "read_only", "denied", "gone", "io"]
"""What is the matter with a place: `short` is less room than asked for, before anything failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Why nothing is claimed. `user` ends by `resume` alone; workers take back the others when `probes` work again."""

    kind: str
    reason: str
    since: float
    probes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """What is the matter with a file system or a folder that jobs need."""

    path: str
    """The folder, or where the file system begins."""
    side: Side
    code: PlaceCode
    reason: str
    """A sentence for people, without the remedy."""
    remedy: str
    whole_system: bool
    """Whether all of its file system is meant; else the folder and what is below."""

    def __str__(self) -> str:
        return f"{self.reason} ({self.remedy})"


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A place in trouble, and the jobs that are held for it. It is forgotten with the last of them."""

    id: int
    trouble: Trouble
    since: float
    """Unix seconds."""
    jobs: int
    """How many are held for it."""
