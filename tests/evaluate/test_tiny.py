"""The bundle that comes with the package is small, and restores clips that it never saw as well as its card says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from batchsr import FlashSR
from batchsr.models import hub
from batchsr.models.flashsr import bundle
from batchsr.quality import evaluate, measure

LIMITS = {8_000: 1.45, 16_000: 1.25, 24_000: 1.10}
"""What the mean over clips must reach, with the kept band; speech and music apart may lie 0.15 above."""
FOLDER = hub.resolve("tiny").folder


@pytest.fixture(scope="module")
def tiny() -> FlashSR:
    return FlashSR.from_pretrained("tiny", device="cpu")


def test_it_is_at_most_twelve_megabytes_and_its_card_names_these_weights() -> None:
    weights = FOLDER / bundle.WEIGHTS_NAME
    assert weights.stat().st_size <= 12e6
    assert bundle.weights_sha256(FOLDER) in (FOLDER / "MODEL_CARD.md").read_text()


def test_it_has_the_shapes_that_the_training_script_makes() -> None:
    recipe = json.loads((Path(__file__).parents[2] / "scripts/training/tiny.json").read_text())
    config = json.loads((FOLDER / bundle.CONFIG_NAME).read_text())
    assert {key: config[key] for key in ("vae", "ldm", "vocoder", "mel", "audio")} == {
        key: recipe[key] for key in ("vae", "ldm", "vocoder", "mel", "audio")
    }


@pytest.fixture(scope="module")
def restored(shared: Path, tiny: FlashSR) -> Callable[[str, int], tuple[np.ndarray, np.ndarray]]:
    """(original, restoration) of 2.56 s out of the middle of a shared clip."""

    def restore(name: str, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
        original = measure.middle(measure.read_clip(shared / f"audio/eval/{name}.flac"), 2.56)
        _, keep = evaluate.both_ways("tiny", lambda x, rate: tiny.upsample(x, rate)).values()
        return original, keep(measure.degrade(original, rate_hz), rate_hz)

    return restore


@pytest.mark.parametrize(("name", "rate_hz"), [("music_sonicpi_tabla", 8_000), ("speech_klettres_de", 16_000)])
def test_clips_that_it_never_saw_are_restored_within_the_limits(
    restored: Callable[[str, int], tuple[np.ndarray, np.ndarray]], name: str, rate_hz: int
) -> None:
    score = evaluate.score(*restored(name, rate_hz), cutoff_hz=0.9 * rate_hz / 2)
    assert score.lsd < LIMITS[rate_hz] + 0.15
    assert score.lsd_below < 0.45
    assert score.si_sdr_db > 30


def test_what_it_makes_does_not_buzz(restored: Callable[[str, int], tuple[np.ndarray, np.ndarray]]) -> None:
    """Lines at the vocoder's frame rate, 100 Hz, are what a training for levels alone leads to."""
    original, y = restored("music_sonicpi_garzul", 8_000)
    assert measure.line_share(y, 6_000) <= measure.line_share(original, 6_000) + 0.1
