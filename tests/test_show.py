"""What `show` says of one job, and how `evaluate` draws its table: words and columns for people."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import rig
from person import Person
from program import FAST_MODEL, Program
from rich.console import Console

from batchsr.queue import State
from batchsr.report import about as words
from batchsr.report.tables import figures_table
from batchsr.settings import extras

JOB: dict[str, Any] = {
    "id": 7,
    "state": "waiting",
    "held": False,
    "source": "/archive/1968/interview \x1b[2J07.wav",
    "output": "/archive/1968/interview 07_upsampled.wav",
    "batch": "oral",
    "priority": 2,
    "sample_rate": 8_000,
    "channels": 2,
    "audio_s": 75.0,
    "windows_done": 1,
    "windows_total": 17,
    "wall_s": 12.0,
    "rtf": 0.16,
    "error": "the share did not answer (look whether it is mounted)",
    "error_code": "resource.io",
    "retry_at": "2026-03-01T12:30:00.000+00:00",
    "note": "",
    "remarks": [{"code": "input.odd", "message": "its header is odd"}],
    "provenance": {"profile": "speech", "notes": "Recorded by\nthe exchange."},
    "settings": {"channels": "all", "keep_band": True, "sidecar": True},
    "variant": None,
    "wanted_variant": None,
    "attempts_made": [],
    "events": [{"at": "2026-03-01T12:00:00.000+00:00", "old": None, "new": "queued", "reason": "", "worker": None}],
}


def test_a_job_is_told_in_words() -> None:
    text = "\n".join(words.about(JOB, {}))
    for said in (
        "waiting, failed for now, and is tried again by itself",
        "1:15 of audio, 8,000 Hz, stereo",
        "1 of 17 windows restored",
        "the share did not answer (look whether it is mounted) [resource.io]",
        "2026-03-01 12:30:00 UTC",
        "its header is odd [input.odd]",
        "keep_band yes",
        "left to the worker that claims it",
        "Recorded by the exchange.",
        "2026-03-01 12:00:00  enqueued",
    ):
        assert said in text, said
    assert "\x1b" not in text
    assert "None" not in text
    assert "{" not in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_of_it_is_wider_than_the_terminal_and_no_word_is_cut(width: int) -> None:
    lines = list(words.about(JOB, {}, width))
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines), lines
    assert set("\n".join(words.about(JOB, {})).split()) == set("\n".join(lines).split())


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_words(state: State) -> None:
    first = next(iter(words.about({**JOB, "state": str(state)}, {})))
    assert len(first) > len(f"#7  interview 07.wav: {state}, ") + 5
    assert str(state) in words._CHANGES


def test_show_has_the_facts_of_the_sidecar_and_what_to_type_next(program: Program) -> None:
    program.environment |= FAST_MODEL
    rig.record(program.folder / "a.wav", 0.4)
    (program.folder / "page.wav").write_text("<html>" * 20)
    program.run("enqueue", "a.wav", "page.wav")
    program.run("work", "--variant", "fast", code=3)
    done, failed = program.run("show", "1").stdout, program.run("show", "#2").stdout
    assert "Loudness" in done
    assert "batchsr listen 1" in done
    assert "claimed by worker" in done
    assert "batchsr retry 2" in failed
    assert json.loads(program.run("show", "1", "--json").stdout)["state"] == "done"


HEAD = ("method", "rate", "clips", "LSD", "below", "above")
ROWS = [
    ["interpolation", "8000", "all (13)", "4.04", "1.20", "5.10"],
    ["tiny", "16000", "music (2)", "1.41", "1.00", "9"],
]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_of_figures_fits_any_width(width: int) -> None:
    out = io.StringIO()
    figures_table(Console(file=out, width=width), HEAD, ROWS, "LSD with e = 1e-8; `below` and `above` the cutoff.")
    lines = out.getvalue().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines), lines
    text = " ".join(out.getvalue().split())
    assert all(cell in text for row in ROWS for cell in row)
    if width >= 80:
        assert lines[0].split() == list(HEAD)
        assert len({line.index(row[5]) + len(row[5]) for line, row in zip(lines[1:], ROWS, strict=False)}) == 1


def test_where_an_extra_is_missing_the_next_step_is_not_a_work_that_leaves_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person(tmp_path)
    person.record("a.wav", "b.wav")
    person.run("enqueue", tmp_path / "a.wav", "--declick", "6")
    monkeypatch.setattr(extras, "missing", lambda: {"declick": "pip install 'batchsr[clicks]'"})
    assert "batchsr[clicks]" in person.run("show", 1).out
    person.run("enqueue", tmp_path / "b.wav")
    assert "Next: `batchsr work` restores it" in person.run("show", 2).out
