"""The small model's training: its networks are the model's, its losses the measure, and its state outlives a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile as sf

from batchsr.quality import evaluate, measure
from scripts import mix_weights, train_tiny
from scripts.training import held, losses, network, trainer

ROOT = Path(__file__).resolve().parent.parent.parent
CROP = 15_360
UNUSED = "voc.audio_block.downsamples.2.0.weight"
"""In every bundle, and of no use."""


def noise(shape: tuple[int, ...], seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bundle`, a small model's random weights, `short` of a still smaller one, and `data`."""
    from batchsr.models.flashsr.config import ModelConfig
    from batchsr.models.tools import make

    folder = tmp_path_factory.mktemp("source")
    config = make.config_of_size("tiny", format="float32", frame_samples=CROP)
    make.write_random(folder / "bundle", config, "training")
    # A vocoder of three short levels for what has to be compiled: that takes most of the tests' time.
    levels = {"upsample_rates": [10, 6, 8], "upsample_kernel_sizes": [20, 12, 16], "resblock_dilation_sizes": [[1]]}
    mapping = config.to_mapping()
    mapping["vocoder"] = {**mapping["vocoder"], **levels}
    (folder / "config.json").write_text(json.dumps(mapping))
    make.write_random(folder / "short", ModelConfig.from_mapping(mapping), "training")
    (folder / "data/sonic-pi-samples").mkdir(parents=True)
    sf.write(folder / "data/sonic-pi-samples/noise.wav", noise((6 * 48_000,)), 48_000)
    return folder


@pytest.fixture(scope="module")
def plain(source: Path) -> tuple[Any, dict[str, np.ndarray], Any]:
    """(the model's networks in MLX, their weights by name, config.json)."""
    from batchsr.models.compute import backend

    backend.prepare(device="cpu")
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from batchsr.models.flashsr import bundle

    config, networks = bundle.load(source / "bundle", mx.float32)
    networks.train()  # plain operations
    weights = {name: np.array(value) for name, value in tree_flatten(networks.parameters())}
    return networks, weights, config.to_mapping()


def test_each_network_of_the_training_computes_what_the_model_does(plain: Any) -> None:
    import mlx.core as mx

    from batchsr.models.flashsr.config import ModelConfig
    from batchsr.models.flashsr.mel_bands import mel_bands

    networks, arrays, config = plain
    weights = {name: jnp.array(value) for name, value in arrays.items()}
    typed = ModelConfig.from_mapping(config)
    x, z = noise((2, CROP)), noise((2, CROP // 3840, *typed.noise_shape[1:]), 1, 1.0)
    mel = network.log_mel(config, mel_bands(typed.mel), x)
    mean, spread = network.moments(weights, mel)
    v = network.unet(weights, config, z, mean, np.array([999.0, 400.0]))
    decoded = network.decode(weights, z)
    y = network.vocoder(weights, config, decoded, x)
    vae = networks.vae
    theirs_mel = networks.log_mel(mx.array(x))
    theirs_mean, theirs_spread = vae.moments(theirs_mel)
    theirs_v = networks.ldm(mx.array(z), theirs_mean, mx.array([999, 400]))
    theirs_decoded = vae.decode(mx.array(z) * vae.scale)
    theirs_y = networks.voc(theirs_decoded, mx.array(x))
    pairs = [(mel, theirs_mel), (mean, theirs_mean), (spread, theirs_spread), (v, theirs_v)]
    for ours, theirs in [*pairs, (decoded, theirs_decoded), (y, theirs_y)]:
        ours, theirs = np.asarray(ours), np.array(theirs)
        assert ours.shape == theirs.shape
        assert np.linalg.norm(ours - theirs) < 2e-5 * np.linalg.norm(theirs)


@pytest.mark.parametrize(("inputs", "out", "k", "dilation"), [(6, 6, 11, 5), (1, 6, 7, 1), (8, 3, 3, 3)])
def test_the_convolutions_own_derivative_is_that_of_the_plain_one(inputs: int, out: int, k: int, dilation: int) -> None:
    x, weight, dy = noise((2, 320, inputs)), noise((out, k, inputs), 1), noise((2, 320, out), 2)
    reach = dilation * (k - 1) // 2

    def general(a: Any, w: Any) -> Any:
        layout = ("NWC", "OWI", "NWC")
        return jax.lax.conv_general_dilated(
            a, w, (1,), [(reach, reach)], rhs_dilation=(dilation,), dimension_numbers=layout
        )

    for precise in (False, True):
        ours, back = jax.vjp(lambda a, w, precise=precise: network.convolve(a, w, dilation, precise), x, weight)
        theirs, theirs_back = jax.vjp(general, x, weight)
        for a, b in zip([ours, *back(dy)], [theirs, *theirs_back(dy)], strict=True):
            assert np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b)


def bands() -> dict[int, np.ndarray]:
    from batchsr.models.flashsr.config_sizes import MelConfig
    from batchsr.models.flashsr.mel_bands import mel_bands

    return {n: mel_bands(MelConfig(n_fft=n, n_mels=m, fmin=200.0 * 2048 / n)) for n, m in losses.BANDS.items()}


def test_the_loss_is_nothing_for_the_original_and_its_lsd_is_the_measure() -> None:
    high, low, one = noise((1, 30_720), 1), noise((1, 30_720), 2, 0.01), np.ones((1, 1), np.float32)
    same = losses.spectral(high, high, low, one, bands())
    assert max(float(value) for value in same.values()) < 2e-3
    other = losses.spectral(low, high, low, one, bands())
    measured = evaluate.lsd(evaluate.spectrogram(high[0]), evaluate.spectrogram(low[0]), 1e-8)
    assert float(other["lsd"]) == pytest.approx(measured, rel=1e-2)


def test_by_the_measure_levels_are_roots_of_mean_squares_over_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bin far off costs more than many a little: a mean of absolute values does not tell these apart."""
    monkeypatch.setattr(losses, "RESOLUTIONS", (512,))
    y, h = noise((1, CROP)), noise((1, CROP), 1)
    ways = [losses.spectral(y, h, h, jnp.ones((1, 1)), bands(), by_measure=by) for by in (False, True)]
    plain, measured = ({name: float(value) for name, value in found.items()} for found in ways)
    for name in ("log", "band"):
        assert measured[name] > 1.1 * plain[name]
    same = losses.spectral(h, h, h, jnp.ones((1, 1)), bands(), by_measure=True)
    assert max(float(same["log"]), float(same["band"])) < 2e-3


def test_networks_that_stay_are_none_of_what_is_trained_and_all_of_what_is_kept() -> None:
    weights = {"vae.a": noise((2, 3)), "ldm.b": noise((4,)), "voc.c": noise((5,)), "voc.d.filter": noise((1, 1, 12))}
    config = trainer.read_config(Path(trainer.__file__).with_name("tiny.json"))
    given = (config, trainer.State.of(weights), {**bands(), 0: bands()[2048]}, np.linspace(1, 0, 1000), 0)
    staying, moving = trainer.Trainer(*given, still=("voc",)), trainer.Trainer(*given)
    assert (staying.arrays["weights"].size, moving.arrays["weights"].size) == (10, 15)
    assert staying.vocoder_from == moving.vocoder_from == 10
    staying.arrays["mean"] = staying.arrays["mean"] + 1
    for kept in (staying.state().mean, staying.mean_weights()):
        assert set(kept) == set(weights)
        assert np.array_equal(kept["voc.c"], weights["voc.c"])
        assert np.allclose(kept["vae.a"], weights["vae.a"] + 1)


def test_what_is_held_out_is_measured_as_evaluate_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With networks that give back what they were given: the distance of plain interpolation."""
    clip = np.cumsum(noise((CROP + 500,), 2)) * 0.05
    clip = (clip - clip.mean()).astype(np.float32)
    sf.write(tmp_path / "clip.flac", clip, 48_000, subtype="PCM_24")
    config = trainer.read_config(Path(trainer.__file__).with_name("tiny.json"))
    config = {**config, "audio": {**config["audio"], "frame_samples": CROP}}
    nothing = jnp.zeros((1, CROP // 480 // 8, 16, 16))
    monkeypatch.setattr(network, "log_mel", lambda *_: nothing)
    monkeypatch.setattr(network, "moments", lambda *_: (nothing, nothing))
    monkeypatch.setattr(network, "unet", lambda *_: nothing)
    monkeypatch.setattr(network, "decode", lambda *_: nothing)
    monkeypatch.setattr(network, "vocoder", lambda _, __, mel, samples: samples)
    half = np.full(1000, 0.5**0.5)
    found = held.Held(tmp_path, config, bands()[2048], half, half).distances({})
    original = measure.middle(measure.read_clip(tmp_path / "clip.flac"), CROP / 48_000)
    for rate_hz in held.RATES_HZ:
        low = measure.sinc(measure.degrade(original, rate_hz), rate_hz)
        expected = evaluate.lsd(evaluate.spectrogram(original), evaluate.spectrogram(low), 1e-8)
        assert found[f"held_{rate_hz // 1000}k"] == pytest.approx(expected, rel=1e-2)


def test_a_row_of_silence_does_not_outweigh_the_others_in_the_derivative() -> None:
    weight = np.array([[1.0], [2.0], [3.0], [1e6]], np.float32) * np.ones((4, 10), np.float32)
    slope = jax.grad(lambda v: (losses.balanced(v) * weight).sum())(jnp.zeros((4, 10)))
    assert np.allclose(np.linalg.norm(slope, axis=1) / 10**0.5, [1, 2, 3, 6])


def test_the_mel_side_is_steered_as_strongly_by_the_waveform_as_by_its_own_loss() -> None:
    mel, target = jnp.zeros((2, 4, 8)), jnp.ones((2, 4, 8))
    own = jax.grad(lambda m: jnp.abs(m - target).mean())(mel)
    steep = jax.grad(lambda m: (1e6 * losses.gentle(m) * jnp.arange(8)).sum())(mel)
    assert np.linalg.norm(steep) == pytest.approx(np.linalg.norm(own), rel=1e-4)
    assert np.abs(jax.grad(lambda m: (0 * losses.gentle(m)).sum())(mel)).max() == 0


def test_a_step_of_the_optimiser_goes_downhill_by_the_rate_whatever_the_slopes_size() -> None:
    x, zero = jnp.array([1.0, -1.0]), jnp.zeros(2)
    for size in (1e-4, 1e4):
        moved, m, v = trainer.adam(x, size * jnp.array([1.0, -2.0]), zero, zero, 0.1, 1.0, (0.8, 0.99))
        assert np.allclose(moved, [0.9 - 1e-3, -0.9 + 1e-3], atol=1e-4), "the rate, and a decay of a hundredth"
        assert np.allclose([m[0] / size, v[0] / size**2], [0.2, 0.01])


def test_the_rate_stays_and_then_falls_to_a_fiftieth() -> None:
    shares = [train_tiny.share_of_rate(progress, 0.4) for progress in (0, 0.59, 0.8, 1.0)]
    assert shares == pytest.approx([1, 1, 0.51, 0.02])
    assert train_tiny.share_of_rate(1.0, 0.0) == 1


def test_a_state_is_read_as_it_was_written_but_for_half_precision(tmp_path: Path) -> None:
    weights = {"voc.a": noise((3, 4)), "voc.filter": noise((1, 1, 12))}
    state = trainer.State(weights, {name: x + 1 for name, x in weights.items()}, {"512.0.weight": noise((2,))}, 70_000)
    state.write(tmp_path / "state.safetensors")
    again = trainer.State.read(tmp_path / "state.safetensors")
    assert again.step == 70_000
    for part in ("weights", "mean", "judges"):
        ours, theirs = getattr(state, part), getattr(again, part)
        assert ours.keys() == theirs.keys()
        assert all(
            np.allclose(ours[name], theirs[name], rtol=1e-3) and theirs[name].dtype == np.float32 for name in ours
        )
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_state_keeps_the_constants_of_the_architecture_exactly(tmp_path: Path) -> None:
    weights = {"voc.filter": noise((1, 1, 12)), "voc.a.filter": noise((2,), 1)}
    trainer.State.of(weights).write(tmp_path / "state.safetensors")
    again = trainer.State.read(tmp_path / "state.safetensors")
    assert np.array_equal(again.weights["voc.a.filter"], weights["voc.a.filter"])


def test_the_state_of_the_shipped_size_is_small_enough_to_carry() -> None:
    from batchsr.models.flashsr.config import ModelConfig
    from batchsr.models.flashsr.networks import tensor_shapes

    shapes = tensor_shapes(ModelConfig.from_mapping(json.loads((ROOT / "scripts/training/tiny.json").read_text())))
    judges = losses.new_judges(np.random.default_rng(0))
    values = 2 * sum(int(np.prod(shape)) for shape in shapes.values()) + sum(x.size for x in judges.values())
    assert 2 * values < 60 * 2**20


Run = Callable[..., Path]


@pytest.fixture(scope="module")
def run(source: Path) -> Run:
    """Run train_tiny.py in a process of its own; compiled programs are kept for the next run."""

    def train(out: str, *more: str, begin: Path | None = None, steps: int = 2) -> Path:
        command = [
            sys.executable,
            str(ROOT / "scripts/train_tiny.py"),
            str(source / "data"),
            "--out",
            str(source / out),
        ]
        command += ["--config", str(source / "config.json"), "--from", str(begin or source / "short"), *more]
        command += ["--batch", "2", "--crop", str(CROP), "--processes", "0", "--steps", str(steps)]
        environment = {
            **os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(source / "compiled"),
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # a quarter of the time to compile
        }  # fmt: skip
        subprocess.run(command, check=True, env=environment, timeout=600)
        return source / out

    return train


@pytest.fixture(scope="module")
def first(run: Run) -> Path:
    """What a first run of three steps, at one rate, has left."""
    return run("one", "--decay", "0", steps=3)


@pytest.mark.slow
def test_a_training_goes_on_in_pieces_and_ends_as_a_bundle_that_restores(source: Path, run: Run, first: Path) -> None:
    from batchsr import FlashSR

    begun = trainer.State.read(first / "state.safetensors")
    assert begun.step == 3
    assert begun.judges, "discriminators go on as well"
    second = run("two", "--decay", "0.5", begin=first / "state.safetensors", steps=4)
    between = trainer.State.read(second / "state.safetensors")
    assert begun.step < between.step < 7, "the state is that of the moment before the rate falls"
    figures = [json.loads(line) for line in (second / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in figures] == [4, 5, 6], "the batches go on, too"
    assert np.isfinite([line["total"] for line in figures]).all()
    for name, x in begun.weights.items():
        if x.ndim > 1:  # a bias's first steps, while the rate rises, can be too short for half precision
            stays = trainer.is_fixed(name) or name == UNUSED
            assert np.array_equal(between.weights[name], x) == stays, name

    assert not mix_weights.main([
        str(second / "weights.safetensors"), str(source / "made"), "--config", str(source / "config.json"),
    ])  # fmt: skip
    restored = FlashSR.from_pretrained(source / "made").upsample(noise((2_400,)), 8_000)
    assert restored.shape == (14_400,)
    assert np.isfinite(restored).all()


@pytest.mark.slow
def test_a_training_can_begin_with_weights_alone_and_without_heed_of_the_discriminators(run: Run, first: Path) -> None:
    # Most of the time to compile goes into the derivative of networks that need not be trained for this.
    later = run("four", "--heed", "0", "--still", "vae", "ldm", begin=first / "weights.safetensors")
    assert trainer.State.read(later / "state.safetensors").step <= 2
