"""Clicks and hum are taken out at the recording's own rate, where they stand out, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from batchsr.audio.repair import declick, dehum
from batchsr.audio.repair.declick import Clicks

Samples = NDArray[np.float32]
RATE = 16_000


def snr_db(wanted: Samples, heard: Samples) -> float:
    return float(10 * np.log10(np.sum(np.square(wanted)) / max(np.sum(np.square(wanted - heard)), 1e-20)))


def voice(seconds: float = 5.0, *, channels: int = 1, seed: int = 0) -> Samples:
    """Noise through a few resonances, its loudness going up and down: (n, channels)."""
    import scipy.signal

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((round(seconds * RATE), channels))
    poles = [0.97 * np.exp(1j * w) for w in (0.2, 0.6, 1.3)]
    x = scipy.signal.lfilter([1.0], np.poly([*poles, *np.conj(poles)]).real, x, axis=0)
    x *= (1.2 + np.sin(2 * np.pi * 0.7 * np.arange(len(x)) / RATE))[:, None]
    return np.asarray(0.2 * x / np.abs(x).max(), np.float32)


def clicked(x: Samples, per_s: float = 3.0, *, seed: int = 1) -> tuple[Samples, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    y, struck = x.copy(), np.zeros(len(x), bool)
    for _ in range(round(per_s * len(x) / RATE)):
        at, length = rng.integers(300, len(x) - 300), rng.integers(1, 9)
        y[at : at + length, 0] += rng.choice([-1, 1]) * rng.uniform(0.2, 0.8, length)
        struck[at : at + length] = True
    return y, struck


def declicked(x: Samples, threshold: float = 6.0, sizes: int = 10_000) -> Samples:
    blocks = (x[at : at + sizes] for at in range(0, len(x), sizes))
    return np.concatenate(list(declick.declick(blocks, threshold, len(x))))


def test_clicks_are_interpolated_and_the_rest_stays_to_the_bit() -> None:
    x = voice()
    y, struck = clicked(x)
    z = declicked(y)
    touched = (z != y)[:, 0]
    assert snr_db(x, z) > snr_db(x, y) + 20
    assert touched[struck].mean() > 0.95
    near = np.convolve(struck, np.ones(31), "same") > 0
    assert not touched[~near].any()


def test_the_bytes_depend_neither_on_blocks_nor_on_the_slots_they_are_computed_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    y, _ = clicked(voice(9.0, channels=2), 30)
    whole = declicked(y, 4.0)
    assert (whole != y).any()
    assert np.array_equal(declicked(y, 4.0, 777), whole)
    for slot in (3 * 1024, 64 * 1024 * 1024):  # three steps at a time, and the whole recording at once
        monkeypatch.setattr(declick, "_SLOT_SAMPLES", slot)
        assert np.array_equal(declicked(y, 4.0), whole)


@pytest.mark.parametrize("frames", [1, 31, 2_047, 2_048, 2_049, 65_535, 65_536, 65_537, 71_680, 71_681])
def test_as_many_samples_come_out_as_went_in(frames: int) -> None:
    y, _ = clicked(voice(5.0), 10)
    assert declicked(y[:frames]).shape == (frames, 1)


def test_what_was_found_is_what_is_touched_over_all_channels() -> None:
    y, _ = clicked(voice(5.0, channels=2))
    found = declick.find([y], 6.0, len(y))
    assert found.touched_share == np.mean(declicked(y) != y)
    assert found.touched_share > 0
    assert not found.steps_back


def test_equal_channels_stay_equal_and_silence_stays_silence() -> None:
    y, _ = clicked(voice())
    both = declicked(np.concatenate([y, y], axis=1))
    assert np.array_equal(both[:, 0], both[:, 1])
    assert not declicked(np.zeros((20_000, 1), np.float32)).any()


def test_where_a_sound_begins_after_digital_silence_nothing_is_a_click() -> None:
    x = voice()
    for second in range(5):
        x[second * RATE : second * RATE + RATE // 2] = 0
    assert np.mean(declicked(x) != x) < 0.0005


def test_where_too_much_stands_out_the_stage_steps_back_and_says_so() -> None:
    y, _ = clicked(voice(), 60)
    found = declick.find([y], 6.0, len(y))
    assert found.touched_share > declick.MOST_SHARE
    assert found.steps_back
    remark = found.remark()
    assert remark is not None
    assert remark.code == "input.clicks_everywhere"
    assert "more than 1 %" in remark.message
    assert Clicks(0.005, False).remark() is None


def test_a_higher_threshold_touches_less() -> None:
    y, _ = clicked(voice())
    shares = [declick.find([y], threshold, len(y)).touched_share for threshold in (4.0, 6.0, 10.0)]
    assert shares[0] >= shares[1] >= shares[2] > 0
    assert shares[0] > shares[2]


def hummed(x: Samples, base_hz: float, level_db: float = -20.0) -> Samples:
    time_s = np.arange(len(x)) / RATE
    hum = sum(a * np.cos(2 * np.pi * k * base_hz * time_s + k) for k, a in ((1, 1.0), (2, 0.5), (3, 0.6)))
    gain = 10 ** (level_db / 20) * np.sqrt(np.mean(np.square(x)) / np.mean(np.square(hum)))
    return np.asarray(x + (gain * hum)[:, None], np.float32)


def dehummed(x: Samples, sizes: int = 10_000) -> Samples:
    hum = dehum.find([x], RATE)
    return np.concatenate(list(dehum.dehum((x[at : at + sizes] for at in range(0, len(x), sizes)), hum, RATE)))


@pytest.mark.parametrize("base_hz", [49.9, 50.03, 60.0, 59.87])
def test_hum_is_found_and_taken_out_whatever_the_mains_really_were(base_hz: float) -> None:
    x = voice(30.0)
    y = hummed(x, base_hz)
    found = dehum.find([y], RATE)
    assert found.base_hz == round(base_hz / 10) * 10
    assert found.lines == ((1, 2, 3),)
    assert snr_db(x, dehummed(y)) > 20 + 10


def test_a_recording_without_hum_passes_to_the_bit() -> None:
    x = voice(20.0, channels=2)
    assert not dehum.find([x], RATE)
    assert np.array_equal(dehummed(x), x)


def test_only_the_channel_that_hums_is_touched() -> None:
    x = voice(20.0, channels=2)
    x[:, 0] = hummed(x[:, :1], 50.0)[:, 0]
    y = dehummed(x)
    assert dehum.find([x], RATE).lines == ((1, 2, 3), ())
    assert np.array_equal(y[:, 1], x[:, 1])
    assert not np.array_equal(y[:, 0], x[:, 0])


def test_a_tone_that_comes_and_goes_is_no_hum() -> None:
    x = voice(20.0)
    y = hummed(x, 50.0)
    sounding = (np.arange(len(x)) // (5 * RATE)) % 2 == 0  # five seconds on, five off
    y[~sounding] = x[~sounding]
    assert not dehum.find([y], RATE)


@pytest.mark.parametrize("seconds", [0.001, 1.0, 7.9])
def test_what_is_shorter_than_8_s_is_left_alone(seconds: float) -> None:
    x = hummed(voice(seconds), 50.0)
    assert not dehum.find([x], RATE)
    assert np.array_equal(dehummed(x), x)


@pytest.mark.parametrize("seconds", [8.0, 12.0, 12.00007, 13.7])
def test_hum_is_taken_out_to_the_last_sample_in_any_blocks(seconds: float) -> None:
    x = voice(seconds)
    y = hummed(x, 50.0, -10)
    z = dehummed(y)
    assert z.shape == y.shape
    assert np.array_equal(dehummed(y, 999), z)
    for part in (slice(0, RATE), slice(-RATE, None)):
        assert snr_db(x[part], z[part]) > snr_db(x[part], y[part]) + 6


def test_silence_has_no_hum() -> None:
    assert not dehum.find([np.zeros((20 * RATE, 1), np.float32)], RATE)
