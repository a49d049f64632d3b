"""Commands that keep house: db, gc."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.errors import EXIT_IO
from batchsr.storage import printable
from batchsr.work import upkeep


@click.group("db")
def db_command() -> None:
    """The queue's database: where it is, whether it is sound, a backup."""


@db_command.command("path")
@json_option
@pass_app
def path_command(app: App) -> None:
    """Print the database's path."""
    if app.json:
        app.emit({"database": str(app.db)})
    else:
        app.say(str(app.db))


@db_command.command("check")
@json_option
@pass_app
def check_command(app: App) -> None:
    """Check the database's integrity and the queue's invariants."""
    with app.queue() as queue:
        problems = queue.check()
    if app.json:
        app.emit({"database": str(app.db), "sound": not problems, "problems": problems})
    else:
        app.say("\n".join(problems) or "sound")
    if problems:
        sys.exit(EXIT_IO)


@db_command.command("backup")
@click.argument("target", type=click.Path(path_type=Path))
@json_option
@pass_app
def backup_command(app: App, target: Path) -> None:
    """Copy the database to TARGET while workers go on."""
    with app.queue() as queue:
        queue.backup(target)
    if app.json:
        app.emit({"backup": str(target)})
    else:
        app.say(str(target))


@db_command.command("migrate")
@json_option
@pass_app
def migrate_command(app: App) -> None:
    """Bring the database to this program's version (every command does so by itself)."""
    with app.queue():
        pass
    if app.json:
        app.emit({"database": str(app.db), "migrated": True})
    else:
        app.say(f"{app.db} is up to date")


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@json_option
@pass_app
def gc_command(app: App, dry_run: bool) -> None:
    """Remove scratch files of finished and cancelled jobs, and old events. Never anything else."""
    with app.queue() as queue:
        garbage = upkeep.collect_garbage(queue, dry_run=dry_run)
    if app.json:
        app.emit(
            {
                "removed": [str(path) for path in garbage.files],
                "bytes": garbage.bytes,
                "events": garbage.events,
                "dry_run": dry_run,
            }
        )
        return
    for path in garbage.files:
        app.say(printable(str(path)))
    app.note(f"{'would free' if dry_run else 'freed'} {garbage.bytes / 1e6:.1f} MB, {garbage.events} old events")
