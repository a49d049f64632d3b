"""`list`: the jobs, one a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.selection import Selection, selection_options
from batchsr.display import printable
from batchsr.queue import Sort


@click.command("list")
@selection_options
@click.option("--sort", type=click.Choice(get_args(Sort)), default="id", show_default=True, help="In this order.")
@click.option("--failures-first", is_flag=True, help="Failed and quarantined ones before the others.")
@click.option("--newest-first", is_flag=True, help="The latest to come in first.")
@click.option("-n", "--limit", type=int, help="At most so many.")
@fleet_options
@json_option
@pass_app
def list_command(
    app: App, selection: Selection, sort: Sort, failures_first: bool, newest_first: bool, limit: int | None
) -> None:
    """The jobs, one a line: all, or those that are named."""
    shown = 0
    with app.queue() as queue:
        for job in selection.jobs(
            queue, newest_first=newest_first, limit=limit, sort=sort, failures_first=failures_first
        ):
            row = job.to_dict()
            app.answer(row, _line(row))
            shown += 1
        selection.check(queue)
    if not shown:
        app.note("the queue holds no job" if selection.is_empty else "no job is meant by that")


def _line(row: Mapping[str, Any]) -> str:
    done = f"{row['windows_done']}/{row['windows_total'] or '?'}"
    rtf = f"RTF {row['rtf']:.3f}" if row["rtf"] and row["state"] == "done" else ""
    error = f"  {row['error']} [{row['error_code']}]" if row["error"] else ""
    return printable(
        f"#{row['id']:<6} {'held' if row['held'] else row['state']:<12} {done:>9} {rtf:<10} {row['source']}{error}"
    )
