"""Outputs named by the person, pipes, and copies for access."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import forked
import jsonschema
import numpy as np
import pytest
import soundfile
from program import FAST_MODEL, Program
from rig import enqueue, job_of, record, work

import batchsr.restoration
from batchsr.audio.files import probe
from batchsr.errors import ConfigError
from batchsr.settings import profile
from batchsr.settings.outputs import with_format_of

SCHEMA = json.loads((Path(batchsr.restoration.__file__).parent / "sidecar.schema.json").read_text())


@pytest.mark.parametrize(
    ("name", "form", "subtype"),
    [
        ("x.wav", "wav", "PCM_24"),
        ("X.WAV", "wav", "PCM_24"),
        ("x.mp3", "mp3", "MPEG_LAYER_III"),
        ("x.aif", "aiff", "PCM_24"),
        ("x.oga", "ogg", "VORBIS"),
        ("x.ogg", "ogg", "VORBIS"),
        ("x.opus", "opus", "OPUS"),
        ("X.FLAC", "flac", "PCM_24"),
        ("x.caf", "caf", "PCM_24"),
        ("x.w64", "w64", "PCM_24"),
        ("x", "wav", "PCM_24"),
    ],
)
def test_an_extension_chooses_the_format_with_its_natural_subtype(name: str, form: str, subtype: str) -> None:
    settings = profile.effective(given=with_format_of(Path(name), {})).settings
    assert (settings.format, settings.subtype) == (form, subtype)


def test_a_subtype_that_was_asked_for_stays_or_is_refused() -> None:
    settings = profile.effective(given=with_format_of(Path("x.flac"), {"subtype": "PCM_16"})).settings
    assert settings.subtype == "PCM_16"
    assert profile.effective(given={"format": "ogg"}).settings.subtype == "VORBIS"
    # Asked for in one breath, so it is for `check_format` to refuse.
    assert profile.effective(given={"format": "ogg", "subtype": "PCM_16"}).settings.subtype == "PCM_16"


@pytest.mark.parametrize("name", ["x.m4a", "x.xyz", "x.mp2", "talk v1.2", "x.wav.part"])
def test_an_extension_that_nobody_writes_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=r"\.wav"):
        with_format_of(Path(name), {})


def test_a_name_and_a_format_that_contradict_each_other_are_an_error() -> None:
    with pytest.raises(ConfigError, match="mp3"):
        with_format_of(Path("x.mp3"), {"format": "wav"})
    assert with_format_of(Path("x.bwf"), {"format": "wav"}) == {"format": "wav"}


@pytest.mark.parametrize(("name", "form", "subtype"), [("x.mp3", "MP3", "MPEG_LAYER_III"), ("x.opus", "OGG", "OPUS")])
def test_upsample_writes_what_the_name_says(program: Program, name: str, form: str, subtype: str) -> None:
    source = record(program.folder / "in.wav", 1.3, channels=2)
    program.run("upsample", source, "-o", program.folder / name, "--variant", "fast", environment=FAST_MODEL)
    info = probe(program.folder / name)
    assert (info.format, info.subtype, info.frames, info.channels) == (form, subtype, 62_400, 2)


def test_an_unknown_name_is_refused_before_any_work(program: Program) -> None:
    source = record(program.folder / "in.wav", 0.2)
    result = program.run("upsample", source, "-o", program.folder / "x.m4a", "--variant", "nothing at all", code=2)
    assert ".m4a" in result.stderr
    assert ".flac" in result.stderr
    assert {p.name for p in program.folder.iterdir()} <= {"in.wav", "queue.db"}


def test_pipes_both_ways(program: Program) -> None:
    source = record(program.folder / "in.wav", 1.0)
    program.run("upsample", source, "-o", program.folder / "x.wav", "--variant", "fast", environment=FAST_MODEL)
    expected = (program.folder / "x.wav").read_bytes()
    environment = {**program.environment, **FAST_MODEL, "TMPDIR": str(program.folder)}

    def piped(*arguments: str) -> bytes:
        command = program.command("upsample", *arguments, "--variant", "fast")
        given = source.read_bytes()
        done = forked.run(command, input=given, timeout=300, env=environment, cwd=program.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for given in ("-", str(source)):
        assert piped(given, "-o", "-") == expected
    assert piped("-", "-o", "-", "--format", "flac")[:4] == b"fLaC"
    piped("-", "-o", "y.flac")
    assert probe(program.folder / "y.flac").frames == 48_000
    names = {p.name for p in program.folder.iterdir()}
    assert names == {"in.wav", "x.wav", "x.wav.json", "y.flac", "y.flac.json"}


@pytest.mark.parametrize("arguments", [["-"], ["in.wav", "-o", "-", "--json"], ["in.wav", "-o", "-", "--also", "mp3"]])
def test_pipes_that_make_no_sense_are_refused(program: Program, arguments: list[str]) -> None:
    record(program.folder / "in.wav", 0.2)
    result = program.run("upsample", *arguments, code=2, stdin=subprocess.DEVNULL)
    assert result.stdout == ""
    assert not (program.folder / "-").exists()


def test_copies_for_access_are_exact_in_length_named_and_verified(program: Program) -> None:
    folder = program.folder / "in"
    sources = [record(folder / f"{n}.wav", 1.0 + n / 7, rate_hz=11_025, channels=1 + n % 2, seed=n) for n in range(3)]
    program.run("enqueue", *sources, "--also", "opus", "--also", "mp3", "--also", "flac")
    program.run("work", "--variant", "fast", environment=FAST_MODEL)
    for source in sources:
        master = folder / f"{source.stem}_upsampled.wav"
        document = json.loads(master.with_name(master.name + ".json").read_text())
        jsonschema.validate(document, SCHEMA)
        assert [copy["format"] for copy in document["copies"]] == ["opus", "mp3", "flac"]
        frames = probe(master).frames
        x = soundfile.read(master, always_2d=True)[0]
        for copy in document["copies"]:
            assert copy["path"] == str(master.with_suffix("." + copy["format"]))
            info = probe(Path(copy["path"]))
            assert (info.frames, info.sample_rate, info.channels) == (frames, 48_000, x.shape[1])
            assert copy["frames"] == frames
            y = soundfile.read(copy["path"], always_2d=True)[0]
            error = np.sqrt(np.mean((y[:frames] - x) ** 2) / np.mean(x**2))
            assert error < {"flac": 1e-4, "opus": 0.9, "mp3": 0.9}[copy["format"]]
    program.run("verify")
    (folder / "1_upsampled.mp3").write_bytes(b"changed")
    (folder / "2_upsampled.opus").unlink()
    result = program.run("verify", code=3)
    assert "1_upsampled.mp3" in result.stdout + result.stderr
    assert "2_upsampled.opus" in result.stdout + result.stderr


def test_copies_have_the_same_bytes_every_time(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        source = record(tmp_path / name / "x.wav", 2.1, channels=2)
        enqueue(tmp_path / f"{name}.db", [source], settings={"also": "opus,mp3,flac"})
        assert work(tmp_path / f"{name}.db").done == 1
        made.append([(tmp_path / name / f"x_upsampled.{form}").read_bytes() for form in ("opus", "mp3", "flac")])
    assert made[0] == made[1]


def test_a_copy_never_replaces_another_file(tmp_path: Path) -> None:
    source = record(tmp_path / "x.wav", 0.5)
    mine = tmp_path / "x_upsampled.mp3"
    mine.write_bytes(b"mine")
    (number,) = enqueue(tmp_path / "q.db", [source], settings={"also": "mp3"})
    work(tmp_path / "q.db")
    job = job_of(tmp_path / "q.db", number)
    assert (job.state, job.error_code) == ("failed", "output.exists")
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "x_upsampled.wav").exists()


def test_copies_that_a_crash_left_alone_are_taken_up(tmp_path: Path) -> None:
    source = record(tmp_path / "x.wav", 0.5)
    (number,) = enqueue(tmp_path / "q.db", [source], settings={"also": "flac"})
    work(tmp_path / "q.db")
    assert job_of(tmp_path / "q.db", number).state == "done"
    left = tmp_path / "x_upsampled.flac"
    kept = left.read_bytes()
    for path in (tmp_path / "x_upsampled.wav", tmp_path / "x_upsampled.wav.json", tmp_path / "q.db"):
        path.unlink()
    (number,) = enqueue(tmp_path / "q.db", [source], settings={"also": "flac"}, overwrite=True)
    work(tmp_path / "q.db")
    assert job_of(tmp_path / "q.db", number).state == "done"
    assert left.read_bytes() == kept


def test_a_recording_of_more_channels_than_a_copy_takes_fails_with_the_reason(tmp_path: Path) -> None:
    source = record(tmp_path / "x.wav", 0.5, channels=3)
    (number,) = enqueue(tmp_path / "q.db", [source], settings={"also": "mp3"})
    work(tmp_path / "q.db")
    job = job_of(tmp_path / "q.db", number)
    assert job.state == "failed"
    assert "mp3 takes at most 2 channels" in (job.error or "")


@pytest.mark.parametrize("also", ["wav", "opus,opus", "opus;mp3", ["opus"], 3])
def test_wishes_for_copies_are_checked(also: object) -> None:
    with pytest.raises(ConfigError, match="also"):
        profile.Settings(also=also)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="also"):
        profile.Settings(format="flac", subtype="PCM_24", also="flac")


def test_without_copies_nothing_changes_in_digests() -> None:
    assert "also" not in profile.Settings().to_json()
    assert profile.Settings.from_json(profile.Settings(also="mp3").to_json()).also == "mp3"
