"""What the small model is trained with: sounds that may be used, degradations, losses, and derivatives of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from batchsr.quality import measure
from scripts.training import degrade, sounds

ROOT = Path(__file__).resolve().parent.parent.parent


def sound(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise below 3 kHz: every degradation of 8 kHz and more leaves it."""
    noise = np.random.default_rng(seed).standard_normal(int(seconds * 48_000))
    return (0.2 * measure.kept(noise, 3_000)).astype(np.float32)


@pytest.mark.parametrize(
    ("rate_hz", "codec", "error"),
    [(8_000, "none", 0.05), (8_000, "ulaw", 0.1), (8_000, "gsm", 0.9), (16_000, "mp3", 0.5), (24_000, "opus", 0.5)],
)
def test_a_degraded_sound_lies_where_the_original_does(rate_hz: int, codec: str, error: float) -> None:
    x = sound()
    how = degrade.Degradation(rate_hz, "cheby1", 8, 0.9, codec, None)
    y = degrade.apply(x, how, np.random.default_rng(0))
    assert y.shape == x.shape
    middle = slice(4_800, -4_800)  # codecs fade in
    assert np.linalg.norm((y - x)[middle]) < error * np.linalg.norm(x[middle])


def test_added_noise_has_the_level_that_was_asked_for() -> None:
    x = sound()
    plain = degrade.Degradation(16_000, "soxr", 8, 0.9, "none", None)
    noisy = degrade.Degradation(16_000, "soxr", 8, 0.9, "none", -20.0)
    difference = degrade.apply(x, noisy, np.random.default_rng(0)) - degrade.apply(x, plain, np.random.default_rng(0))
    assert 20 * np.log10(difference.std() / x.std()) == pytest.approx(-20, abs=0.5)


def test_a_crop_is_a_function_of_seed_and_index() -> None:
    reels = {"speech": [(sound(4) * 32767).astype(np.int16)], "music": [(sound(4, 1) * 32767).astype(np.int16)]}
    one, again, other = (sounds.Crops(reels, 30_720, 2, seed) for seed in (0, 0, 1))
    assert np.array_equal(one[7].low, again[7].low)
    assert not np.array_equal(one[7].low, one[8].low)
    assert not np.array_equal(one[7].low, other[7].low)
    batch = one[7]
    assert batch.low.shape == batch.high.shape == (2, 30_720)
    assert np.abs(batch.low).max() <= 0.5
    assert (batch.scale > 0).all()


@pytest.mark.parametrize("faster", [1.0, 1.2])
def test_an_excerpt_played_faster_is_as_long_and_higher(faster: float) -> None:
    reel = (8_000 * np.sin(2 * np.pi * 1_000 * np.arange(200_000) / 48_000)).astype(np.int16)
    x = sounds.excerpt(reel, faster, np.random.default_rng(0))
    assert x.shape == (sounds.EXCERPT_SAMPLES,)
    assert np.abs(np.fft.rfft(x)).argmax() * 48_000 / len(x) == pytest.approx(1_000 * faster, abs=1)
    ended = sounds.excerpt(reel[:1_000], faster, np.random.default_rng(0))
    assert ended.shape == x.shape
    assert not ended[1_000:].any()


@pytest.mark.parametrize(
    "path",
    [
        "wesnoth-1.16-music/usr/share/games/wesnoth/1.16/data/core/music/frantic.ogg",
        "hedgewars-data/usr/share/games/hedgewars/Data/Music/hell.ogg",
        "hedgewars-data/usr/share/games/hedgewars/Data/Sounds/voices/Default_uk/Hello.ogg",
        "klettres-data/usr/share/klettres/de/alpha/y.ogg",
        "sonic-pi-samples/usr/share/sonic-pi/samples/loop_mika.flac",
    ],
)
def test_what_the_model_is_judged_by_is_never_trained_on(path: str) -> None:
    assert sounds.is_judge(Path(path))


@pytest.mark.parametrize(
    ("path", "used", "voice"),
    [
        ("d/tuxpaint-stamps-default/usr/share/tuxpaint/stamps/food/fruit/apple_desc_es.ogg", True, "es"),
        ("d/tuxpaint-stamps-default/usr/share/tuxpaint/stamps/food/fruit/apple_desc_be.ogg", False, "be"),
        ("d/tuxpaint-stamps-default/usr/share/tuxpaint/stamps/animals/dog.ogg", False, "dog"),
        ("d/klettres-data/usr/share/klettres/it/alpha/a.ogg", False, "d/klettres-data/usr/share/klettres/it/alpha"),
        ("d/klettres-data/usr/share/klettres/en/alpha/a.ogg", True, "d/klettres-data/usr/share/klettres/en/alpha"),
    ],
)
def test_what_is_spoiled_or_held_out_is_not_used_and_a_voice_stays_together(path: str, used: bool, voice: str) -> None:
    assert (sounds.is_used(Path(path)), sounds.voice_of(Path(path))) == (used, voice)


def test_every_source_of_the_shared_clips_is_kept_out(shared: Path) -> None:
    lines = (shared / "audio/eval_manifest.csv").read_text().splitlines()[1:]
    packages = tuple(f"{package}/" for package in sounds.KINDS)
    words = [word.strip(' "') for line in lines for part in line.split(",") for word in part.split(";")]
    sources = [word for word in words if word.startswith(packages)]
    assert len(sources) > 40
    assert [source for source in sources if not sounds.is_judge(Path(source))] == []


def test_the_bandwidth_of_noise_below_six_kilohertz_is_six_kilohertz() -> None:
    noise = np.random.default_rng(0).standard_normal(96_000)
    assert sounds.bandwidth_hz(measure.kept(noise, 6_000).astype(np.float32), 48_000) == pytest.approx(6_000, abs=700)


def test_the_loss_is_nothing_for_the_original_and_its_lsd_is_the_measure() -> None:
    mx = pytest.importorskip("mlx.core")
    from batchsr.quality import evaluate
    from scripts.training.losses import SpectralLoss

    high, low = sound(0.64, 1), sound(0.64, 2)
    loss, one = SpectralLoss(), mx.ones((1, 1))
    high_row, low_row = mx.array(high)[None], mx.array(low)[None]
    same = loss(high_row, high_row, low_row, one)
    assert max(float(value) for value in same.values()) < 2e-3
    other = loss(low_row, high_row, low_row, one)
    measured = evaluate.lsd(evaluate.spectrogram(high), evaluate.spectrogram(low), 1e-8)
    assert float(other["lsd"]) == pytest.approx(measured, rel=1e-2)


def test_a_row_of_silence_does_not_outweigh_the_others_in_the_derivative() -> None:
    mx = pytest.importorskip("mlx.core")
    from scripts.training.losses import balanced

    weight = mx.array([[1.0], [2.0], [3.0], [1e6]]) * mx.ones((4, 10))
    y = mx.zeros((4, 10))
    lengths = mx.linalg.norm(mx.grad(lambda v: (balanced(v) * weight).sum())(y), axis=1)
    assert np.allclose(np.array(lengths) / 10**0.5, [1, 2, 3, 6])


def test_the_mel_side_is_steered_as_strongly_by_the_waveform_as_by_its_own_loss() -> None:
    mx = pytest.importorskip("mlx.core")
    from scripts.training.losses import gentle

    mel, target = mx.zeros((2, 4, 8)), mx.ones((2, 4, 8))
    own = mx.grad(lambda m: mx.abs(m - target).mean())(mel)
    steep = mx.grad(lambda m: (1e6 * gentle(m) * mx.arange(8)).sum())(mel)
    assert float(mx.linalg.norm(steep.reshape(-1))) == pytest.approx(float(mx.linalg.norm(own.reshape(-1))), rel=1e-4)
    assert float(mx.abs(mx.grad(lambda m: (0 * gentle(m)).sum())(mel)).max()) == 0


@pytest.mark.parametrize(("inputs", "out", "k", "dilation"), [(6, 6, 11, 5), (1, 6, 7, 1), (8, 3, 3, 3)])
def test_the_convolutions_own_derivative_agrees_with_mlx(inputs: int, out: int, k: int, dilation: int) -> None:
    mx = pytest.importorskip("mlx.core")
    from scripts.training import convolution

    rng = np.random.default_rng(0)
    x, weight, bias, dy = (
        mx.array(rng.standard_normal(shape).astype(np.float32))
        for shape in ((2, 320, inputs), (out, k, inputs), (out,), (2, 320, out))
    )
    padding = dilation * (k - 1) // 2
    ours = mx.vjp(convolution.convolution(padding, dilation), [x, weight, bias], [dy])
    plain = mx.vjp(lambda a, w, b: mx.conv1d(a, w, 1, padding, dilation) + b, [x, weight, bias], [dy])
    for a, b in zip([*ours[0], *ours[1]], [*plain[0], *plain[1]], strict=True):
        assert float(mx.linalg.norm((a - b).reshape(-1))) < 1e-5 * float(mx.linalg.norm(b.reshape(-1)))


def test_parameters_as_one_vector_have_the_derivative_of_the_parameters() -> None:
    mx = pytest.importorskip("mlx.core")
    from mlx import nn
    from mlx.utils import tree_flatten

    from scripts.train_tiny import Flat

    layer, x = nn.Linear(5, 3), mx.arange(10.0).reshape(2, 5)
    flat = Flat(layer)

    def loss(vector: Any) -> Any:
        flat.into(layer, vector)
        return mx.square(layer(x)).sum()

    slope = dict(flat.named(mx.grad(loss)(flat.vector)))
    flat.into(layer, flat.vector)
    plain = dict(tree_flatten(nn.value_and_grad(layer, lambda: mx.square(layer(x)).sum())()[1]))
    assert slope.keys() == plain.keys() == {"weight", "bias"}
    assert all(np.allclose(slope[name], plain[name], rtol=1e-5) for name in plain)


def test_training_on_the_cpu_takes_the_derivative_of_the_plain_activation() -> None:
    mx = pytest.importorskip("mlx.core")
    from batchsr.models.compute import activation

    module, x = activation.Activation(4), mx.random.normal((1, 64, 4))
    taps = mx.array(activation.kaiser_sinc().astype(np.float32))
    ones = mx.ones((4,))
    ours = mx.grad(lambda v: mx.square(module(v)).sum())(x)
    plain = mx.grad(lambda v: mx.square(activation.polyphase(v, taps, taps, ones, ones)).sum())(x)
    assert float(mx.linalg.norm((ours - plain).reshape(-1))) < 1e-5 * float(mx.linalg.norm(plain.reshape(-1)))


def test_downsampling_as_a_matrix_product_is_the_strided_convolution() -> None:
    mx = pytest.importorskip("mlx.core")
    from scripts.training.convolution import strided

    rng = np.random.default_rng(0)
    x, weight, bias = (mx.array(rng.standard_normal(s).astype(np.float32)) for s in ((2, 60, 3), (5, 12, 3), (5,)))
    assert np.allclose(strided(x, weight, bias, 6), mx.conv1d(x, weight, 6, 5) + bias, atol=1e-4)


@pytest.mark.slow
def test_training_resumes_where_it_left_off_and_ends_with_a_bundle_that_restores(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    from batchsr import FlashSR
    from batchsr.models.tools import make

    data, run = tmp_path / "data/sonic-pi-samples", tmp_path / "run"
    data.mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(6 * 48_000)
    sf.write(data / "noise.wav", noise, 48_000)
    config = make.config_of_size("tiny", format="float32", frame_samples=15_360)
    (tmp_path / "config.json").write_text(json.dumps(config.to_mapping()))
    command = [sys.executable, str(ROOT / "scripts/train_tiny.py"), str(tmp_path / "data"), "--out", str(run)]
    command += ["--config", str(tmp_path / "config.json"), "--batch", "2", "--crop", "15360", "--processes", "0"]
    command += ["--steps", "3", "--adversarial-from", "0.3", "--format", "int8"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}

    subprocess.run([*command, "--stop-after", "0"], check=True, env=environment)
    begun = json.loads((run / "meta.json").read_text())["step"]
    subprocess.run(command, check=True, env=environment)
    assert begun < json.loads((run / "meta.json").read_text())["step"] == 3
    figures = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert np.isfinite([line["total"] for line in figures]).all()
    assert "judge" in figures[-1]

    model = FlashSR.from_pretrained(run / "bundle")
    restored = model.upsample(sound(0.3)[::6], 8_000)
    assert restored.shape == (14_400,)
    assert np.isfinite(restored).all()
