"""ViSQOL beside the distances: what it says, when it says nothing, and that nobody pays for it who does not ask."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner

from batchsr.cli import cli
from batchsr.errors import ExtraMissing
from batchsr.models import registry
from batchsr.quality import evaluate, measure, visqol


def noise(seconds: float = 1.0, seed: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * 48_000))).astype(np.float32)


def test_it_tells_the_original_from_one_that_lost_its_treble(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without numba, whose compilation takes ten times as long as this; upstream gives the same figures to 1e-12.
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delenv("NUMBA_THREADING_LAYER", raising=False)
    x = noise()
    assert visqol.mos(x, 0.5 * x) == pytest.approx(visqol.BEST, abs=0.01)
    dull = visqol.mos(x, measure.sinc(measure.degrade(x, 8_000), 8_000))
    assert dull is not None
    assert 1 <= dull < 3
    assert "NUMBA_THREADING_LAYER" not in os.environ


@pytest.mark.parametrize(
    ("original", "restored"),
    [(noise(0.9), noise(0.9)), (noise(), np.zeros(48_000)), (np.zeros(48_000), noise()), (noise(), noise(0.1))],
)
def test_of_silence_and_of_too_little_it_says_nothing(
    original: np.ndarray, restored: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visqol, "_api", lambda: pytest.fail("asked"))
    assert visqol.mos(original, restored) is None


def test_no_number_counts_as_no_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        moslqo = math.nan

        def measure_from_arrays(self, *arrays: np.ndarray, sample_rate: int) -> Api:
            return self

    monkeypatch.setattr(visqol, "_api", Api)
    assert visqol.mos(noise(), noise()) is None


def results(*opinions: float | None) -> list[evaluate.Result]:
    scores = [evaluate.Score(1, 1, 1, 1, 1, 1, 0.0, 0.0, opinion) for opinion in opinions]
    return [evaluate.Result(f"music_{number}", 8_000, "sinc", one) for number, one in enumerate(scores)]


@pytest.mark.parametrize(
    ("opinions", "shown"), [((2.0, 3.0), "2.50"), ((2.0, None), "2.00"), ((None, None), "-")], ids=str
)
def test_the_table_has_a_column_of_what_opinions_there_are(opinions: tuple[float | None, ...], shown: str) -> None:
    found = results(*opinions)
    head, row = (
        next(line for line in evaluate.tabulate(found, visqol=True).splitlines() if line.startswith(begin))
        for begin in ("| method", "| sinc")
    )
    assert head.split("|")[-2].strip() == "ViSQOL"
    assert row.split("|")[-2].strip() == shown
    assert head.count("|") == row.count("|")
    assert "ViSQOL" not in evaluate.tabulate(found)


def test_it_is_in_no_answer_that_did_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sf.write(tmp_path / "music_a.wav", noise(), 48_000)
    words = ["evaluate", str(tmp_path), "--rate", "24000", "--seconds", "0.3", "--json"]
    monkeypatch.setattr(evaluate, "both_ways", lambda name, restore: {})
    monkeypatch.setattr(registry, "load", lambda *words, **named: None)
    monkeypatch.setattr(visqol, "mos", lambda original, restored: 3.0)

    def scores(*more: str) -> list[dict[str, float]]:
        told = CliRunner().invoke(cli, [*words, *more], catch_exceptions=False)
        return [json.loads(line)["score"] for line in told.stdout.splitlines()]

    assert [score.get("visqol") for score in scores("--visqol")] == [3.0, 3.0]
    assert not any("visqol" in score for score in scores())


def test_without_the_extra_it_is_refused_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "visqol" else there(name))
    told = CliRunner().invoke(cli, ["evaluate", str(tmp_path), "--visqol"])
    assert isinstance(told.exception, ExtraMissing)
    assert told.exception.remedy == "pip install 'batchsr[visqol]'"
