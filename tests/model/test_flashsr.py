"""The public model: any sound in, 48 kHz out, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from batchsr import FlashSR
from batchsr.errors import BatchsrError, ConfigError, InputEmpty, InputFormat, InputLimits, InputNotFinite, UsageError
from batchsr.model.schedule import step_weights


@pytest.fixture(scope="module")
def model(bundle: Path) -> FlashSR:
    return FlashSR.from_pretrained(bundle)


def noise_like(samples: int, channels: int = 0, seed: int = 0) -> NDArray[np.float32]:
    shape = (samples, channels) if channels else (samples,)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("samples", "rate", "channels"),
    [(1, 8_000, 0), (2, 8_000, 1), (8_001, 8_000, 0), (10_000, 44_100, 2), (30_000, 96_000, 0)],
)
def test_any_length_rate_and_channels_give_48_khz_of_that_length(
    model: FlashSR, samples: int, rate: int, channels: int
) -> None:
    y = model.upsample(noise_like(samples, channels), rate)
    length = -(-samples * 48_000 // rate)
    assert y.shape == ((length, channels) if channels else (length,))
    assert y.dtype == np.float32
    assert np.isfinite(y).all()


def test_a_sound_of_one_window_is_one_forward_pass(model: FlashSR) -> None:
    x = noise_like(model.frame_samples)
    np.testing.assert_array_equal(model.upsample(x, 48_000, seed=5), model.upsample_window(x[None], seed=5)[0])


def test_without_overlap_windows_are_concatenated(model: FlashSR) -> None:
    frame = model.frame_samples
    x = noise_like(2 * frame + 100)
    padded = np.concatenate([x, np.zeros(frame - 100, np.float32)]).reshape(3, frame)
    apart = [model.upsample_window(padded[i : i + 1], model.noise(3, i)[None], timestep=600)[0] for i in range(3)]
    joined = model.upsample(x, 48_000, timestep=600, seed=3, overlap=0.0)
    np.testing.assert_array_equal(joined, np.concatenate(apart)[: len(x)])


def test_noise_is_a_function_of_seed_and_window_alone(model: FlashSR) -> None:
    shape = (model.frame_samples // 3_840, 32, 16)
    first = model.noise(0, 0)
    assert first.shape[0] == shape[0]
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, model.noise(0, 0))
    others = [model.noise(0, 1), model.noise(1, 0), model.noise(2**62, 2**40)]
    assert all(not np.array_equal(first, other) for other in others)
    values = np.concatenate([n.ravel() for n in (first, *others)])
    assert abs(values.mean()) < 0.1
    assert values.std() == pytest.approx(1, abs=0.1)


def test_a_row_does_not_depend_on_its_company(model: FlashSR) -> None:
    rows = noise_like(3 * model.frame_samples).reshape(3, -1)
    together = model.upsample_window(rows, seed=1)
    for i in range(3):
        alone = model.upsample_window(rows[i : i + 1], model.noise(1, i)[None])
        np.testing.assert_array_equal(alone[0], together[i])
    np.testing.assert_array_equal(model.windows(999, 1)(rows[[2, 0]], [2, 0]), together[[2, 0]])


def test_channels_share_the_noise_so_that_equal_ones_stay_equal(model: FlashSR) -> None:
    x = noise_like(20_000)
    y = model.upsample(np.stack([x, x], axis=1), 48_000)
    np.testing.assert_array_equal(y[:, 0], y[:, 1])
    np.testing.assert_array_equal(y[:, 0], model.upsample(x, 48_000))


def test_seed_and_timestep_reach_every_window(model: FlashSR) -> None:
    x = noise_like(4 * model.frame_samples)
    base = model.upsample(x, 48_000, timestep=600)
    for other in (model.upsample(x, 48_000, timestep=600, seed=1), model.upsample(x, 48_000, timestep=200)):
        differs = (other != base).reshape(8, -1)
        assert differs.any(axis=1).all()


def test_the_same_sound_gives_the_same_bytes_again_and_in_a_second_model(model: FlashSR, bundle: Path) -> None:
    x = noise_like(50_000)
    first = model.upsample(x, 48_000)
    np.testing.assert_array_equal(first, model.upsample(x, 48_000))
    np.testing.assert_array_equal(first, FlashSR.from_pretrained(bundle).upsample(x, 48_000))


def test_silence_stays_silent_and_dc_stays_dc(model: FlashSR) -> None:
    assert np.abs(model.upsample(np.zeros(20_000, np.float32), 16_000)).max() < 1e-4
    np.testing.assert_allclose(model.upsample(np.full(20_000, 0.25, np.float32), 48_000), 0.25, atol=1e-4)


def test_level_goes_through(model: FlashSR) -> None:
    x = noise_like(model.frame_samples)
    quiet = model.upsample(x * np.float32(1e-4), 48_000)
    np.testing.assert_allclose(quiet * 1e4, model.upsample(x, 48_000), atol=2e-2)


@pytest.mark.parametrize(
    ("x", "rate", "error"),
    [
        (np.zeros(0, np.float32), 8_000, InputEmpty),
        (np.array([0.0, np.nan], np.float32), 8_000, InputNotFinite),
        (np.array([0.0, np.inf], np.float32), 8_000, InputNotFinite),
        (np.zeros((2, 2, 2), np.float32), 8_000, InputFormat),
        (np.zeros(100, np.int16), 8_000, InputFormat),
        (np.zeros(100, np.float32), 0, InputLimits),
        (np.zeros(100, np.float32), 800_000, InputLimits),
    ],
)
def test_what_cannot_be_restored_is_refused(
    model: FlashSR, x: NDArray[np.float32], rate: int, error: type[BatchsrError]
) -> None:
    with pytest.raises(error):
        model.upsample(x, rate)


def test_wrong_options_are_refused(model: FlashSR, bundle: Path) -> None:
    x = np.zeros((1, model.frame_samples), np.float32)
    for timestep in (-1, 1_000, 1.5):
        with pytest.raises(UsageError, match="timestep"):
            model.upsample_window(x, timestep=timestep)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="seed"):
        model.upsample_window(x, seed=-1)
    with pytest.raises(UsageError, match="samples"):
        model.upsample_window(x[:, :-1])
    with pytest.raises(UsageError, match="noise"):
        model.upsample_window(x, noise=np.zeros((1, 2, 3, 4), np.float32))
    with pytest.raises(ConfigError, match="dtype"):
        FlashSR.from_pretrained(bundle, dtype="float8")


def test_half_precision_is_near_single(model: FlashSR, bundle: Path) -> None:
    x = noise_like(model.frame_samples)[None]
    half = FlashSR.from_pretrained(bundle, dtype="float16")
    assert half.identity.dtype == "float16"
    exact = model.upsample_window(x)
    off = np.linalg.norm(half.upsample_window(x) - exact) / np.linalg.norm(exact)
    assert 0 < off < 0.1


def test_the_schedule_is_the_clipped_cosine() -> None:
    """Values of FlashSR's own schedule: the closed form without the clip would give 1.56e-3 at 999."""
    assert step_weights(999)[0] == pytest.approx(4.93e-5, rel=2e-3)
    assert step_weights(600)[0] == pytest.approx(0.58252, rel=1e-4)
    for t in (0, 1, 500, 999):
        signal, rest = step_weights(t)
        assert signal**2 + rest**2 == pytest.approx(1)
    assert step_weights(0)[0] > 0.99
