"""Tables for people, as wide as their terminal. rich lives here too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchsr.display import printable
from batchsr.report.columns import TEXT
from batchsr.report.progress import wrapped


def plain_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """Rows of the queue as a table for `list` and `status`."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="left" if column in TEXT else "right")
    for row in rows:
        table.add_row(*(Text("" if row.get(column) is None else printable(row[column])) for column in columns))
    return table


def figures_table(console: Console, head: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> None:
    """Draw a table of figures as wide as the terminal; too narrow a one has a block of lines for each row instead."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    if sum(widths) + 2 * len(widths) > console.width:
        for row in rows:
            console.print(Text(f"{row[0]} at {row[1]} Hz, {row[2]}", style="bold"))
            cells = "   ".join(f"{name} {value}" for name, value in zip(head[3:], row[3:], strict=True))
            for part in wrapped(f"  {cells}", console.width):
                console.print(Text(part))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(head):
            table.add_column(Text(column), no_wrap=True, justify="left" if number in (0, 2) else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    for part in wrapped(note, console.width):
        console.print(Text(part, style="dim"))
