"""Wide commands ask on a real terminal, with the number, and a no changes nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

Enqueue = Callable[..., list[Path]]


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("columns", [40, 200])
def test_forget_asks_with_the_number_and_a_no_changes_nothing(run, enqueue: Enqueue, columns: int) -> None:  # type: ignore[no-untyped-def]
    enqueue(3)
    terminal = run("forget", "--state", "queued", columns=columns)
    seen = terminal.until(lambda text: "[y/N]" in text)
    assert "forget 3 jobs, whose files stay? [y/N]:" in flat(seen)
    terminal.type("n\n")
    assert terminal.end() == 1
    assert "nothing was changed" in flat(terminal.text)
    terminal = run("forget", "--state", "queued", columns=columns)
    terminal.until(lambda text: "[y/N]" in text)
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "forgotten 3: #1 #2 #3" in flat(terminal.text)


def test_a_wide_cancel_and_edit_ask_and_a_named_one_does_not(run, enqueue: Enqueue) -> None:  # type: ignore[no-untyped-def]
    enqueue(3)
    terminal = run("cancel", "1")
    assert terminal.end() == 0
    assert "[y/N]" not in terminal.text
    terminal = run("edit", "--state", "queued", "--profile", "speech")
    assert "change how 2 jobs will be restored?" in flat(terminal.until(lambda text: "[y/N]" in text))
    terminal.type("y\n")
    assert terminal.end() == 0
    terminal = run("cancel", "--path", "in")
    assert "cancel 2 jobs?" in flat(terminal.until(lambda text: "[y/N]" in text))
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130


def test_undo_and_relocate_ask_and_do_what_was_said(run, enqueue: Enqueue, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    enqueue(2)
    assert run("work", "--variant", "fast").end() == 0
    (tmp_path / "in").rename(tmp_path / "moved")
    terminal = run("relocate", "in", "moved", "--outputs", columns=200)
    assert "relocate 2 jobs from" in flat(terminal.until(lambda text: "[y/N]" in text))
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "relocated: 2" in flat(terminal.text)
    terminal = run("undo", "--state", "done", columns=200)
    assert "move what 2 jobs made to batchsr-undone?" in flat(terminal.until(lambda text: "[y/N]" in text))
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "undone: 2" in flat(terminal.text)
    assert len(list((tmp_path / "moved" / "batchsr-undone").glob("*.wav"))) == 2


def test_run_shows_the_screen_and_ends_with_the_page(run, enqueue: Enqueue, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (source, *_) = enqueue(1)
    terminal = run("run", source, "--variant", "fast", columns=200)
    assert terminal.end() == 0
    text = flat(terminal.text)
    assert "1 file done" in text
    assert str(tmp_path / "in" / "run-tape-0-") in text


@pytest.mark.parametrize("columns", [40, 80])
def test_errors_notes_and_the_report_fold_no_word(run, enqueue: Enqueue, columns: int) -> None:  # type: ignore[no-untyped-def]
    enqueue(2)
    for words, told in (
        (("list", "--path", "nosuch", "99"), "there is no job 99 (`batchsr list` shows those there are) [usage]"),
        (("verify",), "nothing was verified: no job here is done"),
        (("report",), "queued: 2 files,"),
    ):
        terminal = run(*words, columns=columns)
        terminal.end()
        assert told in flat(terminal.text)
