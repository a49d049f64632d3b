"""`retry`: queue jobs again that failed."""

from __future__ import annotations

import dataclasses
import fnmatch

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.selection import Selection, ask, selection_options, tell_ids, yes_option
from batchsr.queue import State

_FAILED = (State.FAILED, State.QUARANTINED)


@click.command("retry")
@selection_options
@click.option("--redo", is_flag=True, help="Also jobs that are done.")
@yes_option
@fleet_options
@json_option
@pass_app
def retry_command(app: App, selection: Selection, redo: bool, yes: bool) -> None:
    """Queue failed and quarantined jobs again: all of them, or those that are named.

    A job that is named by its number is also taken back from `cancelled`. With --redo it asks first where jobs are not
    named one by one.
    """
    with app.queue() as queue:
        selection.check_any(queue)
        if redo and (selection.is_wide or selection.is_empty):
            wanted = dataclasses.replace(selection, states=selection.states or (*_FAILED, State.DONE))
            ask(app, "restore {} again", sum(1 for _ in wanted.jobs(queue)), yes=yes)
        if selection.is_empty and not redo:
            retried = queue.retry(None)
        elif selection.numbers and selection == Selection(selection.numbers):
            retried = queue.retry(selection.ids(), redo=redo)
        else:
            undone = (State.CANCELLED,) if selection.error and fnmatch.fnmatchcase("undone", selection.error) else ()
            states = selection.states or (*_FAILED, *((State.DONE,) if redo else ()), *undone)
            chosen = dataclasses.replace(selection, states=states)
            retried = queue.retry([job.id for job in chosen.jobs(queue)], redo=redo)
        tell_ids(app, "retried", retried)
        selection.check(queue)
