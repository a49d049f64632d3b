"""What a person sees, drawn with a fake clock into a string."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from batchsr.display import clock
from batchsr.report.live import Picture, Screen
from batchsr.report.progress import (
    MEASURING,
    Finished,
    InFlight,
    Progress,
    closing,
    end_of,
    line,
    picture,
    speed,
    wrapped,
)


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
    progress.in_flight[1] = InFlight(1, "a", 40.0, windows_done=2, windows_at_start=2, windows_total=4)
    progress.in_flight[2] = InFlight(2, "b", 30.0)
    assert progress.seconds_left == 0.5 * (100.0 + 20.0 + 30.0)
    assert Progress(audio_left_s=5).seconds_left is None


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_picture_fits_any_width_and_never_loses_the_time_left(width: int) -> None:
    progress = Progress(
        files_total=100_000, files_done=12_345, files_failed=17, audio_left_s=3.6e6, audio_restored_s=5e3, busy_s=2.5e3
    )
    progress.audio_total_s, progress.audio_ended_s = 7.2e6, 3.6e6
    progress.in_flight[2] = InFlight(2, "/archive/" + "deep/" * 60 + "tape 9, side B.wav", 10.0, 1, 1, 2)
    lines = list(picture(progress, width, 0.0))
    assert all(len(text) <= width for text in lines), lines
    text = "\n".join(lines)
    assert "500:00:02 left" in text
    assert "B.wav" in text
    if width >= 40:
        for part in ("12,362 of 100,000 files", "2.00 x real time", "17 failed", "restoring", "tape 9, side B.wav"):
            assert part in text


def test_a_name_that_would_act_on_the_terminal_is_shown_harmless_in_the_picture() -> None:
    progress = Progress(
        files_total=1, in_flight={1: InFlight(1, "evil\x1b[2J\r\n.wav")}, workers={2: "waiting: \x1b]0;x"}
    )
    assert not re.search("[\x00-\x09\x0b-\x1f]", "".join(picture(progress, 80, 0.0)))


def test_before_a_window_is_done_the_time_left_is_not_invented() -> None:
    assert MEASURING in "\n".join(picture(Progress(files_total=3, audio_left_s=5.0), 40, 0.0))


def test_each_phase_of_a_file_has_a_word_and_the_workers_own_has_seconds_that_move() -> None:
    file = InFlight(1, "a.wav", 10.0)
    progress = Progress(files_total=1, in_flight={1: file})
    assert any(text.startswith("reading") for text in picture(progress, 80, 0.0))
    file.windows_total = 2
    assert any(text.startswith("restoring") and "0/2" in text for text in picture(progress, 80, 0.0))
    file.windows_done = 2
    assert any(text.startswith("joining") for text in picture(progress, 80, 0.0))
    progress.phase, progress.phase_since_s = "loading the model int4", 100.0
    assert "loading the model int4  0:07" in list(picture(progress, 80, 107.0))
    assert "loading the model int4  0:08" in list(picture(progress, 80, 108.0))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_window_that_takes_long_has_seconds_that_move_and_a_quick_one_has_none(width: int) -> None:
    now = Clock()
    screen = Screen(Console(file=io.StringIO(), width=width), now=now)
    job = Job(source="/archive/1968/a very long folder's name/tape 7.wav")
    screen.expect(1, 10.0)
    screen.claimed(job)
    screen.windows(job, 0, 2)

    def row() -> str:
        return next(text for text in picture(screen.progress, width, now()) if "tape 7.wav" in text)

    assert row().endswith("tape 7.wav")
    for seconds, told in ((7.0, "0:07"), (8.0, "0:08")):
        now.now = seconds
        screen.windows(job, 0, 2)  # said again, and nothing has moved
        assert row().endswith(f"tape 7.wav  {told}")
        assert len(row()) <= width
    screen.windows(job, 1, 2)
    assert row().endswith("tape 7.wav")


def test_what_is_cut_off_a_path_is_its_beginning() -> None:
    assert end_of("/archive/1968/tape 7.wav", 12) == "…/tape 7.wav"
    assert end_of("a.wav", 12) == "a.wav"
    assert end_of("abc", 0) == ""


def test_each_of_several_files_in_flight_has_a_line_and_the_rest_is_counted() -> None:
    files = {number: InFlight(number, f"/archive/{number}.wav", 10.0, 1, 0, 2 + number) for number in range(6)}
    text = "\n".join(picture(Progress(files_total=6, in_flight=files), 80, 0.0))
    assert "1/2 /archive/0.wav" in text
    assert "1/5 /archive/3.wav" in text
    assert "/archive/4.wav" not in text
    assert "and 2 more files in flight" in text


def test_a_resumed_batch_keeps_its_total() -> None:
    with Screen(Console(file=io.StringIO()), quiet=True) as screen:
        screen.expect(40, 400.0, ended={"done": 55, "failed": 5}, ended_audio_s=600.0)
        assert screen.progress.files_total == 100
        assert screen.progress.audio_total_s == 1000.0
        screen.claimed(Job())
        screen.done(Job())
        assert screen.progress.files_done == 56
        screen.expect(39, 300.0, ended={"done": 56, "failed": 5}, ended_audio_s=700.0)  # the next variant
        assert screen.progress.files_total == 100
    assert "61 of 100 files" in "\n".join(picture(screen.progress, 80, 0.0))


def test_time_in_which_several_files_are_in_flight_counts_once() -> None:
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
    assert screen.progress.in_flight == {}


def test_the_end_has_the_totals_each_kind_of_failure_once_and_the_next_command() -> None:
    progress = Progress(files_total=64)
    for number in range(60):
        progress.ended(Finished(number, f"{number}.wav", "done", 10.0, 5.0))
    for number in range(3):
        note = f"{number}.wav is cut short: copy it again [input.truncated]"
        progress.ended(Finished(number, f"{number}.wav", "failed", None, None, note, "input.truncated"))
    progress.ended(Finished(9, "9.wav", "failed", None, None, "9.wav is no audio [input.format]", "input.format"))
    assert list(closing(progress)) == [
        "60 files done, 4 failed: 10:00 of audio in 5:00 of work, RTF 0.500 (2.00 x real time)",
        "  3 x input.truncated, as: 0.wav is cut short: copy it again",
        "  1 x input.format: 9.wav is no audio",
        "Next: `batchsr list --state failed` names them; `batchsr retry` tries them again",
    ]
    assert list(closing(Progress())) == []
    one = Progress(files_total=3)
    one.ended(Finished(1, "a.wav", "done", 10.0, 5.0))
    first, second = closing(one)
    assert first.startswith("1 file done: ")
    assert second == "2 files left: `batchsr work` goes on"


def test_words_are_not_broken_when_lines_are() -> None:
    text = "  1 x input.format: '/archive/a long name.wav' is not audio (convert it: ffmpeg -i IN OUT.wav)"
    lines = wrapped(text, 40)
    assert all(len(one) <= 40 for one in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    assert wrapped("a" * 50, 40) == ["a" * 50]


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
        "1 file done, 1 failed: 1:40 of audio in 0:50 of work, RTF 0.500 (2.00 x real time)",
        "Next: `batchsr list --state failed` names them; `batchsr retry` tries them again",
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


def test_off_a_terminal_a_long_file_has_a_line_a_minute() -> None:
    out = io.StringIO()
    now = Clock()
    with Screen(Console(file=out, width=80), now=now) as screen:
        screen.expect(1, 100.0)
        screen.claimed(Job())
        for done in range(11):
            now.now = 13.0 * done
            screen.windows(Job(), done, 10)
    lines = out.getvalue().splitlines()
    assert lines == [
        "restoring    #7  /archive/tape 7.wav  window 5 of 10, 1:05 left for all files",
        "joining      #7  /archive/tape 7.wav  window 10 of 10, 0:00 left for all files",
    ]


def test_a_state_that_lasts_is_told_once() -> None:
    out = io.StringIO()
    with Screen(Console(file=out, width=80)) as screen:
        for _ in range(3):
            screen.paused("the disk is full")
    assert out.getvalue().splitlines() == ["paused: the disk is full  (`batchsr resume` lets it go on)"]


def test_a_run_keeps_nothing_of_the_files_that_ended_but_sums() -> None:
    with Screen(Console(file=io.StringIO()), quiet=True) as screen:
        for number in range(1_000):
            screen.claimed(Job(number))
            screen.failed(Job(number, state="failed", error=f"{number} is odd", error_code="input.format"))
    assert len(screen.progress.failures) == 1
    assert screen.progress.in_flight == {}


def test_on_a_terminal_what_was_said_stands_above_the_moving_part_and_the_end_below() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Screen(console, now=Clock()) as screen:
        screen.message("SIGINT: finishing the windows in hand")
        screen.claimed(Job())
        screen.done(Job())
        screen.show_summary()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "SIGINT: finishing the windows in hand" in text
    assert "1 file done" in text
    assert text.index("SIGINT") < text.index("1 file done")


def test_the_picture_is_as_wide_as_the_terminal_is_now() -> None:
    progress = Progress(files_total=3, in_flight={1: InFlight(1, "x" * 300)})
    for width in (30, 90):
        console = Console(file=io.StringIO(), width=width)
        console.print(Picture(progress, Clock()))
        assert max(map(len, console.file.getvalue().splitlines())) == width  # type: ignore[attr-defined]


def test_what_was_odd_about_a_file_stands_in_its_line() -> None:
    console = Console(file=io.StringIO(), width=200)
    remark = {"code": "input.longer_than_header", "message": "its header says half"}
    with Screen(console, plain=True) as screen:
        screen.claimed(Job())
        screen.windows(Job(), 0, 2)
        screen.done(Job(remarks=(remark,)))
    assert "its header says half [input.longer_than_header]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_each_worker_has_a_line_and_more_than_fit_are_counted() -> None:
    screen = Screen(Console(file=io.StringIO()), plain=True, now=Clock())
    for worker in (2, 1, 3):
        screen.hears(worker)
        screen.phase("loading the model")
    screen.hears(2)
    screen.claimed(Job(7))
    screen.windows(Job(7), 0, 4)
    screen.windows(Job(7), 3, 4)
    lines = list(picture(screen.progress, 40, 0.0))
    assert [line[:2] for line in lines[-3:]] == [" 2", " 1", " 3"]
    assert "restoring     3/4" in lines[-3]
    assert lines[-2] == " 1 loading the model"
    assert "and 2 more lines" in list(picture(screen.progress, 80, 0.0, files_shown=2))
    screen.left(2)
    assert not screen.progress.in_flight
    assert screen.progress.audio_left_s == 25.0


def test_a_message_of_several_workers_is_said_once_until_a_file_moves() -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=80), plain=True, now=Clock())
    for worker in (1, 2):
        screen.hears(worker)
        screen.message("paused: by request")
        screen.message("a share is gone")
    assert out.getvalue().count("paused: by request") == out.getvalue().count("a share is gone") == 1
    screen.claimed(Job(7))
    screen.message("paused: by request")
    assert out.getvalue().count("paused: by request") == 2


@pytest.mark.parametrize("width", [40, 60, 80, 84, 88, 100])
def test_figures_that_belong_together_stand_in_one_line(width: int) -> None:
    text = line(Finished(1, "/tapes/reel 7/side a.wav", "done", 25.0, 7.225))
    lines = wrapped(text, width)
    assert all(len(one) <= width for one in lines)
    assert any("RTF 0.289 (3.46 x real time)" in one for one in lines)
    assert any("0:25 of audio in 0:07," in one for one in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
