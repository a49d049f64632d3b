"""Loudness is BS.1770's, measured on a stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyloudnorm
import pytest

from batchsr.audio.files import Source, resampled
from batchsr.audio.meters.loudness import LoudnessMeter


def measure(signal: np.ndarray, parts: int = 1) -> LoudnessMeter:
    meter = LoudnessMeter(signal.shape[1])
    for block in np.array_split(signal.astype(np.float32), parts):
        meter.add(block)
    return meter


def test_a_reference_tone_has_its_reference_loudness() -> None:
    """BS.1770: 997 Hz at full scale in one channel is -3.01 LUFS. EBU Tech 3341, case 1: stereo at -23 dBFS is -23."""
    tone = np.sin(2 * np.pi * 997 * np.arange(20 * 48_000) / 48_000)[:, None]
    assert measure(tone).lufs == pytest.approx(-3.01, abs=0.02)
    assert measure(np.repeat(tone, 2, axis=1) * 10 ** (-23 / 20)).lufs == pytest.approx(-23.0, abs=0.1)


def test_quiet_passages_are_gated() -> None:
    """EBU Tech 3341, case 3: -36, -23, -36 dBFS for 10, 60 and 10 s is -23."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(80 * 48_000) / 48_000)
    level = np.repeat([10 ** (-36 / 20), 10 ** (-23 / 20), 10 ** (-36 / 20)], [10 * 48_000, 60 * 48_000, 10 * 48_000])
    assert measure(np.stack([tone * level] * 2, axis=1), parts=50).lufs == pytest.approx(-23.0, abs=0.1)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_it_agrees_with_pyloudnorm(channels: int) -> None:
    rng = np.random.default_rng(channels)
    envelope = np.repeat(10 ** rng.uniform(-2.5, -0.5, 30), 16_000)[:, None]
    signal = rng.standard_normal((len(envelope), channels)) * envelope * 0.3
    assert measure(signal, parts=13).lufs == pytest.approx(
        pyloudnorm.Meter(48_000).integrated_loudness(signal), abs=0.1
    )


def test_it_agrees_with_pyloudnorm_on_real_recordings(recordings: Path) -> None:
    for name in ("music/frantic_24k_stereo.flac", "phone/demo-nogo_8k_mulaw.wav", "levels/clipped_8k.wav"):
        with Source.open(recordings / "inputs" / name) as source:
            signal = np.concatenate(list(resampled(source)))
        expected = pyloudnorm.Meter(48_000).integrated_loudness(signal.astype(np.float64))
        assert measure(signal, parts=9).lufs == pytest.approx(expected, abs=0.1), name


def test_the_subwoofer_does_not_count() -> None:
    signal = np.zeros((48_000, 6))
    signal[:, 3] = np.random.default_rng(0).standard_normal(48_000)
    assert measure(signal).lufs is None
    assert measure(signal).peak > 3


@pytest.mark.parametrize(
    "signal", [np.zeros((48_000, 2)), np.ones((100, 1)), np.zeros((0, 1)), np.full((48_000, 1), 1e-8)]
)
def test_what_has_no_loudness_has_none(signal: np.ndarray) -> None:
    assert measure(signal).lufs is None


def test_huge_samples_are_measured_too() -> None:
    assert measure(1e12 * np.random.default_rng(0).standard_normal((48_000, 1))).lufs == pytest.approx(243, abs=1)


def test_blocks_do_not_matter() -> None:
    signal = np.random.default_rng(0).standard_normal((100_000, 2))
    assert measure(signal, 1).lufs == pytest.approx(measure(signal, 997).lufs, abs=1e-9)
