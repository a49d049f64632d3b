"""`list`: the jobs, one a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.queue import State
from batchsr.storage import printable


@click.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice([str(s) for s in State]), help="Only these states.")
@click.option("--batch", help="Only this batch.")
@click.option("-n", "--limit", type=int, help="At most so many.")
@json_option
@pass_app
def list_command(app: App, states: tuple[str, ...], batch: str | None, limit: int | None) -> None:
    """The jobs, one a line."""
    with app.queue() as queue:
        jobs = queue.jobs(states=tuple(State(s) for s in states), batch=batch, limit=limit)
        for job in jobs:
            row = job.to_dict()
            app.answer(row, _line(row))


def _line(row: Mapping[str, Any]) -> Iterator[str]:
    done = f"{row['windows_done']}/{row['windows_total'] or '?'}"
    rtf = f"RTF {row['rtf']:.3f}" if row["rtf"] else ""
    error = f"  {row['error']} [{row['error_code']}]" if row["error"] else ""
    yield printable(f"#{row['id']:<6} {row['state']:<12} {done:>9} {rtf:<10} {row['source']}{error}")
