"""What is below 50 Hz is measured, whatever the sizes of the blocks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from batchsr.audio.meters import rumble, true_peak
from batchsr.audio.meters.rumble import RumbleMeter
from batchsr.audio.windows import SAMPLE_RATE_HZ


def measured(x: np.ndarray, size: int = 10_000) -> float | None:
    meter = RumbleMeter(x.shape[1])
    for at in range(0, len(x), size):
        meter.add(x[at : at + size])
    return meter.dbfs


def tone(hz: float, seconds: float = 4.0, channels: int = 1) -> np.ndarray:
    x = 0.1 * np.sin(2 * np.pi * hz * np.arange(round(seconds * 48_000)) / 48_000)
    return np.repeat(x[:, None], channels, axis=1).astype(np.float32)


@pytest.mark.parametrize(("hz", "wanted_db"), [(20.0, -23.0), (50.0, -26.0), (200.0, -71.1)])
def test_tones_below_50_hz_count_and_those_above_do_not(hz: float, wanted_db: float) -> None:
    found = measured(tone(hz))
    assert found is not None
    assert abs(found - wanted_db) < (0.3 if hz < 100 else 12)


def test_it_is_the_mean_of_the_channels_in_any_blocks() -> None:
    x = tone(25.0, channels=2)
    x[:, 1] = 0
    assert measured(x) == pytest.approx(-26.0, abs=0.3)
    assert measured(x, 777) == pytest.approx(measured(x), abs=1e-9)


def test_silence_and_nothing_have_no_level() -> None:
    assert measured(np.zeros((48_000, 2), np.float32)) is None
    assert RumbleMeter(1).dbfs is None


def test_the_filters_of_the_meters_are_those_that_scipy_designs() -> None:
    """They are written down, or made by numpy, because loading scipy.signal would take a second of every start."""
    wanted = scipy.signal.butter(4, rumble.EDGE_HZ, fs=SAMPLE_RATE_HZ, output="sos")
    assert np.allclose(rumble._SECTIONS, wanted, rtol=1e-12, atol=0)
    taps = 4 * scipy.signal.firwin(64, 1 / 4, window=("kaiser", 5.0), scale=True)
    assert np.allclose(true_peak.interpolator(), taps, rtol=0, atol=1e-15)
