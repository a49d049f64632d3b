"""The signal processing behind the quality measure does what its docstrings promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from batchsr.errors import InputFormat
from batchsr.quality import measure

RATE_HZ = measure.SAMPLE_RATE_HZ


def tone(frequency_hz: float, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x[4800:-4800].astype(np.float64)))))


@pytest.mark.parametrize(("rate_hz", "passes_hz", "vanishes_hz"), [(8_000, 3_000, 5_000), (16_000, 7_000, 9_500)])
def test_a_degraded_clip_keeps_what_is_below_nine_tenths_of_nyquist_and_loses_the_rest(
    rate_hz: int, passes_hz: float, vanishes_hz: float
) -> None:
    kept = measure.sinc(measure.degrade(tone(passes_hz), rate_hz), rate_hz)
    lost = measure.sinc(measure.degrade(tone(vanishes_hz), rate_hz), rate_hz)
    assert rms(kept - tone(passes_hz)) < 0.03 * rms(tone(passes_hz))  # 0.1 dB of ripple, twice
    assert rms(lost) < 1e-3 * rms(tone(vanishes_hz))


def test_a_degraded_clip_has_every_q_th_sample() -> None:
    assert len(measure.degrade(np.zeros(1_001, np.float32), 16_000)) == 334


@pytest.mark.parametrize("rate_hz", [7_000, 44_100, 48_000])
def test_a_rate_that_is_no_proper_divisor_is_refused(rate_hz: int) -> None:
    with pytest.raises(ValueError, match=str(rate_hz)):
        measure.degrade(np.zeros(4_800, np.float32), rate_hz)


def test_the_kept_band_of_a_sum_of_two_tones_is_the_lower_one() -> None:
    low, high = tone(2_000), tone(6_000)
    assert rms(measure.kept(low + high, 4_000) - low) < 2e-4 * rms(low)


def test_a_buzz_has_lines_at_equal_distances_and_noise_has_none() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(96_000)
    seconds = np.arange(96_000) / 48_000
    buzz = sum(np.cos(2 * np.pi * 100 * k * seconds + k * k) for k in range(60, 180))
    assert measure.line_share(noise, 6_000) == 0
    assert measure.line_share(buzz, 6_000) == 1
    assert measure.line_share(np.concatenate([noise, buzz]), 6_000) == pytest.approx(0.5, abs=0.05)
    assert measure.line_share(buzz[:8_000], 6_000) == 0, "too short for a stretch"


def test_loudness_is_that_of_the_recommendation() -> None:
    # BS.1770-4: a sine at 997 Hz of 0 dB FS on one channel reads -3.01 LKFS.
    assert measure.loudness_lufs(tone(997, seconds=3, amplitude=1.0)) == pytest.approx(-3.01, abs=0.02)


def test_loudness_ignores_pauses_and_is_minus_infinity_for_silence() -> None:
    sound = tone(997, seconds=3)
    paused = np.concatenate([sound, np.zeros_like(sound)])
    assert measure.loudness_lufs(paused) == pytest.approx(measure.loudness_lufs(sound), abs=0.3)
    assert measure.loudness_lufs(np.zeros(48_000, np.float32)) == -np.inf


def test_a_clip_is_read_as_the_mean_of_its_channels(tmp_path: Path) -> None:
    stereo = np.stack([np.full(100, 0.5), np.full(100, 0.25)], axis=1)
    sf.write(tmp_path / "a.wav", stereo, RATE_HZ, subtype="FLOAT")
    assert np.array_equal(measure.read_clip(tmp_path / "a.wav"), np.full(100, 0.375, np.float32))


def test_a_clip_at_another_rate_or_that_is_no_sound_is_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(100), 44_100)
    (tmp_path / "b.wav").write_bytes(b"nothing of the kind")
    with pytest.raises(InputFormat, match="44100 Hz"):
        measure.read_clip(tmp_path / "a.wav")
    with pytest.raises(InputFormat, match=r"b\.wav"):
        measure.read_clip(tmp_path / "b.wav")


def test_the_middle_of_a_clip_lies_in_its_middle() -> None:
    clip = np.arange(96_000, dtype=np.float32)
    part = measure.middle(clip, 0.5)
    assert (part[0], len(part)) == (36_000, 24_000)
    assert len(measure.middle(clip, 5)) == 96_000
    assert measure.middle(clip, None) is clip
