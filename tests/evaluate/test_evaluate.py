"""The quality measure: known distances, the baselines' place, and tables that say what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from batchsr.errors import InputError, InputMissing
from batchsr.quality import evaluate, measure


def noise(seed: int, level: float = 0.1, seconds: float = 2.0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(int(seconds * 48_000))).astype(np.float32)


def slow_lsd(reference: np.ndarray, restored: np.ndarray, floor: float) -> float:
    """The definition, frame by frame and bin by bin."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    distances = []
    for start in range(0, len(reference) - 2047, 512):
        powers = [np.abs(np.fft.rfft(x[start : start + 2048] * window)) ** 2 for x in (reference, restored)]
        total = 0.0
        for a, b in zip(*powers, strict=True):
            total += (np.log10(a + floor) - np.log10(b + floor)) ** 2
        distances.append((total / 1025) ** 0.5)
    return float(np.mean(distances))


@pytest.mark.parametrize("floor", evaluate.FLOORS)
def test_the_distance_is_that_of_the_definition(floor: float) -> None:
    a, b = noise(1, seconds=0.1), noise(2, level=0.01, seconds=0.1)
    fast = evaluate.lsd(evaluate.spectrogram(a), evaluate.spectrogram(b), floor)
    assert fast == pytest.approx(slow_lsd(a, b, floor), rel=1e-5)


def test_ten_times_the_level_is_two_decades_of_power() -> None:
    x = noise(1)
    score = evaluate.score(x, 10 * x, 12_000)
    assert [score.lsd, score.lsd_below, score.lsd_above] == pytest.approx([2.0, 2.0, 2.0], abs=1e-3)
    assert score.loudness_lu == pytest.approx(20.0, abs=0.1)
    assert score.si_sdr_db > 100  # scale does not matter to it


def test_other_noise_of_the_same_level_is_four_fifths_of_a_decade_away() -> None:
    # Two exponential variables: the variance of log10 is (pi / sqrt 6 / ln 10)^2 each, so sqrt 2 times 0.557 together.
    assert evaluate.score(noise(1), noise(2), 12_000).lsd == pytest.approx(0.788, abs=0.01)


def test_the_cutoff_parts_the_band() -> None:
    x = noise(1)
    low = measure.kept(x, 6_000)
    score = evaluate.score(x, low, 5_000)
    assert score.lsd_below < 0.01
    assert score.lsd_above > 3


def test_the_constant_decides_what_silence_counts() -> None:
    score = evaluate.score(noise(1, level=1e-4), np.zeros(96_000, np.float32), 12_000)
    assert score.lsd > 2 * score.lsd_1e5


def test_a_known_error_gives_its_ratio_of_signal_to_distortion() -> None:
    a, b = noise(1), noise(2)
    assert evaluate.si_sdr_db(a, 3 * (a + 0.1 * b)) == pytest.approx(20.0, abs=0.1)


def test_a_restoration_of_another_length_is_cut_or_filled() -> None:
    x = noise(1)
    assert evaluate.score(x, np.append(x, x), 12_000) == evaluate.score(x, x, 12_000)


def test_replication_leaves_the_kept_band_and_fills_the_rest() -> None:
    # Noise that falls by 6 dB an octave above 500 Hz, as much sound does.
    fall = np.maximum(np.arange(48_001) / 1_000, 1)
    x = np.fft.irfft(np.fft.rfft(noise(1)) / fall).astype(np.float32)
    given = measure.degrade(x, 16_000)
    plain, filled = (evaluate.score(x, f(given, 16_000), 7_200) for f in (measure.sinc, evaluate.replicate))
    assert filled.lsd_below < 0.25
    assert filled.lsd_above < 2 < 4 < plain.lsd_above  # 0.79 is noise for noise, the rest each frame's guessed slope


def test_keeping_the_band_takes_the_recording_below_the_cutoff_and_restores_once() -> None:
    x, made, calls = noise(1), noise(2), []

    def restore(given: np.ndarray, rate_hz: int) -> np.ndarray:
        calls.append(rate_hz)
        return made

    given = measure.degrade(x, 16_000)
    methods = evaluate.both_ways("model", restore)
    assert list(methods) == ["model", "model+keep"]
    scores = [evaluate.score(x, method(given, 16_000), 7_200) for method in methods.values()]
    assert calls == [16_000]
    assert scores[0].lsd_below == pytest.approx(0.79, abs=0.02)
    assert scores[1].lsd_below < 0.15  # nothing but what lies between the crossover and the cutoff
    assert scores[1].lsd_above == pytest.approx(scores[0].lsd_above, abs=0.02)
    methods["model"](measure.degrade(x, 8_000), 8_000)
    assert calls == [16_000, 8_000]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name, seed in (("music_a", 1), ("speech_b", 2)):
        sf.write(tmp_path / f"{name}.wav", noise(seed), 48_000, subtype="FLOAT")
    return tmp_path


def test_every_clip_is_measured_at_every_rate_by_every_method(clips: Path) -> None:
    methods = {"none": measure.sinc, "half": lambda x, rate_hz: 0.5 * measure.sinc(x, rate_hz)}
    results = list(evaluate.evaluate(evaluate.find_clips(clips), methods, (8_000, 24_000)))
    keys = [(r.clip, r.rate_hz, r.method) for r in results]
    assert keys == [(c, r, m) for c in ("music_a", "speech_b") for r in (8_000, 24_000) for m in ("none", "half")]
    by_key = dict(zip(keys, (r.score for r in results), strict=True))
    assert by_key["music_a", 24_000, "half"].loudness_lu < by_key["music_a", 24_000, "none"].loudness_lu - 5


def test_the_table_has_a_row_for_all_and_for_each_group_and_names_both_constants(clips: Path) -> None:
    results = list(evaluate.evaluate(evaluate.find_clips(clips), {"sinc": measure.sinc}, (8_000,)))
    table = evaluate.tabulate(results)
    rows = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| sinc")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["sinc", "8000", "all (2)"], ["sinc", "8000", "music (1)"], ["sinc", "8000", "speech (1)"],
    ]  # fmt: skip
    assert f"{evaluate.mean(results).lsd:.2f}" in table
    assert "1e-8" in table
    assert "1e-5" in table


def test_a_folder_without_clips_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=tmp_path.name):
        evaluate.find_clips(tmp_path)


@pytest.mark.parametrize(
    ("samples", "seconds", "said"),
    [(np.zeros(0), None, "too few"), (np.ones(1), None, "too few"), (np.ones(9_000), 1e-4, "too few")]
    + [(np.array([odd] * 9_000), None, "NaN or infinity") for odd in (np.nan, np.inf)],
)
def test_a_clip_that_cannot_be_measured_is_an_error_that_names_it(
    tmp_path: Path, samples: np.ndarray, seconds: float | None, said: str
) -> None:
    sf.write(tmp_path / "odd.wav", samples, 48_000, subtype="FLOAT")
    with pytest.raises(InputError, match=rf"odd\.wav: .*{said}"):
        list(evaluate.compare(tmp_path / "odd.wav", evaluate.BASELINES, 8_000, seconds))


def test_on_the_shared_clips_plain_interpolation_scores_as_published(shared: Path) -> None:
    # 4.32, 3.52 and 2.74 over these clips and seven others; these alone are 0.3 closer.
    results = list(evaluate.evaluate(evaluate.find_clips(shared / "audio/eval"), {"sinc": measure.sinc}))
    means = [evaluate.mean(r for r in results if r.rate_hz == rate_hz).lsd for rate_hz in evaluate.RATES_HZ]
    assert means == pytest.approx([4.04, 3.22, 2.46], abs=0.02)
