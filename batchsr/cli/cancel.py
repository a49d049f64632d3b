"""`cancel`: restore these jobs no further."""

from __future__ import annotations

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.selection import Selection, ask, selection_options, tell_ids, yes_option
from batchsr.errors import UsageError
from batchsr.queue import LIVE, State


@click.command("cancel")
@selection_options
@yes_option
@fleet_options
@json_option
@pass_app
def cancel_command(app: App, selection: Selection, yes: bool) -> None:
    """Cancel jobs; a running one stops at its next window. `retry` takes them back, if it names them.

    It asks first where jobs are not named one by one.
    """
    if selection.is_empty:
        raise UsageError("nothing is named", remedy="name jobs by number, --state, --batch, --path or --error")
    with app.queue() as queue:
        selection.check_any(queue)
        jobs = [job for job in selection.jobs(queue) if job.state in LIVE and job.state != State.COMMITTING]
        ask(app, "cancel {}", len(jobs), yes=yes or not selection.is_wide)
        tell_ids(app, "cancelled", queue.cancel([job.id for job in jobs]))
        selection.check(queue)
