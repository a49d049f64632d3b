"""`gc`: remove what finished jobs left behind."""

from __future__ import annotations

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.display import printable
from batchsr.errors import UsageError
from batchsr.settings import schedule
from batchsr.worker import maintenance


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@click.option(
    "--older-than",
    metavar="TIME",
    default="90d",
    show_default=True,
    help="Forget the history (not the result) of files that have been over for so long.",
)
@click.option("--vacuum", is_flag=True, help="Give the room in the database that this freed back to the disk.")
@fleet_options
@json_option
@pass_app
def gc_command(app: App, dry_run: bool, older_than: str, vacuum: bool) -> None:
    """Remove the scratch, copies and temporaries that jobs and crashes left, and old history. Never anything else."""
    if dry_run and vacuum:
        raise UsageError("--dry-run and --vacuum exclude each other", remedy="leave one of them out")
    older_s = schedule.duration_s(older_than) if older_than.strip() != "0" else 0.0
    with app.queue() as queue:
        garbage = maintenance.collect_garbage(queue, dry_run=dry_run, events_older_s=older_s)
        vacuumed_bytes = queue.vacuum() if vacuum else 0
    document = {
        "removed": [str(path) for path in garbage.files],
        "bytes": garbage.bytes,
        "events": garbage.events,
        "vacuumed_bytes": vacuumed_bytes,
        "dry_run": dry_run,
    }
    app.answer(document, (printable(str(path)) for path in garbage.files))
    if not app.json:
        app.note(f"{'would free' if dry_run else 'freed'} {garbage.bytes / 1e6:.1f} MB, {garbage.events} old events")
        if vacuum:
            app.note(f"the database is {vacuumed_bytes / 1e6:.1f} MB smaller")
