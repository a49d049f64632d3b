"""The program as a person runs it: enqueue, work, look, stop, go on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import forked
import numpy as np
import pytest
import soundfile
from program import Program

from batchsr import storage
from batchsr.cli.variant import variant_name

PHONE = Path(__file__).parent / "data" / "phone_8k.wav"
LIST_KEYS = set(
    "id state source output variant windows_done windows_total audio_s wall_s rtf attempts error_code error".split()
)


def speech(path: Path, seconds: float = 2.0, *, channels: int = 1) -> Path:
    """A stretch of the shipped telephone recording, repeated to any length."""
    x, rate = soundfile.read(PHONE, always_2d=True)
    frames = round(seconds * rate)
    x = np.tile(x, (-(-frames // len(x)), channels))[:frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x, rate)
    return path


def test_enqueue_then_work_gives_a_48_khz_file_for_every_recording(program: Program, bundle: Path) -> None:
    archive = program.folder / "archive"
    for name in ("a.wav", "b.wav"):
        speech(archive / name)
    told = program.run("enqueue", archive / "a.wav", archive / "b.wav").stdout
    assert told.count("queued") == 2
    assert program.status()["jobs"]["queued"] == 2
    done = program.run("work", "--variant", bundle)
    assert done.stdout == ""  # stdout is data; progress went to stderr
    assert done.stderr.count("x real time") == 3  # a line a file, and the total
    for job in program.jobs():
        assert set(job) >= LIST_KEYS
        assert job["state"] == "done"
        assert job["variant"] == str(bundle)
        assert job["windows_done"] == job["windows_total"] > 1
        assert job["rtf"] == pytest.approx(job["wall_s"] / job["audio_s"], rel=1e-3)
        info = soundfile.info(job["output"])
        assert (info.samplerate, info.frames, info.subtype) == (48_000, 96_000, "PCM_24")
        assert Path(job["output"]).name == Path(job["source"]).stem + "_upsampled.wav"
    status = program.status()
    assert status["jobs"]["done"] == 2
    assert status["paused"] is False
    assert status["workers"] == []
    report = program.run("report").stdout
    assert "a.wav" in report
    assert program.run("verify").returncode == 0


def test_enqueue_is_idempotent_and_never_takes_our_own_outputs(program: Program, bundle: Path) -> None:
    archive = program.folder / "archive"
    speech(archive / "a.wav")
    program.run("enqueue", archive / "*.wav")
    assert "already queued" in program.run("enqueue", archive / "*.wav").stdout
    program.run("work", "--variant", bundle)
    again = program.run("enqueue", archive / "*.wav").stdout
    assert "already done" in again
    assert "our own output" in again
    assert len(program.jobs()) == 1


def test_two_inputs_never_write_one_output(program: Program, bundle: Path) -> None:
    archive = program.folder / "archive"
    x, rate = soundfile.read(PHONE)
    archive.mkdir()
    for name in ("take.flac", "take.wav", "Take.wav"):
        soundfile.write(archive / name, x[:8_000], rate)
    program.run("enqueue", "-r", archive)
    names = [Path(job["output"]).name for job in program.jobs()]
    assert len({name.lower() for name in names}) == 3
    assert "Take_upsampled.wav" in names
    assert "take.flac_upsampled.wav" in names
    program.run("work", "--variant", bundle)
    assert all(Path(job["output"]).is_file() for job in program.jobs())


def test_out_mirrors_the_tree(program: Program) -> None:
    archive = program.folder / "archive"
    for name in ("x.wav", "1954/x.wav", "1954/deep/y.wav"):
        speech(archive / name)
    program.run("enqueue", "-r", archive, "--out", program.folder / "out")
    outputs = {str(Path(job["output"]).relative_to(program.folder / "out")) for job in program.jobs()}
    assert outputs == {"x_upsampled.wav", "1954/x_upsampled.wav", "1954/deep/y_upsampled.wav"}


def test_a_dry_run_tells_all_and_writes_nothing(program: Program) -> None:
    source = speech(program.folder / "a.wav", 3.0)
    result = program.run("enqueue", "--dry-run", "--json", source)
    told, summary = [json.loads(line) for line in result.stdout.splitlines()]
    assert summary["summary"]["outcomes"] == {"queued": 1}
    assert told["outcome"] == "queued"
    assert told["output"].endswith("a_upsampled.wav")
    assert told["audio_s"] == 3.0
    assert "0:03 of audio" in result.stderr
    assert not program.db.exists()


def test_paths_come_from_a_list_on_stdin_whatever_their_bytes(program: Program) -> None:
    names = [b"caf\xe9.wav", b"-dash.wav", "日本 🎧.wav".encode(), b"new\nline.wav"]
    source = speech(program.folder / "s.wav", 0.5)
    for name in names:
        shutil.copy(source, os.path.join(os.fsencode(program.folder), name))
    listing = b"\0".join(os.path.join(os.fsencode(program.folder), name) for name in names)
    command = program.command("enqueue", "--from-file", "-", "-0")
    result = forked.run(command, input=listing, timeout=300, env=program.environment)
    assert result.returncode == 0, result.stderr
    assert {os.fsencode(job["source"]) for job in program.jobs()} == set(listing.split(b"\0"))


def test_a_name_that_is_not_there_is_told_and_the_rest_is_enqueued(program: Program) -> None:
    source = speech(program.folder / "a.wav")
    result = program.run("enqueue", program.folder / "missing.wav", source, program.folder / "*.mp3", code=2)
    assert "missing.wav: no such file" in result.stdout
    assert len(program.jobs()) == 1
    folder = program.run("enqueue", program.folder, code=2)
    assert "pass -r" in folder.stdout


def test_ctrl_c_ends_upsample_and_leaves_nothing_beside_the_source(program: Program, bundle: Path) -> None:
    source = speech(program.folder / "low.wav", 600.0)
    process = program.start("-v", "upsample", source, "--variant", bundle)
    assert process.stderr is not None
    while "window 1" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert [path.name for path in program.folder.iterdir()] == ["low.wav"]


def test_upsample_writes_beside_the_source_and_tells_rtf(program: Program, bundle: Path) -> None:
    source = speech(program.folder / "low.wav", 1.0, channels=2)
    result = program.run("upsample", source, "--variant", bundle)
    assert "duration 1.00 s" in result.stdout
    assert "RTF" in result.stdout
    info = soundfile.info(program.folder / "low_upsampled.wav")
    assert (info.samplerate, info.channels, info.frames) == (48_000, 2, 48_000)
    left, right = soundfile.read(program.folder / "low_upsampled.wav")[0].T
    np.testing.assert_array_equal(left, right)
    assert "exists already" in program.run("upsample", source, "--variant", bundle, code=74).stderr
    assert sorted(p.name for p in program.folder.iterdir()) == [
        "low.wav",
        "low_upsampled.wav",
        "low_upsampled.wav.json",
    ]


def test_upsample_and_the_queue_and_the_api_agree(program: Program, bundle: Path) -> None:
    from batchsr import FlashSR

    source = speech(program.folder / "a.wav", 1.5)
    options = ("--timestep", "600", "--seed", "3", "--subtype", "FLOAT", "--overlap", "0.1")
    program.run("upsample", source, "-o", program.folder / "one.wav", "--variant", bundle, *options)
    program.run("enqueue", source, *options)
    program.run("work", "--variant", bundle)
    one = soundfile.read(program.folder / "one.wav", dtype="float32")[0]
    queued = soundfile.read(program.folder / "a_upsampled.wav", dtype="float32")[0]
    x, rate = soundfile.read(source, dtype="float32")
    api = FlashSR.from_pretrained(bundle).upsample(x, rate, timestep=600, seed=3, overlap=0.1)
    np.testing.assert_array_equal(one, queued)
    np.testing.assert_array_equal(one, api)


def test_no_model_and_no_network_is_exit_69_within_seconds_and_names_the_remedy(program: Program) -> None:
    speech(program.folder / "a.wav")
    program.run("enqueue", program.folder / "a.wav")
    offline = {"HF_HOME": str(program.folder / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    started = time.monotonic()
    result = program.run("work", "--variant", "int4", code=69, environment=offline)
    assert time.monotonic() - started < 30
    assert "models pull" in result.stderr
    assert program.status()["jobs"]["queued"] == 1


@pytest.mark.parametrize("command", [("work",), ("enqueue", "a.wav")])
def test_a_variant_that_does_not_exist_is_told_at_once(program: Program, command: tuple[str, ...]) -> None:
    speech(program.folder / "a.wav")
    result = program.run(*command, "--variant", "int3", code=69)
    assert "'int3'" in result.stderr
    assert "int4, int8, tiny" in result.stderr
    assert not program.db.exists() or program.status()["jobs"]["queued"] == 0


def test_a_known_name_is_no_folder_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "int4").mkdir()
    monkeypatch.chdir(tmp_path)
    assert variant_name("int4") == "int4"
    assert variant_name("./int4") == str(tmp_path / "int4")


@pytest.mark.parametrize(
    "arguments",
    [
        ("work", "--variant"),
        ("enqueue",),
        ("enqueue", "--timestep", "1000", "x.wav"),
        ("show", "99"),
        ("upsample",),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_exit_2_and_one_sentence(program: Program, arguments: tuple[str, ...]) -> None:
    result = program.run(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.strip()


def test_a_worker_stopped_by_ctrl_c_releases_and_the_next_goes_on_in_the_middle(program: Program, bundle: Path) -> None:
    speech(program.folder / "whole.wav", 8.0)
    shutil.copy(program.folder / "whole.wav", program.folder / "stopped.wav")
    program.run("enqueue", program.folder / "whole.wav")
    program.run("work", "--variant", bundle)
    program.run("enqueue", program.folder / "stopped.wav")
    process = program.start("work", "--variant", bundle)
    wait_for_windows(program, 5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "released" in said
    job = program.jobs()[-1]
    assert job["state"] == "queued"
    assert 0 < job["windows_done"] < job["windows_total"]
    assert job["attempts"] == 0
    assert not Path(job["output"]).exists()
    resumed = program.run("work")  # bare `work` resumes with the variant the job is bound to
    assert "resuming" in resumed.stderr
    whole, stopped = program.jobs()
    assert stopped["state"] == "done"
    assert storage.sha256(Path(stopped["output"])) == storage.sha256(Path(whole["output"]))


def test_twenty_sigkills_at_random_moments_end_with_the_bytes_of_an_uninterrupted_run(
    program: Program, bundle: Path
) -> None:
    moments = random.Random(20)
    speech(program.folder / "whole.wav", 14.0)
    shutil.copy(program.folder / "whole.wav", program.folder / "killed.wav")
    before = storage.sha256(program.folder / "killed.wav")
    program.run("enqueue", program.folder / "whole.wav")
    program.run("work", "--variant", bundle)
    program.run("enqueue", program.folder / "killed.wav")
    total = program.jobs()[0]["windows_total"]
    kills = 0
    while kills < 20:
        process = program.start("work", "--variant", bundle)
        done = wait_for_windows(program, min(total - 1, round(total * (kills + 1) / 22)), of=process)
        time.sleep(moments.uniform(0.0, 0.05))
        process.kill()
        process.communicate(timeout=60)
        kills += 1
        assert not (program.folder / "killed_upsampled.wav").exists() or done == total
    program.run("work", "--variant", bundle)
    whole, killed = program.jobs()
    assert killed["state"] == "done"
    assert storage.sha256(Path(killed["output"])) == storage.sha256(Path(whole["output"]))
    assert storage.sha256(program.folder / "killed.wav") == before
    assert program.run("db", "check").stdout == "sound\n"


def wait_for_windows(program: Program, windows: int, *, of: subprocess.Popen[str] | None = None) -> int:
    """Until the last job has at least so many windows done; how many it has."""
    from batchsr.queue.opening import open_queue

    deadline = time.monotonic() + 60
    with open_queue(program.db) as queue:
        while time.monotonic() < deadline:
            *_, job = queue.jobs()
            if job.windows_done >= windows or (of is not None and of.poll() is not None):
                return job.windows_done
            time.sleep(0.005)
    raise AssertionError(f"no {windows} windows within a minute")


def test_pause_and_resume_retry_and_cancel(program: Program, bundle: Path) -> None:
    good, bad = speech(program.folder / "good.wav"), program.folder / "bad.wav"
    bad.write_text("no sound")
    program.run("enqueue", good, bad)
    program.run("pause", "for the night")
    paused = program.run("work", "--variant", bundle, code=75)
    assert "for the night" in paused.stderr
    assert program.status()["paused"] is True
    program.run("resume")
    assert program.run("work", "--variant", bundle, code=3).stderr.count("input.format") == 1
    assert program.status()["jobs"]["failed"] == 1
    speech(bad)
    assert "1" in program.run("retry").stdout
    assert program.jobs()[1]["state"] == "queued"
    program.run("cancel", "2")
    assert program.jobs()[1]["state"] == "cancelled"
    shown = json.loads(program.run("show", "1", "--json").stdout)
    assert shown["state"] == "done"
    assert [event["new"] for event in shown["events"]][-1] == "done"


def test_special_files_are_refused_without_blocking(program: Program, bundle: Path) -> None:
    odd = program.folder / "odd"
    odd.mkdir()
    os.mkfifo(odd / "fifo.wav")
    (odd / "zero.wav").symlink_to("/dev/zero")
    (odd / "dangling.wav").symlink_to(odd / "nothing.wav")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(odd / "socket.wav"))
        program.run("enqueue", *sorted(odd.iterdir()))
        program.run("work", "--variant", bundle, code=3)
    states = {Path(job["source"]).name: (job["state"], job["error_code"]) for job in program.jobs()}
    assert states == {
        "fifo.wav": ("failed", "input.not_regular"),
        "zero.wav": ("failed", "input.not_regular"),
        "socket.wav": ("failed", "input.not_regular"),
        "dangling.wav": ("failed", "input.missing"),
    }


def test_two_thousand_paths_are_taken_in_seconds(program: Program) -> None:
    source = speech(program.folder / "s.wav", 0.1)
    folder = program.folder / "many"
    folder.mkdir()
    for number in range(2_000):  # hard links: each a recording of its own name
        os.link(source, folder / f"{number}.wav")
    started = time.monotonic()
    program.run("enqueue", "-r", folder)
    assert time.monotonic() - started < 20
    assert program.status()["jobs"]["queued"] == 2_000


def test_evaluate_prints_a_row_for_each_method(program: Program, bundle: Path) -> None:
    clips = program.folder / "clips"
    clips.mkdir()
    x = np.random.default_rng(0).uniform(-0.3, 0.3, 48_000)
    soundfile.write(clips / "music_noise.flac", x, 48_000)
    options = ("--variant", bundle, "--rate", "16000", "--seconds", "0.5")
    table = program.run("evaluate", clips, *options).stdout
    for row in ("sinc", "replication", bundle.name):
        assert row in table
    rows = [json.loads(line) for line in program.run("evaluate", clips, *options, "--json").stdout.splitlines()]
    scores = {row["method"]: row["score"]["lsd"] for row in rows}
    assert scores["sinc"] > scores["replication"] > 0
    assert program.run("evaluate", program.folder / "nothing", code=74).stderr.count("input.missing") == 1


def test_a_panned_recording_keeps_its_image(program: Program, bundle: Path) -> None:
    x, rate = soundfile.read(PHONE, frames=8_000)
    soundfile.write(program.folder / "a.wav", np.stack([0.5 * x, x], axis=1), rate, subtype="FLOAT")
    program.run("upsample", program.folder / "a.wav", "--variant", bundle, "--subtype", "FLOAT")
    y = soundfile.read(program.folder / "a_upsampled.wav")[0]
    assert np.linalg.norm(2 * y[:, 0] - y[:, 1]) < 1e-3 * np.linalg.norm(y[:, 1])
