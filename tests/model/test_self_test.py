"""A window that is known: it is passed where it should be, and a kernel that lies in one place is caught."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from batchsr import FlashSR
from batchsr.audio.loops import is_kept
from batchsr.errors import EXIT_NO_MODEL, ModelError, SelfTestFailed
from batchsr.models import self_test
from batchsr.models.compute import backend, cpu, loops, proven

from .conftest import in_time, tiny_bundle


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache that nothing was proven in yet."""
    monkeypatch.setattr(proven.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "batchsr" / "proven.json"


def test_the_cpu_computes_what_the_reference_says() -> None:
    outcome = self_test.run(backend.prepare(device="cpu"), timed=True)
    assert outcome.passed
    assert outcome.distance < 5e-5
    assert outcome.worst_piece < 5e-4
    assert outcome.ms_a_window is not None
    assert outcome.ms_a_window > 0


def left_out(v: np.ndarray) -> None:
    """32 positions of one channel that no thread wrote."""
    middle = v.shape[1] // 2 // 32 * 32
    v[0, middle : middle + 32, 0] = 0


def stale(v: np.ndarray) -> None:
    """The first tile holds what belongs to the second."""
    v[0, :32] = v[0, 32:64]


def tail(v: np.ndarray) -> None:
    """The last position was forgotten."""
    v[0, -1] = 0


def louder(v: np.ndarray) -> None:
    """One channel is off by a twentieth."""
    v[0, :, -1] *= 1.05


LIES: list[tuple[str, int, Callable[[np.ndarray], None]]] = [
    ("linear", 1, left_out),
    ("conv2d", 1, left_out),
    ("conv2d", 1, stale),
    ("conv2d", 85, louder),
    ("group_norm", 1, tail),
    ("group_norm", 55, stale),
    ("attention", 3, stale),
    ("conv1d", 40, stale),
    ("conv1d", 73, tail),
    ("activation", 1, left_out),
    ("activation", 16, tail),
    ("activation", 31, left_out),
    ("activation", 31, louder),
]
"""Which function of batchsr.models.compute.cpu, at which of its calls in a window, and how."""


@pytest.mark.parametrize(("function", "call", "lie"), LIES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_a_kernel_that_lies_in_one_place_is_caught(
    function: str, call: int, lie: Callable[[np.ndarray], None], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    honest, calls = getattr(cpu, function), 0

    def liar(*arguments: Any, **named: Any) -> mx.array:
        nonlocal calls
        y = honest(*arguments, **named)
        calls += 1
        if calls != call:
            return y
        values = np.array(y)
        lie(values.reshape(values.shape[0], -1, values.shape[-1]))
        return mx.array(values)

    monkeypatch.setattr(cpu, function, liar)
    with pytest.raises(SelfTestFailed, match="computes a known window wrongly in float32") as caught:
        FlashSR.from_pretrained("tiny", device="cpu")
    assert calls >= call
    assert caught.value.exit_code == EXIT_NO_MODEL
    assert "doctor" in (caught.value.remedy or "")
    assert not cache.exists(), "what failed is tested again at the next start"


def test_a_test_that_was_passed_is_remembered_for_these_circumstances_alone(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    chosen = backend.prepare(device="cpu")
    made: list[str] = []
    run = self_test.run

    def counted(given: backend.Backend) -> self_test.Outcome:
        made.append(given.dtype)
        return run(given)

    monkeypatch.setattr(self_test, "run", counted)
    said: list[str] = []
    for _ in range(3):
        self_test.ensure(chosen, said.append)
    assert made == ["float32"]
    assert len(said) == 1
    assert "once for this machine" in said[0]
    text = cache.read_text()
    assert chosen.mlx_version in text
    for changed in ("MLX 0.1.2", "another driver", "MLX_ENABLE_TF32=1"):
        monkeypatch.setattr(proven, "circumstances", lambda kind, dtype, changed=changed: changed)
        self_test.ensure(chosen, said.append)
    assert len(made) == 4


def test_where_the_loops_must_be_compiled_anew_the_test_does_it_and_no_file(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    chosen = backend.prepare(device="cpu")
    self_test.ensure(chosen, lambda said: None)
    assert is_kept(loops.convolve), "the window of the test has compiled it"
    folder = cache.parent / "numba"
    made = loops.convolve._made if hasattr(loops.convolve, "_made") else loops.convolve
    monkeypatch.setattr(made._cache, "_cache_path", str(folder))
    assert not is_kept(loops.convolve)
    said: list[str] = []
    self_test.ensure(chosen, said.append)
    assert len(said) == 1
    folder.mkdir()
    (folder / "loops.convolve-1.py3.nbi").touch()
    self_test.ensure(chosen, said.append)
    assert len(said) == 1


def test_circumstances_name_what_a_proof_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_ENABLE_TF32", "1")
    proven.circumstances.cache_clear()
    try:
        found = proven.circumstances("cpu", "float32")
    finally:
        proven.circumstances.cache_clear()
    described = backend.devices.describe("cpu")
    for part in ("MLX 0", "cpu", described.name, described.driver, "float32", "MLX_ENABLE_TF32=1"):
        assert part in found
    assert proven.program_digest() in found


NO_FIGURES = ("-1.0", "-Infinity", "Infinity", "NaN", "true", "1" + "0" * 400, '"no"', "[0.0]", "{}", "null")
"""What a test that was passed never left."""


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", '{"x": 1}', '{"x": [1]}', "[" * 100_000),
        *(f'{{"x": {{"a window of tiny": {figure}}}}}' for figure in NO_FIGURES),
    ],
    ids=lambda text: text[:40],
)
def test_a_memory_of_proofs_that_cannot_be_read_is_none(cache: Path, text: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(text)
    assert proven.remembered("a window of tiny", "x") is None
    proven.remember("a window of tiny", "x", 1e-5)
    assert proven.remembered("a window of tiny", "x") == 1e-5


@pytest.mark.parametrize("kind", ["fifo", "folder", "link to a fifo", "loop"])
def test_what_stands_in_place_of_the_memory_of_proofs_is_not_waited_for(cache: Path, kind: str) -> None:
    cache.parent.mkdir(parents=True)
    match kind:
        case "fifo":
            os.mkfifo(cache)
        case "folder":
            cache.mkdir()
        case "link to a fifo":
            os.mkfifo(cache.with_name("fifo"))
            cache.symlink_to("fifo")
        case "loop":
            cache.symlink_to(cache)
    assert in_time(lambda: proven.remembered("a window of tiny", "x")) is None
    assert in_time(lambda: proven.remember("a window of tiny", "x", 1e-5)) is None


def test_the_remedy_names_ways_that_are_left() -> None:
    outcome = self_test.Outcome(0.5, 3.0, "decode", False)
    chosen = backend.prepare(device="cpu")
    for device, dtype, expected in (
        ("metal", "float16", "--dtype float32 or --device cpu"),
        ("cuda", "float32", "try --device cpu"),
        ("cpu", "float32", "install batchsr"),
    ):
        failure = self_test.failure(dataclasses.replace(chosen, device=device, dtype=dtype, engine=""), outcome)
        assert expected in (failure.remedy or "")
        assert "after the stage decode" in failure.message


def test_nan_is_never_within_the_tolerance() -> None:
    reference = np.linspace(-1, 1, 1000, dtype=np.float32)
    out = reference.copy()
    out[500] = np.nan
    distances = {"vocoder": self_test.distances_of(out, reference)}
    assert not self_test._judged(distances, "float32").passed


def test_the_reference_belongs_to_the_weights_beside_it(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", self_test.REFERENCE_NAME):
        (tmp_path / name).write_bytes((tiny_bundle() / name).read_bytes())
    assert set(self_test.read_reference(tmp_path)) == {"mel", "encode", "unet", "decode", "vocoder"}
    self_test.read_reference.cache_clear()
    with (tmp_path / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="other weights"):
        self_test.read_reference(tmp_path)
    (tmp_path / self_test.REFERENCE_NAME).write_bytes(b"")
    with pytest.raises(ModelError, match="cannot be read"):
        self_test.read_reference(tmp_path)


def test_the_window_is_a_function_of_position_alone() -> None:
    sound, noise = self_test.window(245_760, (64, 16, 16))
    assert np.abs(sound).max() == pytest.approx(0.5)
    assert (sound.dtype, noise.dtype) == (np.float32, np.float32)
    assert np.array_equal(self_test.window(245_760, (64, 16, 16))[0], sound)
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1, abs=0.02)
