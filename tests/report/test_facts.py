"""What a sidecar says of stages, of rumble and of the level, in words."""

from __future__ import annotations

from typing import Any

import pytest

from batchsr.report.facts import facts, rumble_added_db


def stage(name: str, settings: dict[str, Any] | None = None, **found: Any) -> dict[str, Any]:
    return {"name": name, "version": 1, "settings": settings or {}, "found": found}


def test_each_stage_is_told_with_what_it_found_and_did() -> None:
    report = {
        "stages": [
            {"name": "mono", "version": 1, "settings": {}},
            stage("declick", {"threshold": 6.0}, touched_share=0.00123, stepped_back=False),
            stage("dehum", base_hz=50.0, multiples=[[1, 2], [1]]),
            stage(
                "denoise",
                {"limit_db": 12.0},
                denoised=True,
                why="asked for",
                kept_s=65.0,
                removed_db={"speech": 1.4, "pause": 11.0},
            ),
        ]
    }
    assert dict(facts(report)) == {
        "Clicks": "0.123 % of the samples were interpolated",
        "Hum": "3 lines of 50 Hz were subtracted",
        "Noise": "denoised by 12 dB at most (asked for), took 1.4 dB of speech and 11.0 dB of pause; 1:05 without "
        "speech stays",
    }


def test_a_stage_that_did_nothing_says_why() -> None:
    report = {
        "stages": [
            stage("declick", touched_share=0.02, stepped_back=True),
            stage("dehum", base_hz=None, multiples=[]),
            stage("denoise", denoised=False, why="speech in 0 % of it, less than 5 %"),
        ]
    }
    said = dict(facts(report))
    assert said["Clicks"] == "stepped back: 2.000 % of the samples stand out"
    assert said["Hum"] == "none stands out"
    assert said["Noise"] == "not denoised: speech in 0 % of it, less than 5 %"


@pytest.mark.parametrize(
    ("before", "after", "marked"),
    [(-70.0, -50.0, True), (-70.0, -62.0, False), (-52.0, -50.0, False), (None, -50.0, True), (-50.0, -70.0, False)],
)
def test_what_was_added_below_50_hz_is_marked_where_it_is_much_and_loud(
    before: float | None, after: float, marked: bool
) -> None:
    report = {"source": {"below_50_hz_dbfs": before}, "output": {"below_50_hz_dbfs": after}}
    assert ("listen to it" in dict(facts(report))["Below 50 Hz"]) is marked


def test_a_change_of_level_is_marked_and_what_was_not_measured_is_left_out() -> None:
    for change, marked in ((0.4, False), (-1.5, True)):
        report = {"source": {"loudness_lufs": -24.0}, "output": {"loudness_lufs": -24.0 + change}}
        assert ("listen to it" in dict(facts(report))["Loudness"]) is marked
    assert rumble_added_db({}) is None
    assert dict(facts({})) == {}


@pytest.mark.parametrize("odd", ["text", 7, None, True, [], {}, [1], ["x"], {"a": 1}, float("nan")])
def test_a_sidecar_that_anybody_wrote_is_told_without_what_is_of_another_kind(odd: Any) -> None:
    for report in (
        {"stages": odd},
        {"checks": odd},
        {"checks": {"quality": odd}},
        {"checks": {"quality": {"before": odd, "after": odd, "speech_share": odd, "review": odd}}},
        {"source": {"below_50_hz_dbfs": odd}, "output": {"below_50_hz_dbfs": odd}},
        *({"stages": [{"name": name, "found": odd, "settings": odd}]} for name in ("declick", "dehum", "denoise")),
        {"stages": [stage("declick", {"threshold": odd}, touched_share=odd, stepped_back=odd)]},
        {"stages": [stage("dehum", base_hz=odd, multiples=odd)]},
        {"stages": [stage("dehum", base_hz=50.0, multiples=[odd])]},
        {"stages": [stage("denoise", {"limit_db": odd}, denoised=True, why=odd, removed_db=odd, kept_s=odd)]},
        {"stages": [stage("denoise", {"limit_db": 12}, denoised=odd, removed_db={"speech": odd}, kept_s=odd)]},
    ):
        assert all(isinstance(sentence, str) for _, sentence in facts(report))
