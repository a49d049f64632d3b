"""What becomes of the program when nobody reads, or nobody can read, what it says; and what signals ask for then."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import rig
from program import FAST_MODEL, Program

from batchsr.cli.streams import Answers, QueuedWriter
from batchsr.errors import ResourceError
from batchsr.queue.opening import open_queue
from batchsr.signals import Logs

WORK = ("work", "--variant", "fast", "--min-free", "0")
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture
def fast(program: Program) -> Program:
    """The program with a model that takes microseconds."""
    program.environment |= FAST_MODEL
    return program


def filled(program: Program, files: int, *, bad: bool = False) -> Program:
    """A queue with so many short recordings, and one that fails."""
    sources = [rig.record(program.folder / "in" / f"{number:03}.wav", 0.05) for number in range(files)]
    if bad:
        sources.append(program.folder / "in" / "bad.wav")
        sources[-1].write_text("no sound")
    rig.enqueue(program.db, sources)
    return program


def counts(program: Program) -> dict[str, int]:
    with open_queue(program.db) as queue:
        return {state: count for state, count in queue.counts().items() if count}


@contextlib.contextmanager
def started(program: Program, *arguments: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**program.environment, **options.pop("environment", {})}
    process = forked.Forked(
        program.command(*arguments), env=environment, cwd=program.folder, stdin=subprocess.DEVNULL, **options
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextlib.contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that takes not one byte more, and that nobody reads: (what is to be read, what is to be written)."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"x" * 512):
            pass
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"x"):
            pass
    os.set_blocking(writing, True)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def gone_pipe() -> Iterator[int]:
    """The writing end of a pipe whose reader has left."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@pytest.mark.parametrize("procs", [1, 2])
@pytest.mark.parametrize("away", ["full", "gone", "closed"])
@needs_full
def test_a_log_that_cannot_be_written_changes_neither_the_work_nor_the_exit_code(
    fast: Program, away: str, procs: int
) -> None:
    filled(fast, 6, bad=True)
    command = [*WORK, *(("--procs", str(procs)) if procs > 1 else ())]
    with FULL.open("wb") as full, gone_pipe() as gone:
        options: dict[str, Any] = {"stderr": {"full": full, "gone": gone}.get(away)}
        if away == "closed":
            options["preexec_fn"] = forked.First(closed=(2,))
        with started(fast, *command, **options) as process:
            assert process.wait(120) == 3, "one file is bad, and that alone counts"
    assert counts(fast) == {"done": 6, "failed": 1}


@pytest.mark.parametrize(
    "command",
    [
        "list",
        "list --json",
        "status",
        "show 1",
        "report",
        "report --as csv",
        "--help",
        "config show",
        "completion bash",
    ],
)
@needs_full
def test_data_that_cannot_be_written_is_exit_74_and_a_sentence(fast: Program, command: str) -> None:
    filled(fast, 1)
    with FULL.open("wb") as full, started(fast, *command.split(), stdout=full, stderr=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 74
    assert said.decode().splitlines() == [
        "batchsr: standard output cannot be written: No space left on device (make room, or send it elsewhere) "
        "[resource]"
    ]


@needs_full
def test_what_a_command_does_is_done_though_its_answers_cannot_be_written(fast: Program) -> None:
    sources = [rig.record(fast.folder / f"{number}.wav", 0.05) for number in range(4)]
    with FULL.open("wb") as full, started(fast, "enqueue", *sources, stdout=full, stderr=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 74
    assert b"standard output cannot be written" in said
    assert counts(fast) == {"queued": 4}


def test_a_reader_that_has_seen_enough_ends_a_look_and_not_a_deed(fast: Program) -> None:
    sources = [rig.record(fast.folder / f"{number}.wav", 0.05) for number in range(4)]
    for command in (("enqueue", *sources), ("list",), (*WORK, "--json"), ("-v", "verify")):
        with gone_pipe() as gone, started(fast, *command, stdout=gone, stderr=subprocess.PIPE) as process:
            _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert b"Traceback" not in said
        assert b"cannot be written" not in said
    assert counts(fast) == {"done": 4}


def test_a_closed_standard_output_is_an_error_for_data_and_nothing_else(fast: Program) -> None:
    filled(fast, 1)
    for command, code in ((WORK, 0), (("list",), 74)):
        with started(fast, *command, stderr=subprocess.PIPE, preexec_fn=forked.First(closed=(1,))) as process:
            _, said = process.communicate(timeout=60)
        assert process.returncode == code, said
    assert Path(fast.db).read_bytes().startswith(b"SQLite format 3"), "no line of text went into the database"
    assert counts(fast) == {"done": 1}


@pytest.mark.parametrize("procs", [1, 2])
def test_work_goes_on_when_nobody_reads_its_log(fast: Program, procs: int) -> None:
    filled(fast, 30)
    command = [*WORK, *(("--procs", str(procs)) if procs > 1 else ())]
    with full_pipe() as (_, writing), started(fast, *command, stderr=writing) as process:
        assert process.wait(120) == 0
    assert counts(fast) == {"done": 30}


def test_a_signal_is_obeyed_when_nobody_reads_the_log(fast: Program) -> None:
    filled(fast, 40)
    pace = {"BATCHSR_PACE_S": "0.1"}
    with full_pipe() as (_, writing), started(fast, *WORK, stderr=writing, environment=pace) as process:
        rig.until(lambda: counts(fast).get("done", 0) >= 2, 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert counts(fast).get("running") is None


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_watcher_goes_on_and_ends_when_nobody_reads_it(fast: Program, stream: str) -> None:
    root = fast.folder / "in"
    root.mkdir()
    other = "stderr" if stream == "stdout" else "stdout"
    with full_pipe() as (_, writing):
        options: Any = {stream: writing, other: subprocess.DEVNULL}
        with started(fast, "watch", root, "--settle", "0.1", "--rescan", "0.3", **options) as process:
            for number in range(5):
                rig.record(root / f"{number}.wav", 0.05)
            rig.until(lambda: fast.db.exists() and counts(fast).get("queued") == 5, 60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 143


def test_lines_that_nobody_reads_are_dropped_and_counted() -> None:
    with full_pipe() as (reading, writing):
        log = QueuedWriter(writing, limit_bytes=100, dropped=lambda lines: f"({lines} dropped)\n".encode())
        for number in range(50):
            assert log.write(b"%09d\n" % number) == 10
        read = io.BytesIO()
        os.set_blocking(reading, False)

        def drained() -> bool:
            with contextlib.suppress(BlockingIOError):
                read.write(os.read(reading, 65536).lstrip(b"x"))
            return b"000000009" in read.getvalue()

        rig.until(drained)
        log.write(b"last\n")
        log.drain()
        drained()
    lines = read.getvalue().decode().splitlines()
    assert lines == [*(f"{number:09}" for number in range(10)), "(40 dropped)", "last"]


def test_the_end_waits_for_a_slow_reader_and_not_for_none() -> None:
    with full_pipe() as (reading, writing):
        log = QueuedWriter(writing)
        log.write(b"line\n" * 2000)
        began = time.monotonic()
        log.drain(0.3)
        assert 0.2 < time.monotonic() - began < 5
        taken = bytearray()

        def read_slowly() -> None:
            while not taken.endswith(b"line\n" * 2000):
                taken.extend(os.read(reading, 8192))
                time.sleep(0.02)

        reader = threading.Thread(target=read_slowly)
        reader.start()
        log.drain(2.0)
        reader.join(20)
    assert taken.endswith(b"line\n" * 2000)


def test_answers_are_whole_or_an_error(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    fd = os.open(tmp_path / "answers", os.O_WRONLY | os.O_CREAT)
    try:
        answers = Answers(fd)
        assert answers.write(b"x" * 4096) == 4096
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limit[1]))
        with pytest.raises(ResourceError, match="File too large"):
            answers.write(b"y" * 4096)
        assert answers.write(b"z") == 1, "said once"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
        os.close(fd)


def test_work_in_a_terminal_that_is_stopped_goes_on(fast: Program) -> None:
    filled(fast, 30)
    master, slave = pty.openpty()
    try:
        with started(fast, *WORK, stdout=slave, stderr=slave, preexec_fn=forked.First(terminal=True)) as process:
            os.close(slave)
            os.write(master, b"\x13")  # Ctrl-S, and nobody reads
            rig.until(lambda: counts(fast) == {"done": 30}, 120)
            assert process.wait(30) == 0
    finally:
        os.close(master)


def test_a_terminal_that_goes_away_while_hangups_are_ignored_leaves_the_work_alone(fast: Program) -> None:
    filled(fast, 12)
    master, slave = pty.openpty()

    disowned = forked.First(terminal=True, hangups="ignored")
    pace = {"BATCHSR_PACE_S": "0.1"}
    with started(fast, *WORK, stdout=slave, stderr=slave, preexec_fn=disowned, environment=pace) as process:
        os.close(slave)
        rig.until(lambda: counts(fast).get("done"), 60)
        os.close(master)
        assert process.wait(60) == 0
    assert counts(fast) == {"done": 12}


def test_a_terminal_that_is_closed_stops_the_work_with_129(fast: Program) -> None:
    filled(fast, 40)
    master, slave = pty.openpty()

    with_hangups = forked.First(terminal=True, hangups="obeyed")
    pace = {"BATCHSR_PACE_S": "0.1"}
    with started(fast, *WORK, stdout=slave, stderr=slave, preexec_fn=with_hangups, environment=pace) as process:
        os.close(slave)
        rig.until(lambda: counts(fast).get("done"), 60)
        os.close(master)
        assert process.wait(60) == 129
    assert counts(fast).get("queued", 0) > 0
    assert counts(fast).get("running") is None


def test_a_hangup_without_a_terminal_opens_a_rotated_log_again_and_stops_nothing(fast: Program) -> None:
    filled(fast, 25)
    log, old = fast.folder / "batchsr.log", fast.folder / "batchsr.log.1"

    as_a_service = forked.First(session=True, hangups="obeyed")
    pace = {"BATCHSR_PACE_S": "0.1"}
    with (
        log.open("ab") as file,
        started(fast, *WORK, "--procs", "2", stderr=file, preexec_fn=as_a_service, environment=pace) as process,
    ):
        rig.until(lambda: counts(fast).get("done", 0) >= 2 and " done " in log.read_text(), 60)
        log.rename(old)
        process.send_signal(signal.SIGHUP)
        rig.until(log.exists)
        assert process.wait(120) == 0
    assert counts(fast) == {"done": 25}
    first, second = old.read_text().splitlines(), log.read_text().splitlines()
    assert len([line for line in [*first, *second] if " done " in line]) == 25
    assert first
    assert second


def test_a_log_is_never_opened_again_through_a_link_that_took_its_name(tmp_path: Path) -> None:
    log, victim = tmp_path / "log", tmp_path / "victim"
    victim.write_text("a master")
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        logs = Logs()
        log.unlink()
        log.symlink_to(victim)
        logs.open_again()
        os.write(2, b"line\n")
        os._exit(0)
    assert rig.wait(pid) == 0
    assert victim.read_text() == "a master"


def test_lines_off_a_terminal_bear_the_time_and_those_of_a_short_command_do_not(fast: Program) -> None:
    filled(fast, 2)
    said = fast.run(*WORK).stderr.splitlines()
    assert len(said) >= 2
    stamp = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} ")
    assert [line for line in said if not stamp.match(line)] == []
    assert not any(stamp.match(line) for line in fast.run("gc").stderr.splitlines())


def test_nothing_is_stamped_on_a_terminal_or_for_the_journal(fast: Program) -> None:
    import socket

    filled(fast, 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        with started(fast, *WORK, stderr=theirs, environment=journal) as process:
            assert process.wait(60) == 0
        assert not re.match(rb"\d{4}-", ours.recv(65536))
