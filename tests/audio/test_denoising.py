"""Whether and where a recording is denoised: decided by where somebody speaks and by what is between."""

from __future__ import annotations

import json

import numpy as np
import pytest

from batchsr.audio.denoising import FADE_SAMPLES, FRAME_SAMPLES, Asked, Denoising, Listener

S = 48_000


def listened(*parts: tuple[float, bool, float], asked: Asked = "auto") -> Denoising:
    """A recording of parts: (seconds, whether somebody speaks, level in dBFS)."""
    listener = Listener()
    frames = 0
    for seconds, speaks, level_db in parts:
        for _ in range(round(seconds * S / FRAME_SAMPLES)):
            listener.add(0.9 if speaks else 0.1, 10 ** (level_db / 10))
            frames += 1
    return listener.decision(asked, frames * FRAME_SAMPLES)


NOISY = ((3, True, -20.0), (2, False, -30.0), (3, True, -20.0), (2, False, -30.0))
CLEAN = ((3, True, -20.0), (2, False, -60.0), (3, True, -20.0), (2, False, -60.0))


def test_auto_denoises_noisy_speech_and_leaves_clean_speech() -> None:
    noisy, clean = listened(*NOISY), listened(*CLEAN)
    assert (noisy.on, noisy.limit_db) == (True, 12.0)
    assert noisy.snr_db is not None
    assert abs(noisy.snr_db - 9.5) < 1
    assert not clean.on
    assert "40 dB over the noise" in clean.why
    assert clean.gain_db == 0.0


def test_a_limit_that_is_asked_for_is_taken_however_clean_it_is() -> None:
    assert (listened(*CLEAN, asked=20.0).on, listened(*CLEAN, asked=20.0).limit_db) == (True, 20.0)


@pytest.mark.parametrize("asked", ["auto", 20.0])
def test_a_recording_in_which_hardly_anybody_speaks_is_left_alone(asked: Asked) -> None:
    for parts in (((60, False, -20.0),), ((2, True, -20.0), (58, False, -22.0))):
        decision = listened(*parts, asked=asked)
        assert not decision.on
        assert "less than 5 %" in decision.why
        assert not decision.touches(0, 60 * S)
        assert decision.kept() == ((0, decision.total_samples),)


@pytest.mark.parametrize("level_db", [-14.0, -26.0, -44.0])
def test_speech_is_brought_to_26_db_below_full_scale_while_it_is_denoised(level_db: float) -> None:
    decision = listened((5, True, level_db), (5, False, level_db - 8))
    assert abs(decision.gain_db - (-26.0 - level_db)) < 1e-6


def test_stretches_without_speech_stay_if_they_are_longer_than_20_s() -> None:
    speech, pause = (10, True, -20.0), -28.0
    decision = listened(speech, (25, False, pause), speech, (15, False, pause), speech, (30, False, pause))
    (first, second), edge = decision.spans, FRAME_SAMPLES
    assert first[0] == 0
    assert abs(first[1] - 12 * S) < 2 * edge  # with two seconds that hang on
    assert abs(second[0] - 33 * S) < 2 * edge
    assert abs(second[1] - 72 * S) < 2 * edge
    weights = decision.weights(0, decision.total_samples)
    assert weights[0] == 1
    assert weights[50 * S] == 1  # the pause of 15 s
    assert weights[20 * S] == weights[-1] == 0
    assert np.abs(np.diff(weights)).max() < 2 / FADE_SAMPLES
    assert not decision.touches(13 * S, 32 * S)
    assert decision.kind(50 * S, 50 * S + 100) == "pause"
    assert decision.kind(5 * S, 6 * S) == "speech"
    assert decision.kind(20 * S, 21 * S) == "neither"


def test_weights_of_any_part_are_a_part_of_the_weights() -> None:
    decision = listened((10, True, -20.0), (25, False, -28.0), (10, True, -20.0))
    whole = decision.weights(0, decision.total_samples)
    for start in range(0, decision.total_samples - 7_000, 311_111):
        assert np.array_equal(decision.weights(start, 7_000), whole[start : start + 7_000])


def test_a_blip_of_the_detector_in_music_is_no_speech() -> None:
    parts = [(10.0, True, -20.0), (30.0, False, -25.0), (0.1, True, -25.0), (30.0, False, -25.0), (10.0, True, -20.0)]
    assert len(listened(*parts, asked=12.0).spans) == 2


def test_music_between_is_not_taken_for_noise() -> None:
    decision = listened((10, True, -20.0), (2, False, -60.0), (10, True, -20.0), (40, False, -18.0), (10, True, -20.0))
    assert not decision.on


def test_digital_silence_between_is_no_noise() -> None:
    assert not listened((5, True, -20.0), (5, False, -200.0)).on


def test_the_record_is_json_and_bounded() -> None:
    parts = [part for _ in range(100) for part in ((3.0, True, -20.0), (22.0, False, -25.0))]
    said = listened(*parts, asked=12.0).to_dict()
    assert len(json.dumps(said)) < 3_000
    assert len(said["kept_stretches_s"]) == 50
    assert said["kept_s"] > 1_500
