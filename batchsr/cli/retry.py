"""`retry`: queue jobs again that failed."""

from __future__ import annotations

import dataclasses

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.selection import Selection, selection_options, tell_ids
from batchsr.queue import State

_FAILED = (State.FAILED, State.QUARANTINED)


@click.command("retry")
@selection_options
@click.option("--redo", is_flag=True, help="Also jobs that are done.")
@json_option
@pass_app
def retry_command(app: App, selection: Selection, redo: bool) -> None:
    """Queue failed and quarantined jobs again: all of them, or those that are named.

    A job that is named by its number is also taken back from `cancelled`.
    """
    with app.queue() as queue:
        if selection.is_empty:
            retried = queue.retry(None, redo=redo)
        elif selection == Selection(selection.numbers):
            retried = queue.retry(selection.ids(), redo=redo)
        else:
            states = selection.states or (*_FAILED, *((State.DONE,) if redo else ()))
            chosen = dataclasses.replace(selection, states=states)
            retried = queue.retry([job.id for job in chosen.jobs(queue)], redo=redo)
        tell_ids(app, "retried", retried)
        selection.check(queue)
