"""Jobs are named in the same words by every command; what is not there is told, with a fitting exit code."""

from __future__ import annotations

import json
import os
import pty
import signal
from collections.abc import Callable
from pathlib import Path

import forked
import numpy as np
import pytest
import soundfile
from program import FAST_MODEL, Program


@pytest.fixture
def program(tmp_path: Path) -> Program:
    one = Program(tmp_path)
    one.environment |= FAST_MODEL
    return one


@pytest.fixture
def files(program: Program) -> Callable[..., list[Path]]:
    def make(*names: str) -> list[Path]:
        paths = [program.folder / name for name in names]
        for number, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.random.default_rng(number).uniform(-0.1, 0.1, 800 * (1 + number)), 8_000)
        return paths

    return make


@pytest.fixture
def queued(program: Program, files: Callable[..., list[Path]]) -> Program:
    """Jobs 1 and 2 of batch `calls`, 3 and 4 without; 5 is no audio."""
    a, b, c, d = files("calls/a.wav", "calls/b.wav", "reels/c.wav", "reels/d.wav")
    (program.folder / "reels" / "e.wav").write_text("no sound")
    program.run("enqueue", a, b, "--batch", "calls")
    program.run("enqueue", c, d, program.folder / "reels" / "e.wav")
    return program


def ids(program: Program, *words: str) -> list[int]:
    return [int(line.split()[0][1:]) for line in program.run("list", *words).stdout.splitlines()]


def test_a_selection_means_the_same_to_list_cancel_and_retry(queued: Program) -> None:
    assert ids(queued, "2-4") == [2, 3, 4]
    assert ids(queued, "--batch", "calls") == [1, 2]
    assert ids(queued, "--path", "*/reels/*") == [3, 4, 5]
    assert ids(queued, "--path", "reels/c") == [3]
    assert ids(queued, "--path", "reels", "-n", "2") == [3, 4]
    assert "cancel 2 jobs? Nobody is there" in queued.run("cancel", "--batch", "calls", code=2).stderr
    queued.run("cancel", "--batch", "calls", "--yes")
    assert ids(queued, "--state", "cancelled") == [1, 2]
    queued.run("work", "--variant", "fast", code=3)
    assert ids(queued, "--error", "input.*") == [5]
    assert ids(queued, "--error", "output.*") == []
    assert ids(queued, "--failures-first")[0] == 5
    assert ids(queued, "--sort", "path") == [1, 2, 3, 4, 5]
    assert ids(queued, "--sort", "length")[:4] == [4, 3, 2, 1]
    assert "retried 1: #5" in queued.run("retry", "--error", "input.format").stdout
    assert "retried 2: #1 #2" in queued.run("retry", "1", "2").stdout


def test_redo_without_a_name_means_what_is_done_too_and_asks_first(queued: Program) -> None:
    queued.run("work", "--variant", "fast", code=3)
    assert "restore 5 jobs again? Nobody is there" in queued.run("retry", "--redo", code=2).stderr
    assert ids(queued, "--state", "done") == [1, 2, 3, 4]
    assert "retried 5: #1 #2 #3 #4 #5" in queued.run("retry", "--redo", "--yes").stdout


def test_a_job_that_is_not_there_is_named_and_the_others_are_done(queued: Program) -> None:
    assert "99" in queued.run("retry", "99", code=2).stderr
    result = queued.run("cancel", "1", "99", code=2)
    assert "#1" in result.stdout
    assert "there is no job 99" in result.stderr
    assert ids(queued, "--state", "cancelled") == [1]
    assert "there is no job 7" in queued.run("show", "7", code=2).stderr
    assert "'x'" in queued.run("list", "x", code=2).stderr
    assert "9-3" in queued.run("list", "9-3", code=2).stderr


def test_nothing_is_cancelled_where_nothing_is_named(queued: Program) -> None:
    assert "name jobs" in queued.run("cancel", code=2).stderr
    assert ids(queued, "--state", "cancelled") == []


@pytest.mark.parametrize("command", ["status", "list", "cancel", "retry"])
def test_a_batch_that_is_not_there_is_named_with_those_that_are(queued: Program, command: str) -> None:
    result = queued.run(command, "--batch", "clals", code=2)
    assert "'clals'" in result.stderr
    assert "'calls'" in result.stderr


@pytest.mark.parametrize("command", ["status", "list", "report", "verify", "retry", "pause", "gc"])
def test_a_misspelled_database_is_told_and_none_is_made(program: Program, command: str) -> None:
    missing = program.folder / "qeue.db"
    result = program.run("--db", missing, command, code=2)
    assert "qeue.db" in result.stderr
    assert list(program.folder.iterdir()) == []


def test_work_without_a_queue_says_so_and_makes_none(program: Program) -> None:
    """What BATCHSR_DB names is not there before the first enqueue, which is no mistake; what was typed may be one."""
    result = program.run("work")
    assert "nothing is queued" in result.stderr
    assert "queue.db" in result.stderr
    assert "there is no queue at" in program.run("--db", program.folder / "qeue.db", "work", code=2).stderr
    assert list(program.folder.iterdir()) == []


@pytest.mark.parametrize(("typed", "meant"), [("enqeue", "enqueue"), ("wrok", "work"), ("stauts", "status")])
def test_a_misspelled_command_is_answered_with_the_nearest(program: Program, typed: str, meant: str) -> None:
    assert f"'{meant}'" in program.run(typed, "a.wav", code=2).stderr


def test_a_misspelled_option_is_answered_with_the_nearest(program: Program) -> None:
    assert "--recursive" in program.run("enqueue", "--recursiv", ".", code=2).stderr


def test_edit_changes_order_and_batch_of_what_waits_and_leaves_what_ended(queued: Program) -> None:
    queued.run("cancel", "2")
    result = queued.run("edit", "--batch", "calls", "--priority", "-3", "--to-batch", "late")
    assert "edited 1: #1" in result.stdout
    assert "neither queued nor waiting: 1" in result.stderr
    assert ids(queued, "--batch", "late") == [1]
    assert ids(queued, "--batch", "calls") == [2]
    queued.run("edit", "4", "--priority", "7")
    queued.run("work", "--variant", "fast", "--stop-after", "1")
    assert ids(queued, "--state", "done") == [4]
    assert "nothing is named" in queued.run("edit", "--priority", "1", code=2).stderr
    assert "nothing is to be changed" in queued.run("edit", "1", code=2).stderr
    assert "there is no job 99" in queued.run("edit", "99", "--priority", "1", code=2).stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("batchsr list --batch c", ["plain,calls"]),
        ("batchsr edit 4", ["plain,4"]),
        ("batchsr enqueue --profile sp", ["plain,speech"]),
        ("batchsr list --state que", ["plain,queued"]),
    ],
)
def test_the_shell_completes_what_there_is(queued: Program, words: str, expected: list[str]) -> None:
    count = str(len(words.split()) - 1)
    asking = {"_BATCHSR_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
    assert queued.run(code=None, environment=asking).stdout.split() == expected


def test_completion_makes_no_queue(program: Program) -> None:
    asking = {"_BATCHSR_COMPLETE": "bash_complete", "COMP_WORDS": "batchsr list --batch c", "COMP_CWORD": "3"}
    assert program.run(code=None, environment=asking).stdout.strip() == ""
    assert not program.db.exists()


def test_status_watch_shows_news_and_ends_well_by_ctrl_c(queued: Program) -> None:
    process = queued.start("status", "--watch", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["jobs"]["cancelled"] == 0
    queued.run("cancel", "1")
    while json.loads(process.stdout.readline())["jobs"]["cancelled"] != 1:
        pass
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_status_watch_redraws_on_a_terminal(queued: Program) -> None:
    ours, theirs = pty.openpty()
    process = forked.Forked(queued.command("status", "--watch"), env=queued.environment, stdout=theirs)
    os.close(theirs)
    seen = b""
    while seen.count(b"queued ") < 2:
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    os.close(ours)
    assert seen.count(b"\x1b[2J") == 2


def test_enqueue_says_that_a_queued_job_keeps_its_priority(queued: Program) -> None:
    again = queued.run("enqueue", "calls/a.wav", "--priority", "5").stdout
    assert "keeps priority 0: `batchsr edit 1 --priority 5`" in again
    queued.run("edit", "1", "--priority", "5")
    assert "keeps" not in queued.run("enqueue", "calls/a.wav", "--priority", "5").stdout
    assert [job["priority"] for job in queued.jobs()] == [5, 0, 0, 0, 0]
