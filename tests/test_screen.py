"""What a person sees, drawn with a fake clock into a string."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from batchsr.report.live import Finished, InHand, Progress, Screen, clock, line, live, speed, summary


@dataclasses.dataclass
class Job:
    id: int = 7
    source: str = "/archive/tape 7.wav"
    output: str = "/archive/tape 7_upsampled.wav"
    audio_s: float | None = 100.0
    windows_done: int = 0
    state: str = "done"
    wall_s: float | None = 50.0
    error: str | None = None
    error_code: str | None = None
    remarks: tuple[dict[str, str], ...] = ()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def render(what: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "--:--"), (0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3_599, "59:59"), (90_061, "25:01:01")],
)
def test_times_are_told_as_on_a_clock(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


def test_speed_names_both_figures() -> None:
    assert speed(0.5) == "RTF 0.500 (2.00 x real time)"
    assert speed(None) == "RTF -"


def test_a_finished_file_is_one_line_with_its_rtf() -> None:
    assert line(Finished(7, "a.wav", "done", 100.0, 50.0)) == (
        "done         #7  a.wav  1:40 of audio in 0:50, RTF 0.500 (2.00 x real time)"
    )
    assert line(Finished(8, "b.wav", "failed", None, None, "no audio in it [input.empty]")).endswith(
        "no audio in it [input.empty]"
    )


def test_time_left_follows_from_the_speed_of_this_run() -> None:
    progress = Progress(files_total=3, audio_left_s=100.0, audio_restored_s=50.0, busy_s=25.0)
    assert progress.rtf == 0.5
    assert progress.seconds_left == 50.0
    progress.in_hand[1] = InHand(1, "a", 40.0, windows_done=2, windows_at_start=2, windows_total=4)
    progress.in_hand[2] = InHand(2, "b", 30.0)
    assert progress.seconds_left == 0.5 * (100.0 + 20.0 + 30.0)
    assert Progress(audio_left_s=5).seconds_left is None


def test_the_live_picture_names_batch_file_speed_and_time_left() -> None:
    progress = Progress(files_total=3, files_done=1, audio_left_s=100.0, audio_restored_s=50.0, busy_s=25.0)
    progress.in_hand[2] = InHand(2, "/archive/b.wav", 10.0, windows_done=1, windows_at_start=1, windows_total=2)
    text = render(live(progress))
    for part in ("1 of 3 files", "RTF 0.500 (2.00 x real time)", "0:52 left", "1 of 2 windows", "/archive/b.wav"):
        assert part in text


def test_each_of_several_files_in_hand_has_a_line_and_the_rest_is_counted() -> None:
    files = {number: InHand(number, f"/archive/{number}.wav", 10.0, 1, 0, 2 + number) for number in range(6)}
    text = render(live(Progress(files_total=6, in_hand=files)))
    assert "1 of 2 windows  /archive/0.wav" in text
    assert "1 of 5 windows  /archive/3.wav" in text
    assert "/archive/4.wav" not in text
    assert "and 2 more files in hand" in text


def test_time_in_which_several_files_are_in_hand_counts_once() -> None:
    now = Clock()
    with Screen(Console(file=io.StringIO()), quiet=True, now=now) as screen:
        jobs = [Job(number, audio_s=20.0) for number in (1, 2)]
        for job in jobs:
            screen.claimed(job)
            screen.windows(job, 0, 2)
        now.now = 10.0
        for job in jobs:
            screen.windows(job, 2, 2)
            screen.done(job)
        now.now = 50.0
        screen.claimed(Job(3))
        screen.lost(Job(3, state="cancelled"))
    assert screen.progress.rtf == 10.0 / 40.0
    assert screen.progress.in_hand == {}


def test_the_summary_has_a_line_a_file_and_says_what_it_leaves_out() -> None:
    text = render(summary([Finished(i, f"{i}.wav", "done", 10.0, 5.0) for i in range(60)]))
    assert "59.wav" in text
    assert "0.500" in text
    assert "the last 50 of 60 files" in text


def test_off_a_terminal_nothing_animates_and_each_file_is_one_plain_line() -> None:
    out = io.StringIO()
    now = Clock()
    with Screen(Console(file=out, width=80), now=now) as screen:
        screen.expect(2, 200.0)
        job = Job()
        screen.claimed(job)
        screen.windows(job, 0, 10)
        now.now = 50.0
        screen.windows(job, 10, 10)
        screen.done(job)
        screen.claimed(Job(8, "/archive/bad\udce9.wav"))
        screen.failed(
            Job(8, "/archive/bad\udce9.wav", state="failed", error="it is no audio", error_code="input.format")
        )
        screen.show_summary()
    lines = out.getvalue().splitlines()
    assert lines == [
        "done         #7  /archive/tape 7.wav  1:40 of audio in 0:50, RTF 0.500 (2.00 x real time)",
        "failed       #8  /archive/bad\\xe9.wav  it is no audio [input.format]",
    ]
    assert screen.progress.rtf == 0.5


def test_a_resumed_file_counts_only_what_this_run_did() -> None:
    out = io.StringIO()
    now = Clock()
    with Screen(Console(file=out, width=80), now=now) as screen:
        job = Job(wall_s=80.0)
        screen.claimed(job)
        screen.windows(job, 6, 10)
        now.now = 20.0
        screen.windows(job, 10, 10)
        screen.done(job)
    assert "at window 6 of 10" in out.getvalue()
    assert screen.progress.rtf == pytest.approx(20.0 / 40.0)


def test_quiet_says_nothing() -> None:
    out = io.StringIO()
    with Screen(Console(file=out), quiet=True) as screen:
        screen.claimed(Job())
        screen.done(Job())
        screen.paused("disk full")
    assert out.getvalue() == ""


def test_a_state_that_lasts_is_told_once() -> None:
    out = io.StringIO()
    with Screen(Console(file=out, width=80)) as screen:
        for _ in range(3):
            screen.paused("the disk is full")
    assert out.getvalue().splitlines() == ["paused: the disk is full"]


def test_on_a_terminal_the_summary_comes_at_the_end() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Screen(console, now=Clock()) as screen:
        screen.claimed(Job())
        screen.done(Job())
        screen.show_summary()
    assert "Files of this run" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_was_odd_about_a_file_stands_in_its_line() -> None:
    console = Console(file=io.StringIO(), width=200)
    remark = {"code": "input.longer_than_header", "message": "its header says half"}
    with Screen(console, plain=True) as screen:
        screen.claimed(Job())
        screen.windows(Job(), 0, 2)
        screen.done(Job(remarks=(remark,)))
    assert "its header says half [input.longer_than_header]" in console.file.getvalue()  # type: ignore[attr-defined]
