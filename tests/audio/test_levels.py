"""Whole numbers written as floats are recognised; channels that cancel each other are said to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from batchsr.audio import levels
from batchsr.audio.files import probe
from batchsr.audio.remarks import Remark
from batchsr.audio.windows import Plan
from batchsr.errors import ConfigError, InputLevels
from batchsr.restoration.measurements import Measurements
from batchsr.restoration.recording import Recording
from batchsr.settings.profile import Settings

RNG = np.random.default_rng(4)
SPEECH = 0.3 * np.sin(np.cumsum(RNG.uniform(0.05, 0.4, (8000, 1)), axis=0))


def restored(path: Path, **settings: object) -> tuple[NDArray[np.float32], tuple[Remark, ...]]:
    """What reaches the model, and what is said of the source."""
    recording = Recording(path, probe(path), Settings(**settings))  # type: ignore[arg-type]
    treatment = recording.treatment()
    measurements = Measurements(
        recording.info, recording.settings, recording.channels, Plan.of(recording.info.samples_at(), 4800, 0.0)
    )
    return np.concatenate(list(recording.conditioned(treatment, measurements))), recording.remarks


def floats(folder: Path, samples: NDArray[np.float64], subtype: str = "FLOAT", rate_hz: int = 48_000) -> Path:
    path = folder / "x.wav"
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize(("bits", "full_scale"), [(16, 32_768), (24, 2**23), (32, 2**31)])
def test_whole_numbers_written_as_floats_are_refused_with_the_scale_they_need(
    tmp_path: Path, subtype: str, bits: int, full_scale: int
) -> None:
    path = floats(tmp_path, np.rint(SPEECH * 3.3 * (full_scale - 1)), subtype)
    with pytest.raises(InputLevels, match=f"--input-scale {full_scale}"):
        restored(path)


@pytest.mark.parametrize("asked", ["auto", 32768, 32768.0])
def test_whole_numbers_written_as_floats_are_scaled_where_it_is_asked_for(tmp_path: Path, asked: object) -> None:
    path = floats(tmp_path, np.rint(SPEECH * 32_768))
    samples, remarks = restored(path, input_scale=asked)
    assert np.abs(samples - SPEECH).max() < 1e-4
    assert [remark.code for remark in remarks] == ["input.scaled"]
    assert "32,768" in remarks[0].message


def test_a_quiet_recording_of_16_bit_numbers_is_not_taken_for_one_of_8(tmp_path: Path) -> None:
    samples, _ = restored(floats(tmp_path, np.rint(SPEECH * 300)), input_scale="auto")
    assert np.abs(samples).max() == pytest.approx(90 / 32_768, rel=0.02)


def test_fractions_far_over_full_scale_are_refused_as_well(tmp_path: Path) -> None:
    with pytest.raises(InputLevels, match=r"1 is|full scale is 1"):
        restored(floats(tmp_path, SPEECH * 20_000 + 0.25))
    with pytest.raises(InputLevels):
        restored(floats(tmp_path, np.sign(SPEECH) * 3.7 + SPEECH))


@pytest.mark.parametrize("asked", ["off", "auto"])
def test_a_few_damaged_samples_do_not_scale_all_others_to_silence(tmp_path: Path, asked: str) -> None:
    samples = SPEECH.copy()
    samples[[4000, 4001, 6000], 0] = (32_767.0, -30_000.5, 1e9)
    with pytest.raises(InputLevels, match="3 samples") as caught:
        restored(floats(tmp_path, samples), input_scale=asked)
    assert "input-scale" not in caught.value.remedy
    assert restored(floats(tmp_path, samples), input_scale=1e9)[0].max() == pytest.approx(1.0)


@pytest.mark.parametrize("peak", [0.3, 1.0])
def test_a_float_file_within_full_scale_passes_without_a_word(tmp_path: Path, peak: float) -> None:
    samples, remarks = restored(floats(tmp_path, SPEECH / 0.3 * peak))
    assert remarks == ()
    assert np.abs(samples).max() == pytest.approx(peak, rel=1e-3)


def test_a_float_file_that_is_a_little_too_loud_passes_and_says_so(tmp_path: Path) -> None:
    samples, remarks = restored(floats(tmp_path, SPEECH * 5))
    assert np.abs(samples).max() > 1.2
    assert [remark.code for remark in remarks] == ["input.over_full_scale"]
    assert "dB" in remarks[0].message


def test_a_scale_says_nothing_to_files_of_whole_numbers(tmp_path: Path) -> None:
    samples, remarks = restored(floats(tmp_path, SPEECH, "PCM_16"), input_scale=32_768.0)
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.01)
    assert remarks == ()


def test_digital_silence_in_floats_is_no_whole_number(tmp_path: Path) -> None:
    samples, remarks = restored(floats(tmp_path, np.zeros((100, 2))))
    assert not samples.any()
    assert remarks == ()


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (lambda left: -left, "silence"),
        (lambda left: -0.97 * left, "36 dB softer"),
        (lambda left: -left + 1e-3 * RNG.standard_normal(left.shape), "softer"),
        (lambda left: left, None),
        (lambda left: 0 * left, None),
        (lambda left: RNG.permutation(left), None),
    ],
    ids=["inverted", "inverted and softer", "inverted with noise", "same", "dead", "unrelated"],
)
def test_a_mean_of_channels_that_cancel_each_other_is_said(tmp_path: Path, right: object, said: str | None) -> None:
    both = np.concatenate([SPEECH, right(SPEECH)], axis=1)  # type: ignore[operator]
    path = floats(tmp_path, both, "PCM_24")
    remarks = restored(path, channels="mono")[1]
    assert [remark.code for remark in remarks] == (["input.channels_cancel"] if said else [])
    assert said is None or said in remarks[0].message
    assert restored(path)[1] == ()


def test_sixteen_channels_of_which_one_sounds_do_not_cancel() -> None:
    block = np.zeros((1000, 16), np.float32)
    block[:, 3] = 0.5
    meter = levels.MixMeter(16)
    meter.add(block)
    assert meter.remark() is None


def test_settings_that_came_later_change_no_digest_by_their_defaults() -> None:
    assert Settings().digest() == Settings(accept_truncated=False, input_scale="off").digest()
    assert set(json.loads(Settings().to_json())).isdisjoint({"accept_truncated", "input_scale"})
    changed = Settings(accept_truncated=True, input_scale=32_768.0)
    assert changed.digest() != Settings().digest()
    assert Settings.from_json(changed.to_json()) == changed


@pytest.mark.parametrize("wrong", [0, -1.0, "loud", float("nan"), True])
def test_a_scale_that_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match="input_scale"):
        Settings(input_scale=wrong)  # type: ignore[arg-type]
