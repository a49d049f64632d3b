"""`resume`: let a paused queue go on."""

from __future__ import annotations

import click

from batchsr.cli.app import App, json_option, pass_app


@click.command("resume")
@json_option
@pass_app
def resume_command(app: App) -> None:
    """Let a paused queue go on."""
    with app.queue() as queue:
        was_paused = queue.resume()
    app.answer({"paused": False, "was_paused": was_paused}, "resumed" if was_paused else "was not paused")
