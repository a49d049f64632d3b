"""Real recordings as archives hold them, good and broken, each to its right end."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from program import FAST_MODEL, Program
from test_restore import FakeModel, run, task_for

from batchsr.audio.decoders import ffmpeg
from batchsr.errors import InputEmpty, InputError
from batchsr.settings.profile import Settings
from tests.audio.conftest import true_frames

# What is whole although it looks odd, of the broken ones; all others there must fail as input errors.
WHOLE_BUT_ODD = {"data_size_zero_streamed.wav", "float_denormal.wav", "rate_655350.wav"}
if ffmpeg.program() is not None:
    WHOLE_BUT_ODD |= {"unsupported_opus.mkv"}


def sources(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def test_every_good_recording_is_restored_with_its_length_and_channels(
    recordings: Path, shared: Path, tmp_path: Path
) -> None:
    with (shared / "audio" / "inputs_manifest.csv").open(newline="") as file:
        manifest = {row["file"]: row for row in csv.DictReader(file)}
    restored = 0
    for name, row in manifest.items():
        source = recordings / "inputs" / name
        output = tmp_path / f"{restored}.wav"
        task = task_for(source, output, settings=Settings(overlap=0.02, subtype="FLOAT"))
        run(task, FakeModel(8, hiss=0))
        y, rate = soundfile.read(output, always_2d=True)
        wanted = -(-true_frames(source, row) * 48_000 // int(row["rate"]))
        assert rate == 48_000
        assert abs(len(y) - wanted) <= 1, name
        assert y.shape[1] == int(row["channels"]), name
        assert np.isfinite(y).all(), name
        if "all_digital_silence" in name or "zero_frames" in name:  # the latter holds 1,961 frames of silence
            assert np.abs(y).max() < 1e-4
        output.unlink()
        task.scratch.unlink()
        restored += 1
    assert restored == len(manifest) == 60


def test_a_file_of_zero_frames_is_an_input_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), 8_000)
    with pytest.raises(InputEmpty, match=r"empty\.wav"):
        run(task_for(tmp_path / "empty.wav", tmp_path / "out.wav"), FakeModel())


def test_every_broken_recording_ends_as_its_facts_demand(recordings: Path, shared: Path, tmp_path: Path) -> None:
    with (shared / "audio" / "bad_manifest.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    assert len(names) == 30
    restored, errors = set(), {}
    for number, name in enumerate(names):
        if name == "unreadable_chmod000.wav":
            continue  # root reads it anyway; tests/audio has it as another user
        try:
            run(task_for(recordings / "bad" / name, tmp_path / f"{number}.wav"), FakeModel(8))
        except InputError as e:
            errors[name] = e
        else:
            restored.add(name)
        assert (tmp_path / f"{number}.wav").exists() == (name in restored)
    for name, error in errors.items():
        assert name.split(".")[0] in str(error)
        assert error.code.startswith("input.")
        assert "\n" not in str(error)
    assert restored == WHOLE_BUT_ODD


def test_all_recordings_good_and_broken_go_through_one_work(program: Program, recordings: Path) -> None:
    """The real program, queue and worker, with a model that takes a microsecond."""
    broken = sorted(path for path in (recordings / "bad").iterdir() if path.name != "unreadable_chmod000.wav")
    out = ("--out", program.folder / "out", "--root", recordings)
    program.run("enqueue", "-r", recordings / "inputs", *out)
    told = program.run("enqueue", *broken, *out).stdout
    assert "directory.wav is a folder" in told
    program.run("work", "--variant", "fast", code=3, environment=FAST_MODEL)
    jobs = {Path(job["source"]).relative_to(recordings): job for job in program.jobs()}
    good = {path: job for path, job in jobs.items() if path.parts[0] == "inputs"}
    assert len(good) == 60
    assert {job["state"] for job in good.values()} == {"done"}
    assert len({job["output"].lower() for job in good.values()}) == 60
    assert all(Path(job["output"]).is_file() for job in good.values())
    bad = {path.name: job for path, job in jobs.items() if path.parts[0] == "bad"}
    assert {name for name, job in bad.items() if job["state"] == "done"} == WHOLE_BUT_ODD
    for name, job in bad.items():
        if job["state"] != "done":
            assert job["state"] == "failed"
            assert job["error_code"].startswith("input."), name
            assert name.split(".")[0] in job["error"]
            assert not Path(job["output"]).exists()
    assert set(bad) == {path.name for path in broken} - {"directory.wav"}
