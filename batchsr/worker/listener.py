"""What a worker tells of itself while it works, and what it adds up to."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

from batchsr.errors import EXIT_BUSY, EXIT_OK, EXIT_SOME_FAILED
from batchsr.queue import Job, Place, Trouble


class Listener(Protocol):
    """Is told what a worker does; `job` is the job as of then. Never called by two threads at once."""

    def claimed(self, job: Job) -> None: ...
    def windows(self, job: Job, done: int, total: int) -> None: ...
    def done(self, job: Job) -> None: ...
    def failed(self, job: Job) -> None: ...
    def retrying(self, job: Job, wait_s: float) -> None: ...
    def released(self, job: Job) -> None: ...
    def lost(self, job: Job) -> None: ...
    def waiting(self, reason: str, seconds: float) -> None: ...
    def paused(self, reason: str) -> None: ...
    def resumed(self) -> None: ...
    def held(self, trouble: Trouble) -> None: ...
    def freed(self, trouble: Trouble) -> None: ...
    def phase(self, text: str) -> None: ...
    def message(self, text: str) -> None: ...


class NullListener:
    """A listener that says nothing."""

    def claimed(self, job: Job) -> None: ...
    def windows(self, job: Job, done: int, total: int) -> None: ...
    def done(self, job: Job) -> None: ...
    def failed(self, job: Job) -> None: ...
    def retrying(self, job: Job, wait_s: float) -> None: ...
    def released(self, job: Job) -> None: ...
    def lost(self, job: Job) -> None: ...
    def waiting(self, reason: str, seconds: float) -> None: ...
    def paused(self, reason: str) -> None: ...
    def resumed(self) -> None: ...
    def held(self, trouble: Trouble) -> None: ...
    def freed(self, trouble: Trouble) -> None: ...
    def phase(self, text: str) -> None: ...
    def message(self, text: str) -> None: ...


@dataclasses.dataclass(slots=True)
class Summary:
    """What a run did."""

    done: int = 0
    failed: int = 0
    quarantined: int = 0
    released: int = 0
    lost: int = 0
    """Jobs that were cancelled, superseded or taken while in flight."""
    audio_s: float = 0.0
    wall_s: float = 0.0
    stopped_by: int | None = None
    paused: bool = False
    """A person paused the queue, and work is left."""
    places: list[Place] = dataclasses.field(default_factory=list)
    """The places in trouble for which the jobs that are left are held; it was not waited for them any longer."""

    def add(self, other: Summary) -> None:
        """Count a further run in."""
        for field in dataclasses.fields(self):
            mine, others = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name, others if field.name == "stopped_by" else mine + others)
        self.paused = bool(self.paused)

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        if self.stopped_by is not None:
            return 128 + self.stopped_by
        if self.paused or self.places:
            return EXIT_BUSY
        return EXIT_SOME_FAILED if self.failed or self.quarantined else EXIT_OK


class Account:
    """The summary and the listener of one worker, for all of its threads."""

    def __init__(self, listener: Listener) -> None:
        self.summary = Summary()
        self.listener = cast(Listener, _OneByOne(listener))
        self.troubles = 0
        """Pauses since the last window."""
        self._lock = threading.Lock()

    def done(self, job: Job) -> None:
        """Tell that a file is restored."""
        self._add(done=1, audio_s=job.audio_s or 0.0, wall_s=job.wall_s)
        self.listener.done(job)

    def failed(self, job: Job) -> None:
        """Tell that a file will not be tried again by itself."""
        self._add(failed=1)
        self.listener.failed(job)

    def quarantined(self, job: Job) -> None:
        """Tell that a file whose workers died on it will not be tried again by itself."""
        self._add(quarantined=1)
        self.listener.failed(job)

    def released(self, job: Job) -> None:
        """Tell that a file went back to the queue with its finished windows."""
        self._add(released=1)
        self.listener.released(job)

    def lost(self, job: Job) -> None:
        """Tell that a file was taken away while in flight."""
        self._add(lost=1)
        self.listener.lost(job)

    def trouble(self) -> None:
        """Tell that the queue had to be paused."""
        with self._lock:
            self.troubles += 1

    def _add(self, **amounts: float) -> None:
        with self._lock:
            for name, amount in amounts.items():
                setattr(self.summary, name, getattr(self.summary, name) + amount)


class _OneByOne:
    """Passes on to a listener what several threads tell it."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Callable[..., None]:
        method = getattr(self._listener, name)

        def tell(*facts: Any) -> None:
            with self._lock:
                method(*facts)

        return tell
