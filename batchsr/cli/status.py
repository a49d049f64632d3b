"""`status`: how the queue and its workers stand."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from batchsr.cli import completing
from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.selection import check_batch
from batchsr.display import clock, counted, printable
from batchsr.queue import State
from batchsr.report import answers

_WATCH_S: Final = 2.0


@click.command("status")
@click.option("--batch", shell_complete=completing.batches, help="Only this batch.")
@click.option("--watch", is_flag=True, help="Draw it anew every two seconds, until Ctrl-C.")
@fleet_options
@json_option
@pass_app
def status_command(app: App, batch: str | None, watch: bool) -> None:
    """How many jobs are in which state, which workers run, and whether the queue is paused."""
    if not watch:
        _tell(app, batch)
        return
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            _tell(app, batch, anew=not app.json)
            time.sleep(_WATCH_S)


def _tell(app: App, batch: str | None, *, anew: bool = False) -> None:
    """Say how it stands now; `anew` on a terminal in place of what stands there."""
    with app.queue() as queue:
        check_batch(queue, batch)
        status = answers.status_of(queue, batch)
    if anew:
        click.clear()  # nothing where there is no terminal
    app.answer(status, _lines(status))


def _host(host: Mapping[str, Any]) -> str:
    heard = f"heard {clock(host['heard_s'])} ago" if host["heard_s"] is not None else "not at work"
    speed = f", {host['speed']:.1f} s of audio a second" if host["speed"] is not None else ""
    reason = f": {host['paused_reason']}" if host["paused_reason"] else ""
    paused = f", paused{reason} (`batchsr resume --host {host['name']}`)" if host["paused"] else ""
    files = f"{counted(host['workers'], 'worker')}, {counted(host['jobs'], 'file')} in hand"
    return f"host {host['name']}: {files}, {heard}{speed}{paused}"


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
    for setting, waits in status["extras"].items():
        yield f"{waits['jobs']} queued with {setting}, which this installation cannot do ({waits['remedy']})"
    if status["log"]:
        yield printable(f"{status['log']['reason']}; {status['log']['remedy']}")
    if status["paused"]:
        yield f"paused: {status['paused_reason'] or 'by request'}  (`batchsr resume` goes on)"
    for host in status.get("hosts", ()):
        yield printable(_host(host))
    for worker in status["workers"]:
        doing = (
            f"#{worker['job']} {worker['source']}  {worker['windows_done']} of {worker['windows_total']} windows"
            if worker["job"]
            else "idle"
        )
        hung = f"  HUNG: no window for {clock(worker['idle_s'])}" if worker["hung"] else ""
        yield printable(f"worker {worker['pid']} on {worker['host']} ({worker['variant']}): {doing}{hung}")
