"""`resume`: let a paused queue, and jobs that are held, go on."""

from __future__ import annotations

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app


@click.command("resume")
@fleet_options
@json_option
@pass_app
def resume_command(app: App) -> None:
    """Let a paused queue go on, and try jobs at once that are held for a place in trouble."""
    with app.queue() as queue:
        was_paused = queue.resume()
        freed = queue.free()
    words = ["resumed" if was_paused else "was not paused", *([f"{freed} held jobs are tried again"] if freed else [])]
    app.answer({"paused": False, "was_paused": was_paused, "freed": freed}, "; ".join(words))
