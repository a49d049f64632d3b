"""`show`: all that is known of one job."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from batchsr.cli import completing
from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.selection import job_ids
from batchsr.errors import UsageError
from batchsr.queue import Job, State
from batchsr.remote.address import path_of


@click.command("show")
@click.argument("job_id", shell_complete=completing.numbers)
@fleet_options
@json_option
@pass_app
def show_command(app: App, job_id: str) -> None:
    """All that is known of one job, in words: what it is, what was done to it, and its history."""
    with app.queue() as queue:
        (number,) = job_ids((job_id,))
        job = queue.get(number)
        if job is None:
            raise UsageError(f"there is no job {number}", remedy="`batchsr list` shows them")
        document = {**job.to_dict(), "attempts_made": queue.attempts(number), "events": queue.events(number)}
    app.answer(document, _told(document, job))


def _told(document: Mapping[str, Any], job: Job) -> Iterator[str]:
    """Yield the same for people, as wide as the terminal; without one each entry is a line."""
    from batchsr.report.about import about
    from batchsr.report.record import report_of

    report = report_of(path_of(job.output), job) if job.state is State.DONE else {}
    yield from about(document, report, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
