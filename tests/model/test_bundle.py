"""Reading and writing bundles: whatever is wrong with one is an error that names it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from batchsr import FlashSR
from batchsr.errors import BundleError
from batchsr.models.flashsr import bundle, weights
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.config_sizes import QuantisationConfig
from batchsr.models.flashsr.networks import tensor_shapes
from batchsr.models.tools import make, random_weights
from batchsr.models.tools.check import check

Copy = Callable[[], Path]
SOME = "vae.encoder.conv_in.weight"
QUANTISED = "ldm.time_embed.2.weight"


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in mx.load(str(folder / "model.safetensors")).items()}


def save(folder: Path, values: dict[str, np.ndarray]) -> Path:
    """The tensors as a safetensors file, written without the code under test."""
    names = {"float32": "F32", "float16": "F16", "float64": "F64", "int32": "I32", "uint32": "U32"}
    header, blobs, offset = {}, [], 0
    for name, value in values.items():
        blob = np.ascontiguousarray(value).tobytes()
        header[name] = {
            "dtype": names[str(value.dtype)],
            "shape": list(value.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    return folder


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    values = json.loads((folder / "config.json").read_text())
    edit(values)
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def assert_refused(folder: Path, *words: str) -> None:
    with pytest.raises(BundleError) as caught:
        bundle.load(folder)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("format", ["float32", "float16", "bfloat16", "int8", "int4"])
def test_a_written_bundle_is_read_back(tmp_path: Path, format: str) -> None:
    config = make.config_of_size("tiny", format=format)
    written = bundle.write(tmp_path, config, lambda name, shape: random_weights.draw("seed", name, shape))
    read, networks = bundle.load(tmp_path)
    assert read == written
    error = {"float32": 0, "float16": 1e-3, "bfloat16": 1e-2, "int8": 1e-2, "int4": 0.2}[format]
    values = dict(tree_flatten(networks.parameters()))
    for name, shape in tensor_shapes(config).items():
        drawn = random_weights.draw("seed", name, shape)
        assert np.linalg.norm(np.array(values[name]) - drawn) <= error * np.linalg.norm(drawn), name


@pytest.mark.parametrize("format", ["float32", "int8", "int4"])
def test_writing_is_repeatable_to_the_byte(tmp_path: Path, format: str) -> None:
    for name in ("a", "b"):
        make.write_random(tmp_path / name, make.config_of_size("tiny", format=format), "seed")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_weights_are_integer_times_scale_plus_bias(tmp_path: Path, bits: int) -> None:
    make.write_random(tmp_path / "q", make.config_of_size("tiny", format=f"int{bits}"), "seed")
    config = bundle.read_config(tmp_path / "q")
    stored = tensors(tmp_path / "q")
    plain: dict[str, np.ndarray] = {}
    for name, shape in tensor_shapes(config).items():
        value = stored[name]
        if name in config.quantized_shapes:
            scales, biases = (stored[f"{name}.{part}"] for part in ("scales", "biases"))
            assert (value.dtype, scales.dtype, biases.dtype) == (np.uint32, np.float16, np.float16)
            # The first integer of a group is in the lowest bits of its first word.
            shifts = np.arange(0, 32, bits, dtype=np.uint32)
            integers = ((value[:, :, None] >> shifts) & (2**bits - 1)).reshape(shape[0], -1, 64)
            wide = integers * scales.astype(np.float64)[:, :, None] + biases.astype(np.float64)[:, :, None]
            value = wide.reshape(shape)
        plain[name] = value.astype(np.float32)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "config.json").write_text(json.dumps(make.config_of_size("tiny").to_mapping()))
    save(tmp_path / "p", plain)
    x = np.random.default_rng(0).standard_normal((1, config.audio.frame_samples)).astype(np.float32)
    ours, theirs = (
        FlashSR.from_pretrained(tmp_path / name, device="cpu", dtype="float32").upsample_window(x) for name in "qp"
    )
    assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)


def test_quantising_loses_less_than_a_step() -> None:
    rng = np.random.default_rng(0)
    value = rng.standard_normal((8, 3, 64)).astype(np.float32)
    for bits in (4, 8):
        how = QuantisationConfig(bits=bits)
        packed, scales, biases = bundle.quantise(mx.array(value), how)
        back = np.array(bundle.dequantise(packed, scales, biases, how, value.shape))
        step = np.abs(np.array(scales.astype(mx.float32))).max()
        assert np.abs(back - value).max() < step


@pytest.mark.parametrize("format", ["int4", "int8", "float16", "bfloat16", "float32"])
def test_weights_are_unpacked_to_the_bit_as_mlx_would(tmp_path: Path, format: str) -> None:
    make.write_random(tmp_path, make.config_of_size("tiny", format=format), "seed")
    config, networks = bundle.load(tmp_path)
    stored: dict[str, mx.array] = mx.load(str(tmp_path / "model.safetensors"))
    for name, value in tree_flatten(networks.parameters()):
        theirs = stored[name]
        if name in config.quantized_shapes:
            assert config.quantization is not None
            parts = (stored[f"{name}.scales"], stored[f"{name}.biases"])
            theirs = bundle.dequantise(theirs, *parts, config.quantization, value.shape)
        assert mx.array_equal(value, theirs.astype(mx.float32)), name


def test_what_is_quantised_follows_the_published_rule() -> None:
    assert [
        bundle.quantisable(shape) for shape in ((64,), (2, 64), (2, 63), (3, 2, 32), (1, 1, 12), (5, 3, 3, 128))
    ] == [
        False,
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_missing_tensor_is_named(tiny_copy: Copy) -> None:
    folder = tiny_copy()
    values = tensors(folder)
    del values[SOME]
    assert_refused(save(folder, values), SOME, "missing")


def test_an_extra_tensor_is_named_in_a_warning(tiny_copy: Copy) -> None:
    folder = tiny_copy()
    save(folder, {**tensors(folder), "vae.surprise": np.zeros(3, np.float32)})
    (warning,) = bundle.open_bundle(folder).warnings
    assert "1 tensor " in warning
    assert "vae.surprise" in warning


def test_a_misshapen_tensor_is_named(tiny_copy: Copy) -> None:
    folder = tiny_copy()
    values = tensors(folder)
    values[SOME] = values[SOME].transpose(3, 1, 2, 0)
    assert_refused(save(folder, values), SOME, "[1, 3, 3, 32]", "[32, 3, 3, 1]")


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_is_named(tiny_copy: Copy, poison: float) -> None:
    folder = tiny_copy()
    values = tensors(folder)
    values[SOME].flat[7] = poison
    assert_refused(save(folder, values), SOME, "NaN or infinity")


def test_a_tensor_of_integers_is_named(tiny_copy: Copy) -> None:
    folder = tiny_copy()
    values = tensors(folder)
    values[SOME] = values[SOME].astype(np.int32)
    assert_refused(save(folder, values), SOME, "I32")


@pytest.mark.parametrize("part", ["scales", "biases"])
def test_a_quantised_tensor_needs_finite_scales_and_biases(tmp_path: Path, part: str) -> None:
    make.write_random(tmp_path, make.config_of_size("tiny", format="int4"), "seed")
    values = tensors(tmp_path)
    name = f"{QUANTISED}.{part}"
    values[name].flat[0] = np.inf
    assert_refused(save(tmp_path, values), name, "infinity")
    del values[name]
    assert_refused(save(tmp_path, values), name, "missing")


def test_quantized_shapes_must_be_those_of_the_model(tmp_path: Path) -> None:
    make.write_random(tmp_path, make.config_of_size("tiny", format="int8"), "seed")
    before = (tmp_path / "config.json").read_text()
    for edit, words in (
        (lambda v: v["quantized_shapes"].update({QUANTISED: [1, 2]}), (QUANTISED, "[1, 2]")),
        (lambda v: v["quantized_shapes"].pop(QUANTISED), (QUANTISED,)),
        (lambda v: v["quantized_shapes"].update({"ldm.out.2.bias": [16]}), ("ldm.out.2.bias", "cannot be quantised")),
    ):
        (tmp_path / "config.json").write_text(before)
        assert_refused(edit_config(tmp_path, edit), *words)


@pytest.mark.parametrize("keep", [0, 4, 100, 50_000, -1])
def test_a_truncated_file_is_told(tiny_copy: Copy, keep: int) -> None:
    folder = tiny_copy()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(folder, "model.safetensors")


def test_bytes_behind_the_last_tensor_are_told(tiny_copy: Copy) -> None:
    folder = tiny_copy()
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert_refused(folder, "model.safetensors")


@pytest.mark.parametrize(
    "entry",
    [
        "text",
        {"dtype": "F32", "shape": [2]},
        {"dtype": "F7", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
    ],
)
def test_a_header_that_makes_no_sense_is_told(tiny_copy: Copy, entry: object) -> None:
    folder = tiny_copy()
    text = json.dumps({"odd.tensor": entry}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    assert_refused(folder, "odd.tensor")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(tiny_copy: Copy, name: str) -> None:
    folder = tiny_copy()
    (folder / name).unlink()
    assert_refused(folder, name, "missing")


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "[" * 100_000])
def test_a_config_that_is_no_json_object_is_told(tiny_copy: Copy, text: str) -> None:
    folder = tiny_copy()
    (folder / "config.json").write_text(text)
    assert_refused(folder, str(folder))


def test_check_reports_what_it_found(tiny_folder: Path) -> None:
    found = check(tiny_folder)
    assert found["ok"] is True
    assert found["sha256"] == bundle.weights_sha256(tiny_folder)
    assert found["parameters"]["all"] == sum(
        int(np.prod(s))
        for s in tensor_shapes(ModelConfig.from_mapping(json.loads((tiny_folder / "config.json").read_text()))).values()
    )
    assert 0 < found["test_window_peak"] < 1


def test_check_sees_a_file_that_is_not_what_the_hub_served(tiny_copy: Copy) -> None:
    folder = tiny_copy()
    blob = folder / ("0" * 64)
    (folder / "model.safetensors").rename(blob)
    (folder / "model.safetensors").symlink_to(blob)
    with pytest.raises(BundleError, match="not what the hub served"):
        check(folder)


@pytest.mark.parametrize("format", ["int4", "float16", "float32"])
def test_a_gpu_is_given_the_same_weights_in_their_own_order(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.write_random(tmp_path, make.config_of_size("tiny", format=format), "seed")
    _, on_cpu = bundle.load(tmp_path)
    monkeypatch.setattr(weights, "on_cpu", lambda: False)
    _, elsewhere = bundle.load(tmp_path, mx.float16)
    other = dict(tree_flatten(elsewhere.parameters()))
    for name, value in tree_flatten(on_cpu.parameters()):
        assert mx.array_equal(value.astype(other[name].dtype), other[name]), name


def test_a_process_that_looks_at_many_bundles_does_not_grow(tiny_folder: Path) -> None:
    def held_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc")
    for _ in range(20):
        bundle.open_bundle(tiny_folder)
    before = held_bytes()
    for _ in range(100):
        bundle.open_bundle(tiny_folder)
    assert held_bytes() - before < 10 << 20
