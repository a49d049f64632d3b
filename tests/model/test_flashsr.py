"""The public model: shapes, repeatability, silence, and what it refuses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from batchsr import FlashSR
from batchsr.audio.windows import Plan
from batchsr.errors import (
    BatchsrError,
    ConfigError,
    InputEmpty,
    InputFormat,
    InputLimits,
    InputNotFinite,
    NonFiniteOutput,
    UsageError,
)
from batchsr.models.compute.backend import Backend


def sound(samples: int, channels: int = 0, seed: int = 0) -> np.ndarray:
    shape = (samples, channels) if channels else (samples,)
    return (0.2 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def test_a_window_comes_back_in_its_shape(tiny: FlashSR) -> None:
    x = sound(2 * tiny.frame_samples).reshape(2, -1)
    y = tiny.upsample_window(x)
    assert (y.shape, y.dtype) == (x.shape, np.float32)
    assert tiny.upsample_window(x[0]).shape == x[0].shape
    assert np.abs(y - x).max() > 0.1


def test_a_row_does_not_depend_on_its_company(tiny: FlashSR) -> None:
    x = sound(3 * tiny.frame_samples).reshape(3, -1)
    noise = np.stack([tiny.noise(5, i) for i in range(3)])
    together = tiny.upsample_window(x, noise)
    for i in range(3):
        assert np.array_equal(tiny.upsample_window(x[i : i + 1], noise[i : i + 1])[0], together[i])
    assert np.array_equal(tiny.upsample_window(x[::-1], noise[::-1])[::-1], together)


def test_a_pass_of_several_rows_is_filled_up_and_gives_each_row_its_own(tiny: FlashSR) -> None:
    several = FlashSR(tiny.config, tiny._networks, Backend("cpu", "float32", 2, "", ""), tiny.identity)
    x = sound(3 * tiny.frame_samples).reshape(3, -1)
    noise = np.stack([tiny.noise(5, i) for i in range(3)])
    y = several.upsample_window(x, noise)
    reference = tiny.upsample_window(x, noise)
    assert np.linalg.norm(y - reference) <= 1e-5 * np.linalg.norm(reference)
    assert np.array_equal(several.upsample_window(x[2:], noise[2:]), y[2:])
    assert np.array_equal(several.upsample_window(x[[1, 2]], noise[[1, 2]])[1], y[2])


def test_the_same_question_has_the_same_answer_to_the_bit(tiny_folder: Path, tiny: FlashSR) -> None:
    x = sound(tiny.frame_samples)
    first = tiny.upsample_window(x)
    other = FlashSR.from_pretrained(tiny_folder, device="cpu")
    assert all(np.array_equal(model.upsample_window(x), first) for model in (tiny, tiny, other))


def test_without_noise_row_i_has_that_of_window_i(tiny: FlashSR) -> None:
    x = sound(2 * tiny.frame_samples).reshape(2, -1)
    given = tiny.upsample_window(x, noise=np.stack([tiny.noise(3, 0), tiny.noise(3, 1)]))
    assert np.array_equal(tiny.upsample_window(x, seed=3), given)


def test_one_noise_serves_all_rows(tiny: FlashSR) -> None:
    x = np.stack([sound(tiny.frame_samples)] * 2)
    y = tiny.upsample_window(x, noise=tiny.noise(0, 0)[None])
    assert np.array_equal(y[0], y[1])


def test_timestep_and_seed_matter(tiny: FlashSR) -> None:
    x = sound(tiny.frame_samples)
    base = tiny.upsample_window(x, timestep=600)
    assert not np.array_equal(base, tiny.upsample_window(x, timestep=200))
    assert not np.array_equal(base, tiny.upsample_window(x, timestep=600, seed=1))


def test_noise_is_a_function_of_seed_and_index_alone(tiny: FlashSR) -> None:
    noise = tiny.noise(7, 3)
    assert (noise.shape, noise.dtype) == (tiny.config.noise_shape, np.float32)
    assert np.array_equal(noise, tiny.noise(7, 3))
    assert not np.array_equal(noise, tiny.noise(7, 4))
    assert not np.array_equal(noise, tiny.noise(8, 3))
    assert abs(float(noise.mean())) < 0.1
    assert abs(float(noise.std()) - 1) < 0.1
    # Pinned: resumed files and other machines rely on it.
    assert hashlib.sha256(noise.tobytes()).hexdigest()[:16] == "1a60ca9fc1cf17ad"


def test_noise_takes_the_largest_seed_and_index(tiny: FlashSR) -> None:
    assert np.isfinite(tiny.noise(2**63 - 1, 2**40)).all()


@pytest.mark.parametrize("level", [0.0, 0.3, -1e-3, 1e-12])
def test_a_constant_stays_that_constant(tiny: FlashSR, level: float) -> None:
    y = tiny.upsample_window(np.full(tiny.frame_samples, level, np.float32))
    assert np.abs(y - np.float32(level)).max() < 1e-4  # -80 dBFS


def test_level_is_given_back(tiny: FlashSR) -> None:
    x = sound(tiny.frame_samples)
    loud, quiet = tiny.upsample_window(x), tiny.upsample_window(x / 1024)
    assert np.abs(quiet * 1024 - loud).max() < 1e-3 * np.abs(loud).max()


def test_one_window_at_48_khz_is_that_window(tiny: FlashSR) -> None:
    x = sound(tiny.frame_samples, 2)
    y = tiny.upsample(x, 48_000, timestep=600, seed=4)
    window = tiny.upsample_window(np.ascontiguousarray(x.T), noise=tiny.noise(4, 0)[None], timestep=600)
    assert np.array_equal(y, window.T)


@pytest.mark.parametrize(("samples", "rate_hz"), [(1, 8000), (4001, 8000), (16_001, 44_100)])
@pytest.mark.parametrize("channels", [0, 2])
def test_any_length_comes_back_at_48_khz(tiny: FlashSR, samples: int, rate_hz: int, channels: int) -> None:
    y = tiny.upsample(sound(samples, channels), rate_hz)
    assert y.shape == (-(-samples * 48_000 // rate_hz), *([channels] if channels else []))
    assert (y.dtype, bool(np.isfinite(y).all())) == (np.float32, True)


def test_every_window_gets_timestep_seed_and_noise_of_its_own(tiny: FlashSR) -> None:
    T = tiny.frame_samples
    x = np.concatenate([sound(T)] * 3)
    y = tiny.upsample(x, 48_000, timestep=600, seed=9, overlap=0).reshape(3, T)
    expected = tiny.upsample_window(x.reshape(3, T), timestep=600, seed=9)
    assert np.array_equal(y, expected)
    assert not np.array_equal(expected[0], expected[1])


def test_overlapping_windows_are_joined_as_the_plan_says(tiny: FlashSR) -> None:
    T = tiny.frame_samples
    x = sound(2 * T)
    y = tiny.upsample(x, 48_000, overlap=0.1)
    plan = Plan.of(len(x), T, 0.1)
    for i in range(plan.count):
        first = plan.joint(i - 1)[1] if i else 0
        last = plan.joint(i)[0] if i < plan.count - 1 else len(x)
        start = plan.start(i)
        window = tiny.upsample_window(x[start : start + T], noise=tiny.noise(0, i)[None])
        assert np.array_equal(y[first:last], window[first - start : last - start])


def test_equal_channels_stay_equal(tiny: FlashSR) -> None:
    x = np.repeat(sound(5000, 1), 2, axis=1)
    y = tiny.upsample(x, 16_000)
    assert np.array_equal(y[:, 0], y[:, 1])


def test_windows_gives_a_runner_what_upsample_window_gives(tiny: FlashSR) -> None:
    x = sound(2 * tiny.frame_samples).reshape(2, -1)
    restore = tiny.windows(timestep=300, seed=2)
    noise = np.stack([tiny.noise(2, 7), tiny.noise(2, 7)])
    assert np.array_equal(restore(x, [7, 7]), tiny.upsample_window(x, noise, 300))


def test_the_identity_names_the_weights(tiny_folder: Path, tiny: FlashSR) -> None:
    digest = hashlib.sha256((tiny_folder / "model.safetensors").read_bytes()).hexdigest()
    assert (tiny.identity.weights_sha256, tiny.identity.revision) == (digest, f"sha256:{digest}")
    assert (tiny.identity.repository, tiny.identity.dtype) == (None, "float32")
    assert tiny.identity.device.startswith("cpu")
    assert tiny.batch_windows == 1


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 0.1), ("bfloat16", 0.6)])
def test_half_precision_works_and_stays_near(tiny_folder: Path, tiny: FlashSR, dtype: str, bound: float) -> None:
    x = sound(tiny.frame_samples)
    half = FlashSR.from_pretrained(tiny_folder, dtype=dtype, device="cpu")
    y, reference = half.upsample_window(x), tiny.upsample_window(x)
    assert (y.dtype, half.identity.dtype) == (np.float32, dtype)
    assert 0 < np.linalg.norm(y - reference) <= bound * np.linalg.norm(reference)


def test_the_variable_sets_the_precision(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSR_DTYPE", "bfloat16")
    assert FlashSR.from_pretrained(tiny_folder, device="cpu").identity.dtype == "bfloat16"
    assert FlashSR.from_pretrained(tiny_folder, device="cpu", dtype="float32").identity.dtype == "float32"


@pytest.mark.parametrize("argument", [{"dtype": "float8"}, {"device": "tpu"}])
def test_an_unknown_dtype_or_device_is_refused(tiny_folder: Path, argument: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(argument.values()))):
        FlashSR.from_pretrained(tiny_folder, **argument)


def test_weights_that_overflow_are_told(tiny_folder: Path) -> None:
    model = FlashSR.from_pretrained(tiny_folder, device="cpu")
    model._networks.voc.conv_pre.weight = model._networks.voc.conv_pre.weight * np.float32(1e38)
    with pytest.raises(NonFiniteOutput, match="NaN or infinity"):
        model.upsample_window(sound(model.frame_samples))


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.zeros(0, np.float32), InputEmpty),
        (np.zeros((0, 2), np.float32), InputEmpty),
        (np.array([0.1, np.nan], np.float32), InputNotFinite),
        (np.array([0.1, np.inf], np.float32), InputNotFinite),
        (np.array([0.1, 1e35], np.float32), InputNotFinite),
        (np.zeros(9, np.int8), InputFormat),
        (np.zeros((2, 2, 2), np.float32), InputFormat),
        (np.float32(1), InputFormat),
    ],
)
def test_sound_that_cannot_be_restored_is_refused(tiny: FlashSR, x: np.ndarray, error: type[BatchsrError]) -> None:
    with pytest.raises(error):
        tiny.upsample(x, 8000)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"sample_rate": 999}, InputLimits),
        ({"sample_rate": 768_001}, InputLimits),
        ({"sample_rate": 8000.5}, InputLimits),
        ({"timestep": 1000}, UsageError),
        ({"timestep": -1}, UsageError),
        ({"timestep": 1.0}, UsageError),
        ({"seed": -1}, UsageError),
        ({"seed": 2**63}, UsageError),
        ({"overlap": -0.1}, UsageError),
        ({"overlap": float("nan")}, UsageError),
        ({"overlap": "1"}, UsageError),
    ],
)
def test_options_out_of_range_are_refused(
    tiny: FlashSR, arguments: dict[str, object], error: type[BatchsrError]
) -> None:
    with pytest.raises(error):
        tiny.upsample(sound(800), **{"sample_rate": 8000, **arguments})  # type: ignore[arg-type]


def test_a_window_of_another_length_is_refused(tiny: FlashSR) -> None:
    with pytest.raises(UsageError, match=str(tiny.frame_samples)):
        tiny.upsample_window(sound(tiny.frame_samples - 1))


def test_noise_of_another_shape_or_not_finite_is_refused(tiny: FlashSR) -> None:
    x = sound(2 * tiny.frame_samples).reshape(2, -1)
    noise = np.stack([tiny.noise(0, 0)] * 3)
    for bad in (noise, noise[0], np.full_like(noise[:2], np.nan)):
        with pytest.raises(UsageError, match="noise"):
            tiny.upsample_window(x, noise=bad)
