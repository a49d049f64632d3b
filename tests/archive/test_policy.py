"""What a collection demands is asked of every output, and what breaks it is named."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import rig
from click.testing import CliRunner, Result

from batchsr.archive import policy
from batchsr.cli import cli
from batchsr.errors import ConfigError
from batchsr.queue.opening import open_queue

KEPT = """
name = "masters"
rate = 48000
bits = [24, 32]
channels = [1, 2]
format = "wav"
min_loudness_lufs = -60
max_loudness_lufs = 0.0
max_true_peak_dbtp = 3
clipping = false
sidecar = true
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A queue with two recordings that are done."""
    folder = tmp_path_factory.mktemp("made")
    sources = [rig.record(folder / "in" / f"{i}.wav", 0.6, seed=i) for i in range(2)]
    rig.enqueue(folder / "queue.db", sources, folder / "out")
    assert rig.work(folder / "queue.db").done == 2
    return folder


def verify(folder: Path, text: str, *, name: str = "p.toml") -> Result:
    path = folder / name
    path.write_text(text)
    return CliRunner().invoke(cli, ["--db", str(folder / "queue.db"), "verify", "--json", "--policy", str(path)])


def lines(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("form", ['"wav"', '"WAV"', '["flac", "Wav"]'])
def test_what_keeps_the_policy_passes(made: Path, form: str) -> None:
    done = verify(made, KEPT.replace('"wav"', form))
    assert done.exit_code == 0, done.output
    assert [(line["verdict"], line["policy"], line["breaks"]) for line in lines(done)] == [("ok", "pass", [])] * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate = [16000, 44100]", "rate is 48000, not 16000 or 44100"),
        ("bits = 16", "bits is 24, not 16"),
        ("channels = 2", "channels is 1, not 2"),
        ('format = "flac"', "format is wav, not flac"),
        ("max_loudness_lufs = -40", "LUFS, more than -40"),
        ("min_loudness_lufs = 10", "LUFS, less than 10"),
        ("max_true_peak_dbtp = -30", "dBTP, more than -30"),
    ],
)
def test_each_demand_that_is_broken_is_named_with_both_figures(made: Path, text: str, words: str) -> None:
    done = verify(made, text)
    assert done.exit_code == 3
    for line in lines(done):
        assert line["policy"] == "fail"
        assert len(line["breaks"]) == 1
        assert words in line["breaks"][0]


def test_clipping_and_sidecars_are_asked_for(tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    source = rig.record(tmp_path / "in" / "a.wav", 0.3)
    loud = rig.record(tmp_path / "in" / "loud.wav", 0.3)
    rig.enqueue(db, [source], tmp_path / "out", settings={"sidecar": False})
    rig.enqueue(db, [loud], tmp_path / "out")
    rig.work(db)
    sidecar = next((tmp_path / "out").glob("loud*.json"))
    document = json.loads(sidecar.read_text())
    document["output"]["clipped_samples"] = 1_234
    sidecar.write_text(json.dumps(document))
    without, clipped = lines(verify(tmp_path, "clipping = false\nsidecar = true"))
    assert without["breaks"] == ["no sidecar stands beside it"]
    assert clipped["breaks"] == ["1,234 samples were clamped"]
    sidecar.write_text('{"mine": true}')
    (_, foreign) = lines(verify(tmp_path, "clipping = false\nsidecar = true"))
    assert "believed" in foreign["breaks"][0]
    assert foreign["breaks"][1] == "whether it clips is not on record"
    sidecar.unlink()
    (_, gone) = lines(verify(tmp_path, "max_loudness_lufs = 0\nsidecar = true"))
    assert gone["breaks"] == ["no sidecar stands beside it", "no loudness is on record of it"]


def test_an_output_that_is_not_as_it_was_made_is_not_asked(tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    rig.enqueue(db, [rig.record(tmp_path / "in" / "a.wav", 0.3)], tmp_path / "out")
    rig.work(db)
    next((tmp_path / "out").glob("*.wav")).unlink()
    done = verify(tmp_path, "rate = 1")
    assert done.exit_code == 3
    assert lines(done)[0]["policy"] is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rat = 48000", "did you mean rate"),
        ("rate = '48k'", "rate"),
        ("rate = true", "rate takes a whole number or a list"),
        ('bits = ["24"]', "bits takes a list of whole numbers"),
        ('max_true_peak_dbtp = "x"', "max_true_peak_dbtp takes a number"),
        ("clipping = 3", "clipping"),
        ("", "asks for nothing"),
        ('name = "x"', "asks for nothing"),
        ("rate = ", "not TOML"),
        ("min_loudness_lufs = nan", "min_loudness_lufs"),
        ("max_true_peak_dbtp = -inf", "max_true_peak_dbtp"),
        ("max_loudness_lufs = -20\nmin_loudness_lufs = -10", "not below"),
        ('format = "wave"', "takes one of"),
        ("format = []", "format"),
        ("rate = [48000, 0]", "rate"),
        ("bits = 20", "bits takes 16 or 24 or 32"),
        ("channels = []", "channels"),
    ],
)
def test_a_policy_that_is_none_is_named_before_any_work(made: Path, text: str, words: str) -> None:
    done = verify(made, text)
    assert isinstance(done.exception, ConfigError)
    assert words in str(done.exception)
    assert done.stdout == ""


def test_the_report_has_the_verdict_beside_each_file(made: Path) -> None:
    (made / "report.toml").write_text("bits = 16")

    def report(*words: object) -> Result:
        arguments = ["--db", str(made / "queue.db"), "report", *map(str, words), "--policy", str(made / "report.toml")]
        return CliRunner().invoke(cli, arguments)

    assert [(row["policy"], row["policy_breaks"]) for row in lines(report("--json"))] == [
        ("fail", "bits is 24, not 16")
    ] * 2
    rows = list(csv.DictReader(io.StringIO(report("--as", "csv").output)))
    assert [row["policy"] for row in rows] == ["fail", "fail"]
    assert json.loads(report("--as", "json").output)[0]["policy"] == "fail"
    assert "bits is 24, not 16" in report().output
    assert "no column" in str(report("-o", made / "page.html").exception)
    rig.enqueue(made / "queue.db", [rig.record(made / "in" / "later.wav", 0.2)], made / "out")
    assert [row["policy"] for row in lines(report("--json"))] == ["fail", "fail", None]
    with open_queue(made / "queue.db") as queue:
        queue.cancel([3])


def test_a_policy_that_is_not_there_is_named(made: Path) -> None:
    for name in ("none.toml", "none.xml"):
        with pytest.raises(ConfigError, match=r"none\.(toml|xml)"):
            policy.read(made / name)


CONCH = """<?xml version="1.0"?>
<policy type="and" name="48 kHz" license="MIT">
  <rule name="rate" value="SamplingRate" tracktype="Audio" occurrence="*" operator="=">48000</rule>
  <rule name="bits" value="BitDepth" tracktype="Audio" occurrence="*" operator="=">{bits}</rule>
</policy>
"""


def test_mediaconch_is_asked_where_it_is_installed(made: Path) -> None:
    if shutil.which("mediaconch") is None:
        assert not os.environ.get("CI"), "mediaconch is missing"
        pytest.skip("mediaconch is not installed")
    assert verify(made, CONCH.format(bits=24), name="p.xml").exit_code == 0
    done = verify(made, CONCH.format(bits=16), name="p.xml")
    assert done.exit_code == 3
    assert lines(done)[0]["breaks"] == ["bits: BitDepth is 24, not 16"]
    broken = verify(made, "<policy", name="p.xml")
    assert "MediaConch does not take" in str(broken.exception)


def test_without_mediaconch_its_policy_is_refused_by_name(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(made))
    done = verify(made, CONCH.format(bits=24), name="p.xml")
    assert "not on this machine" in str(done.exception)
