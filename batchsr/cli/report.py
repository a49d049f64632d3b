"""`report`: a table of what was done."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from batchsr.cli.app import App, json_option, pass_app
from batchsr.display import counted
from batchsr.report import batch as batch_report
from batchsr.report.live import plain_table
from batchsr.report.progress import clock

_REPORT_COLUMNS = (
    *(
        "id",
        "state",
        "batch",
        "source",
        "output",
        "variant",
        "revision",
        "sample_rate",
        "channels",
        "audio_s",
        "wall_s",
    ),
    *("rtf", "windows_total", "windows_resumed", "attempts", "clipped_samples", "source_sha256", "output_sha256"),
    *("error_code", "error", "remarks", "finished_at"),
)


_TABLE_COLUMNS = ("id", "state", "file", "audio_s", "wall_s", "rtf", "x real time", "attempts", "error")


@click.command("report")
@click.option("--batch", help="Only this batch.")
@click.option("--as", "form", type=click.Choice(["table", "json", "csv", "html"]), help="[default: table]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file instead of stdout.")
@json_option
@pass_app
def report_command(app: App, batch: str | None, form: str | None, output: Path | None) -> None:
    """A table of what was done to each file, with its real-time factor."""
    suffixes = {".csv": "csv", ".html": "html", ".json": "json"}
    form = form or ("json" if app.json else suffixes.get(output.suffix if output else "", "table"))
    with app.queue() as queue:
        rows = [job.to_dict() for job in queue.jobs(batch=batch)]
        totals = queue.totals(batch)
    if form != "table":
        text = batch_report.table(rows, form, _REPORT_COLUMNS)
        if output is None:
            click.echo(text, nl=False)
        else:
            batch_report.write_text(output, text)
        return
    for row in rows:
        row["file"] = Path(row["source"]).name
        row["x real time"] = f"{1 / row['rtf']:.2f}" if row["rtf"] else ""
        for key in ("audio_s", "wall_s", "rtf"):
            row[key] = f"{row[key]:.3f}" if row[key] else ""
    console = Console(file=sys.stdout, no_color=not app.color, width=None if sys.stdout.isatty() else 160)
    console.print(plain_table(rows, _TABLE_COLUMNS))
    for state, total in totals.items():
        if total["jobs"]:
            times = f"{clock(total['audio_s'])} of audio, {clock(total['wall_s'])} of work"
            app.say(f"{state}: {counted(int(total['jobs']), 'file')}, {times}")
