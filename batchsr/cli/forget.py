"""`forget`: take jobs out of the queue's record."""

from __future__ import annotations

import sys

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.selection import Selection, ask, selection_options, tell_ids, yes_option
from batchsr.display import counted
from batchsr.errors import EXIT_SOME_FAILED, UsageError
from batchsr.queue import OWNED


@click.command("forget")
@selection_options
@yes_option
@fleet_options
@json_option
@pass_app
def forget_command(app: App, selection: Selection, yes: bool) -> None:
    """Take jobs out of the queue's record, with their history. No file is touched: outputs and sidecars stay.

    Jobs in a worker's hands are refused; `cancel` them first. It asks first.
    """
    if selection.is_empty:
        raise UsageError("nothing is named", remedy="name jobs by number, --state, --batch, --path or --error")
    with app.queue() as queue:
        selection.check_any(queue)
        jobs = list(selection.jobs(queue))
        free = [job.id for job in jobs if job.state not in OWNED]
        ask(app, "forget {}, whose files stay", len(free), yes=yes)
        forgotten = queue.forget(free)
        tell_ids(app, "forgotten", forgotten)
        if in_flight := len(jobs) - len(forgotten):
            app.note(f"{counted(in_flight, 'job is', 'jobs are')} in a worker's hands: `batchsr cancel` first")
        there = {job.id for job in jobs}
        selection.check(queue, besides=there)
    if in_flight:
        sys.exit(EXIT_SOME_FAILED)
