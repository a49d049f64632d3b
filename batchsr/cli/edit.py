"""`edit`: another priority or batch for jobs that wait."""

from __future__ import annotations

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.selection import Selection, selection_options, tell_ids
from batchsr.errors import UsageError

_HIGHEST = 2**63 - 1


@click.command("edit")
@selection_options
@click.option("--priority", type=click.IntRange(-_HIGHEST, _HIGHEST), help="Higher goes first.")
@click.option("--to-batch", metavar="NAME", help="The batch that they belong to from now on; '' for none.")
@json_option
@pass_app
def edit_command(app: App, selection: Selection, priority: int | None, to_batch: str | None) -> None:
    """Change the priority or the batch of jobs that are queued or waiting; others stay as they are."""
    if selection.is_empty:
        raise UsageError("nothing is named", remedy="name jobs by number, --state, --batch, --path or --error")
    if priority is None and to_batch is None:
        raise UsageError("nothing is to be changed", remedy="say --priority N or --to-batch NAME")
    with app.queue() as queue:
        ids = [job.id for job in selection.jobs(queue)]
        tell_ids(app, "edited", edited := queue.edit(ids, priority=priority, batch=to_batch))
        if begun := len(ids) - len(edited):
            app.note(f"left as they are, since they are neither queued nor waiting: {begun}")
        selection.check(queue)
