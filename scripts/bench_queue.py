#!/usr/bin/env python3
"""What a large queue costs: size of the database, time and memory of the commands that look at it.

    scripts/bench_queue.py                     300,000 finished jobs
    scripts/bench_queue.py --jobs 20000        fewer, sooner

The rows are those of real files (a folder of 1,000 each, a report of the usual size), written past the worker but
through the same tables. One line of JSON for each figure: what, seconds, MB of memory at most.
"""

# ruff: noqa: E402 - a checkout need not be installed

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from batchsr.queue import Backend, NewJob, Queue, Result
from batchsr.queue.opening import open_queue
from batchsr.settings.profile import Settings

LIST = ("list",)
COMMANDS: dict[str, tuple[str, ...]] = {
    "status": ("status",),
    "list": LIST,
    "list --json": (*LIST, "--json"),
    "list --sort path": (*LIST, "--sort", "path"),
    "list --failures-first": (*LIST, "--failures-first"),
    "list --limit 50": (*LIST, "--limit", "50"),
    "report": ("report",),
    "report --as csv": ("report", "--as", "csv"),
    "report --as html": ("report", "--as", "html"),
    "report --as json": ("report", "--as", "json"),
    "gc": ("gc",),
}


def report_of(name: str, seed: str) -> dict[str, Any]:
    """A report of the size that files have, with values that differ from file to file."""
    digest = hashlib.sha256(seed.encode()).hexdigest()
    number = int(digest[:6], 16)
    measured = {f"measure_{i}": round(number / (i + 1), 3) for i in range(24)}
    return {
        "schema": "batchsr.sidecar/1",
        "note": "An access derivative, not the recording: content above 4000 Hz is synthesised.",
        "source": {"path": f"/archive/{name}.wav", "sha256": digest, "remarks": [], **measured},
        "output": {"path": f"/archive/{name}_upsampled.wav", "sha256": digest[::-1], **measured},
        "settings": json.loads(Settings().to_json()),
        "model": {"variant": "int4", "revision": "9f" * 20, "weights_sha256": "ab" * 32, "dtype": "float32"},
        "program": {"name": "batchsr", "libraries": {"mlx": "0.31.0", "numpy": "2.1.0", "scipy": "1.15.0"}},
        "metadata": {"title": name, "artist": "unknown", "comment": "a tape", "not_carried_over": []},
    }


def fill(queue: Queue, jobs: int) -> None:
    """Jobs that are done: each is claimed, makes its windows, and is finished."""

    def new(number: int) -> NewJob:
        name = f"collection-{number // 1000:04}/tape-{number:07}-side-a"
        source = f"/archive/oral-history/{name}.wav"
        return NewJob(
            source=source,
            output=f"/restored/oral-history/{name}_upsampled.wav",
            alt_output=f"/restored/oral-history/{name}.wav_upsampled.wav",
            identity=f"{source}\0{number}\0{1_700_000_000_000_000_000 + number}",
            settings=Settings().to_json(),
            frames=480_000,
            sample_rate=8000,
            channels=1,
            audio_s=60.0,
        )

    for _ in queue.enqueue(new(number) for number in range(jobs)):
        pass
    store: Any = getattr(queue, "_store")  # noqa: B009 - commits for each of them would take an hour
    store._connection.execute("PRAGMA synchronous = OFF")
    backend = Backend("int4", "9f" * 20, "ab" * 32, "float32", "cpu", 4)
    with queue.join() as worker:
        for number in range(jobs):
            job = queue.claim(worker, backend)
            assert job is not None
            queue.progress(job, 0, 13)
            queue.progress(job, 13, 13)
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            result = Result(
                digest,
                8_640_044,
                source_sha256=digest,
                windows_total=13,
                windows_resumed=0,
                audio_s=60.0,
                sample_rate=8000,
                channels=1,
                frames=480_000,
                clipped_samples=0,
                report=report_of(str(number), str(number)),
            )
            queue.committing(job, result)
            queue.finish(job, keep_report=False)


def measured(db: Path, words: tuple[str, ...]) -> dict[str, Any]:
    """Run a command; its seconds, the seconds to its first line, and its memory."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "batchsr", "--db", str(db), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        first_s = time.perf_counter() - began
        size = len(first)
        while block := process.stdout.read(1 << 16):
            size += len(block)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (words, process.returncode)
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "first_line_s": round(first_s, 2),
        "peak_mb": round(peak_bytes / 1e6),
        "output_mb": round(size / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=300_000)
    parser.add_argument("--db", type=Path, help="use, or make, this database and keep it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batchsr-bench-") as scratch:
        db = options.db or Path(scratch) / "queue.db"
        if not db.exists():
            began = time.perf_counter()
            with open_queue(db) as queue:
                fill(queue, options.jobs)
            print(json.dumps({"what": "fill", "seconds": round(time.perf_counter() - began, 1)}), flush=True)
        per_job = db.stat().st_size / options.jobs
        print(json.dumps({"what": "database", "mb": round(db.stat().st_size / 1e6), "bytes_a_job": round(per_job)}))
        for name, words in COMMANDS.items():
            print(json.dumps({"what": name, **measured(db, words)}), flush=True)
        with open_queue(db) as queue:
            began = time.perf_counter()
            for _ in range(20):
                queue.pulse()
            print(json.dumps({"what": "supervisor's look", "ms": round((time.perf_counter() - began) * 50, 2)}))


if __name__ == "__main__":
    main()
