"""`import-sidecars`: a queue's history from the outputs on the disk."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from batchsr.cli import completing
from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.paths import UserPath
from batchsr.display import counted, printable, shown
from batchsr.errors import EXIT_SOME_FAILED, UsageError
from batchsr.queue import Finished, Outcome, State
from batchsr.queue.opening import open_queue


@click.command("import-sidecars")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=UserPath(path_type=Path))
@click.option("--batch", shell_complete=completing.batches, help="Of this batch.  [default: what each sidecar says]")
@click.option("--dry-run", is_flag=True, help="Check all, and say what would be taken; write nothing.")
@fleet_options
@json_option
@pass_app
def import_sidecars_command(app: App, folders: tuple[Path, ...], batch: str | None, dry_run: bool) -> None:
    """Take what sidecars below DIR prove into the queue as done: after a database was lost.

    Each output is hashed and must be the one that its sidecar names. What the queue knows already stays as it is. A
    sidecar that cannot be believed is named, with the reason, and ends the command with 3.
    """
    from batchsr.archive import history
    from batchsr.archive.second_copies import SecondCopies

    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{shown(folder)} is no folder", remedy="name the folder that holds the outputs")
    app.acts()
    refused: list[history.Refused] = []
    counts: Counter[Outcome] = Counter()

    def proved() -> Iterator[Finished]:
        copies = SecondCopies(queue.jobs(states=[State.DONE]))
        for folder in folders:
            for one in history.finished_below(Path(os.path.abspath(folder)), batch=batch):
                if isinstance(one, history.Refused):
                    refused.append(one)
                elif (first := copies.first(one)) is not None:
                    counts[Outcome.ALREADY_DONE] += 1
                    word, job, why = str(Outcome.ALREADY_DONE), one.job, f"a package's copy of {first}"
                    document = {"outcome": word, "id": None, "source": job.source, "output": job.output, "why": why}
                    app.answer(document, printable(f"{word:<14} {job.output}  ({why})") if app.verbosity > 0 else ())
                else:
                    copies.note(one)
                    yield one

    with contextlib.ExitStack() as held:
        if dry_run and not app.has_queue():  # a look makes no database where there is none
            queue = open_queue(Path(held.enter_context(tempfile.TemporaryDirectory())) / "queue.db")
        else:
            queue = app.queue(make=True)
        held.enter_context(queue)
        for answer in queue.import_done(proved(), dry_run=dry_run):
            counts[answer.outcome] += 1
            word = {Outcome.QUEUED: "would import" if dry_run else "imported"}.get(answer.outcome, str(answer.outcome))
            number = None if dry_run and answer.outcome is Outcome.QUEUED else answer.job_id
            document = {"outcome": word, "id": number, "source": answer.source, "output": answer.output, "why": ""}
            app.answer(document, printable(f"{word:<14} {answer.output}") if dry_run or app.verbosity > 0 else ())
    for one in refused:
        document = {"outcome": "refused", "id": None, "source": None, "output": str(one.path), "why": one.why}
        app.answer(document, printable(f"{'refused':<14} {one.path}  ({one.why})"))
    taken = counts.pop(Outcome.QUEUED, 0)
    known = sum(counts.values())
    app.note(
        f"{'would be ' if dry_run else ''}imported: {counted(taken, 'job')}"
        + (f"; known already: {known:,}" if known else "")
        + (f"; refused: {len(refused):,}" if refused else "")
    )
    if refused:
        sys.exit(EXIT_SOME_FAILED)
