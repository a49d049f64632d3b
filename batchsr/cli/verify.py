"""`verify`: whether the outputs are as they were made."""

from __future__ import annotations

import sys
from typing import Any

import click

from batchsr.cli import completing
from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.selection import job_ids
from batchsr.errors import EXIT_SOME_FAILED
from batchsr.storage import printable
from batchsr.worker import maintenance


@click.command("verify")
@click.argument("ids", nargs=-1, shell_complete=completing.numbers)
@json_option
@pass_app
def verify_command(app: App, ids: tuple[str, ...]) -> None:
    """Hash the outputs again and compare with the rows: ok, missing, changed or truncated."""
    app.acts()
    bad = 0
    with app.queue() as queue:
        for verdict in maintenance.verify(queue, job_ids(ids) or None):
            bad += verdict.verdict != "ok"
            document: dict[str, Any] = {
                "id": verdict.job.id,
                "output": verdict.job.output,
                "verdict": verdict.verdict,
                "detail": verdict.detail,
            }
            line = printable(f"{verdict.verdict:<10} #{verdict.job.id}  {verdict.job.output}  {verdict.detail}")
            app.answer(document, line if verdict.verdict != "ok" or app.verbosity > 0 else ())
    app.note(f"{bad} of the outputs are not as they were made" if bad else "all outputs are as they were made")
    if bad:
        sys.exit(EXIT_SOME_FAILED)
