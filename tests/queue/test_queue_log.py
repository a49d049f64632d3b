"""A reader that stays open: the write-ahead log grows, somebody is named, and the room comes back."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rig
from program import Program

from batchsr.queue import Job, Queue
from batchsr.queue.opening import open_queue
from batchsr.queue.sqlite import log

READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "reads":
    connection.execute("BEGIN")
print(connection.execute("SELECT count(*) FROM jobs").fetchone()[0], flush=True)
sys.stdin.read()
"""

on_linux = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells whose locks there are")


@contextlib.contextmanager
def another(database: Path, does: str) -> Iterator[int]:
    """Another program that has the database open, and `reads` without an end or is `idle`."""
    command = [sys.executable, "-c", READER, str(database), does]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process.pid
        process.stdin.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def worked(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Queue, Job]]:
    """A job in flight, and sizes of a sixty-fourth."""
    monkeypatch.setattr(log, "LARGE_BYTES", log.LARGE_BYTES // 64)
    monkeypatch.setattr(log, "KEPT_BYTES", log.KEPT_BYTES // 64)
    with open_queue(path) as queue:
        list(queue.enqueue([rig.new_job("long")]))
        with queue.join() as worker:
            job = queue.claim(worker, rig.BACKEND)
            assert job is not None
            yield queue, job
            queue.release(job)


def make_windows(queue: Queue, job: Job, first: int, last: int) -> None:
    for number in range(first, last):
        queue.progress(job, number, 4000)


@on_linux
def test_who_keeps_the_log_growing_is_named_and_nobody_else(path: Path, worked: tuple[Queue, Job]) -> None:
    queue, job = worked
    with another(path, "idle") as idle, another(path, "reads") as reader:
        make_windows(queue, job, 1, 300)
        said = queue.held_up()
        assert said is not None
        assert f"process {reader} reads" in said
        assert str(idle) not in said
        assert queue.status()["log"]["held_by"] == [reader]
        assert queue.check() == [], "the database is sound all the same"
    assert queue.held_up() is None


def test_where_nobody_can_be_named_another_process_is(
    path: Path, worked: tuple[Queue, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "readers", lambda database: set())
    queue, job = worked
    with another(path, "reads"):
        make_windows(queue, job, 1, 300)
        assert "because another process reads" in str(queue.held_up())


def test_a_log_that_a_reader_made_grow_shrinks_when_it_has_gone(path: Path, worked: tuple[Queue, Job]) -> None:
    queue, job = worked
    with another(path, "reads"):
        make_windows(queue, job, 1, 600)
        assert log.size_bytes(path) > 4 * log.KEPT_BYTES
    make_windows(queue, job, 600, 610)
    assert log.size_bytes(path) <= log.KEPT_BYTES


def test_a_log_that_nobody_holds_is_not_told_of(worked: tuple[Queue, Job]) -> None:
    queue, job = worked
    make_windows(queue, job, 1, 600)
    assert queue.held_up() is None
    assert queue.status()["log"] is None


@on_linux
@pytest.mark.parametrize(
    "line", ["", "1: -> POSIX ADVISORY READ 1 fe:00:7 124 124", "x", "1: POSIX A READ 1 fe:00:7 0 EOF"]
)
def test_lines_of_locks_that_say_nothing_are_passed_by(path: Path, tmp_path: Path, line: str) -> None:
    locks = tmp_path / "locks"
    with open_queue(path):
        inode = os.stat(f"{path}-shm").st_ino
        locks.write_text(line.replace(":7 ", f":{inode} ") + "\n")
        assert log.readers(path, locks) == set()


@on_linux
def test_status_and_db_check_say_it_to_people_and_programs(path: Path, program: Program) -> None:
    with open_queue(path) as queue:
        list(queue.enqueue([rig.new_job("long")]))
    with another(path, "reads") as reader, open_queue(path) as queue, queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        assert job is not None
        with queue._store.writing() as db:  # as much as 6,000 windows
            db.execute("CREATE TABLE room (data BLOB)")
            db.execute(f"INSERT INTO room VALUES (zeroblob({log.LARGE_BYTES + (4 << 20)}))")
        for words in (("status",), ("db", "check")):
            assert f"process {reader} reads" in program.run("--db", path, *words).stdout
        assert json.loads(program.run("--db", path, "status", "--json").stdout)["log"]["held_by"] == [reader]
        assert str(reader) in json.loads(program.run("--db", path, "db", "check", "--json").stdout)["held_up"]
        with queue._store.writing() as db:
            db.execute("DROP TABLE room")
        queue.release(job)
