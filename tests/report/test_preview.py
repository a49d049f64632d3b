"""Some seconds in several ways on one page, before anything is queued."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import rig
from person import Person

from batchsr.models import registry
from batchsr.report.page import preview
from batchsr.restoration import single
from batchsr.settings.profile import Settings


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    monkeypatch.setitem(registry.MODELS, "fast", rig.ENTRY)
    monkeypatch.setattr(single.platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    return Person(tmp_path)


def heard(page: Path) -> list[dict[str, str]]:
    found = re.search(r'<script[^>]*id="?heard"?[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])["heard"]  # type: ignore[no-any-return]


def test_ways_are_what_was_asked_and_one_change_each() -> None:
    labels = [way.label for way in preview.ways(Settings(), "int4", ())]
    assert labels == [
        "as asked: int4, band not kept, low-pass off",
        "int4, band kept, low-pass off",
        "int4, band not kept, low-pass auto",
    ]
    ways = preview.ways(Settings(keep_band=True, lowpass=3400.0), "int4", ("int8", "keep-band", "int8", "int4"))
    assert [(way.variant, way.settings.keep_band, way.settings.lowpass) for way in ways] == [
        ("int4", True, 3400.0),
        ("int8", True, 3400.0),
        ("int4", False, 3400.0),
    ]


def test_upsample_previews_a_stretch_and_leaves_nothing_but_the_page(person: Person) -> None:
    (a,) = person.record("a.wav", seconds=6)
    said = person.run("upsample", a, "--preview", 2, "--at", "0:03", "--variant", "fast")
    page = person.folder / "a_preview.html"
    assert said.out.strip() == str(page)
    files = heard(page)
    assert [file["start"] for file in files] == ["0:00"] * 3
    assert files[0]["name"].startswith("a.wav from 0:03: as asked")
    assert all(file["seconds"] == 2 for file in files)
    assert files[0]["clips"]["restored"] != files[1]["clips"]["restored"], "the ways differ"  # type: ignore[index]
    assert {path.name for path in person.folder.iterdir()} <= {"a.wav", "a_preview.html", "cache", "queue.db"}
    assert not list((person.folder / "cache").rglob("*.slots"))


def test_enqueue_previews_some_files_and_queues_none(person: Person) -> None:
    sources = person.record("a.wav", "b.wav", "c.wav", "d.wav", "e.wav", seconds=1)
    sources[2].write_bytes(b"no sound")
    page = person.folder / "p.html"
    words = ("--preview", 1, "--compare", "lowpass", "--variant", "fast", "--page", page)
    said = person.run("enqueue", *sources, *words)
    assert [file["name"].split()[0] for file in heard(page)] == ["a.wav", "a.wav", "e.wav", "e.wav"]
    assert "c.wav cannot be heard" in said.err
    assert "nothing was queued" in said.err
    assert not person.db.exists()


def test_a_start_behind_the_end_and_nonsense_are_told_and_one_near_the_end_begins_earlier(person: Person) -> None:
    (a,) = person.record("a.wav", seconds=2)
    told = person.run("upsample", a, "--preview", 1, "--at", "9:00", "--variant", "fast", code=2).err
    assert "ends before 540 s" in told
    person.run("upsample", a, "--preview", 1, "--at", "1.9", "--variant", "fast")
    assert heard(person.folder / "a_preview.html")[0]["name"].startswith("a.wav from 0:01")
    assert "add --preview" in person.run("upsample", a, "--at", 3, code=2).err
    assert "nothing to compare" in person.run("upsample", a, "--preview", 1, "--compare", "lowpas", code=2).err
    a.write_bytes(b"no sound")
    assert "nothing to hear" in person.run("upsample", a, "--preview", 1, "--variant", "fast", code=2).err
