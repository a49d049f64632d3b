"""`retry`: queue jobs again that failed."""

from __future__ import annotations

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.selection import job_ids, tell_ids


@click.command("retry")
@click.argument("ids", nargs=-1)
@click.option("--redo", is_flag=True, help="Also jobs that are done.")
@json_option
@pass_app
def retry_command(app: App, ids: tuple[str, ...], redo: bool) -> None:
    """Queue failed and quarantined jobs again: all of them, or the IDS given."""
    with app.queue() as queue:
        tell_ids(app, "retried", queue.retry(job_ids(ids) or None, redo=redo))
