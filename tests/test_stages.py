"""A stage is a module and a line of the registry: all that is said of it elsewhere, it says itself."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rig
import soundfile

from batchsr import restore_file
from batchsr.archive import explain
from batchsr.audio.windows import Block
from batchsr.models.resample import Resample
from batchsr.report.facts import facts
from batchsr.restoration.stages import registry


@dataclasses.dataclass
class Halve:
    """Halves the recording, and counts what it has seen."""

    peak: float
    name: str = "halve"
    version: int = 3
    position: str = "recording"
    context_samples: int = 0
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    done: str = "halved"
    seen: int = 0

    @property
    def found(self) -> Mapping[str, Any]:
        return {"peak": self.peak}

    @property
    def measured(self) -> Mapping[str, Any]:
        return {"as_it_ran": True}

    def channels(self, channels: int) -> int:
        return channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        return (block / np.float32(2) for block in blocks)


HALVE = types.SimpleNamespace(
    decide=lambda recording, treatment: max(float(abs(block).max()) for block in recording.at_own_rate(treatment)),
    made=lambda settings, treatment, rate_hz, filled: (
        Halve(treatment.decided["halve"]) if "halve" in treatment.decided else None
    ),
    fact=lambda entry: ("Level", f"halved from {entry['found']['peak']:.1f}"),
    sentence=lambda entry: "It was halved.",
)


def test_a_stage_that_is_added_to_the_registry_is_run_on_record_and_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "KINDS", {**registry.KINDS, "halve": HALVE})
    model = Resample()
    model.about = dataclasses.replace(model.about, synthesises=True)
    source = rig.record(tmp_path / "a.wav", 1.0)
    done = restore_file(source, tmp_path / "b.wav", model=model, keep_band=True, lowpass=2_000.0, subtype="FLOAT")
    entry = next(one for one in done.report["stages"] if one["name"] == "halve")
    assert entry["version"] == 3
    assert entry["found"] == {"peak": pytest.approx(0.5, abs=1e-3), "as_it_ran": True}
    assert "as it was halved" in done.report["synthetic"]["sentence"]
    assert "The recording was halved before." in done.report["note"]
    assert ("Level", "halved from 0.5") in list(facts(done.report))
    assert "It was halved." in list(explain.sentences(done.report))
    level = [float(np.sqrt(np.mean(np.square(soundfile.read(path)[0])))) for path in (source, tmp_path / "b.wav")]
    assert level[1] < 0.6 * level[0]


def test_the_stages_that_there_are_have_the_names_of_the_registry(tmp_path: Path) -> None:
    for name, kind in registry.KINDS.items():
        assert kind.sentence({"name": name, "version": 1, "settings": {}}).endswith(".")
    assert registry.fact({"name": "of another version"}) is None
    assert registry.sentence({"name": "other", "version": 2, "settings": {"x": 1}}) == (
        "It went through the stage other (version 2) with x 1."
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"name": "declick", "settings": {"threshold": 6.0}, "found": {"touched_share": 0.0, "stepped_back": False}},
            "Clicks were looked for (threshold 6): 0.000 % of the samples were interpolated.",
        ),
        (
            {"name": "declick", "settings": {"threshold": 8}, "found": {"touched_share": 0.02, "stepped_back": True}},
            "so it stayed as it was: stepped back: 2.000 % of the samples stand out.",
        ),
        ({"name": "dehum", "found": {"base_hz": None, "multiples": []}}, "Mains hum was looked for: none stands out."),
        (
            {"name": "denoise", "settings": {"limit_db": 12.0}, "found": {"denoised": False, "why": "no speech"}},
            "Noise: it was not denoised: no speech.",
        ),
        (
            {
                "name": "denoise",
                "settings": {"limit_db": 12.0, "network": "net", "network_sha256": "ab"},
                "found": {"denoised": True, "why": "it is noisy"},
            },
            "Noise: it was denoised by 12 dB at most (it is noisy), by net (SHA-256 ab).",
        ),
    ],
)
def test_a_stage_that_kept_its_hands_off_is_not_said_to_have_done_anything(entry: dict[str, Any], said: str) -> None:
    told = registry.sentence(entry)
    assert told.endswith(said)
    assert "None" not in told
