"""`work` on a real terminal: what a person sees while it runs, and what still stands there afterwards."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

Enqueue = Callable[..., list[Path]]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_moving_part_shows_files_and_time_left_at_any_width(run, enqueue: Enqueue, columns: int) -> None:  # type: ignore[no-untyped-def]
    enqueue(3, seconds=2.0)
    terminal = run("work", "--variant", "fast", columns=columns, pace_s=0.15)
    seen = terminal.until(lambda text: re.search(r"\d:\d\d left", text) is not None)
    assert "of 3 files" in seen
    assert re.search(r"restoring +\d+/\d+", seen)
    assert re.search(r"tape \d\.wav", seen)
    assert terminal.end() == 0
    assert "3 files done" in " ".join(terminal.text.split())
    assert "━" not in terminal.text  # the moving part is gone


def test_the_reason_of_a_pause_is_still_there_at_the_end(run, enqueue: Enqueue) -> None:  # type: ignore[no-untyped-def]
    enqueue(1)
    assert run("pause", "disk swap").end() == 0
    terminal = run("work", "--variant", "fast", columns=100)
    assert terminal.end() == 75
    assert "disk swap" in terminal.text
    assert "batchsr resume" in terminal.text


def test_what_was_wrong_with_a_file_is_still_there_at_the_end(run, enqueue: Enqueue, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    enqueue(2)
    (tmp_path / "page.wav").write_text("<html>log in</html>" * 50)
    assert run("enqueue", tmp_path / "page.wav").end() == 0
    terminal = run("work", "--variant", "fast", columns=60)
    assert terminal.end() == 3
    text = " ".join(terminal.text.split())
    assert "not audio" in text
    assert "2 files done, 1 failed" in text
    assert "batchsr retry" in text


def test_the_words_of_ctrl_c_stay_and_say_how_to_go_on(run, enqueue: Enqueue) -> None:  # type: ignore[no-untyped-def]
    enqueue(1, seconds=8.0)
    terminal = run("work", "--variant", "fast", pace_s=0.2)
    terminal.until(lambda text: re.search(r"restoring +[1-9]", text) is not None)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "finishing the windows in hand" in terminal.text
    assert "`batchsr work` goes on" in " ".join(terminal.text.split())


def test_an_empty_queue_is_told(run) -> None:  # type: ignore[no-untyped-def]
    terminal = run("work", "--variant", "fast")
    assert terminal.end() == 0
    assert "nothing is queued" in terminal.text


def test_a_batch_that_is_taken_up_again_keeps_its_total(run, enqueue: Enqueue) -> None:  # type: ignore[no-untyped-def]
    enqueue(4)
    assert run("work", "--variant", "fast", "--stop-after", "2").end() == 0
    terminal = run("work", "--variant", "fast", pace_s=0.5)
    terminal.until(lambda text: "2 of 4 files" in text)
    assert terminal.end() == 0


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_several_workers_share_one_screen_with_a_line_each(run, enqueue: Enqueue, columns: int) -> None:  # type: ignore[no-untyped-def]
    enqueue(4, seconds=1.0)
    terminal = run("work", "--variant", "fast", "--procs", "2", columns=columns, pace_s=0.2)
    both = re.compile(r"^ 1 restoring +\d+/\d+ .*wav\n 2 restoring +\d+/\d+ .*wav", re.MULTILINE)
    seen = terminal.until(lambda text: both.search(text) is not None)
    assert seen.count("of 4 files") == 1
    assert terminal.end() == 0
    text = " ".join(terminal.text.split())
    assert text.count("4 files done") == 1, "the totals are of all workers, and told once"
    assert len(re.findall(r"^done ", terminal.text, re.MULTILINE)) == 4
    assert "━" not in terminal.text


def test_ctrl_c_of_several_workers_is_told_once(run, enqueue: Enqueue) -> None:  # type: ignore[no-untyped-def]
    enqueue(2, seconds=8.0)
    terminal = run("work", "--variant", "fast", "--procs", "2", pace_s=0.3)
    both = re.compile(r"^ 1 restoring +[1-9].*\n 2 restoring +[1-9]", re.MULTILINE)
    terminal.until(lambda text: both.search(text) is not None)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert " ".join(terminal.text.split()).count("finishing the windows in hand") == 1
    assert len(re.findall(r"^released ", terminal.text, re.MULTILINE)) == 2
