"""`show`: all that is known of one job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.selection import job_ids
from batchsr.errors import UsageError
from batchsr.storage import printable


@click.command("show")
@click.argument("job_id")
@json_option
@pass_app
def show_command(app: App, job_id: str) -> None:
    """All that is known of one job: its row, its attempts, its events."""
    with app.queue() as queue:
        (number,) = job_ids((job_id,))
        job = queue.get(number)
        if job is None:
            raise UsageError(f"there is no job {number}", remedy="`batchsr list` shows them")
        document = {**job.to_dict(), "attempts_made": queue.attempts(number), "events": queue.events(number)}
    app.answer(document, _lines(document))


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    for key, value in document.items():
        if isinstance(value, list):
            yield f"{key}:"
            for entry in value:
                yield "  " + ", ".join(f"{k}={printable(str(v))}" for k, v in entry.items() if v is not None)
        elif value is not None and value != "":
            yield f"{key}: {printable(json.dumps(value) if isinstance(value, dict) else str(value))}"
