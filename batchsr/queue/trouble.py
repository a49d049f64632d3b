"""What keeps jobs from being claimed: a pause of the whole queue."""

from __future__ import annotations

import dataclasses
from typing import Literal

PauseKind = Literal["user", "resource", "source"]


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Why nothing is claimed. `user` ends by `resume` alone; workers take back the others when `probes` work again."""

    kind: str
    reason: str
    since: float
    probes: tuple[str, ...]
