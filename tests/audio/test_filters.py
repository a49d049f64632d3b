"""Filters as streams do what filters over the whole file do, and the kept band is the recording itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsr.audio.filters import Crossover, condition, keep_band, lowpass
from batchsr.audio.resample import resample


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, channels)).astype(np.float32)


def pink(samples: int, seed: int = 0) -> np.ndarray:
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    signal = np.fft.irfft(spectrum, samples)
    return (0.1 * signal / signal.std()).astype(np.float32)[:, None]


def joined(blocks: object) -> np.ndarray:
    return np.concatenate(list(blocks))  # type: ignore[call-overload]


def decibel(error: np.ndarray, reference: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(error**2)) / np.sqrt(np.mean(reference**2)) + 1e-30))


def third_octaves_db(signal: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Levels of the sixth-octave bands between two frequencies."""
    power = np.abs(np.fft.rfft(signal[:, 0].astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(signal), 1 / 48_000)
    edges = low_hz * 2 ** (np.arange(0, np.log2(high_hz / low_hz), 1 / 6))
    return np.array([10 * np.log10(power[(hz >= a) & (hz < b)].mean()) for a, b in itertools.pairwise(edges)])


@pytest.mark.parametrize("cutoff_hz", [100, 1000, 3400, 8000, 16_000, 23_000])
@pytest.mark.parametrize("samples", [100, 65_536, 65_537, 200_001])
def test_the_streamed_low_pass_is_the_one_over_the_whole_file(cutoff_hz: float, samples: int) -> None:
    signal = noise(samples, 2) + 0.5
    expected = scipy.signal.sosfiltfilt(
        scipy.signal.cheby1(8, 0.1, cutoff_hz, fs=48_000, output="sos"), signal.astype(np.float64), axis=0
    )
    out = joined(lowpass(np.array_split(signal, 7), cutoff_hz))
    assert out.dtype == np.float32
    assert decibel(out - expected, expected) < -110
    assert np.abs(out - expected)[[0, -1]].max() < 1e-5


@settings(max_examples=8, deadline=None)
@given(samples=st.integers(1, 150_000), parts=st.integers(1, 40), cutoff_hz=st.integers(1000, 23_000))
def test_filters_keep_length_and_do_not_depend_on_blocks(samples: int, parts: int, cutoff_hz: int) -> None:
    signal, other = noise(samples), noise(samples, seed=1)
    blocks = np.array_split(signal, parts)
    crossover = Crossover.below(cutoff_hz, 48_000)
    for stream, whole in (
        (condition(blocks, samples, cutoff_hz), condition([signal], samples, cutoff_hz)),
        (keep_band(blocks, [other], crossover), keep_band([signal], np.array_split(other, 3), crossover)),
    ):
        out = joined(stream)
        assert out.shape == signal.shape
        assert out.tobytes() == joined(whole).tobytes()


def test_conditioning_keeps_the_band_in_place_and_removes_the_rest() -> None:
    signal = noise(200_000)
    out = joined(condition([signal], len(signal), 4000))
    spectra = [np.abs(np.fft.rfft(x[:, 0])) ** 2 for x in (signal, out)]
    hz = np.fft.rfftfreq(len(signal), 1 / 48_000)
    inside, outside = hz < 3500, hz > 4100
    assert 10 * np.log10(spectra[1][inside].sum() / spectra[0][inside].sum()) == pytest.approx(0, abs=0.2)
    assert 10 * np.log10(spectra[1][outside].sum() / spectra[0][outside].sum()) < -60
    lag = np.argmax(scipy.signal.correlate(out[:, 0], signal[:, 0], method="fft")) - (len(signal) - 1)
    assert lag == 0


def test_conditioning_at_the_limit_changes_nothing() -> None:
    signal = noise(1000)
    assert np.array_equal(joined(condition([signal], 1000, 24_000)), signal)


def test_below_the_crossover_the_output_is_the_recording() -> None:
    recording, restored = noise(300_000), noise(300_000, seed=1)
    crossover = Crossover.below(4000, 48_000)
    out = joined(keep_band([recording], [restored], crossover))
    below = scipy.signal.firwin(4001, 0.97 * crossover.pass_hz, window=("kaiser", 12), fs=48_000)
    residual, kept = (scipy.signal.fftconvolve(x[:, 0], below, "valid") for x in (out - recording, recording))
    assert decibel(residual, kept) < -80
    above = scipy.signal.firwin(4001, 1.03 * crossover.stop_hz, window=("kaiser", 12), fs=48_000, pass_zero=False)
    residual, made = (scipy.signal.fftconvolve(x[:, 0], above, "valid") for x in (out - restored, restored))
    assert decibel(residual, made) < -80


@pytest.mark.parametrize("alike", [True, False])
def test_there_is_no_dip_at_the_joint(alike: bool) -> None:
    """Pink noise cut off by an 8 kHz rate; above, a restoration that agrees with it or one that does not."""
    full = pink(480_000)
    narrow = resample(scipy.signal.resample_poly(full, 1, 6, axis=0).astype(np.float32), 8000)[: len(full)]
    restored = full if alike else pink(480_000, seed=7)
    out = joined(keep_band([narrow], [restored], Crossover.below(4000, 8000)))
    difference = third_octaves_db(out, 500, 16_000) - third_octaves_db(full, 500, 16_000)
    assert np.abs(difference).max() < (0.1 if alike else 0.5)


def test_the_kept_band_has_no_delay_and_no_gain() -> None:
    recording = resample(noise(20_000), 8000)
    out = joined(keep_band([recording], [0 * recording], Crossover.below(4000, 8000)))
    lag = np.argmax(scipy.signal.correlate(out[:, 0], recording[:, 0], method="fft")) - (len(recording) - 1)
    assert lag == 0
    assert np.abs(third_octaves_db(out, 100, 3000) - third_octaves_db(recording, 100, 3000)).max() < 0.01


def test_a_detected_edge_is_trusted_less_than_a_given_one() -> None:
    assert Crossover.below(3400, 48_000).stop_hz * 1.08 < 3400
    assert Crossover.below(3400, 48_000, exact=True).stop_hz == 3400
    assert Crossover.below(24_000, 8000).stop_hz == pytest.approx(3640)


@pytest.mark.parametrize("make", [lambda x: lowpass(x, 1000), lambda x: keep_band(x, x, Crossover(100, 200))])
def test_no_stream_gives_no_stream(make: Callable[[list[np.ndarray]], object]) -> None:
    assert list(make([])) == []  # type: ignore[call-overload]


@pytest.mark.parametrize("lengths", [(100, 99), (70_000, 10)])
def test_streams_of_different_lengths_are_a_programming_error(lengths: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"differ|shorter"):
        list(keep_band([noise(lengths[0])], [noise(lengths[1])], Crossover(1000, 1100)))
