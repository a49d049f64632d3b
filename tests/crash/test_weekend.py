"""A weekend of everyday trouble in seconds, and the proof that it would notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from program import unmeasured

WEEKEND = Path(__file__).resolve().parents[2] / "scripts" / "weekend"


def weekend(*arguments: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, str(WEEKEND), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env=unmeasured(),
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_nothing_is_lost_in_a_weekend_of_trouble() -> None:
    code, figures, said = weekend("--seconds", os.environ.get("BATCHSR_WEEKEND_SECONDS", "20"))
    assert code == 0, said
    assert figures["broken"] == 0
    assert figures["files"] >= 10


@pytest.mark.slow
def test_where_a_places_trouble_is_taken_for_the_files_the_same_harness_fails() -> None:
    code, figures, said = weekend("--seconds", "12", "--negative-control")
    assert code == 1
    assert figures["broken"] > 0
    assert "failed:" in said, "files that failed for their share's absence must be among what it finds"
