"""The page: what is in it, how large it is, and what a browser makes of it at two widths, light and dark."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rig
import soundfile
from program import FAST_MODEL, Program

from batchsr.audio import excerpts
from batchsr.report import columns
from batchsr.report.page import build, heard
from batchsr.report.page.choosing import choose

TOTALS = {
    "done": {"jobs": 2, "audio_s": 7_200.0, "wall_s": 3_600.0},
    "failed": {"jobs": 1, "audio_s": 60.0, "wall_s": 0.0},
    "queued": {"jobs": 0, "audio_s": 0.0, "wall_s": 0.0},
}
HOSTILE = "</script><script>document.title='owned'</script>\x1b[2J‮.wav"
REPORT: dict[str, Any] = {
    "note": "An access derivative, not the recording.",
    "source": {
        "format": "WAV",
        "subtype": "PCM_16",
        "sample_rate_hz": 8_000,
        "channels": 1,
        "duration_s": 3.0,
        "band": {"cutoff_hz": 3_400.0, "found_by": "step", "nyquist_hz": 4_000.0},
        "loudness_lufs": -24.0,
        "remarks": [{"code": "input.odd", "message": "its header is odd"}],
    },
    "output": {"loudness_lufs": -23.5, "peak_dbfs": -1.0, "clipped_samples": 0, "frames": 144_000, "sha256": "ab" * 32},
    "treatment": {"lowpass_hz": 3_400.0, "kept_below_hz": 3_000.0, "only_resampled": False},
    "model": {"variant": "tiny", "dtype": "float32", "device": "cpu"},
    "rtf": 0.5,
}


def row(number: int, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(columns.PAGE)
    return values | {
        "id": number,
        "state": "done",
        "batch": "calls",
        "source": f"/archive/{number % 97}/call-{number}.wav",
        "output": f"/out/{number % 97}/call-{number}_upsampled.wav",
        "audio_s": 12.5 + number % 13,
        "rtf": 0.25,
        **more,
    }


def page(rows: Iterator[dict[str, Any]] | list[dict[str, Any]], **more: Any) -> bytes:
    file = io.BytesIO()
    build.write_page(file, rows, totals=TOTALS, **more)
    return file.getvalue()


def unpacked(data: bytes) -> list[list[Any]]:
    packed = re.search(rb'id="rows">(.*?)</script>', data, re.DOTALL)
    assert packed
    found: list[list[Any]] = json.loads(zlib.decompress(base64.b64decode(packed[1]), 31))
    return found


@pytest.fixture
def recordings(tmp_path: Path) -> tuple[Path, Path]:
    """Three seconds at 8 kHz, and something that may be its restoration."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.2, 0.2, 24_000).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", x, 8_000)
    y = np.repeat(x, 6) * 0.5 + rng.uniform(-0.02, 0.02, 144_000).astype(np.float32)
    soundfile.write(tmp_path / "out.wav", y, 48_000)
    return tmp_path / "in.wav", tmp_path / "out.wav"


def test_a_hundred_thousand_rows_stay_under_five_megabytes_and_are_all_there() -> None:
    data = page(row(number) for number in range(100_000))
    assert len(data) < 5_000_000
    found = unpacked(data)
    assert len(found) == 100_001
    assert found[0] == list(columns.PAGE)
    assert found[99_999][columns.PAGE.index("source")] == "/archive/88/call-99998.wav"


def test_the_sentence_on_top_says_what_was_done() -> None:
    assert build.sentence(TOTALS) == (
        "2 files were restored: 2:00:00 of audio in 1:00:00 of work, 2.00 times real time; 1 failed."
    )
    assert build.sentence({"done": {"jobs": 1, "audio_s": 0.0, "wall_s": 0.0}}).startswith("1 file was restored")


def test_a_hostile_name_is_text_everywhere(recordings: tuple[Path, Path]) -> None:
    file = heard.heard(HOSTILE, *recordings, REPORT)
    data = page([row(1, source=HOSTILE, error=HOSTILE)], heard=[file], title=HOSTILE, notes=[HOSTILE]).decode()
    assert "<script>document" not in data
    assert "\x1b" not in data
    assert data.count("</script>") == 3


def test_names_that_are_no_unicode_are_in_the_page(recordings: tuple[Path, Path]) -> None:
    (_, values) = unpacked(page([row(1, source=os.fsdecode(b"/archive/\xe9.wav"))]))
    assert values[columns.PAGE.index("source")] == "/archive/\\xe9.wav"


def test_clips_are_opus_of_ten_seconds_and_equally_loud(recordings: tuple[Path, Path]) -> None:
    excerpt = excerpts.excerpt(*recordings, seconds=2.0, start_s=0.5)
    assert len(excerpt.source) == len(excerpt.restored) == 96_000
    source, restored, difference = excerpts.matched(excerpt)
    level = [10 * np.log10(np.mean(np.square(block))) for block in (source, restored)]
    assert abs(level[0] - level[1]) < 0.1
    assert np.abs(difference).max() <= 1
    clip = excerpts.opus(np.tile(restored, (5, 1))[:480_000])
    assert 20_000 < len(clip) < 120_000
    y, rate = soundfile.read(io.BytesIO(clip))
    assert rate == 48_000
    assert len(y) == 480_000


def test_a_spectrogram_has_a_tone_where_it_is_and_nothing_elsewhere() -> None:
    t = np.arange(48_000) / 48_000
    levels = excerpts.spectrogram((0.5 * np.sin(2 * np.pi * 12_000 * t)).astype(np.float32)[:, None], 100)
    assert levels.shape == (excerpts.BINS, 100)
    assert abs(int(levels[:, 50].argmax()) - excerpts.BINS // 2) <= 1
    assert levels[10, 50] == 0
    wave = excerpts.waveform(np.linspace(-1, 1, 1000, dtype=np.float32)[:, None], 10)
    assert wave[0, 0] == -127
    assert wave[-1, 1] == 127


def test_what_a_sidecar_says_stands_there_in_words() -> None:
    said = dict(heard.facts(REPORT))
    assert said["Recording"] == "WAV, PCM_16, 8,000 Hz, mono, 0:03"
    assert "3,400 Hz" in said["Its band"]
    assert "low-pass at 3,400 Hz" in said["Treatment"]
    assert said["Loudness"] == "-24.0 LUFS before, -23.5 after (+0.5)"
    assert "its header is odd" in said["Odd about the source"]
    assert list(heard.facts({})) == []


def test_the_worst_and_some_by_chance_are_chosen_to_be_heard() -> None:
    class Job:
        def __init__(self, number: int) -> None:
            self.id = number

    def report(job: Any) -> dict[str, Any]:
        return {"output": {"clipped_samples": 500 if job.id == 7 else 0, "frames": 1000}, "source": {}}

    def chosen(count: int, **options: int) -> list[Any]:
        done = ({"id": number, "clipped_samples": 500 if number == 7 else None} for number in range(100))
        return choose(done, count, lambda ids: [Job(one) for one in ids], report, **options)

    six = chosen(6)
    assert [choice.why for choice in six if choice.job.id == 7] == ["the most clipping"]
    assert len({choice.job.id for choice in six}) == len(six) == 6
    assert [choice.job.id for choice in chosen(6)] == [choice.job.id for choice in six]
    assert chosen(0) == []
    assert 7 in {choice.job.id for choice in chosen(6, looked_at=10)}, "what clips most is looked at in any archive"


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path, recordings: tuple[Path, Path]) -> Path:
    files = [heard.heard(f"/archive/tape {number}.wav", *recordings, REPORT, why="by chance") for number in (1, 2)]
    rows = [row(number) for number in range(250)]
    rows += [
        row(
            1_000 + n,
            state="failed",
            batch="reels",
            error_code="input.format",
            error="is no audio: convert it",
            rtf=None,
        )
        for n in range(3)
    ]
    path = tmp_path / "report.html"
    path.write_bytes(page(rows, heard=files))
    return path


@pytest.fixture(params=[(390, "dark"), (1280, "light")], ids=["phone", "desk"])
def opened(browser: Any, made: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    width, scheme = request.param
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    errors: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda one: asked.append(one.url))
    tab.goto(made.as_uri())
    tab.wait_for_selector("body[data-ready=yes]")
    yield tab
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    tab.close()


def test_it_fits_the_screen_and_searches_sorts_filters_and_pages(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.inner_text("#place") == "1 to 100 of 253"
    opened.click("#after")
    assert opened.inner_text("#place") == "101 to 200 of 253"
    opened.fill("#search", "call-24")
    assert opened.inner_text("#place") == "1 to 11 of 11"
    opened.fill("#search", "")
    opened.select_option("#state", "failed")
    assert opened.inner_text("#place") == "1 to 3 of 3"
    opened.select_option("#state", "")
    opened.click("th button:has-text('Length')")
    opened.click("th button:has-text('Length')")
    assert opened.inner_text("tbody tr:first-child td:nth-child(4)") == "0:25"
    assert opened.get_attribute("th:nth-child(4)", "aria-sort") == "descending"


def test_a_hundred_thousand_files_are_searched_sorted_filtered_and_paged(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    failed = {"state": "failed", "error_code": "input.format", "error": "no audio"}
    path.write_bytes(page(row(number, **(failed if number % 1_000 == 7 else {})) for number in range(1, 100_001)))
    assert path.stat().st_size < 5_000_000
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(path.as_uri())
    tab.wait_for_selector("body[data-ready=yes]")
    assert tab.inner_text("#place").replace(",", "") == "1 to 100 of 100000"
    assert tab.evaluate("document.querySelectorAll('tbody tr').length") == 100, "one page of rows is drawn, not all"
    tab.fill("#search", "call-99999")
    assert tab.inner_text("#place") == "1 to 1 of 1"
    tab.fill("#search", "")
    tab.select_option("#state", "failed")
    assert tab.inner_text("#place") == "1 to 100 of 100"
    tab.select_option("#state", "")
    tab.click("th button:has-text('Length')")
    tab.click("#after")
    assert tab.inner_text("#place").replace(",", "") == "101 to 200 of 100000"
    assert tab.inner_text("tbody tr:first-child td:nth-child(4)") == "0:13", "12.5 s, the shortest, rounded"
    tab.close()


def test_failures_stand_by_kind_and_lead_to_their_files(opened: Any) -> None:
    assert "3 \u00d7 input.format" in opened.inner_text("#kinds")
    assert "convert it" in opened.inner_text("#kinds")
    opened.click("#kinds button")
    assert opened.inner_text("#place") == "1 to 3 of 3"


def test_keys_play_and_change_between_source_restoration_and_difference(opened: Any) -> None:
    def wait(condition: str) -> None:  # the page lets nobody evaluate strings, so not wait_for_function
        ends_s = time.monotonic() + 20
        while not opened.evaluate(condition):
            assert time.monotonic() < ends_s, condition
            time.sleep(0.05)

    def word(key: str) -> str:
        opened.keyboard.press(key)
        found: str = opened.evaluate("now.word")
        return found

    assert [word("2"), word("3"), word("1")] == ["restored", "difference", "source"]
    opened.keyboard.press(" ")
    wait("now.sounds.source.currentTime > 0.1")
    opened.keyboard.press("2")
    wait("now.word === 'restored' && now.sounds.restored.currentTime > 0.1")
    assert opened.evaluate("now.sounds.source.paused")
    opened.keyboard.press(" ")
    assert opened.evaluate("now.sounds.restored.paused")
    opened.keyboard.press("ArrowRight")
    assert opened.evaluate("players.indexOf(now)") == 1


def test_blind_hides_which_is_which_and_counts_guesses(opened: Any) -> None:
    opened.check("#blind")
    labels = opened.evaluate("players[0].buttons.map((b) => b.textContent)")
    assert labels[:2] == ["A", "B"]
    assert not opened.is_visible("article:first-of-type .pictures")
    for number in range(4):
        opened.evaluate(f"players[0].judge({number % 2})")
    assert re.fullmatch(r"[0-4] of 4 right", opened.inner_text("#score"))


def test_every_control_has_a_name_and_is_reached_by_keyboard(opened: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(opened).response["violations"]
    serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
    assert serious == [], json.dumps(found, indent=1)[:4_000]
    opened.keyboard.press("Tab")
    reached = set()
    for _ in range(40):
        reached.add(opened.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        opened.keyboard.press("Tab")
    assert {"blind", "Play", "Source", "search", "state"} <= reached


def test_report_makes_a_page_with_files_to_hear(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.environment |= FAST_MODEL
    for number in range(3):
        rig.record(tmp_path / "in" / f"tape {number}.wav", 1.0)
    (tmp_path / "in" / "page.wav").write_text("<html>")
    program.run("enqueue", "-r", "in", "--batch", "reels")
    program.run("work", "--variant", "fast", code=3)
    (tmp_path / "in" / "tape 1_upsampled.wav").unlink()
    made = program.run("report", "--batch", "reels", "-o", "report.html", "--review", "5")
    assert "2 files to hear" in made.stderr
    data = (tmp_path / "report.html").read_bytes()
    assert len(unpacked(data)) == 5
    assert b"cannot be heard" in data
    assert program.run("report", "--as", "html", "--review", "0").stdout.startswith("<!doctype html>")
    listened = program.run("listen", "in/tape 0_upsampled.wav", "--at", "0:00.2", "--seconds", "1")
    assert (tmp_path / listened.stdout.strip()).stat().st_size > 20_000
    assert (
        "nothing to hear"
        in program.run("listen", "4" if "failed" in program.run("show", "4").stdout else "1", code=2).stderr
    )
    assert "no sidecar" in program.run("listen", "in/tape 0.wav", code=2).stderr
