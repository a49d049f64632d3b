"""`db`: where the queue's database is, whether it is sound, a backup."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batchsr import storage
from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.paths import UserPath
from batchsr.display import counted, printable
from batchsr.errors import EXIT_IO, QueueError
from batchsr.queue import LIVE
from batchsr.queue.opening import restore_backup


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
    if not storage.is_there(app.db):
        raise QueueError(
            f"there is no database at {app.db}", remedy="`batchsr enqueue` makes one; or name it with --db"
        )
    with app.queue() as queue:
        held_up = queue.held_up()  # before the check, which is a long reader itself
        problems = queue.check()
    document = {"database": str(app.db), "sound": not problems, "problems": problems, "held_up": held_up}
    app.answer(document, [*(problems or ["sound"]), *([held_up] if held_up else [])])
    if problems:
        sys.exit(EXIT_IO)


@db_command.command("backup")
@click.argument("target", type=UserPath(path_type=Path))
@json_option
@pass_app
def backup_command(app: App, target: Path) -> None:
    """Copy the database to TARGET while workers go on."""
    with app.queue() as queue:
        queue.backup(target)
    app.answer({"backup": str(target)}, str(target))


@db_command.command("restore")
@click.argument("backup", type=UserPath(path_type=Path))
@json_option
@pass_app
def restore_command(app: App, backup: Path) -> None:
    """Put BACKUP in the database's place, which is kept beside it. No worker may be at work.

    Files that were finished since the backup are not made again: their outputs are known by their sidecars.
    """
    from batchsr.worker import recovery

    restored = restore_backup(app.db, backup)
    with app.queue() as queue:
        adopted = [job.output for job in recovery.adoptable(queue.jobs(states=LIVE))]
    lines = [f"restored {counted(restored.jobs, 'job')} from {backup}"]
    if restored.kept is not None:
        lines.append(f"the database of before is {restored.kept}")
    if restored.taken_back:
        lines.append(f"{counted(restored.taken_back, 'job was', 'jobs were')} in hand then, and are queued again")
    if adopted:
        lines.append(
            f"{counted(len(adopted), 'output was', 'outputs were')} finished since; `batchsr work` adopts each whose "
            "hashes are right, and does not make it again:"
        )
        lines += [f"  {printable(output)}" for output in adopted]
    document = {
        "restored": str(backup),
        "jobs": restored.jobs,
        "kept": None if restored.kept is None else str(restored.kept),
        "taken_back": restored.taken_back,
        "to_adopt": adopted,
    }
    app.answer(document, lines)


@db_command.command("migrate")
@json_option
@pass_app
def migrate_command(app: App) -> None:
    """Bring the database to this program's version (every command does so by itself)."""
    with app.queue(make=True):
        pass
    app.answer({"database": str(app.db), "migrated": True}, f"{app.db} is up to date")
