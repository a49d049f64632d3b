"""How files really arrive in a hot folder: by rename, in place, over a placeholder, for ever; through the program."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import rig
import soundfile
from program import FAST_MODEL, Program


@pytest.fixture
def program(program: Program) -> Program:
    program.environment |= FAST_MODEL
    (program.folder / "in").mkdir()
    return program


@contextlib.contextmanager
def watching(program: Program, *options: str) -> Iterator[None]:
    log = program.folder / "watch.log"
    with log.open("wb") as file:
        process = forked.Forked(
            program.command("watch", "in", *options), env=program.environment, cwd=program.folder, stderr=file
        )
        try:
            rig.until(lambda: b"watching" in log.read_bytes() or process.poll(), 60)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def states(program: Program) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for job in program.jobs() if program.db.exists() else []:
        found.setdefault(str(Path(job["source"]).relative_to(program.folder / "in")), []).append(job["state"])
    return found


def work(program: Program) -> None:
    program.run("work", "--variant", "fast", "--min-free", "0")


def test_once_ends_beside_a_file_that_grows_for_ever(program: Program) -> None:
    rig.record(program.folder / "in" / "good.wav", 0.5)
    growing = program.folder / "in" / "growing.wav"
    header = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    over = threading.Event()

    def grow() -> None:
        with growing.open("wb", buffering=0) as file:
            file.write(header + b"data\xff\xff\xff\xff")
            while not over.wait(0.1):
                file.write(bytes(1600))

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        program.run("watch", "in", "--once", "--settle", "0.6")
    finally:
        over.set()
        thread.join()
    assert states(program) == {"good.wav": ["queued"]}


def test_a_file_of_full_size_that_is_filled_in_place_is_taken_when_it_is_filled(program: Program) -> None:
    whole = rig.record(program.folder / "elsewhere.wav", 2.0).read_bytes()
    target = program.folder / "in" / "a.wav"
    with watching(program, "--settle", "0.8"):
        with target.open("wb") as file:
            file.write(whole[:44] + bytes(len(whole) - 44))
        with target.open("r+b", buffering=0) as file:
            for start in range(44, len(whole), 2000):
                file.seek(start)
                file.write(whole[start : start + 2000])
                time.sleep(0.1)
        rig.until(lambda: states(program).get("a.wav"), 30)
    work(program)
    y = soundfile.read(program.folder / "in" / "a_upsampled.wav")[0]
    assert min(abs(y[start : start + 4800]).max() for start in range(0, len(y), 4800)) > 0.1, "no stretch is silent"
    assert target.read_bytes() == whole


def test_an_editor_that_saves_over_a_file_that_waits_gives_one_output_of_the_new_one(program: Program) -> None:
    target = program.folder / "in" / "a.wav"
    rig.record(target, 0.5)
    with watching(program, "--settle", "0.4"):
        rig.until(lambda: states(program).get("a.wav"), 30)
        os.replace(rig.record(program.folder / "in" / ".a-new.wav", 1.0, seed=1).as_posix(), target)
        rig.until(lambda: len(states(program)["a.wav"]) == 2, 30)
    work(program)
    assert sorted(states(program)["a.wav"]) == ["done", "superseded"]
    (output,) = (program.folder / "in").glob("*_upsampled.wav")
    assert soundfile.info(output).frames == 48_000


def test_a_tree_that_is_moved_in_by_one_rename_is_found_at_once(program: Program) -> None:
    for name in ("1.wav", "sub/2.wav", "sub/deep/3.wav"):
        rig.record(program.folder / "tapes" / name, 0.2)
    with watching(program, "--settle", "0.4", "--rescan", "60"):
        (program.folder / "tapes").rename(program.folder / "in" / "tapes")
        rig.until(lambda: len(states(program)) == 3, 20)


def test_a_placeholder_and_a_partial_download_are_one_recording_in_the_end(program: Program) -> None:
    whole = rig.record(program.folder / "elsewhere.wav", 2.0).read_bytes()
    target, partial = program.folder / "in" / "song.wav", program.folder / "in" / "song.wav.part"
    with watching(program, "--settle", "0.4", "--patience", "30s"):
        target.touch()
        with partial.open("wb", buffering=0) as file:
            for start in range(0, len(whole), 1700):
                file.write(whole[start : start + 1700])
                time.sleep(0.1)
        partial.replace(target)
        rig.until(lambda: states(program), 30)
    work(program)
    assert states(program) == {"song.wav": ["done"]}


@pytest.mark.parametrize("search", [("watch", "in", "--once", "--settle", "0.2"), ("enqueue", "-r", "in")])
def test_what_sync_tools_leave_while_they_copy_gets_no_row(program: Program, search: tuple[str, ...]) -> None:
    whole = rig.record(program.folder / "in" / "good.wav", 0.5).read_bytes()
    for name in (
        ".~song.wav .song.wav.~1a2b3c4d .song.wav.Xy12Ab .syncthing.song.wav.tmp song.wav.part ~$song.wav Thumbs.db"
        " .song.flac.aB3dE5 song.wav.filepart song.wav.crdownload ._song.wav .fuse_hidden00000a2b00000001 song.wav~"
    ).split():
        (program.folder / "in" / name).write_bytes(whole[: len(whole) // 2])
    program.run(*search)
    assert list(states(program)) == ["good.wav"]


def test_a_recording_that_was_renamed_before_its_turn_is_one_job_under_its_new_name(program: Program) -> None:
    rig.record(program.folder / "in" / "a.wav", 0.2)
    with watching(program, "--settle", "0.3", "--rescan", "0.5"):
        rig.until(lambda: states(program).get("a.wav"), 30)
        (program.folder / "in" / "a.wav").rename(program.folder / "in" / "b.wav")
        rig.until(lambda: states(program).get("b.wav"), 30)
    work(program)
    assert states(program) == {"a.wav": ["cancelled"], "b.wav": ["done"]}
    shutil.rmtree(program.folder / "in")
    assert [json.loads(line)["state"] for line in program.run("list", "--json").stdout.splitlines()]
