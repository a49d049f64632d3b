"""A hot folder to try things on: a real file system, real events or polling, a queue, a worker in microseconds."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rig

from batchsr.intake import gather
from batchsr.intake.events import Events, NoEvents, ObserverEvents
from batchsr.intake.hotfolder import HotFolder
from batchsr.intake.settle import Settler
from batchsr.intake.watcher import Scope, Watcher
from batchsr.queue import Job
from batchsr.queue.opening import open_queue
from batchsr.settings.profile import Settings


@dataclasses.dataclass
class Hot:
    """Everything around one watched folder. `pump` runs the watcher in this thread until something is true."""

    root: Path
    db: Path
    polling: bool
    settle_s: float = 0.06
    patience_s: float = 30.0
    rescan_s: float = 0.0
    """0: a twentieth of a second when polling, an hour with events, so that each has to find things by itself."""
    scope: dict[str, Any] = dataclasses.field(default_factory=dict)
    request: dict[str, Any] = dataclasses.field(default_factory=dict)
    after: dict[str, Any] = dataclasses.field(default_factory=dict)
    events: Events | None = None
    said: list[str] = dataclasses.field(default_factory=list)
    told: list[gather.Intake] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self._running: Iterator[Any] | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[Hot]:
        """Start to watch: from here on `pump` may be called."""
        events = self.events or (NoEvents() if self.polling else ObserverEvents())
        stop = threading.Event()
        with open_queue(self.db) as queue:
            self.queue = queue
            scope = Scope(**({"folders": (str(self.root),)} | self.scope))
            self.watcher = Watcher(
                scope,
                events,
                Settler(settle_s=self.settle_s, patience_s=self.patience_s),
                rescan_s=self.rescan_s or (0.05 if self.polling else 3600.0),
                tick_s=0.03,
                polls=lambda folder: self.polling,
                say=self.said.append,
            )
            request = gather.Request(settings=Settings(), **self.request)
            self.hot = HotFolder(
                queue, self.watcher, scope, request, told=self.told.append, say=self.said.append, **self.after
            )
            self._running = self.watcher.run(stop)
            try:
                yield self
            finally:
                stop.set()
                events.close()
                self._running = None

    def pump(self, until: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """Watch until `until` gives something true, and return it."""
        assert self._running is not None
        deadline = time.monotonic() + timeout_s
        for settled in self._running:
            self.hot.tick(settled)
            if value := until():
                return value
            assert time.monotonic() < deadline, f"it did not happen in time; {self.states()}"
        raise AssertionError("the watcher ended")

    def settle(self) -> None:
        """Watch for as long as something that is wrongly taken would take."""
        self.pump_for(4 * self.settle_s)

    def pump_for(self, seconds: float) -> None:
        """Watch for a while, in which something might go wrong."""
        end = time.monotonic() + seconds
        self.pump(lambda: time.monotonic() >= end, seconds + 20)

    def jobs(self) -> list[Job]:
        return list(self.queue.jobs())

    def states(self) -> dict[str, str]:
        """Source, below the root, to its job's state; of several jobs all states."""
        states: dict[str, str] = {}
        for job in self.queue.jobs():
            name = str(Path(job.source).relative_to(self.root))
            states[name] = f"{states[name]}, {job.state}" if name in states else str(job.state)
        return states

    def work(self, model: rig.FastModel | None = None, **more: Any) -> Any:
        """Restore everything that is queued."""
        return rig.work(self.db, model, **more)

    def file(self, name: str, seconds: float = 0.1, seed: int = 0) -> Path:
        """A whole recording, written in one go."""
        return rig.record(self.root / name, seconds, seed=seed)


@pytest.fixture(params=["events", "polling"])
def hot(request: pytest.FixtureRequest, tmp_path: Path) -> Hot:
    """Each test runs with the kernel's events and without any."""
    return Hot(tmp_path / "in", tmp_path / "queue.db", polling=request.param == "polling")


@pytest.fixture
def recording(tmp_path: Path) -> bytes:
    """The bytes of a recording of some length."""
    return rig.record(tmp_path / "elsewhere" / "recording.wav", 2.0).read_bytes()
