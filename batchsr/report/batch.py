"""What was done to a batch, as a table: JSON, CSV, or a page of HTML."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchsr import storage
from batchsr.temporary import write_atomic


def table(jobs: Iterable[Mapping[str, Any]], form: str, columns: Sequence[str]) -> str:
    """The batch as one text: `json` (one array), `csv`, or `html` (a page that needs nothing else)."""
    rows = [{column: job.get(column) for column in columns} for job in jobs]
    if form == "json":
        return json.dumps(rows, indent=2) + "\n"
    if form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _printable(value) for key, value in row.items()} for row in rows)
        return text.getvalue()
    return _page(rows, columns)


def write_text(path: Path, text: str) -> None:
    """Write a report's text whole, replacing what was there. Raises ResourceError."""
    write_atomic(path, text.encode("utf-8", "surrogateescape"))


def _page(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    states: dict[str, int] = {}
    for row in rows:
        states[str(row["state"])] = states.get(str(row["state"]), 0) + 1
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "\n".join(
        f'<tr class="{html.escape(str(row["state"]))}">'
        + "".join(f"<td>{html.escape(_printable(row[column]))}</td>" for column in columns)
        + "</tr>"
        for row in rows
    )
    summary = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no files"
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>batchsr report</title>\n'
        "<style>body{font:14px system-ui;margin:2em}table{border-collapse:collapse}"
        "td,th{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:left;font-variant-numeric:tabular-nums}"
        ".failed,.quarantined{background:#fdd}</style>\n"
        f"<h1>batchsr report</h1>\n<p>{html.escape(summary)}</p>\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></html>\n"
    )


def _printable(value: object) -> str:
    """Text for a table; bytes of a name that are no UTF-8 become backslash escapes."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):  # remarks
        return storage.printable("; ".join(f"{one['message']} [{one['code']}]" for one in value))
    return storage.printable(value)
