"""A job that was done before its queue knew of it."""

from __future__ import annotations

import dataclasses

from batchsr.queue.job import Backend, NewJob, Result


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """A job that was done before this queue knew of it, as what it left on the disk proves."""

    job: NewJob
    backend: Backend
    result: Result
    finished_at: float | None = None
    """Unix seconds."""
