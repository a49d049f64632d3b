"""`report`: a table of what was done."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from batchsr.cli import completing
from batchsr.cli.app import App, fleet_options, json_option, pass_app, screen_width
from batchsr.cli.paths import UserPath, check_page
from batchsr.cli.selection import check_batch
from batchsr.display import clock, counted, printable, shown
from batchsr.errors import BatchsrError, UsageError
from batchsr.queue import Queue, State
from batchsr.remote.address import is_url, path_of
from batchsr.report import batch as batch_report
from batchsr.report import columns
from batchsr.report.progress import wrapped
from batchsr.report.tables import plain_table
from batchsr.temporary import whole_file

_LONG_ROWS = 1000


@click.command("report")
@click.option("--batch", shell_complete=completing.batches, help="Only this batch.")
@click.option("--as", "form", type=click.Choice(["table", "json", "csv", "html"]), help="[default: table]")
@click.option("-o", "--output", type=UserPath(path_type=Path), help="Write to this file instead of stdout.")
@click.option("--review", type=click.IntRange(0, 100), default=6, show_default=True, help="Of a page: files to hear.")
@click.option("--policy", "policy_at", metavar="FILE", type=UserPath(path_type=Path), help="With a policy's verdict.")
@fleet_options
@json_option
@pass_app
def report_command(
    app: App, batch: str | None, form: str | None, output: Path | None, review: int, policy_at: Path | None
) -> None:
    """What was done to each file: a table, CSV or JSON for programs, or a page to see and hear it (`-o report.html`).

    --json gives a line for each file, `--as json` one array.

    The page works offline. It searches and sorts all files; `--review` of them, those with the worst figures and
    some by chance, can be seen and heard before and after.

    `--policy` (as of `verify`) adds what it says of each output: `pass` or `fail`, and what breaks it.
    """
    suffixes = {".csv": "csv", ".html": "html", ".json": "json"}
    lines = app.json and form is None and output is None
    form = form or suffixes.get(output.suffix.lower() if output else "", "json" if app.json else "table")
    if output is not None:
        if form == "table":
            remedy = "name it .html, .csv or .json, or say which with --as; a table goes to standard output"
            raise UsageError(f"{shown(output)}: no report is written by that name", remedy=remedy)
        check_page(output)
    if policy_at is not None and form == "html":
        raise UsageError("a page has no column for a policy", remedy="write it as .csv or .json, or leave out --policy")
    check = None
    if policy_at is not None:
        from batchsr.archive import policy

        check = policy.read(policy_at)
    more = columns.JUDGED if check is not None else ()
    record, table = (*columns.RECORD, *more), (*columns.TABLE, *more)
    with app.queue() as queue:

        def rows_of(names: Sequence[str]) -> Iterator[dict[str, Any]]:
            rows = queue.rows(names, batch=batch)
            return rows if check is None else policy.judged(queue, rows, check)

        check_batch(queue, batch)
        if lines:
            for row in rows_of(columns.RECORD):
                app.emit(row)
            return
        totals = queue.totals(batch)
        if form == "table":
            _print_table(app, rows_of(columns.TABLE_ROWS), table)
        elif form == "html":
            write_page(app, queue, batch, output, review, totals)
            return
        else:
            rows = rows_of(columns.RECORD)
            if output is not None:
                batch_report.write(output, rows, form, record)
            else:
                for block in batch_report.table(rows, form, record):
                    click.echo(block, nl=False)
            return
    for state, total in totals.items():
        if total["jobs"]:
            times = f"{clock(total['audio_s'])} of audio, {clock(total['wall_s'])} of work"
            text = f"{state}: {counted(int(total['jobs']), 'file')}, {times}"
            width = screen_width(sys.stdout)
            for part in wrapped(text, width) if width else (text,):
                app.say(part)


def write_page(
    app: App,
    queue: Queue,
    batch: str | None,
    output: Path | None,
    review: int,
    totals: Mapping[str, Mapping[str, float]],
    *,
    named: str = "",
) -> None:
    """Write the page to a file, or to stdout. `named` says which page it is where its path is told elsewhere."""
    from batchsr.report.page import build, choosing, heard

    files: list[dict[str, Any]] = []
    notes: list[str] = []
    done = queue.rows(("id", "clipped_samples"), states=[State.DONE], batch=batch)
    for choice in choosing.choose(
        done, review, lambda ids: queue.jobs(ids=ids), lambda job: heard.report_of(path_of(job.output), job)
    ):
        job = choice.job
        if is_url(job.source) or is_url(job.output):
            notes.append(f"#{job.id} cannot be heard here: it is in a store")
            continue
        try:
            report = heard.report_of(path_of(job.output), job)
            one = heard.heard(
                job.source, path_of(job.source), path_of(job.output), report, why=choice.why, number=job.id
            )
        except BatchsrError as e:
            notes.append(f"#{job.id} cannot be heard: {e}")
        else:
            files.append(one)
    facts: dict[str, Any] = {
        "totals": totals,
        "title": f"batchsr report: {batch}" if batch else "batchsr report",
        "heard": files,
        "notes": notes,
    }
    rows = queue.rows(columns.PAGE, batch=batch)
    if output is None:
        build.write_page(sys.stdout.buffer, rows, **facts)
        return
    with whole_file(output) as file:
        build.write_page(file, rows, **facts)
    app.note(f"{named or output}: {counted(len(files), 'file')} to hear")


def _print_table(app: App, rows: Iterator[dict[str, Any]], names: Sequence[str]) -> None:
    """Print a table as wide as the terminal; a long one in columns as wide as its beginning wants, row by row."""
    shown = map(_shown, rows)
    beginning = list(itertools.islice(shown, _LONG_ROWS))
    following = next(shown, None)
    if following is None:
        width = screen_width(sys.stdout)
        for text in plain_table(beginning, names, width):
            app.say(text)
        return
    widths = [max(len(name), *(len(str(row[name] or "")) for row in beginning)) for name in names]
    titles: dict[str, Any] = {name: name for name in names}
    for row in itertools.chain((titles,), beginning, (following,), shown):
        cells = (f"{row[name] or '':<{width}}" for name, width in zip(names, widths, strict=True))
        app.say(printable("  ".join(cells).rstrip()))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table for people."""
    row["file"] = os.path.basename(row["source"])
    if row["state"] != "done":
        row["rtf"] = None  # the work of a file that came to nothing is no speed
    row["x real time"] = f"{1 / row['rtf']:.2f}" if row["rtf"] else ""
    for key in ("audio_s", "wall_s", "rtf"):
        row[key] = f"{row[key]:.3f}" if row[key] else ""
    return row
