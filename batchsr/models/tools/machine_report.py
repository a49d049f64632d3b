"""One block of text about what a machine computes, for its owner to paste into a report.

It names no person, host or folder.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from batchsr import __version__
from batchsr.errors import ModelError
from batchsr.models import hub, self_test
from batchsr.models.compute import backend

PASSES = 3


def lines(dtype: str | None, device: str | None, say: Callable[[str], None]) -> tuple[list[str], bool]:
    """Return the block, and whether a self-test failed or MLX does not work here. Takes some windows' time."""
    found = [
        f"batchsr {__version__}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores"
        f"{_memory()}"
    ]
    try:
        facts = backend.doctor(dtype, device)
    except ModelError as e:
        return _block([*found, f"MLX: {e.message}"]), True
    found += [
        f"MLX {facts['mlx']}, {facts['backend']}: {facts['device'].split(' GPU-')[0]}; {facts['driver']}",
        f"matrix product {facts['gflops']} GFLOP/s, {facts['blas']}",
        *(f"{name}: {what}" for name, what in facts["kernels"].items()),
    ]
    failed = False
    for precision in dict.fromkeys((str(facts["dtype"]), "float32")):
        say(f"a window of tiny in {precision}")
        chosen = backend.prepare(precision, device)
        outcome = self_test.run(chosen, timed=True)
        failed |= not outcome.passed
        found.append(
            f"self-test in {precision}: {outcome}; {outcome.ms_a_window:.0f} ms a window"
            + (f", {outcome.peak_bytes / 1e9:.2f} GB beside the weights" if outcome.peak_bytes else "")
        )
    if any(row["variant"] == "int4" and row["cached"] for row in hub.list_models()) and not failed:
        say("windows of int4")
        found.append(_of_int4(dtype, device))
    return _block(found), failed


def _of_int4(dtype: str | None, device: str | None) -> str:
    from batchsr.models.flashsr.model import FlashSR

    began = time.perf_counter()
    model = FlashSR.from_pretrained("int4", dtype=dtype, device=device)
    loaded_s = time.perf_counter() - began
    import mlx.core as mx

    rows, times = model.batch_windows, []
    sound = np.stack([self_test.window(model.frame_samples, model.config.noise_shape)[0]] * rows)
    before = mx.get_active_memory()
    for number in range(PASSES):
        if number == 1:
            mx.reset_peak_memory()
        began = time.perf_counter()
        model.upsample_window(sound)
        times.append(time.perf_counter() - began)
    ms, peak = 1e3 * min(times) / rows, mx.get_peak_memory() - before
    return (
        f"int4 in {model.identity.dtype}: loaded in {loaded_s:.1f} s, {ms:.0f} ms a window in passes of {rows}, "
        f"{peak / 1e9:.2f} GB beside the weights ({before / 1e9:.2f} GB)"
    )


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return ""
    return f", {total / 1e9:.0f} GB"


def _block(found: list[Any]) -> list[str]:
    return ["```", *map(str, found), "```"]
