"""`resume`: let a paused queue, and jobs that are held, go on."""

from __future__ import annotations

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app


@click.command("resume")
@click.option("--host", metavar="NAME", help="Of a fleet: let this host, which was taken out, claim again.")
@fleet_options
@json_option
@pass_app
def resume_command(app: App, host: str | None) -> None:
    """Let a paused queue go on, and try jobs at once that are held for a place in trouble."""
    with app.queue() as queue:
        if host is not None:
            host, was_paused = queue.resume_host(host)
            said = f"resumed on {host}" if was_paused else f"{host} was not paused"
            app.answer({"paused": False, "was_paused": was_paused, "freed": 0, "host": host}, said)
            return
        was_paused = queue.resume()
        freed = queue.free()
    words = ["resumed" if was_paused else "was not paused", *([f"{freed} held jobs are tried again"] if freed else [])]
    app.answer({"paused": False, "was_paused": was_paused, "freed": freed}, "; ".join(words))
