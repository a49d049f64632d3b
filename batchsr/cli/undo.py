"""`undo`: take back what was made, into a folder."""

from __future__ import annotations

import collections
import os
import sys
from pathlib import Path

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.paths import UserPath
from batchsr.cli.selection import Selection, ask, selection_options, yes_option
from batchsr.display import counted, printable
from batchsr.errors import EXIT_SOME_FAILED, UsageError
from batchsr.queue import State


@click.command("undo")
@selection_options
@click.option("--into", type=UserPath(), help="Move them here.  [default: batchsr-undone, beside each output]")
@click.option("--dry-run", is_flag=True, help="Say what would be moved; move nothing.")
@yes_option
@fleet_options
@json_option
@pass_app
def undo_command(app: App, selection: Selection, into: str | None, dry_run: bool, yes: bool) -> None:
    """Move the outputs, sidecars and copies of jobs that are done into a folder, if they still are as they were made.

    Nothing is deleted or replaced, and sources are not touched. The jobs are cancelled then, with the error code
    `undone`; `retry` makes them again. It asks first; after any stop the same command goes on.
    """
    from batchsr.worker import undo

    if selection.is_empty:
        raise UsageError("nothing is named", remedy="name jobs by number, --state, --batch, --path or --error")
    app.acts()
    folder = Path(os.path.abspath(into)) if into is not None else None
    verdicts: collections.Counter[str] = collections.Counter()
    with app.queue() as queue:
        selection.check_any(queue)
        jobs = list(selection.jobs(queue))
        done = [job for job in jobs if job.state is State.DONE]
        if not dry_run:
            ask(app, "move what {} made" + (f" to {folder}" if folder else " to batchsr-undone"), len(done), yes=yes)
        for one in undo.undo(queue, done, folder, dry_run=dry_run):
            verdicts[one.verdict] += 1
            document = {
                "id": one.job.id,
                "output": one.job.output,
                "verdict": one.verdict,
                "detail": one.detail,
                "files": list(one.files),
            }
            where = f" -> {one.files[-1]}" if one.verdict == "undone" else f"  ({one.detail})"
            app.answer(document, printable(f"{one.verdict:<10} #{one.job.id:<6} {one.job.output}{where}"))
        selection.check(queue)
    left = verdicts.total() - verdicts["undone"]
    app.note(f"{'would be ' if dry_run else ''}undone: {verdicts['undone']}" + _told(left, len(jobs) - len(done)))
    if left:
        sys.exit(EXIT_SOME_FAILED)


def _told(left: int, others: int) -> str:
    told = f"; left as they are, since they are not as they were made: {left}" if left else ""
    return told + (f"; {counted(others, 'job is', 'jobs are')} not done" if others else "")
