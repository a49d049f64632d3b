"""Reports of any length: written as they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchsr.report import batch

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
