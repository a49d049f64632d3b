#!/usr/bin/env python3
"""What every stage on at once costs: how long the model waits for it, CPU, and the process's peak memory.

    scripts/bench_stages.py 11                            # a noisy call of 11 minutes, made of tests/data/phone_8k.wav
    taskset -c 0 scripts/bench_stages.py 11 --files 4     # of four on one core
    scripts/bench_stages.py 240 --window-ms 0 --model resample

De-click, de-hum, denoise, kept band, opinions and 16 kHz before a model that sleeps as a CPU does while a GPU computes
(`--window-ms` for 5.12 s of one channel; 25 is 205 x real time), or with `--model resample` before one that computes.
Needs batchsr[denoise] and batchsr[quality]; what is not installed is left out, and said.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_runner import Identity

from batchsr import machine
from batchsr.intake import gather
from batchsr.models import registry
from batchsr.models.identity import About
from batchsr.queue.opening import open_queue
from batchsr.settings import extras
from batchsr.settings.profile import Settings
from batchsr.worker.options import WorkerOptions
from batchsr.worker.worker import run

CALL = Path(__file__).resolve().parent.parent / "tests" / "data" / "phone_8k.wav"
EVERY: dict[str, Any] = {
    "declick": 6,
    "dehum": "auto",
    "denoise": 12,
    "keep_band": True,
    "lowpass": "auto",
    "quality": True,
    "rate": 16_000,
}


class Sleeping:
    """Echoes its windows; a pass takes as long with one row as with all."""

    about = About(name="sleeping", says="", label="", synthesises=False)
    frame_samples = 245_760

    def __init__(self, window_s: float, batch_windows: int) -> None:
        self.batch_windows = batch_windows
        self.identity = Identity()
        self.passes: list[tuple[float, float]] = []
        self.rows = 0
        self._window_s = window_s

    def windows(self, timestep: int, seed: int) -> Callable[[np.ndarray, Sequence[int]], np.ndarray]:
        def compute(x: np.ndarray, indices: Sequence[int]) -> np.ndarray:
            began_s = time.perf_counter()
            time.sleep(self._window_s * self.batch_windows)
            self.rows += len(x)
            self.passes.append((began_s, time.perf_counter()))
            return x

        return compute

    def shrink(self) -> bool:
        return False


def noisy_call(path: Path, minutes: float) -> None:
    """Write the call under pink-like noise at about 10 dB, again and again, a piece at a time."""
    samples, rate_hz = soundfile.read(CALL, dtype="float32")
    rng, left = np.random.default_rng(1), round(minutes * 60 * rate_hz)
    level = 0.3 * float(np.sqrt(np.mean(np.square(samples))))
    with soundfile.SoundFile(path, "w", rate_hz, 1, "PCM_16") as file:
        while left > 0:
            piece = samples[:left]
            file.write(np.clip(piece + level * rng.standard_normal(len(piece)), -1, 1))
            left -= len(piece)


def every_stage() -> Settings:
    """Return settings with every stage on that is installed."""
    values = dict(EVERY)
    for key in extras.missing():
        if values.pop(key, None) is not None:
            print(f"without {key}, which is not installed", file=sys.stderr)
    return Settings(**values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float, help="of each recording")
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--window-ms", type=float, default=25.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--model", choices=("sleeping", "resample"), default="sleeping")
    options = parser.parse_args()
    sleeping = Sleeping(options.window_ms / 1e3, options.batch)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BATCHSR_BENCH_DIR")) as name:
        folder = Path(name)
        paths = [folder / f"{number}.wav" for number in range(options.files)]
        for path in paths:
            noisy_call(path, options.minutes)
        with open_queue(folder / "queue.db") as queue:
            found = [gather.Found(str(path), str(folder)) for path in paths]
            list(gather.enqueue(queue, found, gather.Request(every_stage())))
            cpu_s, began_s = time.process_time(), time.perf_counter()
            load: Any = (lambda: sleeping) if options.model == "sleeping" else lambda: registry.load("resample")
            summary = run(queue, load, WorkerOptions(variant=options.model, min_free_bytes=0))
            wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    if summary.done != options.files:
        raise SystemExit(str(dataclasses.asdict(summary)))
    audio_s = 60 * options.minutes * options.files
    cores = machine.cores()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    times = f"{wall_s:.1f} s ({audio_s / wall_s:.1f} x real time)"
    said = [f"{options.files} of {options.minutes:g} min, {cores} cores: {times}"]
    if sleeping.passes:
        worked_s, first_s = sum(end - begin for begin, end in sleeping.passes), sleeping.passes[0][0] - began_s
        since_s = wall_s - first_s
        said.append(
            f"first window after {first_s:.1f} s, since then the model waits {1 - worked_s / since_s:.0%} of the time "
            f"(passes of {sleeping.rows / len(sleeping.passes):.1f} rows of {options.batch})"
        )
    said.append(f"CPU {cpu_s / audio_s:.3f} of a core a second of audio, peak {peak_mb:.0f} MB")
    print("; ".join(said))


if __name__ == "__main__":
    main()
