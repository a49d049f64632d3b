"""The state machine: what may become of each state, whichever database keeps it."""

from __future__ import annotations

from typing import Final

from batchsr.queue.job import State

CHANGES: Final = {
    State.QUEUED: (State.RUNNING, State.CANCELLED, State.SUPERSEDED),
    State.WAITING: (State.QUEUED, State.CANCELLED, State.SUPERSEDED),
    State.RUNNING: (
        State.COMMITTING,
        State.QUEUED,
        State.WAITING,
        State.FAILED,
        State.QUARANTINED,
        State.CANCELLED,
        State.SUPERSEDED,
    ),
    State.COMMITTING: (State.DONE, State.QUEUED, State.WAITING, State.FAILED, State.QUARANTINED),
    State.DONE: (State.QUEUED, State.SUPERSEDED),
    State.FAILED: (State.QUEUED, State.SUPERSEDED),
    State.QUARANTINED: (State.QUEUED, State.SUPERSEDED),
    State.CANCELLED: (State.QUEUED,),
    State.SUPERSEDED: (),
}
"""The state machine: what may become of each state."""
