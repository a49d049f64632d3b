"""`work`: restore what is queued."""

from __future__ import annotations

import datetime
import functools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.child_command import PROGRAM, as_words, parsed
from batchsr.cli.keep_awake import staying_awake
from batchsr.cli.notifications import FLAGS as NOTIFICATION_FLAGS
from batchsr.cli.notifications import OPTIONS as NOTIFICATION_OPTIONS
from batchsr.cli.notifications import notification_options
from batchsr.cli.options import WorkersType, compute_options
from batchsr.cli.run_events import events_of_run
from batchsr.cli.signing import signing_options
from batchsr.cli.variant import KINDS, VariantType, model_option, of_model, variant_name, variant_of
from batchsr.display import counted, shown
from batchsr.errors import EXIT_OK, UsageError
from batchsr.queue import Queue, State
from batchsr.report.events import Events, Workers
from batchsr.report.live import Screen, screen_console
from batchsr.settings import schedule
from batchsr.settings.profile import DEFAULT_VARIANT

if TYPE_CHECKING:
    from batchsr.restoration.credentials import Signing
    from batchsr.worker.listener import Summary


@click.command("work")
@click.option("--variant", type=VariantType(), help=f"{KINDS}.  [default: that of unfinished jobs, else int4]")
@model_option
@compute_options
@click.option(
    "--procs",
    type=WorkersType(),
    help="Workers; dead and hung ones are replaced.  [default: auto, one for each GPU, else one]",
)
@click.option("--share-gpu", is_flag=True, help="Let there be more workers than GPUs, which is slower.")
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
@click.option(
    "--wait-for-places",
    metavar="TIME",
    default="15m",
    show_default=True,
    help="How long to wait when all jobs left need a disk, share or folder in trouble; 0: not at all.",
)
@click.option("--stay", is_flag=True, help="Wait for more when the queue is empty.")
@click.option(
    "--keep-awake",
    metavar="COMMAND",
    help="Held while files are restored.  [default: caffeinate -i, or systemd-inhibit, where there is one]",
)
@click.option("--no-keep-awake", is_flag=True, help="Let the machine fall asleep meanwhile.")
@signing_options
@click.option("--supervised", is_flag=True, hidden=True)  # one of several: events on stdout, and no screen
@fleet_options
@json_option
@pass_app
@notification_options
def work_command(
    app: App,
    variant: str | None,
    model: str | None,
    dtype: str | None,
    device: str | None,
    procs: int | None,
    share_gpu: bool,
    min_free: float,
    max_attempts: int,
    stop_after: int | None,
    for_: str | None,
    only_between: str | None,
    nice: int,
    wait_for_places: str,
    stay: bool,
    keep_awake: str | None,
    no_keep_awake: bool,
    supervised: bool,
    signing: Signing | None,
) -> None:
    """Restore what is queued, and go on where an earlier run stopped.

    The first Ctrl-C finishes the windows in hand, keeps them and stops; the second stops at once. With --json, what
    happens is told as it happens: one object a line.
    """
    from batchsr.worker.options import WorkerOptions
    from batchsr.worker.variant_loop import VariantLoop

    app.stays(stamped=not supervised)
    chosen = variant_name(variant_of(model, variant))
    stop_after_s = schedule.duration_s(for_) if for_ is not None else None
    ends_s = time.monotonic() + stop_after_s if stop_after_s is not None else None
    gate = schedule.gate(
        only_between=schedule.span(only_between) if only_between is not None else None,
        stop_after_s=stop_after_s,
        wall=datetime.datetime.now,
        steady_s=time.monotonic,
    )
    wait_for_places_s = 0.0 if wait_for_places.strip() == "0" else schedule.duration_s(wait_for_places)
    workers, environments = _workers(procs, device, share_gpu=share_gpu)
    if not stay and not app.db_is_typed and not app.has_queue():
        app.note(f"nothing is queued: there is no queue at {shown(app.db)} yet (`batchsr enqueue PATH...` makes one)")
        return
    console = screen_console(color=app.color)
    quiet = app.verbosity < 0 or supervised
    with (
        app.queue(make=stay) as queue,
        Screen(console, plain=not app.color, quiet=quiet) as screen,
        events_of_run(app, queue, screen, workers, supervised=supervised) as events,
    ):
        if workers > 1:
            command = functools.partial(_worker_command, sys.argv[1:], ends_s)
            sys.exit(_supervise(app, queue, screen, events, command, workers, stop_after, environments))
        if nice:
            os.nice(nice)
        options = WorkerOptions(
            variant="",
            min_free_bytes=int(min_free * 1e9),
            max_attempts=max_attempts,
            limit=stop_after,
            wait_for_places_s=wait_for_places_s,
            stay=stay,
            gate=gate,
            signing=signing,
        )
        load = functools.partial(load_model, dtype=dtype, device=device, say=events.phase)
        with staying_awake(events, keep_awake, allowed=not no_keep_awake) as listener:
            loop = VariantLoop(queue, options, listener, load, lambda: _expect_all(screen, queue), of_model(model))
            summary = loop.work(chosen, DEFAULT_VARIANT)
        _tell_left(queue, events, chosen, summary)
        screen.show_summary()
        if not supervised and not summary.done + summary.failed and summary.exit_code == EXIT_OK:
            _tell_idle(events, queue.counts())
        sys.exit(summary.exit_code)


def _supervise(
    app: App,
    queue: Queue,
    screen: Screen,
    events: Screen | Events,
    command: Callable[[int | None], Sequence[str]],
    workers: int,
    limit: int | None,
    environments: Sequence[Mapping[str, str]],
) -> int:
    """Let several workers work, which share one screen. Returns the exit code for all of them."""
    from batchsr.worker.supervisor import supervise

    _expect_all(screen, queue)
    hears = Workers(screen, app.emit if app.json else None)
    code = supervise(queue, command, workers, events, limit=limit, environments=environments, hears=hears)
    screen.show_summary()
    if code == EXIT_OK and not screen.progress.done_here:
        _tell_idle(events, queue.counts())
    return code


_OF_ALL_WORKERS = ("--procs", "--stop-after", "--for")
"""Options that the supervisor apportions."""
_TAKE_VALUES = (*_OF_ALL_WORKERS, *NOTIFICATION_OPTIONS)
_NOT_A_WORKERS = (*_TAKE_VALUES, *NOTIFICATION_FLAGS)
_LEFT = (State.QUEUED, State.WAITING, State.RUNNING, State.COMMITTING)


def _workers(procs: int | None, device: str | None, *, share_gpu: bool) -> tuple[int, list[dict[str, str]]]:
    """Return how many workers there shall be, and for each GPU the variables that give it to one of them.

    Raises UsageError if more are asked for than there are GPUs, unless they may share them.
    """
    from batchsr.models.compute import backend
    from batchsr.models.compute.device import nvidia_nodes

    if procs == 1 or device == "cpu" or (procs is None and nvidia_nodes() < 2):
        return procs or 1, []
    environments = backend.worker_environments()
    gpus = len(environments)
    if procs is not None and 0 < gpus < procs and not share_gpu:
        them = "one GPU, which one worker" if gpus == 1 else f"{gpus} GPUs, which a worker each"
        raise UsageError(
            f"--procs {procs}, but there {'is' if gpus == 1 else 'are'} {them} keeps busy: two on one GPU were slower "
            "than one (53.8 s against 41.6 for 60 files of a minute on an H100), and need twice the memory",
            remedy=f"leave --procs out, which means {gpus} here, or insist with --share-gpu",
        )
    return procs or max(1, gpus), environments


def expect(screen: Screen, totals: Mapping[str, Mapping[str, float]]) -> None:
    """Tell the screen how much is left, and what earlier runs of the same batch ended."""
    left = [totals[state] for state in _LEFT]
    failed = totals[State.FAILED]["jobs"] + totals[State.QUARANTINED]["jobs"]
    screen.expect(
        sum(int(one["jobs"]) for one in left),
        sum(one["audio_s"] for one in left),
        ended={"done": int(totals[State.DONE]["jobs"]), "failed": int(failed)},
        ended_audio_s=sum(totals[state]["audio_s"] for state in (State.DONE, State.FAILED, State.QUARANTINED)),
    )


def _expect_all(screen: Screen, queue: Queue) -> None:
    expect(screen, queue.totals_of_run())


def _tell_idle(screen: Screen | Events, counts: Mapping[str, int]) -> None:
    """Say why nothing was done."""
    if in_flight := counts[State.RUNNING] + counts[State.COMMITTING]:
        screen.message(f"nothing to do: {counted(in_flight, 'file is', 'files are')} in another worker's hands")
    elif not any(counts[state] for state in _LEFT):
        screen.message("nothing is queued (`batchsr enqueue PATH...` takes files in)")


def _tell_left(queue: Queue, screen: Screen | Events, variant: str | None, summary: Summary) -> None:
    """Say what is left for places in trouble, and what no worker like this one takes."""
    for place in summary.places:
        screen.message(f"{counted(place.jobs, 'job is', 'jobs are')} held: {place.trouble}; or `batchsr cancel` them")
    if variant is not None and summary.stopped_by is None:
        for other, jobs in queue.queued_for().items():
            if other not in ("", variant):
                screen.message(
                    f"{counted(jobs, 'job is', 'jobs are')} queued for {other}, which this worker does not take "
                    f"(`batchsr work --variant {other}`)"
                )


def load_model(variant: str, dtype: str | None, device: str | None, say: Callable[[str], None]) -> Any:
    from batchsr.models import registry

    return registry.load(variant, dtype=dtype, device=device, say=say)


def _worker_command(words: list[str], ends_s: float | None, limit: int | None) -> list[str]:
    """Return the command line of one worker under a supervisor: this one's, with one process and what is left to do."""
    kept = [word for given in parsed(words, _TAKE_VALUES) if given.option not in _NOT_A_WORKERS for word in given.words]
    left = f"{max(0.0, ends_s - time.monotonic()):.3f}s" if ends_s is not None else None
    return [*PROGRAM, *kept, "--supervised", *as_words({"procs": 1, "stop_after": limit, "for_": left})]
