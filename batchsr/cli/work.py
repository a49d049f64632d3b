"""`work`: restore what is queued."""

from __future__ import annotations

import datetime
import functools
import os
import sys
import time
from typing import Any

import click
from rich.console import Console

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.child_command import PROGRAM, as_words, parsed
from batchsr.cli.variant import DEFAULT_VARIANT, variant_name
from batchsr.queue import Queue, State
from batchsr.report.live import Screen
from batchsr.settings import schedule


@click.command("work")
@click.option("--variant", help="int4, int8, tiny or a folder.  [default: that of unfinished jobs, else int4]")
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Precision of the computation.")
@click.option(
    "--procs",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Workers; dead and hung ones are replaced.",
)
@click.option(
    "--min-free", type=float, default=2.0, show_default=True, metavar="GB", help="Pause below so much free space."
)
@click.option(
    "--max-attempts", type=click.IntRange(1), default=5, show_default=True, help="Tries at a file that may yet work."
)
@click.option("--stop-after", type=click.IntRange(1), metavar="FILES", help="Stop after so many files.")
@click.option("--for", "for_", metavar="TIME", help="Take no new file after so long, like 90m or 8h.")
@click.option("--only-between", metavar="SPAN", help="Hours to take new files in, like 19:00-07:00.")
@click.option("--nice", type=click.IntRange(0, 19), default=0, help="Lower the priority, as nice(1) does.")
@click.option("--stay", is_flag=True, help="Wait for more when the queue is empty.")
@json_option
@pass_app
def work_command(
    app: App,
    variant: str | None,
    dtype: str | None,
    procs: int,
    min_free: float,
    max_attempts: int,
    stop_after: int | None,
    for_: str | None,
    only_between: str | None,
    nice: int,
    stay: bool,
) -> None:
    """Restore what is queued, and go on where an earlier run stopped.

    The first Ctrl-C finishes the windows in hand, keeps them and stops; the second stops at once.
    """
    from batchsr.worker import worker
    from batchsr.worker.options import WorkerOptions

    app.stays()
    stop_after_s = schedule.duration_s(for_) if for_ is not None else None
    ends_s = time.monotonic() + stop_after_s if stop_after_s is not None else None
    gate = schedule.gate(
        only_between=schedule.span(only_between) if only_between is not None else None,
        stop_after_s=stop_after_s,
        wall=datetime.datetime.now,
        steady_s=time.monotonic,
    )
    console = Console(stderr=True, no_color=not app.color, highlight=False)
    with app.queue() as queue, Screen(console, plain=not app.color, quiet=app.verbosity < 0) as screen:
        if procs > 1:
            from batchsr.worker.supervisor import supervise

            command = functools.partial(_worker_command, sys.argv[1:], ends_s)
            sys.exit(supervise(queue, command, procs, screen, limit=stop_after))
        if nice:
            os.nice(nice)
        code, ended = 0, 0
        for name in _variants(queue, variant_name(variant)):
            totals = queue.totals()
            left = [totals[state] for state in _LEFT if state in totals]
            screen.expect(sum(int(one["jobs"]) for one in left), sum(one["audio_s"] or 0.0 for one in left))
            options = WorkerOptions(
                variant=name,
                min_free_bytes=int(min_free * 1e9),
                max_attempts=max_attempts,
                limit=None if stop_after is None else stop_after - ended,
                stay=stay,
                gate=gate,
            )
            summary = worker.run(queue, functools.partial(_load, name, dtype), options, screen)
            code = max(code, summary.exit_code)
            ended += summary.done + summary.failed
            if summary.stopped_by is not None or summary.paused:
                code = summary.exit_code
                break
        screen.show_summary()
    if app.json:
        with app.queue() as queue:
            app.emit(queue.status())
    sys.exit(code)


_OF_ALL_WORKERS = ("--procs", "--stop-after", "--for")
"""Options that the supervisor apportions."""
_LEFT = (State.QUEUED, State.WAITING, State.RUNNING, State.COMMITTING)


def _variants(queue: Queue, variant: str | None) -> list[str]:
    """Bare `work` resumes: it takes what unfinished jobs are bound to; open jobs go to the first of these."""
    return [variant] if variant else queue.bound_variants() or [DEFAULT_VARIANT]


def _load(variant: str, dtype: str | None) -> Any:
    from batchsr.models.flashsr.model import FlashSR

    return FlashSR.from_pretrained(variant, dtype=dtype)


def _worker_command(words: list[str], ends_s: float | None, limit: int | None) -> list[str]:
    """The command line of one worker under a supervisor: this one's, with one process and what is left to do."""
    kept = [
        word for given in parsed(words, _OF_ALL_WORKERS) if given.option not in _OF_ALL_WORKERS for word in given.words
    ]
    left = f"{max(0.0, ends_s - time.monotonic()):.3f}s" if ends_s is not None else None
    return [*PROGRAM, *kept, *as_words({"stop_after": limit, "for_": left})]
