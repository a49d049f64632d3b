"""A run as events: what a worker tells its listener, as one JSON object each, and such objects told to a screen again.

`work --json` prints them for programs. Workers under a supervisor send them to it, so that one screen shows all.
The shape of each is in docs/json.md and docs/schema/work.schema.json.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from batchsr.queue import Job, Trouble
from batchsr.queue.job import iso
from batchsr.report.live import Screen

Emit = Callable[[Mapping[str, Any]], None]
_PROGRESS_EVERY_S: Final = 0.5
"""Between two `progress` events of one file; its first and its last are always told."""


class Events:
    """A worker's listener that makes an event of what it is told, and passes it on to another listener.

    `emit` gets one JSON-able object at a time, never two at once. `wall` and `steady` are clocks, in seconds.
    """

    def __init__(self, listener: Any, emit: Emit, *, wall: Callable[[], float], steady: Callable[[], float]) -> None:
        self._listener = listener
        self._emit = emit
        self._wall = wall
        self._steady = steady
        self._told_s: dict[int, float] = {}
        self._phase = ""
        self._lock = threading.Lock()

    def event(self, name: str, **facts: Any) -> None:
        """Emit one event."""
        with self._lock:
            self._emit({"event": name, "at": iso(self._wall()), "pid": os.getpid(), **facts})

    def claimed(self, job: Job) -> None:
        """Tell that a file is begun, or gone on with."""
        self._listener.claimed(job)
        self.event("started", **_facts(job))

    def windows(self, job: Job, done: int, total: int) -> None:
        """Note that windows of a file are safe."""
        self._listener.windows(job, done, total)
        now_s = self._steady()
        if job.id not in self._told_s or done >= total or now_s - self._told_s[job.id] >= _PROGRESS_EVERY_S:
            self._told_s[job.id] = now_s
            self.event("progress", **_facts(job) | {"windows_done": done, "windows_total": total})

    def done(self, job: Job) -> None:
        """Tell that a file is restored."""
        self._listener.done(job)
        self._over("done", job, rtf=job.rtf, output_sha256=job.output_sha256)

    def failed(self, job: Job) -> None:
        """Tell that a file will not be tried again by itself."""
        self._listener.failed(job)
        self._over("failed", job)

    def retrying(self, job: Job, wait_s: float) -> None:
        """Tell that a file is tried again later."""
        self._listener.retrying(job, wait_s)
        self._over("retrying", job, seconds=wait_s)

    def released(self, job: Job) -> None:
        """Tell that a file went back to the queue with its finished windows."""
        self._listener.released(job)
        self._over("released", job)

    def lost(self, job: Job) -> None:
        """Tell that a file was taken away."""
        self._listener.lost(job)
        self._over("lost", job)

    def waiting(self, reason: str, seconds: float) -> None:
        """Note that there is nothing to do for now."""
        self._listener.waiting(reason, seconds)
        self.event("waiting", reason=reason, seconds=seconds)

    def paused(self, reason: str) -> None:
        """Tell that the queue is paused."""
        self._listener.paused(reason)
        self.event("paused", reason=reason)

    def resumed(self) -> None:
        """Tell that the queue goes on."""
        self._listener.resumed()
        self.event("resumed")

    def held(self, trouble: Trouble) -> None:
        """Tell that a place is in trouble."""
        self._listener.held(trouble)
        self.event("held", **dataclasses.asdict(trouble))

    def freed(self, trouble: Trouble) -> None:
        """Tell that a place works again."""
        self._listener.freed(trouble)
        self.event("freed", **dataclasses.asdict(trouble))

    def phase(self, text: str) -> None:
        """Tell what goes on while no file moves; "" when it is over."""
        self._listener.phase(text)
        if text != self._phase:
            self._phase = text
            self.event("phase", text=text)

    def message(self, text: str) -> None:
        """Tell something that a person should know."""
        self._listener.message(text)
        self.event("message", text=text)

    def _over(self, name: str, job: Job, **more: Any) -> None:
        self._told_s.pop(job.id, None)
        self.event(name, **_facts(job), **more)


def _facts(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": str(job.state),
        "batch": job.batch,
        "source": job.source,
        "output": job.output,
        "audio_s": job.audio_s,
        "wall_s": job.wall_s,
        "windows_done": job.windows_done,
        "windows_total": job.windows_total,
        "error_code": job.error_code,
        "error": job.error,
        "remarks": [dict(remark) for remark in job.remarks],
    }


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    """A job as an event tells of it; what the screen wants to see."""

    id: int
    source: str
    output: str
    state: str
    audio_s: float | None
    wall_s: float | None
    windows_done: int
    windows_total: int | None
    error_code: str | None
    error: str | None
    remarks: Sequence[Mapping[str, str]]


_OF_A_FILE: Final = {"started": "claimed", "done": "done", "failed": "failed", "released": "released", "lost": "lost"}
_SEEN: Final = tuple(field.name for field in dataclasses.fields(_Seen))


class Workers:
    """Hears the workers under a supervisor: tells one screen what their events say, and passes the events on.

    May be called by one thread for each worker. What is no event, as the last words of a worker that dies, is a
    message.
    """

    def __init__(self, screen: Screen, emit: Emit | None = None) -> None:
        self._screen = screen
        self._emit = emit
        self._lock = threading.Lock()

    def began(self, worker: int) -> None:
        """Tell that a worker was started, by its number from 1."""
        with self._lock:
            self._screen.hears(worker)
            self._screen.phase("starting")

    def said(self, worker: int, line: bytes) -> None:
        """Take one line of a worker's standard output: an event."""
        try:
            event = json.loads(line)
            name = event["event"]
        except (ValueError, TypeError, KeyError):
            self.complained(worker, line)
            return
        with self._lock:
            self._screen.hears(worker)
            self._tell(name, event)
            if self._emit is not None:
                self._emit({"worker": worker, **event})

    def complained(self, worker: int, line: bytes) -> None:
        """Take one line of a worker's standard error."""
        if text := line.decode("utf-8", "replace").rstrip():
            with self._lock:
                self._screen.message(text)

    def ended(self, worker: int) -> None:
        """Tell that a worker ended; what it had in hand is no longer in sight."""
        with self._lock:
            self._screen.left(worker)

    def _tell(self, name: str, event: Mapping[str, Any]) -> None:
        screen = self._screen
        if "id" in event:
            job = _Seen(**{key: event[key] for key in _SEEN})
            if name == "progress":
                screen.windows(job, event["windows_done"], event["windows_total"])
            elif name == "retrying":
                screen.retrying(job, event["seconds"])
            elif name in _OF_A_FILE:
                getattr(screen, _OF_A_FILE[name])(job)
        elif name == "waiting":
            screen.waiting(event["reason"], event["seconds"])
        elif name == "paused":
            screen.paused(event["reason"])
        elif name == "resumed":
            screen.resumed()
        elif name in ("held", "freed"):
            place = Trouble(**{field.name: event[field.name] for field in dataclasses.fields(Trouble)})
            getattr(screen, name)(place)
        elif name == "phase":
            screen.phase(event["text"])
        elif name == "message":
            screen.message(event["text"])
