"""What was done to a batch, as a table for programs: JSON or CSV. Rows are written as they come, never kept."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from batchsr.display import printable
from batchsr.temporary import Temporary

_BLOCK_CHARACTERS: Final = 1 << 16
_Row = Mapping[str, Any]


def table(rows: Iterable[_Row], form: str, columns: Sequence[str]) -> Iterator[str]:
    """Give the batch as pieces of one text: `json` (an array) or `csv`."""
    return _blocks({"json": _json, "csv": _csv}[form](rows, columns))


def write(path: Path, rows: Iterable[_Row], form: str, columns: Sequence[str]) -> None:
    """Write a report whole, replacing what was there. Raises ResourceError, OutputError."""
    _write(path, table(rows, form, columns))


def _write(path: Path, blocks: Iterable[str]) -> None:
    with Temporary.beside(path) as temporary:
        for block in blocks:
            temporary.write(block.encode("utf-8", "surrogateescape"))
        temporary.publish(overwrite=True)


def _blocks(pieces: Iterable[str]) -> Iterator[str]:
    """Join pieces to larger ones."""
    block: list[str] = []
    size = 0
    for piece in pieces:
        block.append(piece)
        size += len(piece)
        if size >= _BLOCK_CHARACTERS:
            yield "".join(block)
            block, size = [], 0
    yield "".join(block)


def _json(rows: Iterable[_Row], columns: Sequence[str]) -> Iterator[str]:
    before = "[\n"
    for row in rows:
        text = json.dumps({column: row.get(column) for column in columns}, indent=2)
        yield before + "  " + text.replace("\n", "\n  ")
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _csv(rows: Iterable[_Row], columns: Sequence[str]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in itertools.chain(({column: column for column in columns},), rows):
        writer.writerow([_printable(row.get(column)) for column in columns])
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _printable(value: object) -> str:
    """Return text for a table; bytes of a name that are no UTF-8 become backslash escapes."""
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):  # remarks
        return printable("; ".join(f"{one['message']} [{one['code']}]" for one in value))
    return printable(value)
