"""The scripts run as the documentation says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchsr import FlashSR

ROOT = Path(__file__).resolve().parent.parent.parent


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("format", ["float32", "int4"])
def test_make_bundle_writes_a_bundle_that_loads(tmp_path: Path, format: str) -> None:
    done = run("make_bundle.py", tmp_path / "b", "--format", format, "--frame-samples", 7680, "--seed", "x")
    assert done.returncode == 0, done.stderr
    assert "0.9 M parameters" in done.stdout
    model = FlashSR.from_pretrained(tmp_path / "b", device="cpu")
    assert (model.frame_samples, model.config.format) == (7680, format)


def test_make_bundle_refuses_a_window_that_does_not_divide(tmp_path: Path) -> None:
    done = run("make_bundle.py", tmp_path / "b", "--frame-samples", 7681)
    assert done.returncode == 69
    assert "audio.frame_samples" in done.stderr
    assert not (tmp_path / "b").exists()


def test_bench_prints_every_stage(tmp_path: Path) -> None:
    done = run("bench.py", "--size", "tiny", "--runs", 1)
    assert done.returncode == 0, done.stderr
    for word in ("machine", "backend", "encode", "unet", "decode", "vocoder", "window", "peak"):
        assert word in done.stdout
