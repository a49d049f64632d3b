"""What was done to a batch, as a table: JSON, CSV, or pages of HTML. Rows are written as they come, never kept."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from batchsr.storage import printable
from batchsr.temporary import Temporary

PAGE_ROWS: Final = 5000
"""Rows of one page of HTML in a file; a browser is slow with more."""
_BLOCK_CHARACTERS: Final = 1 << 16
_Row = Mapping[str, Any]


def table(rows: Iterable[_Row], form: str, columns: Sequence[str], counts: Mapping[str, int]) -> Iterator[str]:
    """Give the batch as pieces of one text: `json` (an array), `csv`, or `html` (a page that needs nothing else).

    `counts` says how many jobs are in each state, for the page's head.
    """
    pieces = {"json": _json, "csv": _csv}[form](rows, columns) if form != "html" else _page(rows, columns, counts)
    return _blocks(pieces)


def write(path: Path, rows: Iterable[_Row], form: str, columns: Sequence[str], counts: Mapping[str, int]) -> list[Path]:
    """Write a report whole, replacing what was there; HTML in pages of 5,000 rows, beside each other.

    Returns the files. Raises ResourceError, OutputError.
    """
    if form != "html":
        _write(path, table(rows, form, columns, counts))
        return [path]
    pages = max(1, -(-sum(counts.values()) // PAGE_ROWS))
    source = iter(rows)
    names = [path, *(path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(2, pages + 1))]
    for number, name in enumerate(names):
        some = itertools.islice(source, PAGE_ROWS) if number + 1 < len(names) else source
        _write(name, _blocks(_page(some, columns, counts, [one.name for one in names], number)))
    return names


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


def _page(
    rows: Iterable[_Row],
    columns: Sequence[str],
    counts: Mapping[str, int],
    names: Sequence[str] = (),
    number: int = 0,
) -> Iterator[str]:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    summary = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count) or "no files"
    links = _links(names, number)
    yield (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>batchsr report</title>\n'
        "<style>body{font:14px system-ui;margin:2em}table{border-collapse:collapse}"
        "td,th{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:left;font-variant-numeric:tabular-nums}"
        ".failed,.quarantined{background:#fdd}</style>\n"
        f"<h1>batchsr report</h1>\n<p>{html.escape(summary)}</p>\n{links}"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n"
    )
    for row in rows:
        cells = "".join(f"<td>{html.escape(_printable(row.get(column)))}</td>" for column in columns)
        yield f'<tr class="{html.escape(str(row["state"]))}">{cells}</tr>\n'
    yield f"</tbody></table>\n{links}</html>\n"


def _links(names: Sequence[str], number: int) -> str:
    """Say where the other pages are."""
    if len(names) < 2:
        return ""
    parts = [
        f"<b>{place + 1}</b>" if place == number else f'<a href="{html.escape(name)}">{place + 1}</a>'
        for place, name in enumerate(names)
    ]
    return f"<p>page {' '.join(parts)}</p>\n"


def _printable(value: object) -> str:
    """Text for a table; bytes of a name that are no UTF-8 become backslash escapes."""
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):  # remarks
        return printable("; ".join(f"{one['message']} [{one['code']}]" for one in value))
    return printable(value)
