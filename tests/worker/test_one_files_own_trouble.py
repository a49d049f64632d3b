"""Trouble with one file's own path or size fails that file, with a code, and is not waited for by any other."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import sqlite3
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
import rig
from rig import Told, job_of

from batchsr import storage
from batchsr.intake.watcher import Scope
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.worker import diagnosis


def a_folder(output: Path) -> None:
    (output / "something").mkdir(parents=True)


def a_pipe(output: Path) -> None:
    output.parent.mkdir(parents=True)
    os.mkfifo(output)


def a_file_where_its_folder_belongs(output: Path) -> None:
    output.parent.parent.mkdir(parents=True, exist_ok=True)
    output.parent.write_bytes(b"in the way")


def a_loop_where_its_folder_belongs(output: Path) -> None:
    output.parent.parent.mkdir(parents=True, exist_ok=True)
    output.parent.symlink_to(output.parent)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (a_folder, "output.exists"),
        (a_pipe, "output.exists"),
        (a_file_where_its_folder_belongs, "output.path"),
        (a_loop_where_its_folder_belongs, "output.path"),
    ],
)
def test_what_stands_in_one_outputs_way_fails_that_file_at_once(
    db: Path, out: Path, tmp_path: Path, told: Told, make: Callable[[Path], None], code: str, overwrite: bool
) -> None:
    sources = [rig.record(tmp_path / "in" / name / "a.wav", 0.2) for name in ("one", "two")]
    bad, good = (rig.enqueue(db, [one], out / one.parent.name, overwrite=overwrite)[0] for one in sources)
    make(Path(job_of(db, bad).output))
    summary = rig.work(db, listener=told)
    assert (summary.done, summary.failed) == (1, 1), told.said
    assert (job_of(db, bad).state, job_of(db, bad).error_code) == (State.FAILED, code)
    assert job_of(db, good).state is State.DONE
    assert job_of(db, bad).attempts == 1, "it is not done again for ever"
    assert not any(said.startswith(("paused", "waiting")) for said in told.said)


def test_a_folder_that_is_longer_than_a_path_can_be_fails_its_file_alone(db: Path, tmp_path: Path, told: Told) -> None:
    sources = [rig.record(tmp_path / "in" / f"{name}.wav", 0.2) for name in "ab"]
    (bad,) = rig.enqueue(db, sources[:1], tmp_path / "/".join(["long" * 50] * 21))
    (good,) = rig.enqueue(db, sources[1:], tmp_path / "out")
    summary = rig.work(db, listener=told)
    assert (summary.done, summary.failed) == (1, 1), told.said
    assert job_of(db, bad).error_code == "output.path"
    assert job_of(db, good).state is State.DONE


@pytest.mark.parametrize("kept", ['{"of_a_later_version": 1}', "[]", '{"subtype": "PCM_99"}'])
def test_settings_that_cannot_be_read_fail_their_file_alone(db: Path, out: Path, tmp_path: Path, kept: str) -> None:
    sources = [rig.record(tmp_path / "in" / f"{name}.wav", 0.2) for name in "ab"]
    bad, good = rig.enqueue(db, sources, out)
    with contextlib.closing(sqlite3.connect(db)) as queue, queue:
        queue.execute("UPDATE jobs SET settings = ? WHERE id = ?", (kept, bad))
    summary = rig.work(db)
    assert (summary.done, summary.failed) == (1, 1)
    assert (job_of(db, bad).state, job_of(db, bad).error_code) == (State.FAILED, "config")
    assert job_of(db, good).state is State.DONE


def test_a_folder_that_none_can_be_made_under_is_probed_above_it(tmp_path: Path) -> None:
    assert diagnosis.can_write(tmp_path / "/".join(["long" * 50] * 21))
    assert diagnosis.can_write(tmp_path / ("x" * 300) / "y")
    assert not list(tmp_path.glob(".batchsr-*"))


@pytest.mark.parametrize("length", [230, 240, 241, 246, 250, 251])
@pytest.mark.parametrize("letter", ["x", "ü"])
def test_stems_as_long_as_a_name_can_be_are_restored_with_their_sidecars(
    db: Path, out: Path, tmp_path: Path, length: int, letter: str
) -> None:
    stem = letter * (length // len(letter.encode()))
    twin = stem[:-1] + "y"
    sources = [rig.record(tmp_path / "in" / f"{name}.wav", 0.1, seed=seed) for seed, name in enumerate((stem, twin))]
    numbers = rig.enqueue(db, sources, out)
    assert rig.work(db).done == 2
    outputs = {Path(job_of(db, number).output) for number in numbers}
    assert len(outputs) == 2
    for output in outputs:
        assert output.name.endswith("_upsampled.wav")
        assert (output.parent / (output.name + ".json")).exists()
        assert Scope((str(tmp_path),)).is_own(str(output)), "a hot folder knows it for ours"
    assert rig.enqueue(db, sources, out) == numbers, "the same names again"


def test_a_file_beyond_the_limit_of_file_sizes_fails_alone_before_a_window_of_it(
    db: Path, out: Path, tmp_path: Path
) -> None:
    sources = [rig.record(tmp_path / "in" / f"{name}.wav", s) for name, s in (("long", 20.0), ("short", 0.1))]
    long, short = rig.enqueue(db, sources, out)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    windows = tmp_path / "windows"

    def child() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
        return rig.work(db, rig.FastModel(calls=lambda indices: windows.write_text(str(max(indices))))).exit_code

    assert rig.wait(rig.fork(child)) == 3
    assert (job_of(db, long).state, job_of(db, long).error_code) == (State.FAILED, "output.too_large")
    assert job_of(db, short).state is State.DONE
    assert windows.read_text() == "0", "of the long one nothing was computed"
    assert list(out.glob(".batchsr-*")) == []


@pytest.mark.parametrize("what", ["output", "scratch"])
def test_a_file_larger_than_the_whole_disk_fails_before_a_second_of_work(
    small_disk: Path, tmp_path: Path, told: Told, what: str
) -> None:
    db = tmp_path / "queue.db" if what == "output" else small_disk / "queue.db"
    out = small_disk / "out" if what == "output" else tmp_path / "out"
    sources = [rig.record(tmp_path / "in" / f"{name}.wav", s) for name, s in (("long", 60.0), ("short", 0.1))]
    long, short = rig.enqueue(db, sources, out)
    model = rig.FastModel(calls=lambda indices: windows.extend(indices))
    windows: list[int] = []
    summary = rig.work(db, model, listener=told)
    assert (summary.done, summary.failed) == (1, 1), told.said
    job = job_of(db, long)
    assert (job.state, job.error_code) == (State.FAILED, "output.too_large")
    assert job_of(db, short).state is State.DONE
    assert max(windows) < 3, "nothing of the long one was computed"


def test_a_header_that_lies_of_years_reserves_nothing(db: Path, out: Path, tmp_path: Path, told: Told) -> None:
    """Believed at enqueue (its row says 40,000 hours), looked at again before a second of work."""
    sources = [rig.record(tmp_path / "in" / f"{name}.wav", 0.2) for name in ("lying", "honest")]
    with open_queue(db) as queue:
        jobs = rig.jobs_for(sources, out)
        lying = dataclasses.replace(jobs[0], frames=10**13, audio_s=1e13 / 8000)
        list(queue.enqueue([lying, jobs[1]]))
    summary = rig.work(db, listener=told)
    assert (summary.done, summary.failed) == (2, 0), "the file itself is honest: it is what counts"
    assert not any(said.startswith(("paused", "waiting")) for said in told.said)


def test_wave_is_written_as_the_standard_library_reads_it_under_a_shortened_name(
    db: Path, out: Path, tmp_path: Path
) -> None:
    source = rig.record(tmp_path / "in" / ("n" * 251 + ".wav"), 0.5)
    (number,) = rig.enqueue(db, [source], out, settings={"subtype": "PCM_16"})
    assert rig.work(db).done == 1
    job = job_of(db, number)
    with wave.open(job.output) as file:
        assert (file.getframerate(), file.getnframes()) == (48_000, 24_000)
    assert storage.sha256(Path(job.output)) == job.output_sha256
