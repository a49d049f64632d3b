"""`list`: the jobs, one a line."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.selection import Selection, selection_options
from batchsr.queue import State
from batchsr.storage import printable

_SORTS = {
    "id": lambda job: job.id,
    "path": lambda job: job.source,
    "length": lambda job: -(job.audio_s or 0.0),
    "rtf": lambda job: -((job.wall_s or 0.0) / job.audio_s if job.audio_s else 0.0),
    "changed": lambda job: -job.changed_at,
}


@click.command("list")
@selection_options
@click.option("--sort", type=click.Choice(list(_SORTS)), default="id", show_default=True, help="In this order.")
@click.option("--failures-first", is_flag=True, help="Failed and quarantined ones before the others.")
@click.option("--newest-first", is_flag=True, help="The latest to come in first.")
@click.option("-n", "--limit", type=int, help="At most so many.")
@json_option
@pass_app
def list_command(
    app: App, selection: Selection, sort: str, failures_first: bool, newest_first: bool, limit: int | None
) -> None:
    """The jobs, one a line: all, or those that are named."""
    with app.queue() as queue:
        jobs = selection.jobs(queue, newest_first=newest_first, limit=None if failures_first or sort != "id" else limit)
        if sort != "id":
            jobs = iter(sorted(jobs, key=_SORTS[sort]))
        if failures_first:
            jobs = iter(sorted(jobs, key=lambda job: job.state not in (State.FAILED, State.QUARANTINED)))
        for job in itertools.islice(jobs, limit):
            row = job.to_dict()
            app.answer(row, _line(row))
        selection.check(queue)


def _line(row: Mapping[str, Any]) -> str:
    done = f"{row['windows_done']}/{row['windows_total'] or '?'}"
    rtf = f"RTF {row['rtf']:.3f}" if row["rtf"] else ""
    error = f"  {row['error']} [{row['error_code']}]" if row["error"] else ""
    return printable(
        f"#{row['id']:<6} {'held' if row['held'] else row['state']:<12} {done:>9} {rtf:<10} {row['source']}{error}"
    )
