"""A name shown to a person acts on nothing: no terminal, table, page, or line of a log."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
import rig
from hypothesis import given
from hypothesis import strategies as st
from program import FAST_MODEL, Program

from batchsr.display import counted, listed, printable, shown
from batchsr.report import batch

HOSTILE = [
    b"esc\x1b[2J\x1b]0;title\x07.wav",
    b"cr\rdone  #1.wav",
    b"lf\nfailed #2.wav",
    b"crlf\r\n.wav",
    b"back\x08\x08\x7f.wav",
    b"latin\xe9\xff.wav",
    b"c1\xc2\x9b31m\xc2\x85.wav",
    "bidi\u202egpj.wav".encode(),
    "isolate\u2066x\u2069\u200f.wav".encode(),
    "line\u2028para\u2029.wav".encode(),
    "hidden\u00ad\ufeff\u2060\U000e0041.wav".encode(),
    b'tab\tcomma,quote".wav',
    b"<script>alert(1)</script>&amp;.wav",
]
ACTS = set(map(chr, [*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2066, 0x2069, 0x200F, 0xAD, 0xFEFF]))


@given(st.text(st.characters(exclude_categories=())) | st.binary().map(os.fsdecode))
def test_whatever_the_text_what_is_shown_is_one_line_of_unicode_that_acts_on_nothing(text: str) -> None:
    told = printable(text)
    told.encode()  # no surrogate is left
    assert not ACTS & set(told)
    assert len(told.splitlines()) <= 1
    assert printable(told) == told, "said twice, it is the same"


@pytest.mark.parametrize(
    "name",
    [
        "café.wav",
        "日本 🎧.wav",
        "\u0645\u06cc\u200c\u062e.wav",
        "👨\u200d👩\u200d👧.wav",
        "a b'c\\.wav",
        "no\xa0break.wav",
    ],
)
def test_a_name_of_letters_stays_as_it_is_in_every_script(name: str) -> None:
    assert printable(name) == name


def test_stray_bytes_are_shown_as_bytes() -> None:
    assert printable(os.fsdecode(b"caf\xe9.wav")) == r"caf\xe9.wav"
    assert shown(os.fsdecode(b"-\x1b[m.wav")) == r"'./-\x1b[m.wav'"


def test_counts_have_their_words() -> None:
    assert [counted(n, "file") for n in (0, 1, 2, 1200)] == ["0 files", "1 file", "2 files", "1,200 files"]
    assert listed({".wma": 3, ".m4a": 12}) == "12 .m4a, 3 .wma"
    assert listed({f".{n:02}": 1 for n in range(20)}, 2) == "1 .00, 1 .01 and 18 of other kinds"


def test_a_table_has_one_row_for_each_file_whatever_its_name() -> None:
    names = [os.fsdecode(name) for name in HOSTILE]
    rows = [{"state": "done", "source": name} for name in names]
    text = "".join(batch.table(rows, "csv", ("state", "source")))
    assert not (ACTS - {"\n"}) & set(text)
    assert len(text.splitlines()) == len(names) + 1
    assert [row["source"] for row in csv.DictReader(io.StringIO(text))] == [printable(name) for name in names]


def test_hostile_names_go_through_the_whole_program_and_programs_get_them_whole(program: Program) -> None:
    program.environment |= FAST_MODEL
    folder = os.fsencode(program.folder / "in")
    source = rig.record(program.folder / "in" / "good.wav", 0.05)
    for name in HOSTILE:
        os.link(source, os.path.join(folder, name)) if b"/" not in name else None
    source.unlink()
    names = set(os.listdir(folder))
    number = len(names)
    told = program.run("enqueue", "-r", program.folder / "in")
    worked = program.run("work", "--variant", "fast", "--min-free", "0")
    listed = program.run("list")
    status, report = program.run("status"), program.run("report", "--as", "csv")
    for text in (told.stdout, told.stderr, worked.stderr, listed.stdout, status.stdout, report.stdout):
        assert not (ACTS - {"\n"}) & set(text)
        text.encode()
    assert len(told.stdout.splitlines()) == len(listed.stdout.splitlines()) == number
    assert len(report.stdout.splitlines()) == number + 1
    assert len([line for line in worked.stderr.splitlines() if " done " in line]) == number
    for job in map(json.loads, program.run("list", "--json").stdout.splitlines()):
        assert os.path.basename(os.fsencode(job["source"])) in names
        assert Path(job["output"]).is_file()
        shown_one = program.run("show", str(job["id"])).stdout
        assert not (ACTS - {"\n"}) & set(shown_one)
