"""Tables for people, as wide as their terminal. rich lives here too."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchsr.display import printable
from batchsr.report.columns import TEXT
from batchsr.report.progress import wrapped

_HEAD: Final = ("id", "state", "file")
"""What a row begins with where it has lines of its own."""
_WRAPS: Final = ("file", "error")
"""Columns whose words may go on in a next line."""
_LONG_WORD: Final = 40
"""A word that is longer than this, as a path is, is folded where its column is narrower."""


def plain_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int | None) -> Iterator[str]:
    """Yield the queue's rows as lines of a table, none wider than `width` columns; None: one line a row, however wide.

    A terminal that is too narrow for it has a few lines for each row instead.
    """
    cells = [["" if row.get(column) is None else printable(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    wide = list(widths)
    if width is not None:
        for number in (number for number, name in enumerate(columns) if name in _WRAPS):
            longest = max((len(word) for row in cells for word in row[number].split()), default=0)
            wide[number] = min(widths[number], max(len(columns[number]), min(_LONG_WORD, longest)))
        spare = width - sum(wide) - 2 * (len(columns) - 1)
        if spare < 0:
            yield from _blocks(cells, columns, width)
            return
        for number, (want, has) in enumerate(zip(widths, wide, strict=True)):  # the error, which is last, has the rest
            more = min(want - has, spare // 2 if number + 1 < len(columns) else spare)
            wide[number], spare = has + more, spare - more
    table = Table(box=None, pad_edge=False)
    for column, columns_wide in zip(columns, wide, strict=True):
        justify: Literal["left", "right"] = "left" if column in TEXT else "right"
        table.add_column(column, overflow="fold", width=columns_wide, justify=justify)
    for row in cells:
        table.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=sum(wide) + 2 * len(wide), color_system=None, markup=False)
    with console.capture() as drawn:
        console.print(table)
    yield from (text.rstrip() for text in drawn.get().splitlines())


def _blocks(cells: Sequence[Sequence[str]], columns: Sequence[str], width: int) -> Iterator[str]:
    for row in cells:
        head = "  ".join(cell for name, cell in zip(columns, row, strict=True) if name in _HEAD)
        facts = [f"{name} {cell}" for name, cell in zip(columns, row, strict=True) if cell and name not in _HEAD]
        for text in (head, *(("  " + "   ".join(facts),) if facts else ())):
            yield from wrapped(text, width)


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
