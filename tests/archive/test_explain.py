"""What was done to a file is told from its sidecar alone, and the file itself says what is made up."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from batchsr.archive import explain, records
from batchsr.audio import broadcast, metadata
from batchsr.audio.filters import Crossover
from batchsr.audio.treatment import NOTHING_SYNTHETIC, Treatment, synthetic
from batchsr.cli import cli
from batchsr.errors import SidecarForeign, UsageError
from batchsr.models.resample import Resample
from batchsr.restoration import sidecar_reading, sidecar_versions
from batchsr.restoration.single import restore_file

RELEASED = Path(__file__).parent.parent / "data" / "sidecars"
NEWEST = int(sidecar_reading.SCHEMA.removeprefix(sidecar_reading.PREFIX))


def released() -> list[Path]:
    return sorted(RELEASED.glob("*.json"))


def noise(path: Path, *, rate: int = 8_000, seconds: float = 0.6) -> Path:
    samples = np.random.default_rng(3).uniform(-0.3, 0.3, round(rate * seconds))
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


def test_a_sidecar_of_every_version_is_kept() -> None:
    kept = {json.loads(path.read_bytes())["schema"] for path in released()}
    assert kept == set(sidecar_reading.READ)
    assert {int(one.removeprefix(sidecar_reading.PREFIX)) for one in kept} == set(range(1, NEWEST + 1))


@pytest.mark.parametrize("path", released(), ids=lambda path: path.stem)
def test_a_sidecar_of_every_version_follows_its_schema_and_is_read(path: Path) -> None:
    document = json.loads(path.read_bytes())
    version = int(document["schema"].rpartition("/")[2])
    jsonschema.Draft202012Validator.check_schema(sidecar_versions.schema(version))
    jsonschema.validate(document, sidecar_versions.schema(version))
    record = sidecar_reading.read(path)
    assert record is not None
    assert record.document == document, "what is on the disk stays as it is"
    newest = sidecar_versions.newest(record.document)
    jsonschema.validate(newest, sidecar_versions.schema())
    told = "\n".join(explain.sentences(newest))
    assert document["source"]["sha256"] in told
    assert document["output"]["sha256"] in told
    assert f"{newest['synthetic']['above_hz']:.0f} Hz is synthe" in told
    assert newest["synthetic"]["recording_below_hz"] == document["treatment"]["kept_below_hz"]


def test_a_version_that_never_was_has_no_schema() -> None:
    for version in (0, NEWEST + 1):
        with pytest.raises(LookupError):
            sidecar_versions.schema(version)


def test_each_treatment_has_its_sentence_in_ascii_without_a_comma() -> None:
    kept = synthetic(Treatment(None, Crossover(3_500.0, 3_680.0)), 8_000)
    assert (kept.above_hz, kept.recording_below_hz) == (3_680.0, 3_500.0)
    assert "above 3680 Hz is synthetic" in kept.sentence
    assert "below 3500 Hz it is the recording itself" in kept.sentence
    assert synthetic(Treatment(), 8_000).above_hz == 4_000
    assert synthetic(Treatment(3_000.0), 8_000).above_hz == 3_000
    assert synthetic(Treatment(), 96_000).above_hz == 0, "the model made all of what an output can hold"
    crossover = Treatment(None, Crossover(7_500.0, 8_200.0))
    assert synthetic(crossover, 22_050, 16_000).above_hz == 7_500, "it ends in the cross-over"
    assert synthetic(Treatment(None, Crossover(9_000.0, 9_500.0)), 22_050, 16_000) is NOTHING_SYNTHETIC
    assert synthetic(Treatment(bypass=True), 48_000) is NOTHING_SYNTHETIC
    for one in (kept, synthetic(Treatment(), 8_000)):
        for text in (one.sentence, one.short):
            assert text.isascii()
            assert "," not in text
            assert len(text) < 250


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "ogg", "opus", "aiff", "caf"])
def test_the_output_itself_says_what_is_made_up_in_its_comment(tmp_path: Path, form: str) -> None:
    source = tmp_path / "in.flac"
    with soundfile.SoundFile(source, "w", 8_000, 1) as file:
        file.comment = "side A, worn"
        file.write(np.random.default_rng(1).uniform(-0.2, 0.2, 4_000))
    done = restore_file(source, tmp_path / f"out.{form}", model=Model(), keep_band=True)
    comment = metadata.read(tmp_path / f"out.{form}").texts["comment"]
    assert comment == f"side A, worn {done.report['synthetic']['sentence']}"
    assert "is synthetic" in comment


def test_what_was_only_resampled_says_nothing_of_the_kind(tmp_path: Path) -> None:
    done = restore_file(noise(tmp_path / "a.wav"), tmp_path / "b.wav", model=Resample())
    assert "comment" not in metadata.read(tmp_path / "b.wav").texts
    assert done.report["synthetic"]["above_hz"] is None
    assert done.report["synthetic"]["digital_source_type"] is None
    told = "\n".join(explain.sentences(done.report))
    assert "Nothing in it is synthetic" in told
    assert "only resampled" in told


class Model(Resample):
    """Plain resampling under the name of a model that makes things up."""

    def __init__(self) -> None:
        super().__init__()
        self.about = dataclasses.replace(self.about, label="FlashSR", synthesises=True)
        self.identity = dataclasses.replace(self.identity, variant="tiny")


def with_bext(path: Path, description: bytes) -> Path:
    body = description.ljust(256, b"\0") + bytes(346) + b"A=ANALOGUE,M=mono,T=tape\r\n"
    raw = noise(path).read_bytes()
    whole = raw + b"bext" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)
    path.write_bytes(whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:])
    return path


@pytest.mark.parametrize("length", [0, 20, 200, 240, 256])
def test_a_description_keeps_its_text_and_says_what_is_made_up_where_there_is_room(tmp_path: Path, length: int) -> None:
    text = ("Reel 12 of the estate. " * 20)[:length].strip()
    restore_file(with_bext(tmp_path / "a.wav", text.encode()), tmp_path / "b.wav", model=Model(), keep_band=True)
    body = metadata.read(tmp_path / "b.wav").bext
    assert body is not None
    fields = broadcast.bext_fields(body)
    description = str(fields.get("description", ""))
    assert description.startswith(text)
    assert len(description) <= 256
    said = description[len(text) :].strip()
    assert said.lower().startswith("content above" if length <= 20 else "synthetic above" if length <= 230 else "")
    assert bool(said) == (length <= 230)
    history = str(fields["coding_history"]).splitlines()
    assert history[0] == "A=ANALOGUE,M=mono,T=tape"
    assert history[1].startswith("A=PCM,F=48000,W=24,M=mono,T=batchsr ")
    assert "Synthetic above" in history[1], "the line of history has room in any case"
    assert len(history) == 2


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["--json", "explain", *map(str, arguments)])


def test_the_sidecar_is_found_from_the_output_its_copies_and_itself(tmp_path: Path) -> None:
    output = tmp_path / "b.wav"
    restore_file(noise(tmp_path / "a.wav"), output, model=Model(), also="mp3,flac")
    told = [json.loads(run(name).stdout) for name in (output, tmp_path / "b.mp3", f"{output}.json")]
    assert all(one == told[0] for one in told)
    output.unlink()
    assert json.loads(run(output).stdout) == told[0], "the sound need not be there"
    assert any("b.wav was made from" in sentence for sentence in told[0]["sentences"])


def test_a_file_of_another_size_than_its_sidecar_says_is_warned_of(tmp_path: Path) -> None:
    output = tmp_path / "b.wav"
    restore_file(noise(tmp_path / "a.wav"), output, model=Model())
    with output.open("ab") as file:
        file.write(b"more")
    assert "Take care" in json.loads(run(output).stdout)["sentences"][-1]


def test_what_has_no_sidecar_or_a_foreign_one_is_named(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav")
    for path in (tmp_path / "a.wav", tmp_path / "none.wav", tmp_path):
        with pytest.raises(UsageError, match=path.name):
            records.record_of(path)
    (tmp_path / "a.wav.json").write_text('{"mine": true}')
    for path in (tmp_path / "a.wav", tmp_path / "a.wav.json"):
        with pytest.raises(SidecarForeign, match="believed"):
            records.record_of(path)
    (tmp_path / "a.mp3").write_bytes(b"x")
    with pytest.raises(UsageError, match="no sidecar beside it"):
        records.record_of(tmp_path / "a.mp3")


def test_nothing_in_a_twisted_sidecar_breaks_the_telling() -> None:
    """Whatever is not needed to believe an output may be of any type."""
    document = json.loads((RELEASED / f"{NEWEST}.json").read_bytes())

    def twisted(value: Any, other: object) -> Any:
        if isinstance(value, dict):
            return {key: twisted(inner, other) for key, inner in value.items()}
        return other

    for other in (None, -1, 1e300, "\x1b[31m", [[]], {"a": {}}, True, [None, 3, {"path": 4}]):
        for key in document:
            for changed in (document | {key: other}, document | {key: twisted(document[key], other)}):
                assert all(isinstance(one, str) for one in explain.sentences(sidecar_versions.newest(changed)))
        for old in json.loads((RELEASED / "1.json").read_bytes()):
            changed = json.loads((RELEASED / "1.json").read_bytes()) | {old: other, "schema": "batchsr.sidecar/1"}
            assert sidecar_versions.newest(changed)["synthetic"]["sentence"]
