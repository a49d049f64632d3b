#!/usr/bin/env python3
"""What the runner costs beside the model: busy share, memory over length, claim time over queue length, start.

    scripts/bench_runner.py                      # a minute or two
    scripts/bench_runner.py --hours 24 --rows 1000000

The model is a stand-in that sleeps, as a CPU does while a GPU computes, and echoes its windows of 5.12 s. A pass takes
as long with one row as with all. So whatever the wall time is above that of full passes is ours.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console

from batchsr.intake import gather
from batchsr.models.identity import About
from batchsr.queue import Backend
from batchsr.queue.opening import open_queue
from batchsr.report.live import Screen
from batchsr.report.tables import plain_table
from batchsr.settings.profile import Settings
from batchsr.worker.options import WorkerOptions
from batchsr.worker.worker import run

FRAME = 245_760


@dataclasses.dataclass(frozen=True)
class Identity:
    variant: str = "sleeping"
    repository: str | None = None
    revision: str = "none"
    weights_sha256: str = "none"
    dtype: str = "float32"
    device: str = "none"
    mlx_version: str = "none"


class SleepingModel:
    """Takes `window_s` times `batch_windows` for a pass, however many windows are in it, as a GPU does."""

    about = About(name="sleeping", says="", label="", synthesises=False)
    identity = Identity()
    frame_samples = FRAME

    def __init__(self, window_s: float, batch_windows: int = 1) -> None:
        self.window_s = window_s
        self.batch_windows = batch_windows
        self.rows = 0
        self.passes = 0

    @property
    def needed_s(self) -> float:
        """Seconds that the windows take at least: in passes without a gap."""
        return self.rows * self.window_s

    @property
    def worked_s(self) -> float:
        """Seconds of all passes."""
        return self.passes * self.batch_windows * self.window_s

    def windows(self, timestep: int, seed: int) -> Any:
        def compute(x: np.ndarray, indices: Sequence[int]) -> np.ndarray:
            self.rows += len(x)
            for _ in range(0, len(x), self.batch_windows):
                self.passes += 1
                time.sleep(self.window_s * self.batch_windows)
            return x

        return compute

    def shrink(self) -> bool:
        return False


def recording(path: Path, seconds: float, rate: int = 8_000) -> Path:
    """Noise, written block by block."""
    rng = np.random.default_rng(1)
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        left = round(seconds * rate)
        while left > 0:
            n = min(left, rate * 600)
            file.write(rng.integers(-8_000, 8_000, n, dtype=np.int16))
            left -= n
    return path


def restore_all(folder: Path, paths: list[Path], model: SleepingModel) -> float:
    """Enqueue and restore; seconds from the first claim to the end."""
    with open_queue(folder / "queue.db") as queue:
        found = [gather.Found(str(path), str(folder)) for path in paths]
        list(gather.enqueue(queue, found, gather.Request(Settings())))
        screen = Screen(Console(file=io.StringIO()))
        started = time.perf_counter()
        summary = run(queue, lambda: model, WorkerOptions(variant="sleeping", min_free_bytes=0), screen)
        wall_s = time.perf_counter() - started
    if summary.done != len(paths):
        raise SystemExit(f"{summary}")
    return wall_s


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BATCHSR_BENCH_DIR")) as folder:
        yield Path(folder)


def busy(files: int, seconds: float, window_ms: float, batch: int) -> dict[str, Any]:
    """Share of the wall time in which the model worked, and in which it would have with full passes alone."""
    with workplace() as folder:
        paths = [recording(folder / f"{i}.wav", seconds) for i in range(files)]
        model = SleepingModel(window_ms / 1e3, batch)
        wall_s = restore_all(folder, paths, model)
    return {
        "case": f"{files} files of {seconds:g} s, {window_ms:g} ms a window, batches of {batch}",
        "full_passes_s": f"{model.needed_s:.2f}",
        "wall_s": f"{wall_s:.2f}",
        "share": f"{model.needed_s / wall_s:.1%}",
        "in_passes": f"{model.worked_s / wall_s:.1%}",
    }


def memory(files: int, seconds: float) -> dict[str, Any]:
    """Peak memory of a process that restores so many files in batches of 8; run in a process of its own."""
    command = [sys.executable, __file__, "--only", str(files), str(seconds)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    peak_mb, wall_s = map(float, result.stdout.split())
    return {"case": f"files: {files}, each of {seconds:g} s", "peak_mb": f"{peak_mb:.0f}", "wall_s": f"{wall_s:.1f}"}


def only(files: int, seconds: float) -> None:
    with workplace() as folder:
        paths = [recording(folder / f"{i}.wav", seconds) for i in range(files)]
        wall_s = restore_all(folder, paths, SleepingModel(0.0, 8))
    scale = 1e6 if sys.platform == "darwin" else 1e3
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, wall_s)


_STEPS = (
    "state = 'running', worker = :worker",
    "state = 'committing', output_sha256 = ''",
    "state = 'done', worker = NULL, wall_s = 1",
)
"""How a job comes to its end; the database refuses any shorter way."""


def claims(queued: int, done: int = 0) -> dict[str, Any]:
    """Median time of a claim, and of `status`, with so many rows in the queue and so many done."""
    rows = queued + done
    with workplace() as folder, open_queue(folder / "queue.db") as queue:
        template = gather.to_job(
            gather.Found(str(recording(folder / "a.wav", 1.0)), str(folder)), gather.Request(Settings())
        )
        jobs = (
            dataclasses.replace(template, source=f"/a/{i}", output=f"/b/{i}", alt_output=f"/c/{i}", identity=str(i))
            for i in range(rows)
        )
        started = time.perf_counter()
        for _ in queue.enqueue(jobs):
            pass
        enqueued_s = time.perf_counter() - started
        with queue.join() as owner:
            for step in _STEPS if done else ():
                with getattr(queue, "_store").writing() as db:  # noqa: B009 - a queue made by hand, not by work
                    db.execute(f"UPDATE jobs SET {step} WHERE id <= :done", {"worker": owner.name, "done": done})
            started = time.perf_counter()
            queue.status()
            status_s = time.perf_counter() - started
            backend = Backend("sleeping", "none", "none", "float32", "none", 1)
            times = []
            for _ in range(50):
                started = time.perf_counter()
                job = queue.claim(owner, backend)
                times.append(time.perf_counter() - started)
                if job is None:
                    raise SystemExit("nothing was claimed")
    return {
        "case": f"{queued} queued, {done} done",
        "enqueue_s": f"{enqueued_s:.1f}",
        "claim_ms": f"{statistics.median(times) * 1e3:.2f}",
        "status_ms": f"{status_s * 1e3:.1f}",
    }


def first_window() -> dict[str, Any]:
    """Seconds from the start of `batchsr work` with the small model until its first window is begun, and done."""
    with workplace() as folder, open_queue(folder / "queue.db") as queue:
        found = gather.Found(str(recording(folder / "a.wav", 5.0)), str(folder))
        list(gather.enqueue(queue, [found], gather.Request(Settings())))
        command = [sys.executable, "-m", "batchsr", "--db", str(queue.path), "work", "--variant", "tiny"]
        started = time.perf_counter()
        begun_s = done_s = 0.0
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while not done_s and process.poll() is None:
                job = queue.get(1)
                if job is not None and job.claim_seq and not begun_s:
                    begun_s = time.perf_counter() - started
                if job is not None and job.windows_done:
                    done_s = time.perf_counter() - started
                time.sleep(0.01)
    return {"case": "work --variant tiny", "claimed_s": f"{begun_s:.1f}", "first_window_done_s": f"{done_s:.1f}"}


def show(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    print("\n".join(plain_table(rows, list(rows[0]), None)))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--hours", type=float, default=1.0, help="the longest file (default: 1)")
    parser.add_argument("--rows", type=int, default=20_000, help="the longest queue (default: 20000)")
    parser.add_argument("--only", type=float, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.only is not None:
        only(int(args.only[0]), args.only[1])
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    # Before this process grows: Linux counts a parent's peak as its children's.
    show("Memory over length and number", [memory(1, 60), memory(1, args.hours * 3600), memory(40, 5), memory(400, 5)])
    busy(1, 1.0, 0.0, 1)  # the first file of a process reads the compiled loops, or compiles them
    show(
        "Busy share of the model",
        [busy(4, 300.0, 25.0, 8), busy(20, 60.0, 25.0, 8), busy(200, 5.0, 25.0, 8), busy(4, 60.0, 250.0, 1)],
    )
    show("Claims over queue length", [claims(1_000), claims(args.rows), claims(1_000, args.rows)])
    show("Start", [first_window()])


if __name__ == "__main__":
    main()
