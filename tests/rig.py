"""What the tests of queue and worker share with scripts/soak: a fast model, short recordings, processes to kill."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from batchsr import faults
from batchsr.intake import gather
from batchsr.models import registry
from batchsr.models.family import WithoutWeights
from batchsr.models.identity import About
from batchsr.queue import Backend, Clock, Job, NewJob, Queue, Trouble
from batchsr.queue.opening import open_queue
from batchsr.restoration.batcher import Batcher, WindowModel
from batchsr.settings.profile import Settings
from batchsr.worker.listener import NullListener, Summary
from batchsr.worker.options import WorkerOptions
from batchsr.worker.worker import run

ABOUT = About(name="fast", says="", label="Fast", synthesises=True)
BACKEND = Backend("fast", revision="r1", weights_sha256="0" * 64, dtype="float32", device="cpu", batch_windows=2)
OPTIONS = WorkerOptions(
    variant="fast", min_free_bytes=0, backoff_s=0.01, backoff_max_s=0.05, poll_s=0.02, wait_for_places_s=20
)


@dataclasses.dataclass(frozen=True)
class Identity:
    variant: str = "fast"
    repository: str | None = None
    revision: str = "r1"
    weights_sha256: str = "0" * 64
    dtype: str = "float32"
    device: str = "cpu"


class FastModel:
    """A window function that takes microseconds: same shape, other samples, different for every window.

    `pace_s` is slept per call, so that a kill can hit; `calls` sees the window indices of each call, `sees` its rows.
    """

    def __init__(
        self,
        *,
        frame_samples: int = 4800,
        batch_windows: int = 2,
        pace_s: float = 0.0,
        calls: Callable[[Sequence[int]], None] = lambda indices: None,
        sees: Callable[[NDArray[np.float32]], None] = lambda rows: None,
        identity: Identity | None = None,
    ) -> None:
        self.about = ABOUT
        self.frame_samples = frame_samples
        self.batch_windows = batch_windows
        self.identity = identity or Identity()
        self._pace_s = pace_s
        self._calls = calls
        self._sees = sees

    def windows(self, timestep: int, seed: int) -> Callable[[NDArray[np.float32], Sequence[int]], NDArray[np.float32]]:
        ramp = np.linspace(-1.0, 1.0, self.frame_samples, dtype=np.float32)

        def window(x: NDArray[np.float32], indices: Sequence[int]) -> NDArray[np.float32]:
            self._calls(indices)
            self._sees(x)
            if self._pace_s:
                time.sleep(self._pace_s)
            tilt = np.asarray([((seed + 7 * index) % 13) / 100 for index in indices], dtype=np.float32)
            return np.float32(0.5) * x + tilt[:, None] * ramp

        return window

    def shrink(self) -> bool:
        if self.batch_windows == 1:
            return False
        self.batch_windows //= 2
        return True


ENTRY = registry.Entry(ABOUT, lambda: WithoutWeights(ABOUT, FastModel))
"""What makes `--variant fast` of it where the registry has it."""


class HandClock(Clock):
    """A clock whose hands the test moves."""

    def __init__(self, wall: float = 1_700_000_000.0, steady: float = 1000.0, boot: str = "boot-1") -> None:
        self.wall_s = wall
        self.steady_s = steady
        self.boot_id = boot

    def wall(self) -> float:
        return self.wall_s

    def steady(self) -> float:
        return self.steady_s

    @property
    def boot(self) -> str:
        return self.boot_id

    def pass_s(self, seconds: float) -> None:
        self.wall_s += seconds
        self.steady_s += seconds


class Told(NullListener):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.on_windows: Callable[[Job, int, int], None] = lambda job, done, total: None
        self.on_paused: Callable[[], None] = lambda: None

    def windows(self, job: Job, done: int, total: int) -> None:
        self.on_windows(job, done, total)

    def done(self, job: Job) -> None:
        self.said.append(f"done {job.id}")

    def failed(self, job: Job) -> None:
        self.said.append(f"{job.state} {job.id} {job.error_code}")

    def retrying(self, job: Job, wait_s: float) -> None:
        self.said.append(f"retrying {job.id}")

    def released(self, job: Job) -> None:
        self.said.append(f"released {job.id}")

    def paused(self, reason: str) -> None:
        self.said.append(f"paused {reason}")
        self.on_paused()

    def resumed(self) -> None:
        self.said.append("resumed")

    def held(self, trouble: Trouble) -> None:
        self.said.append(f"held {trouble}")
        self.on_paused()

    def freed(self, trouble: Trouble) -> None:
        self.said.append(f"freed {trouble.path}")

    def waiting(self, reason: str, seconds: float) -> None:
        self.said.append(f"waiting {reason}")

    def message(self, text: str) -> None:
        self.said.append(text)


def record(path: Path, seconds: float, *, rate_hz: int = 8000, channels: int = 1, seed: int = 0) -> Path:
    """Write a short recording that is loud everywhere (silent windows would not reach the model)."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = rng.uniform(-0.5, 0.5, (round(seconds * rate_hz), channels)).astype(np.float32)
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path


def jobs_for(sources: Iterable[Path], out: Path | None = None, **request: Any) -> list[NewJob]:
    """NewJobs as the command line makes them."""
    settings = Settings(**request.pop("settings", {}))
    wanted = gather.Request(settings=settings, out=None if out is None else str(out), **request)
    return [gather.to_job(gather.Found(str(source), str(source.parent)), wanted) for source in sources]


def enqueue(db: Path, sources: Iterable[Path], out: Path | None = None, **request: Any) -> list[int]:
    """Put recordings into a queue, and return the jobs' ids."""
    with open_queue(db) as queue:
        answers = list(queue.enqueue(jobs_for(sources, out, **request)))
    return [answer.job_id for answer in answers if answer.job_id is not None]


def new_job(name: str = "a", **values: Any) -> NewJob:
    """A NewJob of a recording that does not exist, for tests of the queue alone."""
    source = f"/archive/{name}.wav"
    defaults: dict[str, Any] = {
        "source": source,
        "output": f"/archive/{name}_upsampled.wav",
        "alt_output": f"/archive/{name}.wav_upsampled.wav",
        "identity": f"{source}\0{len(name)}\0{1}",
        "settings": Settings().to_json(),
        "audio_s": 2.0,
    }
    return NewJob(**(defaults | values))


class Instead:
    """A queue, but for the methods named: such a one is called with the queue's own in front of its arguments."""

    def __init__(self, queue: Queue, methods: Mapping[str, Callable[..., Any]]) -> None:
        self._queue = queue
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._queue, name)
        return functools.partial(self._methods[name], method) if name in self._methods else method


def work(
    db: Path,
    model: FastModel | None = None,
    options: WorkerOptions = OPTIONS,
    *,
    instead: Mapping[str, Callable[..., Any]] | None = None,
    **more: Any,
) -> Summary:
    """Run a worker in this process until the queue is drained; `instead` are methods of the queue, as in Instead."""
    with open_queue(db) as opened:
        queue = cast(Queue, Instead(opened, instead or {}))
        return run(queue, lambda: model or FastModel(), options, more.pop("listener", NullListener()), **more)


@contextlib.contextmanager
def serving(model: WindowModel) -> Iterator[Batcher]:
    """A model behind a batcher, called in a thread of its own, for as long as the block lasts."""
    with ThreadPoolExecutor(1) as thread:
        yield Batcher(model, thread)


def job_of(db: Path, number: int) -> Job:
    with open_queue(db) as queue:
        job = queue.get(number)
    assert job is not None
    return job


def fork(child: Callable[[], Any], *, fault: str | None = None, stderr: Path | None = None) -> int:
    """Run `child` in a forked process that ends with 0, or 99 after an exception. `fault` is NAME:N."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12: there may be threads; ours are at rest
        pid = os.fork()
    if pid:
        return pid
    code = 99
    for module in (sys, threading):
        module.settrace(None)  # coverage would trace for nothing: a process that ends by os._exit keeps no data
    try:
        if stderr is not None:
            os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also under nohup
            signal.signal(number, signal.SIG_DFL)
        if fault is not None:
            name, _, count = fault.partition(":")
            assert name in faults.POINTS
            faults._wanted, faults._left = name, int(count)
        result = child()
        code = result if isinstance(result, int) else 0
    except BaseException:  # noqa: BLE001 - the child must never return into the test
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, timeout_s: float = 300.0) -> int:
    """Wait for a child; its exit code, or minus the signal that ended it. One that never ends is killed."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.001
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"child {pid} did not end in {timeout_s:g} s")
        time.sleep(pause_s)
        pause_s = min(0.02, 2 * pause_s)


def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Poll until something is true, and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError("it did not happen in time")


@contextlib.contextmanager
def ended(pid: int) -> Iterator[int]:
    """A child that is killed, if it still lives, when the block is left."""
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
