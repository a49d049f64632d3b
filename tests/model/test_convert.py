"""The authors' checkpoints, in the form that PyTorch stores them, become the tensors that they were made from."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from batchsr import FlashSR
from batchsr.errors import BundleError
from batchsr.models.flashsr import bundle
from batchsr.models.flashsr.networks import tensor_shapes
from batchsr.models.tools import convert, make, random_weights

from .conftest import Golden, distance
from .torch_form import write_pth

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = make.config_of_size("tiny")
Checkpoints = dict[str, dict[str, np.ndarray]]


def torch_layout(name: str, value: np.ndarray) -> np.ndarray:
    if name.startswith("voc.ups.") and value.ndim == 3:
        return value.transpose(2, 0, 1)
    if value.ndim == 4:
        return value.transpose(0, 3, 1, 2)
    return value.transpose(0, 2, 1) if value.ndim == 3 and not name.endswith(".filter") else value


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return {name: random_weights.draw("convert", name, shape) for name, shape in tensor_shapes(CONFIG).items()}


def in_the_authors_form(weights: dict[str, np.ndarray]) -> Checkpoints:
    """What the three files hold: other names, other layouts, weight norm, and things to be dropped."""
    rng = np.random.default_rng(0)
    made: Checkpoints = {"ldm": {}, "voc": {}, "vae": {}}
    for name, value in weights.items():
        part, _, key = name.partition(".")
        value = torch_layout(name, value)
        if part == "ldm":
            key = f"model.{key}"
        if part == "voc" and value.ndim == 3 and key.endswith(".weight") and "audio_block" not in key:
            g = np.sqrt((value.astype(np.float64) ** 2).sum(axis=(1, 2), keepdims=True))
            made[part][f"{key}_g"] = g.astype(np.float32)
            made[part][f"{key}_v"] = (value / g * rng.uniform(0.5, 2, g.shape)).astype(np.float32)
        else:
            made[part][key] = value
    made["ldm"]["betas"] = np.zeros(1000, np.float32)
    made["vae"]["loss.logvar"] = np.zeros(1, np.float32)
    made["vae"]["vocoder.conv_pre.bias"] = np.zeros(4, np.float32)
    return made


@pytest.fixture
def checkpoints(weights: dict[str, np.ndarray]) -> Checkpoints:
    return in_the_authors_form(weights)


def test_every_tensor_is_found_again(weights: dict[str, np.ndarray], checkpoints: Checkpoints) -> None:
    converted = convert.converted(CONFIG, checkpoints)
    assert converted.keys() == weights.keys()
    for name, value in weights.items():
        assert converted[name].shape == value.shape
        assert np.allclose(converted[name], value, rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c["vae"].pop("quant_conv.bias"), ("vae.pth", "quant_conv.bias", "missing")),
        (lambda c: c["vae"].update(surprise=np.zeros(1)), ("vae.pth", "surprise")),
        (lambda c: c["ldm"].update({"model.surprise": np.zeros(1)}), ("student_ldm.pth", "surprise")),
        (lambda c: c["voc"].pop("conv_pre.weight_g"), ("sr_vocoder.pth", "conv_pre.weight_g")),
        (lambda c: c["voc"].update({"conv_pre.bias": np.zeros(7)}), ("sr_vocoder.pth", "conv_pre.bias", "[7]")),
        (lambda c: c["voc"]["conv_pre.bias"].fill(np.nan), ("sr_vocoder.pth", "conv_pre.bias", "NaN")),
    ],
)
def test_what_does_not_fit_is_named(
    checkpoints: Checkpoints, spoil: Callable[[Checkpoints], object], words: tuple[str, ...]
) -> None:
    spoil(checkpoints)
    with pytest.raises(BundleError) as caught:
        convert.converted(CONFIG, checkpoints)
    assert all(word in str(caught.value) for word in words), caught.value


def test_the_authors_files_restore_the_golden_window(golden: Golden, tmp_path: Path) -> None:
    """From files in PyTorch's form, through the script, to the samples that the authors' code gave."""
    weights = {name: random_weights.draw(golden.seed, name, tuple(key["shape"])) for name, key in golden.keys.items()}
    for part, tensors in in_the_authors_form(weights).items():
        write_pth(tmp_path / convert.FILES[part], tensors, under="state_dict" if part == "ldm" else None)
    config = make.config_of_size("small", frame_samples=golden.arrays["audio"].shape[1])
    (tmp_path / "config.json").write_text(json.dumps(config.to_mapping()))
    command = [sys.executable, str(ROOT / "scripts/convert_weights.py"), str(tmp_path), str(tmp_path / "bundle")]
    command += ["--format", "float32", "--config", str(tmp_path / "config.json")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    model = FlashSR.from_pretrained(tmp_path / "bundle", device="cpu")
    assert (
        distance(model.upsample_window(golden.arrays["audio"], golden.arrays["noise"]), golden.arrays["hr_999"]) < 1e-4
    )


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    for name in convert.FILES.values():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"weight": Path}, protocol=2))
    command = [sys.executable, str(ROOT / "scripts/convert_weights.py"), str(tmp_path), str(tmp_path / "bundle")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, (tmp_path / "bundle").exists()) == (69, False)
    assert "pathlib.Path" in done.stderr


def test_a_bundle_is_rewritten_in_another_format(tiny_folder: Path, tmp_path: Path) -> None:
    config = make.rewrite(tiny_folder, tmp_path / "int8", "int8")
    assert (config.format, bundle.read_config(tmp_path / "int8")) == ("int8", config)
    before, after = (FlashSR.from_pretrained(f, device="cpu") for f in (tiny_folder, tmp_path / "int8"))
    x = (0.1 * np.random.default_rng(0).standard_normal(before.frame_samples)).astype(np.float32)
    y, z = before.upsample_window(x), after.upsample_window(x)
    assert 0 < np.linalg.norm(y - z) < 0.2 * np.linalg.norm(y)
    with pytest.raises(BundleError, match="is the bundle to be read"):
        make.rewrite(tiny_folder, tiny_folder, "int4")
    with pytest.raises(BundleError, match="int3"):
        make.rewrite(tiny_folder, tmp_path / "x", "int3")
