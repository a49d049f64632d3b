"""`status`: how the queue and its workers stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.selection import check_batch
from batchsr.queue import State
from batchsr.report.progress import clock
from batchsr.storage import printable


@click.command("status")
@click.option("--batch", help="Only this batch.")
@json_option
@pass_app
def status_command(app: App, batch: str | None) -> None:
    """How many jobs are in which state, which workers run, and whether the queue is paused."""
    with app.queue() as queue:
        check_batch(queue, batch)
        status = queue.status()
        if batch is not None:
            status["jobs"] = queue.counts(batch)
            status["batch"] = batch
    app.answer(status, _lines(status))


def _lines(status: Mapping[str, Any]) -> Iterator[str]:
    for state, count in status["jobs"].items():
        if count or state in (State.QUEUED, State.RUNNING, State.DONE, State.FAILED):
            yield f"{state:<12} {count}"
    if status["held"]:
        yield f"{'of them held':<12} {status['held']}"
    for place in status["places"]:
        since = f"{place['since'][:16].replace('T', ' ')} UTC"
        yield printable(f"{place['jobs']} held since {since}: {place['reason']} ({place['remedy']})")
    for variant, jobs in status["unserved"].items():
        yield printable(f"{jobs} queued for {variant}, no worker here takes it (`batchsr work --variant {variant}`)")
    if status["paused"]:
        yield f"paused: {status['paused_reason'] or 'by request'}  (`batchsr resume` goes on)"
    for worker in status["workers"]:
        doing = (
            f"#{worker['job']} {worker['source']}  {worker['windows_done']} of {worker['windows_total']} windows"
            if worker["job"]
            else "idle"
        )
        hung = f"  HUNG: no window for {clock(worker['idle_s'])}" if worker["hung"] else ""
        yield printable(f"worker {worker['pid']} on {worker['host']} ({worker['variant']}): {doing}{hung}")
