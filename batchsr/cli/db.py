"""`db`: where the queue's database is, whether it is sound, a backup."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.errors import EXIT_IO


@click.group("db")
def db_command() -> None:
    """The queue's database: where it is, whether it is sound, a backup."""


@db_command.command("path")
@json_option
@pass_app
def path_command(app: App) -> None:
    """Print the database's path."""
    app.answer({"database": str(app.db)}, str(app.db))


@db_command.command("check")
@json_option
@pass_app
def check_command(app: App) -> None:
    """Check the database's integrity and the queue's invariants."""
    with app.queue() as queue:
        problems = queue.check()
    app.answer({"database": str(app.db), "sound": not problems, "problems": problems}, problems or "sound")
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
    app.answer({"backup": str(target)}, str(target))


@db_command.command("migrate")
@json_option
@pass_app
def migrate_command(app: App) -> None:
    """Bring the database to this program's version (every command does so by itself)."""
    with app.queue(make=True):
        pass
    app.answer({"database": str(app.db), "migrated": True}, f"{app.db} is up to date")
