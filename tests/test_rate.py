"""`--rate`: the output at a recogniser's rate or a CD's, exact in length, resampled where the windows are joined."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from test_restore import FakeModel, Stop, run, sound, task_for

from batchsr import storage
from batchsr.audio.metadata import read
from batchsr.cli import cli
from batchsr.errors import ConfigError
from batchsr.queue import Job, State
from batchsr.restoration import sidecar as sidecars
from batchsr.settings import profile
from batchsr.settings.profile import RATES_HZ, Settings
from batchsr.worker import space


@pytest.mark.parametrize("rate", RATES_HZ)
@pytest.mark.parametrize(("own_hz", "frames"), [(8_000, 1), (8_000, 10_401), (11_025, 9_999), (44_100, 50_001)])
def test_an_output_has_exactly_its_recordings_length_at_any_rate(
    tmp_path: Path, rate: int, own_hz: int, frames: int
) -> None:
    source = sound(tmp_path / "a.wav", frames / own_hz, rate=own_hz)
    assert soundfile.info(source).frames == frames
    settings = Settings(overlap=0.02, rate=rate)
    done = run(task_for(source, tmp_path / "b.wav", settings=settings), FakeModel())
    info = soundfile.info(tmp_path / "b.wav")
    assert (info.samplerate, info.frames) == (rate, -(-frames * rate // own_hz))
    said = done.report["output"]
    assert (said["sample_rate_hz"], said["frames"]) == (rate, info.frames)


def test_what_is_written_at_another_rate_is_the_same_sound(tmp_path: Path) -> None:
    time_s = np.arange(16_000) / 8_000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time_s), 8_000, subtype="PCM_16")
    for rate in RATES_HZ:
        settings = Settings(overlap=0.02, rate=rate, subtype="FLOAT")
        run(task_for(tmp_path / "a.wav", tmp_path / f"{rate}.wav", settings=settings), FakeModel(hiss=0))
        heard, _ = soundfile.read(tmp_path / f"{rate}.wav")
        wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(heard)) / rate)
        middle = slice(rate // 4, -rate // 4)
        assert np.abs(heard - wanted)[middle].max() < 1e-3, rate


def test_an_output_at_another_rate_holds_nothing_above_its_band(tmp_path: Path) -> None:
    """The model's hiss reaches to 24 kHz; folded back it would be in the recogniser's band."""
    source = sound(tmp_path / "a.wav", 1.0)
    for rate in (16_000, 48_000):
        settings = Settings(overlap=0.02, rate=rate, subtype="FLOAT")
        run(task_for(source, tmp_path / f"{rate}.wav", settings=settings), FakeModel(hiss=0.1))
    low, _ = soundfile.read(tmp_path / "16000.wav")
    high, _ = soundfile.read(tmp_path / "48000.wav")
    spectrum = np.abs(np.fft.rfft(high))[: len(low) // 2 + 1] / 3
    error = np.abs(np.fft.rfft(low))[: int(0.9 * len(spectrum))] - spectrum[: int(0.9 * len(spectrum))]
    assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(spectrum**2))


def test_a_restoration_at_another_rate_stopped_at_any_window_ends_with_the_same_bytes(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.7, channels=2)
    settings = Settings(overlap=0.02, rate=44_100, keep_band=True, also="mp3")
    whole = run(task_for(source, tmp_path / "whole.wav", settings=settings), FakeModel())
    for stop_at in range(1, whole.windows_total + 1):
        task = task_for(source, tmp_path / f"stopped{stop_at}.wav", settings=settings)
        with pytest.raises(Stop):
            run(task, FakeModel(), stop_at=stop_at)
        again = run(task_for(source, task.output, settings=settings, tag="1-2"), FakeModel())
        assert again.output_sha256 == whole.output_sha256
        assert storage.sha256(task.output.with_suffix(".mp3")) == storage.sha256(tmp_path / "whole.mp3")


@pytest.mark.parametrize("form", ["wav", "w64", "aiff", "caf", "flac", "ogg", "opus", "mp3"])
def test_every_format_is_written_at_every_rate_that_it_takes(tmp_path: Path, form: str) -> None:
    natural = {"ogg": "VORBIS", "opus": "OPUS", "mp3": "MPEG_LAYER_III"}.get(form, "PCM_16")
    source = sound(tmp_path / "a.wav", 0.5)
    for rate in RATES_HZ:
        if (form, rate) == ("opus", 44_100):
            with pytest.raises(ConfigError, match="44100") as refused:
                Settings(rate=rate, format=form, subtype=natural)
            assert "16000, 24000, 48000" in (refused.value.remedy or "")
            continue
        settings = Settings(overlap=0.02, rate=rate, format=form, subtype=natural)
        output = tmp_path / f"{rate}.{form}"
        run(task_for(source, output, settings=settings), FakeModel())
        with soundfile.SoundFile(output) as file:
            assert (file.samplerate, file.frames) == (rate, rate // 2)


def test_copies_are_at_the_outputs_rate_and_those_that_cannot_be_are_refused_at_enqueue(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.5)
    settings = Settings(overlap=0.02, rate=16_000, also="opus,mp3,flac")
    done = run(task_for(source, tmp_path / "b.wav", settings=settings), FakeModel())
    for copy in done.report["copies"]:
        with soundfile.SoundFile(copy["path"]) as file:
            assert (file.samplerate, file.frames, copy["frames"]) == (16_000, 8_000, 8_000)
    for given in (["--also", "opus"], ["--format", "opus"]):
        told = CliRunner().invoke(
            cli, ["--db", str(tmp_path / "q.db"), "enqueue", str(source), "--rate", "44100", *given]
        )
        assert isinstance(told.exception, ConfigError)  # which ends with 2
        assert "opus cannot be at 44100 Hz" in told.exception.message
    assert not (tmp_path / "q.db").exists()


def test_an_output_named_opus_at_a_rate_that_it_cannot_have_is_refused_before_any_work(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.5)
    told = CliRunner().invoke(cli, ["upsample", str(source), "-o", str(tmp_path / "b.opus"), "--rate", "44100"])
    assert isinstance(told.exception, ConfigError)
    assert "opus cannot be at 44100 Hz" in told.exception.message


@pytest.mark.parametrize("rate", [8_000, 47_999, 16_000.0, "16000", True, None])
def test_a_rate_that_is_not_one_of_four_is_refused(rate: object) -> None:
    with pytest.raises(ConfigError, match="rate"):
        Settings(rate=rate)  # type: ignore[arg-type]


def test_a_profiles_rate_and_a_later_format_are_judged_together(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("rate = 44100\n")
    effective = profile.effective(profile=str(tmp_path / "p.toml"), given={"format": "flac"})
    assert (effective.settings.rate, effective.origins["rate"]) == (44_100, str(tmp_path / "p.toml"))
    with pytest.raises(ConfigError, match="opus cannot be at 44100"):
        profile.effective(profile=str(tmp_path / "p.toml"), given={"format": "opus"})
    later = profile.effective(profile=str(tmp_path / "p.toml"), given={"format": "opus", "rate": 48_000})
    assert later.settings.rate == 48_000


def test_no_digest_changes_where_nothing_is_asked_for() -> None:
    assert "rate" not in json.loads(Settings(rate=48_000).to_json())
    assert Settings(rate=16_000).digest() != Settings().digest()
    assert Settings.from_json(Settings(rate=16_000).to_json()) == Settings(rate=16_000)


def test_markers_and_broadcast_times_are_at_the_outputs_rate(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 1.0)
    cue = struct.pack("<I", 1) + struct.pack("<II4sIII", 1, 4_000, b"data", 0, 0, 4_000)
    bext = bytearray(602)
    bext[338:346] = struct.pack("<Q", 123_456_789)
    body = source.read_bytes()
    body += b"".join(key + struct.pack("<I", len(value)) + value for key, value in ((b"bext", bext), (b"cue ", cue)))
    source.write_bytes(body[:4] + struct.pack("<I", len(body) - 8) + body[8:])
    run(task_for(source, tmp_path / "b.wav", settings=Settings(overlap=0.02, rate=44_100)), FakeModel())
    found = read(tmp_path / "b.wav")
    assert [marker.sample for marker in found.markers] == [22_050]
    assert found.bext is not None
    assert struct.unpack("<Q", found.bext[338:346])[0] == round(Fraction(123_456_789 * 44_100, 8_000))
    assert b"F=44100" in found.bext[602:]


def test_the_sidecar_says_what_is_synthetic_of_what_the_rate_holds(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 1.0, rate=16_000)
    for rate, words in (
        (16_000, "All content above 0 Hz is synthetic"),
        (48_000, "Content above 8000 Hz is synthetic"),
    ):
        run(task_for(source, tmp_path / f"{rate}.wav", settings=Settings(overlap=0.02, rate=rate)), FakeModel())
        note = json.loads(sidecars.sidecar_path(tmp_path / f"{rate}.wav").read_text())["note"]
        assert words in note


def test_the_room_on_the_disk_is_that_of_the_rate() -> None:
    def job(settings: Settings) -> Job:
        row = dict.fromkeys(Job.__dataclass_fields__)
        wanted = {
            "frames": 80_000,
            "sample_rate": 8_000,
            "channels": 1,
            "windows_done": 0,
            "source": "/a.wav",
            "state": State.QUEUED,
        }
        return Job(**{**row, **wanted, "settings": settings.to_json()})  # type: ignore[arg-type]

    assert space.need_of(job(Settings(rate=16_000))).output_bytes == 3 * 160_000
    assert space.need_of(job(Settings())).output_bytes == 3 * 480_000
    assert space.need_of(job(Settings(rate=16_000))).rows == space.need_of(job(Settings())).rows
