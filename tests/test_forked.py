"""A program that is forked for a test is as one that is started afresh."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import forked
import pytest
import rig
from program import FAST_MODEL, Program

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs are forked on Linux alone")
FRESH = {"BATCHSR_FRESH": "1"}


@pytest.mark.parametrize("words", [("status",), ("nonsense",), ("enqueue", "a.wav", "--seed", "x"), ("list", "--json")])
def test_it_answers_and_ends_as_one_that_is_started_afresh(program: Program, words: tuple[str, ...]) -> None:
    rig.enqueue(program.db, [rig.record(program.folder / "a.wav", 0.1)])
    one, other = (program.run(*words, code=None, environment=environment) for environment in ({}, FRESH))
    assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)


def test_it_works_to_the_same_bytes(program: Program) -> None:
    made = []
    for environment in ({}, FRESH):
        rig.record(program.folder / "a.wav", 0.1)
        program.run("upsample", "a.wav", "-o", "out.wav", "--variant", "fast", environment=FAST_MODEL | environment)
        made.append((program.folder / "out.wav").read_bytes())
        (program.folder / "out.wav").unlink()
        (program.folder / "out.wav.json").unlink()
    assert made[0] == made[1]


@linux
def test_it_is_a_child_of_the_tests_with_signals_streams_and_a_folder_of_its_own(program: Program) -> None:
    rig.enqueue(program.db, [])
    command = program.command("watch", "in")
    (program.folder / "in").mkdir()
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = forked.Forked(command, env=program.environment, cwd=program.folder, stderr=subprocess.PIPE)
        assert process.stderr is not None
        with open(f"/proc/{process.pid}/stat") as about:
            assert int(about.read().rpartition(")")[2].split()[1]) == os.getpid()
        assert os.readlink(f"/proc/{process.pid}/cwd") == str(program.folder)
        while b"watching" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == code


def test_a_folder_that_is_not_there_is_no_start(program: Program) -> None:
    with pytest.raises(FileNotFoundError):
        forked.Forked(program.command("status"), env=program.environment, cwd=program.folder / "none")


def test_what_is_settled_as_a_program_starts_is_settled_afresh() -> None:
    usual = dict(os.environ)
    assert forked._source_for(usual | {"BATCHSR_FAULT": "claim.before"}) is None
    assert forked._source_for(usual | {"LC_ALL": "C.UTF-7"}) is None
    assert forked._source_for(usual | {"PYTHONPATH": "/elsewhere"}) is None
