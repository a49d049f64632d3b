"""`pause`: let workers take no other file."""

from __future__ import annotations

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app


@click.command("pause")
@click.argument("reason", default="")
@fleet_options
@json_option
@pass_app
def pause_command(app: App, reason: str) -> None:
    """Pause the queue: workers finish the file in flight and take no other."""
    with app.queue() as queue:
        queue.pause(reason)
    app.answer({"paused": True, "reason": reason}, "paused")
