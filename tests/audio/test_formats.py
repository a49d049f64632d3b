"""One table says what is read and written, and everything else that names formats says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsr.audio import formats
from batchsr.audio.files import SUBTYPES, Writer, probe
from batchsr.intake.gather import AUDIO_SUFFIXES
from batchsr.settings import profile

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_about_formats_shows_the_table_as_it_is() -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    table = page.split("<!-- table -->\n")[1].split("<!-- end of table -->")[0].strip() + "\n"
    assert table == formats.markdown()


def test_an_extension_hints_at_one_format() -> None:
    all_of_them = [extension for form in formats.FORMATS for extension in form.extensions]
    assert len(all_of_them) == len(set(all_of_them)) > 70
    assert all(extension == extension.lower() and extension.startswith(".") for extension in all_of_them)
    assert set(formats.BY_EXTENSION) == set(all_of_them) == set(AUDIO_SUFFIXES)


def test_what_readers_read_is_told_apart() -> None:
    assert {".wav", ".mp2", ".opus", ".8svx"} <= formats.extensions("libsndfile")
    assert {".m4a", ".shn", ".3gp", ".webm", ".wv"} <= formats.extensions("ffmpeg")
    assert formats.extensions("nothing") == {
        extension for form in formats.FORMATS if form.options for extension in form.extensions
    }


def test_choices_of_the_command_line_come_from_the_table() -> None:
    assert profile.FORMATS == tuple(formats.WRITTEN) == tuple(SUBTYPES)
    assert set(profile.SUBTYPES) == {subtype for subtypes in SUBTYPES.values() for subtype in subtypes}


@pytest.mark.parametrize("form", formats.WRITTEN)
def test_the_natural_subtype_of_a_format_can_be_written_under_each_of_its_extensions(form: str, tmp_path: Path) -> None:
    written = formats.WRITTEN[form]
    row = next(row for row in formats.FORMATS if row.written is written)
    for extension in row.extensions:
        assert formats.written_for(extension.upper()) is written
    path = tmp_path / f"x.{form}"
    with Writer(path, 1, form, written.natural) as writer:
        writer.write(np.full((100, 1), 0.1, np.float32))
    assert probe(path).subtype == written.natural
    if form not in ("mp3", "opus"):  # MPEG audio begins like much else, and Opus like all Ogg
        assert formats.by_magic(path.read_bytes()[:32]) is row


def test_no_file_is_written_under_an_extension_that_nobody_writes() -> None:
    assert formats.written_for(".m4a") is None
    assert formats.written_for(".docx") is None
    assert formats.written_for("") is None


@pytest.mark.parametrize(
    ("head", "title"),
    [
        (b"\0\0\0\x20ftypM4A ", "MPEG-4"),
        (b"\x1a\x45\xdf\xa3", "Matroska, WebM"),
        (b"ajkg\x02", "Shorten"),
        (b"RIFF\0\0\0\0WAVE", "WAV, Broadcast WAV, RIFX"),
        (b"#!AMR\n", "AMR"),
    ],
)
def test_first_bytes_tell_the_format_whatever_the_name(head: bytes, title: str) -> None:
    found = formats.by_magic(head)
    assert found is not None
    assert found.title == title


def test_first_bytes_of_something_else_tell_nothing() -> None:
    assert formats.by_magic(b"") is None
    assert formats.by_magic(b"<!DOCTYPE html>") is None
