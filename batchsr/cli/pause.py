"""`pause`: let workers take no other file."""

from __future__ import annotations

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app


@click.command("pause")
@click.argument("reason", default="")
@click.option("--host", metavar="NAME", help="Of a fleet: take this host out, and let the others go on.")
@fleet_options
@json_option
@pass_app
def pause_command(app: App, reason: str, host: str | None) -> None:
    """Pause the queue: workers finish the file in flight and take no other."""
    with app.queue() as queue:
        if host is not None:
            host = queue.pause_host(host, reason)
            app.answer({"paused": True, "reason": reason, "host": host}, f"paused on {host}")
            return
        queue.pause(reason)
    app.answer({"paused": True, "reason": reason}, "paused")
