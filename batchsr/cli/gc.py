"""`gc`: remove what finished jobs left behind."""

from __future__ import annotations

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.storage import printable
from batchsr.worker import maintenance


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@json_option
@pass_app
def gc_command(app: App, dry_run: bool) -> None:
    """Remove scratch files of finished and cancelled jobs, and old events. Never anything else."""
    with app.queue() as queue:
        garbage = maintenance.collect_garbage(queue, dry_run=dry_run)
    document = {
        "removed": [str(path) for path in garbage.files],
        "bytes": garbage.bytes,
        "events": garbage.events,
        "dry_run": dry_run,
    }
    app.answer(document, (printable(str(path)) for path in garbage.files))
    if not app.json:
        app.note(f"{'would free' if dry_run else 'freed'} {garbage.bytes / 1e6:.1f} MB, {garbage.events} old events")
