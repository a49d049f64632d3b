"""The torture itself, as CI runs it, and the proof that it would notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from program import unmeasured

SOAK = Path(__file__).resolve().parents[2] / "scripts" / "soak"
KILLS = os.environ.get("BATCHSR_SOAK_KILLS", "150")


def soak(*arguments: str, script: Path = SOAK) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env=unmeasured(),
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_more_than_a_hundred_kills_and_some_stops_break_no_promise() -> None:
    code, figures, said = soak("--kills", KILLS)
    assert code == 0, said
    assert figures["broken"] == 0
    assert figures["kills"] >= 100
    assert figures["crashes"] >= 20, "the kills must hit jobs, not only idle workers"
    assert figures["stops"] >= 5
    assert figures["most_in_flight"] >= 2, "some must have had several jobs in flight"
    assert figures["rows_redone"] <= 2 * figures["workers_lost"]


@pytest.mark.slow
def test_without_fence_and_locks_the_same_harness_fails() -> None:
    code, figures, said = soak("--seconds", "8", "--pause", "0.1", "--negative-control")
    assert code == 1
    assert figures["broken"] > 0
    assert "counted after claim" in said, "a write of an owner that was replaced must be among what it finds"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["queues", "sources"])
def test_two_queues_on_one_folder_and_exchanged_sources_break_no_promise_under_fire(kind: str) -> None:
    code, figures, said = soak(kind, "--kills", "60", script=SOAK.with_name("soak_folder"))
    assert code == 0, said
    assert (figures["broken"], figures["kills"] >= 60) == (0, True)
    assert kind == "queues" or figures["exchanges"] >= 8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["queues", "sources"])
def test_without_what_keeps_them_the_same_rounds_find_broken_ones(kind: str) -> None:
    code, figures, said = soak(kind, "--seconds", "60", "--negative-control", script=SOAK.with_name("soak_folder"))
    assert code == 1
    assert figures["broken"] > 0
    assert ("mixed" if kind == "queues" else "its row names") in said or "nobody's whole output" in said


@pytest.mark.slow
def test_a_fleet_under_kills_stops_crashes_and_partitions_loses_nothing_and_publishes_nothing_twice() -> None:
    code, figures, said = soak("--seconds", "15", script=SOAK.with_name("fleet_soak"))
    assert code == 0, said
    assert figures["broken"] == 0
    assert figures["files"] > 0
    assert figures["kills"] + figures["stops"] > 0


@pytest.mark.slow
def test_without_its_fence_a_fleet_breaks_promises_and_the_soak_says_so() -> None:
    code, figures, said = soak("--seconds", "120", "--negative-control", script=SOAK.with_name("fleet_soak"))
    assert code == 1, figures
    assert "was named by two hosts" in said
