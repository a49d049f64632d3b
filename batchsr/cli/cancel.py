"""`cancel`: restore these jobs no further."""

from __future__ import annotations

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.selection import job_ids, tell_ids


@click.command("cancel")
@click.argument("ids", nargs=-1, required=True)
@json_option
@pass_app
def cancel_command(app: App, ids: tuple[str, ...]) -> None:
    """Cancel jobs; a running one stops at its next window."""
    with app.queue() as queue:
        tell_ids(app, "cancelled", queue.cancel(job_ids(ids)))
