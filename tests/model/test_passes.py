"""How many rows a pass has: by what is free, by what went wrong before; with devices that are made up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from batchsr.errors import ModelMemory
from batchsr.models import batch_size
from batchsr.models.flashsr.model import FlashSR, ModelIdentity

GB = 10**9
IDENTITY = ModelIdentity("int4", None, "r", "ab" * 32, "float32", "cuda", "0.32.4")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the user's cache is for these tests; MLX's limit is afterwards what it was."""
    monkeypatch.setattr(batch_size.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    limit = mx.set_memory_limit(GB)
    mx.set_memory_limit(limit)
    yield tmp_path / "cache" / "batchsr"
    mx.set_memory_limit(limit)


limits: list[int] = []
"""What MLX was told to stay below, by tests that call `device`."""


def device(monkeypatch: pytest.MonkeyPatch, **info: Any) -> None:
    monkeypatch.setattr(mx, "device_info", lambda: info)
    monkeypatch.setattr(mx, "get_active_memory", lambda: 1 * GB)
    monkeypatch.setattr(mx, "get_cache_memory", lambda: 0)
    monkeypatch.setattr(mx, "set_memory_limit", lambda limit: limits.append(limit))


@pytest.mark.parametrize(
    ("free", "rows"), [(80 * GB, 8), (20 * GB, 8), (19 * GB, 4), (10 * GB, 4), (9 * GB, 2), (4 * GB, 1), (1 * GB, 1)]
)
def test_a_pass_takes_no_more_than_four_fifths_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch, free: int, rows: int
) -> None:
    device(monkeypatch, free_memory=free)
    assert batch_size.fitting(8, IDENTITY, lambda: 2 * GB) == rows
    assert limits[-1] == GB + min(4 * GB * rows, int(0.8 * free)), "twice what a pass takes, as far as it is there"


def test_measuring_leaves_the_limit_as_it_was() -> None:
    mx.set_memory_limit(12 * GB)
    with pytest.raises(ValueError, match="the pass"), batch_size.peak_bytes():
        raise ValueError("the pass")
    with batch_size.peak_bytes() as peak:
        mx.eval(mx.zeros((1_000_000,)) + 1)
    assert peak[0] >= 4_000_000
    assert mx.set_memory_limit(12 * GB) == 12 * GB


def test_metal_says_what_may_be_used_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    device(monkeypatch, max_recommended_working_set_size=11 * GB)  # of which 1 GB is taken
    assert batch_size.free_bytes() == 10 * GB
    assert batch_size.fitting(8, IDENTITY, lambda: 2 * GB) == 4


def test_nothing_is_measured_where_there_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> int:
        raise AssertionError("a pass for nothing")

    device(monkeypatch, free_memory=1)
    assert batch_size.fitting(1, IDENTITY, never) == 1
    device(monkeypatch, architecture="x86_64")
    assert batch_size.fitting(8, IDENTITY, never) == 8


def test_what_ran_out_of_memory_is_remembered_for_this_model_on_this_device(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    device(monkeypatch, free_memory=80 * GB)
    batch_size.remember(2, IDENTITY)
    assert batch_size.fitting(8, IDENTITY, lambda: GB) == 2
    for change in ({"dtype": "float16"}, {"device": "metal"}, {"weights_sha256": "cd" * 32}, {"mlx_version": "1"}):
        assert batch_size.fitting(8, dataclasses.replace(IDENTITY, **change), lambda: GB) == 8
    batch_size.remember(4, dataclasses.replace(IDENTITY, dtype="float16"))
    assert len(json.loads((cache / "passes.json").read_text())) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": "y"}'])
def test_a_memory_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch, cache: Path, text: str) -> None:
    device(monkeypatch, free_memory=80 * GB)
    cache.mkdir(parents=True)
    (cache / "passes.json").write_text(text)
    assert batch_size.fitting(8, IDENTITY, lambda: GB) == 8
    batch_size.remember(4, IDENTITY)
    assert batch_size.fitting(8, IDENTITY, lambda: GB) == 4


def test_a_memory_that_cannot_be_written_is_done_without(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    batch_size.remember(4, IDENTITY)


@pytest.mark.parametrize(
    "said", ["[malloc] Unable to allocate 42 bytes.", "cudaMallocAsync failed: out of memory", "Insufficient Memory"]
)
def test_a_model_out_of_memory_says_so_and_shrinks_until_a_pass_is_one_row(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    model = FlashSR.from_pretrained(tiny_folder, device="cpu")
    model.batch_windows = 4

    def networks(*_: Any) -> Any:
        raise RuntimeError(said)

    monkeypatch.setattr(model, "_networks", networks)
    with pytest.raises(ModelMemory, match="too little memory"):
        model.upsample_window(np.zeros(model.frame_samples, np.float32))
    assert [model.shrink() for _ in range(3)] == [True, True, False]
    assert model.batch_windows == 1
    assert batch_size.fitting(8, model.identity, lambda: 0) == 1


def test_other_errors_of_the_networks_stay_what_they_are(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FlashSR.from_pretrained(tiny_folder, device="cpu")

    def networks(*_: Any) -> Any:
        raise RuntimeError("There is no Stream")

    monkeypatch.setattr(model, "_networks", networks)
    with pytest.raises(RuntimeError, match="no Stream"):
        model.upsample_window(np.zeros(model.frame_samples, np.float32))


def test_a_model_measures_itself_and_loads_with_the_passes_that_fit(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchsr.models.compute.backend.CPU_BATCH", 8)
    measured = FlashSR.from_pretrained(tiny_folder, device="cpu")
    needed = measured._window_bytes()
    assert needed > measured.frame_samples * 4
    assert measured.batch_windows == 8, "this device does not say what it has"
    monkeypatch.setattr(batch_size, "free_bytes", lambda: int(needed * 2.6))
    assert FlashSR.from_pretrained(tiny_folder, device="cpu").batch_windows == 2
