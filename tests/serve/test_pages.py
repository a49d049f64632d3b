"""The pages as a person has them: in the machine's own Chromium, at two widths, light and dark, by keyboard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rig
from served import Served, serving

from batchsr.queue.opening import open_queue

PAGES = (
    "/",
    "/files",
    "/files?state=failed",
    "/files/1",
    "/files/3",
    "/batches",
    "/workers",
    "/ask?action=retry&all=1",
    "/ask?action=priority&id=6",
)


def wait(condition: Callable[[], Any]) -> None:
    """The pages let nobody evaluate strings, so not playwright's wait_for_function."""
    ends_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends_s
        time.sleep(0.05)


@pytest.fixture(scope="module", params=[(390, "dark"), (1280, "light"), (390, "light"), (1280, "dark")], ids=str)
def tab(browser: Any, served: Served, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A tab of which nothing may complain, and which may ask nobody but the server."""
    width, scheme = request.param
    one = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    errors: list[str] = []
    asked: list[str] = []
    one.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    one.on("pageerror", lambda error: errors.append(str(error)))
    one.on("request", lambda request: asked.append(request.url))
    yield one
    assert errors == []
    assert [url for url in asked if not url.startswith((served.address + "/", "data:", "blob:"))] == []
    one.close()


def test_every_page_fits_and_can_be_used_by_everybody(tab: Any, served: Served) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for path in PAGES:
        tab.goto(served.address + path)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert tab.title().endswith("batchsr"), path
        assert tab.evaluate("document.title") != "owned"
        found = Axe().run(tab).response["violations"]
        serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
        assert serious == [], path + json.dumps(found, indent=1)[:4_000]


def test_a_person_finds_out_by_keyboard_why_three_files_failed(browser: Any, served: Served) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(served.address)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "To the content"
    for _ in range(40):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.textContent") == "show them":
            break
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/files?error=input.format")
    assert tab.inner_text("#live > p") == "3 files."
    assert "[input.format]" in tab.inner_text("tbody tr:first-child")
    tab.focus("input[type=search]")
    tab.keyboard.type("page 1")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**q=page+1**")
    assert tab.inner_text("#live > p") == "1 file."
    tab.focus("tbody a")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/files/4")
    assert "page 1.wav" in tab.inner_text("h1")
    assert "[input.format]" in tab.inner_text(".warning")
    tab.close()


def test_a_person_hears_a_file_before_and_after(browser: Any, served: Served) -> None:
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    errors: list[str] = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.goto(served.address + "/files/1")
    tab.focus("#hear")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#files .player", timeout=60_000)
    assert tab.evaluate("document.activeElement.textContent") == "Play"
    assert tab.evaluate("document.querySelector('#files canvas').width") == 400
    tab.keyboard.press("Enter")
    wait(lambda: tab.evaluate("now.sounds.source.currentTime > 0.1"))
    tab.keyboard.press("2")
    wait(lambda: tab.evaluate("now.word === 'restored' && now.sounds.restored.currentTime > 0.1"))
    assert tab.evaluate("now.sounds.source.paused")
    tab.check("#blind")
    assert not tab.is_visible("article .pictures")
    assert errors == []
    assert served.ask("/files/1/clips/restored.ogg", Range="bytes=0-3").body == b"OggS"
    assert served.ask("/files/3/heard.json").status == 404
    tab.close()


def test_a_page_that_is_open_shows_what_changes_and_keeps_its_focus(browser: Any, archive: Path) -> None:
    with serving(archive / "queue.db") as served, open_queue(archive / "queue.db") as queue:
        tab = browser.new_page()
        tab.goto(served.address)
        tab.wait_for_selector("body[data-linked=yes]")
        tab.focus("a.fact.failed")
        queue.pause("a disk is swapped")
        wait(lambda: "a disk is swapped" in tab.inner_text("#live"))
        assert tab.evaluate("document.activeElement.classList.contains('failed')")
        queue.resume()
        wait(lambda: "a disk is swapped" not in tab.inner_text("#live"))
        tab.close()
        wait(lambda: served.made.changes.listeners == 0)


def test_without_scripts_every_page_says_the_same(browser: Any, served: Served) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(served.address + "/files")
    tab.fill("input[type=search]", "later")
    tab.click("#filters button")
    tab.wait_for_url("**q=later**")
    assert "1 file." in tab.inner_text("#live")
    context.close()


def test_what_is_chosen_while_fresh_rows_are_on_their_way_stays_chosen(served: Served, browser: Any) -> None:
    page = browser.new_page()
    page.goto(served.address + "/files")
    page.wait_for_selector("body[data-linked=yes]")
    assert page.evaluate(
        """async () => {
            window.fetch = async () => {
                document.querySelector("[name=id]").checked = true;
                return new Response("<div data-live>other rows</div>");
            };
            await freshen();
            return document.querySelector("[name=id]:checked") !== null;
        }"""
    )
    page.close()


def test_a_file_that_failed_has_no_speed(tmp_path: Path) -> None:
    gone = rig.record(tmp_path / "gone.wav", 0.5)
    rig.enqueue(tmp_path / "queue.db", [gone])
    gone.unlink()
    rig.work(tmp_path / "queue.db")
    with serving(tmp_path / "queue.db") as one:
        said = one.ask("/files?state=failed").text
    assert "input.missing" in said
    assert said.count('<td class="number"></td><td class="text">') == 1
