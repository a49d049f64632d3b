"""The seam metric hears what a listener would, and the joints of our windows do not stand out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsr.audio.files import Source, resampled
from batchsr.audio.meters.seams import SeamMeter, Seams
from batchsr.audio.windows import Plan, assemble, cut

FRAME = 61_440


def measured(signal: np.ndarray, borders: list[int], block: int = 10_000) -> Seams:
    meter = SeamMeter(borders)
    passed = list(meter.through(np.split(signal, range(block, len(signal), block))))
    assert np.array_equal(np.concatenate(passed), signal)
    return meter.result


def sound(seconds: int = 30) -> np.ndarray:
    rng = np.random.default_rng(4)
    level = np.interp(
        np.arange(seconds * 48_000), np.arange(seconds * 6 + 1) * 8000, rng.uniform(0.05, 0.3, seconds * 6 + 1)
    )
    return (rng.standard_normal(seconds * 48_000) * level)[:, None].astype(np.float32)


def test_ordinary_sound_has_no_seams() -> None:
    result = measured(sound(60), list(range(100_000, 2_800_000, 50_000)))
    assert result.joints == 54
    assert result.flux_ratio == pytest.approx(1, abs=0.06)
    assert result.step_ratio == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("spoil", "which"), [("click", "flux_ratio"), ("level", "step_ratio"), ("hole", "step_ratio")])
def test_what_can_be_heard_is_seen(spoil: str, which: str) -> None:
    signal = sound()
    borders = list(range(100_000, 1_300_000, 100_000))
    for number, border in enumerate(borders):
        if spoil == "click":
            signal[border : border + 1] = 20
        elif spoil == "level":
            signal[border : border + 100_000] *= (4, 0.25)[number % 2]
        else:
            signal[border - 500 : border + 500] = 0
    assert getattr(measured(signal, borders), which) > 1.3


def test_blocks_do_not_matter() -> None:
    signal = sound(10)
    borders = [70_000, 240_000, 470_000]
    assert measured(signal, borders, 1000) == measured(signal, borders, 480_000)


@pytest.mark.parametrize("signal", [np.zeros((480_000, 1), np.float32), np.zeros((100, 2), np.float32)])
def test_silence_and_short_files_have_no_ratio(signal: np.ndarray) -> None:
    result = measured(signal, [50])
    assert (result.flux_ratio, result.step_ratio) == (None, None)
    assert measured(signal, []) == Seams(0, None, None)


def test_memory_does_not_grow() -> None:
    meter = SeamMeter(list(range(50_000, 3_000_000, 60_000)))
    for _ in range(100):
        meter.add(np.ones((30_000, 1), np.float32))
        assert sum(len(block) for block in meter._held) < 400_000


def windows_that_differ(index: int, window: np.ndarray) -> np.ndarray:
    """A stand-in for a model: each window has its own noise and level, and makes worse what lies at its edges."""
    noise = np.random.default_rng(index).standard_normal(window.shape)
    envelope = np.abs(window) + 0.2 * np.abs(window).mean()
    made = window + noise * envelope * (0.5, 1.0)[index % 2]
    made[:, :480] *= 2
    made[:, -480:] *= 0.3
    return made.astype(np.float32)


def test_joints_over_the_real_recordings_do_not_stand_out(recordings: Path) -> None:
    """With overlap, both ratios stay at or below 1.1; plain concatenation shows that the metric would see a seam."""
    names = ("phone/demo-congrats_8k_pcm16.wav", "music/macroform-cold_day_8k_30s.wav", "music/frantic_24k_stereo.flac")
    here: dict[int, list[tuple[float, float]]] = {0: [], 24_000: []}
    away: dict[int, list[tuple[float, float]]] = {0: [], 24_000: []}
    for name in names:
        with Source.open(recordings / "inputs" / name) as source:
            signal = np.concatenate(list(resampled(source)))[:, :1]
        for overlap in here:
            plan = Plan(len(signal), FRAME, overlap)
            slots = [windows_that_differ(index, window) for index, window in cut(plan, [signal])]
            meter = SeamMeter(plan.borders())
            for _ in meter.through(assemble(plan, slots.__getitem__)):
                pass
            here[overlap] += meter._here
            away[overlap] += meter._elsewhere
    ratio = {overlap: np.mean(here[overlap], axis=0) / np.mean(away[overlap], axis=0) for overlap in here}
    assert ratio[24_000].max() <= 1.1
    assert ratio[0][1] > ratio[24_000][1]
