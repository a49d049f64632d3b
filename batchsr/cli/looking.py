"""Commands that look and change nothing: status, list, show, report, verify."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from batchsr import report
from batchsr.cli.app import App, job_ids, json_option, pass_app
from batchsr.errors import EXIT_SOME_FAILED, UsageError
from batchsr.queue import State
from batchsr.screen import clock, plain_table
from batchsr.storage import printable
from batchsr.work import upkeep

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
    *("error_code", "error", "finished_at"),
)
_TABLE_COLUMNS = ("id", "state", "file", "audio_s", "wall_s", "rtf", "x real time", "attempts", "error")


@click.command("status")
@click.option("--batch", help="Only this batch.")
@json_option
@pass_app
def status_command(app: App, batch: str | None) -> None:
    """How many jobs are in which state, which workers run, and whether the queue is paused."""
    with app.queue() as queue:
        status = queue.status()
        if batch is not None:
            status["jobs"] = queue.counts(batch)
            status["batch"] = batch
    if app.json:
        app.emit(status)
        return
    for state, count in status["jobs"].items():
        if count or state in (State.QUEUED, State.RUNNING, State.DONE, State.FAILED):
            app.say(f"{state:<12} {count}")
    if status["paused"]:
        app.say(f"paused: {status['paused_reason'] or 'by request'}  (`batchsr resume` goes on)")
    for worker in status["workers"]:
        doing = (
            f"#{worker['job']} {worker['source']}  {worker['windows_done']} of {worker['windows_total']} windows"
            if worker["job"]
            else "idle"
        )
        hung = f"  HUNG: no window for {clock(worker['idle_s'])}" if worker["hung"] else ""
        app.say(printable(f"worker {worker['pid']} on {worker['host']} ({worker['variant']}): {doing}{hung}"))


@click.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice([str(s) for s in State]), help="Only these states.")
@click.option("--batch", help="Only this batch.")
@click.option("-n", "--limit", type=int, help="At most so many.")
@json_option
@pass_app
def list_command(app: App, states: tuple[str, ...], batch: str | None, limit: int | None) -> None:
    """The jobs, one a line."""
    with app.queue() as queue:
        jobs = queue.jobs(states=tuple(State(s) for s in states), batch=batch, limit=limit)
        if app.json:
            for job in jobs:
                app.emit(job.to_dict())
            return
        for job in jobs:
            row = job.to_dict()
            done = f"{row['windows_done']}/{row['windows_total'] or '?'}"
            rtf = f"RTF {row['rtf']:.3f}" if row["rtf"] else ""
            error = f"  {row['error']} [{row['error_code']}]" if row["error"] else ""
            app.say(printable(f"#{row['id']:<6} {row['state']:<12} {done:>9} {rtf:<10} {row['source']}{error}"))


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
    if app.json:
        app.emit(document)
        return
    for key, value in document.items():
        if isinstance(value, list):
            app.say(f"{key}:")
            for entry in value:
                app.say("  " + ", ".join(f"{k}={printable(str(v))}" for k, v in entry.items() if v is not None))
        elif value is not None and value != "":
            app.say(f"{key}: {printable(json.dumps(value) if isinstance(value, dict) else str(value))}")


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
        text = report.table(rows, form, _REPORT_COLUMNS)
        if output is None:
            click.echo(text, nl=False)
        else:
            report.write_text(output, text)
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
            app.say(f"{state}: {total['jobs']} files, {times}")


@click.command("verify")
@click.argument("ids", nargs=-1)
@json_option
@pass_app
def verify_command(app: App, ids: tuple[str, ...]) -> None:
    """Hash the outputs again and compare with the rows: ok, missing, changed or truncated."""
    bad = 0
    with app.queue() as queue:
        for verdict in upkeep.verify(queue, job_ids(ids) or None):
            bad += verdict.verdict != "ok"
            document: dict[str, Any] = {
                "id": verdict.job.id,
                "output": verdict.job.output,
                "verdict": verdict.verdict,
                "detail": verdict.detail,
            }
            if app.json:
                app.emit(document)
            elif verdict.verdict != "ok" or app.verbosity > 0:
                app.say(printable(f"{verdict.verdict:<10} #{verdict.job.id}  {verdict.job.output}  {verdict.detail}"))
    app.note(f"{bad} of the outputs are not as they were made" if bad else "all outputs are as they were made")
    if bad:
        sys.exit(EXIT_SOME_FAILED)
