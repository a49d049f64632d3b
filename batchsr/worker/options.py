"""How a worker behaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchsr.restoration.credentials import Signing


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker claims, when it stops, and how patient it is."""

    variant: str
    """What jobs may name to be claimed; open ones are claimed too."""
    min_free_bytes: float = 2e9
    """Hold a job whose output's or scratch's file system would be left with less."""
    max_attempts: int = 5
    """Transient failures in a row, without a window of progress, until a job fails."""
    backoff_s: float = 5.0
    """The first wait; each further one is twice as long."""
    backoff_max_s: float = 600.0
    poll_s: float = 1.0
    """How often an idle worker looks."""
    wait_for_places_s: float = 900.0
    """How long to wait for places in trouble when nothing but jobs held for them is left; with `stay` for ever."""
    stay: bool = False
    """Wait for more when nothing is left, and for a person's pause to end."""
    elsewhere: Callable[[], bool] = lambda: False
    """Asked by a worker that stays and has nothing to do: whether to end, since there is work for another."""
    limit: int | None = None
    """Stop after so many files."""
    gate: Callable[[], float] = lambda: 0.0
    """Asked before each claim: seconds to wait and ask again; 0 goes on, infinity stops."""
    signing: Signing | None = None
    """Puts content credentials into outputs and copies."""
