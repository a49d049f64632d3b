"""`list`: the jobs, one a line."""

from __future__ import annotations

from collections.abc import Mapping
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
        if app.json:
            for job in queue.jobs(states=states, batch=batch, limit=limit):
                app.emit(job.to_dict())
        else:
            for row in queue.rows(_COLUMNS, states=states, batch=batch, limit=limit):
                app.say(_line(row))


_COLUMNS = ("id", "state", "held", "windows_done", "windows_total", "rtf", "source", "error", "error_code")


def _line(row: Mapping[str, Any]) -> str:
    done = f"{row['windows_done']}/{row['windows_total'] or '?'}"
    rtf = f"RTF {row['rtf']:.3f}" if row["rtf"] else ""
    error = f"  {row['error']} [{row['error_code']}]" if row["error"] else ""
    return printable(
        f"#{row['id']:<6} {'held' if row['held'] else row['state']:<12} {done:>9} {rtf:<10} {row['source']}{error}"
    )
