"""The manifests that come with the program: one runs as it stands, the others say what to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import soundfile
from program import FAST_MODEL, Program

JOBS = Path(__file__).resolve().parent.parent / "jobs"


@pytest.fixture
def copied(program: Program) -> Program:
    """A fresh copy of jobs/, elsewhere."""
    shutil.copytree(JOBS, program.folder / "jobs")
    program.environment |= FAST_MODEL
    return program


def test_the_phone_archive_runs_as_it_stands(copied: Program) -> None:
    copied.run("enqueue", "--job", "jobs/phone-archive.toml")
    copied.run("work", "--variant", "fast")
    jobs = copied.jobs()
    restored = copied.folder / "jobs" / "restored" / "phone"
    assert [Path(job["output"]).relative_to(restored).as_posix() for job in jobs] == [
        "2004-01-05/call-17_48k.wav",
        "2004-01-05/call-18_48k.wav",
        "2004-01-06/call-1_48k.wav",
    ]
    assert {(job["state"], job["batch"]) for job in jobs} == {("done", "phone-archive")}
    assert soundfile.info(jobs[0]["output"]).samplerate == 48_000
    assert not list(restored.rglob("beep*")), "test calls are left out"
    assert "exchange's own logger" in (restored / "2004-01-06/call-1_48k.wav.json").read_text()


@pytest.mark.parametrize("name", ["music", "oral-history", "radio"])
def test_a_manifest_whose_sources_are_not_there_says_what_to_change(copied: Program, name: str) -> None:
    said = copied.run("enqueue", "--job", f"jobs/{name}.toml", code=2).stderr
    assert f"jobs/{name}.toml: its [sources] are relative to {copied.folder}/jobs; name your own there" in said


def test_what_the_manifests_bring_along_is_small() -> None:
    assert sum(path.stat().st_size for path in JOBS.rglob("*") if path.is_file()) < 100_000
