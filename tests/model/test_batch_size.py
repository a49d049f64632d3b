"""How many rows a pass has: by what is free, by what went wrong before; with devices that are made up."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from batchsr.errors import ModelMemory
from batchsr.models import batch_size
from batchsr.models.flashsr.model import FlashSR, ModelIdentity
from batchsr.models.flashsr.networks import row_bytes
from batchsr.models.tools import make

from .conftest import in_time

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
    assert batch_size.fitting(8, IDENTITY, 2 * GB) == rows
    assert limits[-1] == GB + min(2 * GB * rows, int(0.8 * free)), "what a pass takes, as far as it is there"


def test_metal_says_what_may_be_used_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    device(monkeypatch, max_recommended_working_set_size=11 * GB)  # of which 1 GB is taken
    assert batch_size.free_bytes() == 10 * GB
    assert batch_size.fitting(8, IDENTITY, 2 * GB) == 4


def test_a_pass_of_one_row_has_its_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else MLX takes nearly all of a Mac's memory, or all of a card's once passes are remembered as 1."""
    device(monkeypatch, max_recommended_working_set_size=11 * GB)
    assert batch_size.fitting(1, IDENTITY, 2 * GB) == 1
    assert limits[-1] == 3 * GB
    device(monkeypatch, free_memory=80 * GB)
    batch_size.remember(1, IDENTITY)
    limits.clear()
    assert batch_size.fitting(16, IDENTITY, 2 * GB) == 1
    assert limits == [3 * GB]


def test_a_device_that_does_not_say_what_is_free_is_given_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits.clear()
    device(monkeypatch, architecture="x86_64")
    assert batch_size.fitting(8, IDENTITY, 2 * GB) == 8
    assert limits == []


@pytest.mark.parametrize(("value_bytes", "gigabytes"), [(2, 0.805), (4, 2.416)])
def test_the_published_size_needs_what_was_measured_and_not_much_more(value_bytes: int, gigabytes: float) -> None:
    """In passes of 8 a row took 0.81 GB in float16 on an H100 and 2.36 in float32 on an H200 (docs/measurements.md)."""
    needed = row_bytes(make.config_of_size("published"), value_bytes)
    assert needed == pytest.approx(gigabytes * GB, rel=1e-3)


def test_what_ran_out_of_memory_is_remembered_for_this_model_on_this_device(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    device(monkeypatch, free_memory=80 * GB)
    batch_size.remember(2, IDENTITY)
    assert batch_size.fitting(8, IDENTITY, GB) == 2
    for change in ({"dtype": "float16"}, {"device": "metal"}, {"weights_sha256": "cd" * 32}, {"mlx_version": "1"}):
        assert batch_size.fitting(8, dataclasses.replace(IDENTITY, **change), GB) == 8
    batch_size.remember(4, dataclasses.replace(IDENTITY, dtype="float16"))
    assert len(json.loads((cache / "passes.json").read_text())) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": "y"}'])
def test_a_memory_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch, cache: Path, text: str) -> None:
    device(monkeypatch, free_memory=80 * GB)
    cache.mkdir(parents=True)
    (cache / "passes.json").write_text(text)
    assert batch_size.fitting(8, IDENTITY, GB) == 8
    batch_size.remember(4, IDENTITY)
    assert batch_size.fitting(8, IDENTITY, GB) == 4


@pytest.mark.parametrize(
    ("remembered", "rows"), [("7", 4), ("3", 2), ("1", 1), ("true", 8), ("0", 8), ("-4", 8), ("9" * 400, 8), ("2.5", 8)]
)
def test_no_size_is_computed_that_halving_does_not_reach(
    monkeypatch: pytest.MonkeyPatch, cache: Path, remembered: str, rows: int
) -> None:
    device(monkeypatch, free_memory=80 * GB)
    cache.mkdir(parents=True)
    (cache / "passes.json").write_text(f'{{"{batch_size._key(IDENTITY)}": {remembered}}}')
    assert batch_size.fitting(8, IDENTITY, GB) == rows


@pytest.mark.parametrize("name", ["passes.json", "apart.json"])
def test_a_fifo_in_place_of_a_memory_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, cache: Path, name: str) -> None:
    device(monkeypatch, free_memory=80 * GB)
    cache.mkdir(parents=True)
    os.mkfifo(cache / name)
    assert in_time(lambda: (batch_size.fitting(8, IDENTITY, GB), batch_size.apart(IDENTITY, 8))) == (8, [])
    assert in_time(lambda: batch_size.remember(4, IDENTITY)) is None
    assert in_time(lambda: batch_size.remember_apart(["conv"], IDENTITY, 4)) is None


def test_a_memory_that_cannot_be_written_is_done_without(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    batch_size.remember(4, IDENTITY)


@pytest.mark.parametrize(
    "said",
    [
        "[malloc] Unable to allocate 42 bytes.",
        "cudaMallocAsync failed: out of memory",
        "[METAL] Command buffer execution failed: Insufficient Memory (00000008)",
        "[metal::malloc] Attempting to allocate 42 bytes which is greater than the maximum allowed buffer size of 41",
        "[metal::malloc] Resource limit (499000) exceeded.",
    ],
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
    assert batch_size.fitting(8, model.identity, 0) == 1


def test_other_errors_of_the_networks_stay_what_they_are(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FlashSR.from_pretrained(tiny_folder, device="cpu")

    def networks(*_: Any) -> Any:
        raise RuntimeError("There is no Stream")

    monkeypatch.setattr(model, "_networks", networks)
    with pytest.raises(RuntimeError, match="no Stream"):
        model.upsample_window(np.zeros(model.frame_samples, np.float32))


def test_a_model_loads_with_the_passes_that_fit(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchsr.models.compute.backend.CPU_BATCH", 8)
    open_ended = FlashSR.from_pretrained(tiny_folder, device="cpu")
    assert open_ended.batch_windows == 8, "this device does not say what it has"
    needed = row_bytes(open_ended.config, 4)
    assert needed > open_ended.frame_samples * 4
    monkeypatch.setattr(batch_size, "free_bytes", lambda: int(needed * 2.6))
    assert FlashSR.from_pretrained(tiny_folder, device="cpu").batch_windows == 2


def test_a_first_pass_that_does_not_fit_is_halved_before_any_file_is_begun(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FlashSR.from_pretrained(tiny_folder, device="cpu")
    model.batch_windows = 8
    networks, rows_seen = model._networks, []

    def scarce(norm: mx.array, *rest: mx.array) -> mx.array:
        rows_seen.append(norm.shape[0])
        if norm.shape[0] > 2:
            raise RuntimeError("cudaMallocAsync failed: out of memory")
        return networks(norm, *rest)

    monkeypatch.setattr(model, "_networks", scarce)
    model.warm_up()
    assert rows_seen == [8, 4, 2]
    assert model.batch_windows == 2
    assert batch_size.fitting(8, model.identity, 0) == 2, "the next process begins with it"


@pytest.mark.parametrize(
    ("size", "odd", "used", "spare"), [(4, [3], 3, 1), (4, [], 4, 0), (4, [1, 3], 1, 0), (2, [1], 1, 1)]
)
def test_rows_that_a_device_computes_otherwise_are_not_used(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, size: int, odd: list[int], used: int, spare: int
) -> None:
    """Whatever the reason: a window's bytes must not depend on its place in a pass."""
    model = FlashSR.from_pretrained(tiny_folder, device="cpu")
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (5, model.frame_samples)).astype(np.float32)
    noise = np.stack([model.noise(0, 3)] * 5)
    model.batch_windows = size
    networks = model._networks

    def partial(norm: mx.array, *rest: mx.array) -> mx.array:
        out = np.array(networks(norm, *rest))
        if len(out) == size:
            out[odd, -3:] *= 1.001
        return mx.array(out)

    monkeypatch.setattr(model, "_networks", partial)
    model.warm_up()
    assert (model.batch_windows, model._spare_rows) == (used, spare)
    restored = model.upsample_window(sound, noise)
    for row in range(5):
        assert model.upsample_window(sound[row], noise[row : row + 1]).tobytes() == restored[row].tobytes()
    if spare:
        while model.shrink():
            assert model.batch_windows + model._spare_rows in (1, 2)
        assert (model.batch_windows, model._spare_rows) == (1, 0)
