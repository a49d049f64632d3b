"""`cancel`: restore these jobs no further."""

from __future__ import annotations

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.selection import Selection, selection_options, tell_ids
from batchsr.errors import UsageError


@click.command("cancel")
@selection_options
@json_option
@pass_app
def cancel_command(app: App, selection: Selection) -> None:
    """Cancel jobs; a running one stops at its next window."""
    if selection.is_empty:
        raise UsageError("nothing is named", remedy="name jobs by number, --state, --batch, --path or --error")
    with app.queue() as queue:
        tell_ids(app, "cancelled", queue.cancel([job.id for job in selection.jobs(queue)]))
        selection.check(queue)
