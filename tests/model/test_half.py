"""What half precision costs: its log-spectral distance to float32, in the units of `batchsr evaluate`."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import batchsr
from batchsr.models.flashsr import bundle
from batchsr.quality import evaluate

TINY = Path(batchsr.__file__).parent / "bundles" / "tiny"
SAMPLES = 30_720
"""The shortest sound that the levels of all networks divide."""
BOUND = 0.05


def speech_like() -> np.ndarray:
    """A gliding voice below 4 kHz and a trace of hiss, peak 0.5: nothing above, as after a telephone."""
    t = np.arange(SAMPLES) / 48_000
    phase = 2 * np.pi * (140 * t + 30 * t**2)
    voice = sum(np.sin(k * phase) / k for k in range(1, 20)) * np.hanning(SAMPLES)
    hiss = 1e-4 * np.random.default_rng(0).standard_normal(SAMPLES)
    sound = voice + hiss
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)[None]


@pytest.fixture(scope="module")
def restored() -> dict[str, np.ndarray]:
    done = {}
    for dtype in (mx.float32, mx.float16):
        config, networks = bundle.load(TINY, dtype)
        noise = np.random.default_rng(1).standard_normal((1, SAMPLES // config.latent_samples, *config.noise_shape[1:]))
        inputs = (speech_like(), noise.astype(np.float32), np.array([999.0]), np.array([[4.93e-5], [1.0]]))
        y = networks(*(mx.array(value.astype(np.float32)) for value in inputs))
        assert y.dtype == mx.float32
        done[str(dtype).rpartition(".")[2]] = np.array(y)[0]
    return done


@pytest.mark.parametrize("floor", evaluate.FLOORS)
def test_float16_stays_within_the_bound(restored: dict[str, np.ndarray], floor: float) -> None:
    ours, exact = (evaluate.spectrogram(restored[dtype]) for dtype in ("float16", "float32"))
    assert 0 < evaluate.lsd(exact, ours, floor) <= BOUND


def test_the_last_level_of_the_vocoder_is_float32_with_unrounded_weights() -> None:
    _, half = bundle.load(TINY, mx.float16)
    _, exact = bundle.load(TINY, mx.float32)
    last = -len(half.voc.resblocks) // len(half.voc.ups)
    for of in (lambda n: n.voc.conv_post, lambda n: n.voc.resblocks[last].convs1[0], lambda n: n.voc.audio_block.emb):
        assert mx.array_equal(of(half).weight, of(exact).weight)
    assert half.voc.resblocks[0].convs1[0].weight.dtype == mx.float16
