"""`watch`: a hot folder."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from typing import Any

import click

from batchsr.cli import completing
from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.notifications import notification_options
from batchsr.cli.options import WorkersType, compute_options, restoration_options
from batchsr.cli.paths import UserPath, check_folder
from batchsr.cli.variant import KINDS, VariantType, chosen_variant, model_option, variant_name
from batchsr.cli.watch_loop import WatchLoop
from batchsr.cli.watch_worker import Allowance, worker_command
from batchsr.display import printable
from batchsr.errors import UsageError
from batchsr.intake import gather, manifest
from batchsr.intake.child_processes import SleepInhibitor, WorkerProcess
from batchsr.queue import Queue
from batchsr.settings import extras, profile, schedule


@click.command("watch")
@click.argument("folders", nargs=-1, required=True, type=UserPath(), metavar="DIR...")
@click.option("--work", is_flag=True, help="Restore as well, in a process beside this one.")
@click.option("--once", is_flag=True, help="Scan, enqueue and stop; with --work, restore what is queued first.")
@click.option(
    "--settle",
    type=click.FloatRange(min=0),
    metavar="S",
    help="Seconds a file holds still.  [default: 10; 30 when polling]",
)
@click.option(
    "--rescan",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds between scans.",
)
@click.option(
    "--patience",
    default="10m",
    show_default=True,
    metavar="TIME",
    help="Wait so long for a header to fit; then let it fail.",
)
@click.option(
    "--poll",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="auto: shares and unknown file systems.",
)
@click.option(
    "--include", multiple=True, metavar="GLOB", help="Take these names or paths.  [default: what looks like audio]"
)
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave these names or paths.")
@click.option("--out", type=UserPath(), help="Mirror the tree below this folder.  [default: beside the sources]")
@click.option("--done", type=UserPath(), metavar="DIR", help="Move sources there after success.  [default: they stay]")
@click.option(
    "--failed", type=UserPath(), metavar="DIR", help="Move sources there after failure.  [default: they stay]"
)
@click.option("--done-list", type=UserPath(), metavar="FILE", help="Append the paths of restored sources to this file.")
@click.option("--failed-list", type=UserPath(), metavar="FILE", help="Append the paths of failed sources to this file.")
@click.option(
    "--profile",
    "profile_",
    shell_complete=completing.profiles,
    metavar="NAME",
    help="How to restore: default, speech, music, archive, or a file.",
)
@click.option("--variant", type=VariantType(), help=f"{KINDS}; left open, the worker's own is taken.")
@model_option
@click.option("--batch", shell_complete=completing.batches, default="", help="Name of the batch, to filter by later.")
@click.option("--priority", type=int, default=0, help="Higher goes first.")
@click.option("--overwrite", is_flag=True, help="Let outputs replace existing files.")
@click.option("--procs", type=WorkersType(), help="With --work: workers.  [default: auto, one for each GPU, else one]")
@click.option("--share-gpu", is_flag=True, help="With --work: let there be more workers than GPUs, which is slower.")
@compute_options
@click.option(
    "--min-free",
    type=float,
    default=2.0,
    show_default=True,
    metavar="GB",
    help="With --work: pause below so much free space.",
)
@click.option(
    "--nice", type=click.IntRange(0, 19), default=0, help="Lower the priority of the process, as nice(1) does."
)
@click.option("--only-between", metavar="SPAN", help="With --work: hours to work in, like 19:00-07:00.")
@click.option("--stop-after", type=click.IntRange(1), metavar="FILES", help="With --work: stop after so many files.")
@click.option("--for", "for_", metavar="TIME", help="With --work: take no new file after so long, like 2h.")
@click.option(
    "--keep-awake", metavar="COMMAND", help="With --work: held while a file is restored, like 'caffeinate -i'."
)
@restoration_options
@fleet_options
@json_option
@pass_app
@notification_options
def watch_command(app: App, /, folders: tuple[str, ...], given: dict[str, Any], **options: Any) -> None:
    """Watch folders, and enqueue the recordings that arrive in them, each once and whole.

    A file is taken when it has held still and is as long as its header says. Safe to stop and start at any time. With
    --work, --on-done and the like tell each time that all which arrived is dealt with.
    """
    from batchsr.audio import files
    from batchsr.intake.hotfolder import After, HotFolder

    app.stays()
    roots = _roots(folders, must_exist=options["once"])
    effective = profile.effective(profile=options["profile_"], given=given)
    request = gather.Request(
        settings=effective.settings,
        variant=chosen_variant(options["model"], variant_name(options["variant"]), effective.variant),
        out=options["out"],
        batch=options["batch"],
        priority=options["priority"],
        overwrite=options["overwrite"],
        provenance=manifest.provenance(effective),
    )
    for name in ("out", "done", "failed"):
        check_folder(f"--{name}", options[name])
    files.check_format(request.settings.format, request.settings.subtype, 1)
    extras.check(request.settings)
    for check in (options["only_between"], schedule.span), (options["for_"], schedule.duration_s):
        if check[0] is not None:
            check[1](check[0])
    if options["nice"]:
        os.nice(options["nice"])
    with app.queue(make=True) as queue, contextlib.ExitStack() as closing:
        scope = _scope(roots, options, queue, request.suffix)
        watch = WatchLoop(app, scope, options)
        closing.callback(watch.events.close)
        hot_folder = HotFolder(
            queue,
            watch.watcher,
            scope,
            request,
            done=After(_absolute(options["done"]), _absolute(options["done_list"])),
            failed=After(_absolute(options["failed"]), _absolute(options["failed_list"])),
            told=lambda taken: _tell(app, taken),
            say=app.note,
        )
        awake = closing.enter_context(SleepInhibitor(shlex.split(options["keep_awake"] or ""), app.note))
        left = Allowance(options, queue)
        worker = None
        if options["work"]:
            worker = WorkerProcess(
                lambda: worker_command(app, left.now(), request.variant),
                app.note,
                environment=app.address.environment(),
            )
        code = watch.once(hot_folder, worker) if options["once"] else watch.run(hot_folder, worker, awake, queue)
    sys.exit(code)


def _roots(folders: tuple[str, ...], *, must_exist: bool) -> tuple[str, ...]:
    roots = dict.fromkeys(os.path.abspath(folder) for folder in folders)
    for root in roots:
        if os.path.exists(root) and not os.path.isdir(root):
            raise UsageError(f"{root} is not a folder", remedy="name the folder it is in, or `batchsr enqueue` it")
        if must_exist and not os.path.isdir(root):
            raise UsageError(f"there is no folder {root}", remedy="check the name, or whether its disk is mounted")
    return tuple(roots)


def _scope(roots: tuple[str, ...], options: dict[str, Any], queue: Queue, suffix: str) -> Any:
    """Return what is watched, less the folders that files go to. Raises UsageError when a file would come back for
    ever."""
    from batchsr.intake.watcher import Scope

    skip = []
    for name in ("done", "failed", "out", "scratch", "workers"):
        own = {"scratch": queue.scratch_folder, "workers": queue.workers_folder}.get(name) or options[name]
        if own is None:
            continue
        folder = os.path.realpath(own)
        for root in roots:
            inside = os.path.relpath(folder, os.path.realpath(root))
            if inside == "." and name in ("done", "failed"):
                raise UsageError(
                    f"--{name} {own} is a watched folder itself", remedy="name a folder in it or elsewhere"
                )
            if inside != "." and not inside.startswith(".."):
                skip.append(os.path.join(root, inside))
    return Scope(roots, options["include"], options["exclude"], tuple(skip), suffix)


def _absolute(path: str | None) -> str | None:
    return os.path.abspath(path) if path is not None else None


def _tell(app: App, taken: gather.Intake) -> None:
    job, answer = taken.job, taken.enqueued
    document = {
        "source": job.source,
        "outcome": str(answer.outcome),
        "id": answer.job_id,
        "output": answer.output,
        "audio_s": job.audio_s,
        "note": job.note,
    }
    note = f"  ({job.note})" if job.note else ""
    app.answer(
        document,
        printable(f"{answer.outcome!s:<12} #{answer.job_id:<6} {job.source} -> {answer.output}{note}"),
    )
