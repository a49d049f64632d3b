"""Reports of any length: written as they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchsr.report import batch, columns
from batchsr.report.tables import plain_table

COLUMNS = ("id", "state", "source", "rtf")


def rows(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"id": number, "state": "done", "source": f"/a/{number}.wav", "rtf": 0.25}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_is_one_array(tmp_path: Path, count: int) -> None:
    batch.write(tmp_path / "r.json", rows(count), "json", COLUMNS)
    assert json.loads((tmp_path / "r.json").read_text()) == list(rows(count))


def test_csv_has_a_head_and_a_line_for_each_file(tmp_path: Path) -> None:
    batch.write(tmp_path / "r.csv", rows(3), "csv", COLUMNS)
    with (tmp_path / "r.csv").open() as file:
        assert [row["source"] for row in csv.DictReader(file)] == ["/a/0.wav", "/a/1.wav", "/a/2.wav"]


def test_rows_are_not_kept(tmp_path: Path) -> None:
    given = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal given
        for row in rows(20_000):
            given += 1
            yield row

    pieces = batch.table(counted(), "csv", COLUMNS)
    next(pieces)
    assert given < 20_000, "the first block is there before the last row was read"


ERROR = "/archive/1968/page.wav is not audio but a web page (download it again: what came is a page, as a login)"
ROWS = [
    {
        "id": 1,
        "state": "done",
        "file": "call 1.wav",
        "audio_s": "1.000",
        "wall_s": "0.963",
        "rtf": "0.963",
        "attempts": 1,
    },
    {"id": 22, "state": "failed", "file": "a recording with a long name of its own.wav", "attempts": 3, "error": ERROR},
]


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200, None])
def test_the_table_fits_the_terminal_and_folds_no_word(width: int | None) -> None:
    lines = list(plain_table(ROWS, columns.TABLE, width))
    words = {word for text in lines for word in text.split()}
    if width is None:
        assert len(lines) == 1 + len(ROWS), "off a terminal a line is a row"
    else:
        assert max(map(len, lines)) <= width
    for word in (*ERROR.split(), *"a recording with a long name of its own.wav".split(), "failed", "1.000", "0.963"):
        assert word in words
    assert not any(text.endswith(" ") for text in lines)
