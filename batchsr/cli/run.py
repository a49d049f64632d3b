"""`run`: enqueue, work and report in one, for a person with ten files."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsr.audio import files
from batchsr.cli import completing
from batchsr.cli.app import App, fleet_options, json_option, no_database, pass_app
from batchsr.cli.keep_awake import staying_awake
from batchsr.cli.options import compute_options, restoration_options
from batchsr.cli.paths import UserPath, check_page
from batchsr.cli.report import write_page
from batchsr.cli.variant import KINDS, VariantType, chosen_variant, model_option, variant_name
from batchsr.cli.work import expect, load_model
from batchsr.display import counted, shown
from batchsr.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError
from batchsr.intake import gather, known_files, manifest, walk
from batchsr.queue import Outcome, Queue, State
from batchsr.report.live import Screen, screen_console
from batchsr.settings import profile as profiles
from batchsr.settings.profile import DEFAULT_VARIANT

if TYPE_CHECKING:
    from batchsr.worker.listener import Summary


@click.command("run")
@click.argument("paths", nargs=-1, required=True, type=UserPath(), callback=no_database)
@click.option("-r", "--recursive", is_flag=True, help="Take the audio below folders.")
@click.option("--out", type=UserPath(), help="Mirror the tree below this folder.  [default: beside each file]")
@click.option("--batch", shell_complete=completing.batches, help="Name of the batch.  [default: made of the paths]")
@click.option("--report", "page", type=UserPath(path_type=Path), help="The page.  [default: beside the outputs]")
@click.option("--profile", shell_complete=completing.profiles, help="How to restore: a profile's name or file.")
@click.option("--variant", type=VariantType(), help=f"{KINDS}.  [default: the profile's, else int4]")
@model_option
@compute_options
@click.option("--overwrite", is_flag=True, help="Let outputs replace existing files.")
@restoration_options
@fleet_options
@json_option
@pass_app
def run_command(
    app: App,
    paths: tuple[str, ...],
    recursive: bool,
    out: str | None,
    batch: str | None,
    page: Path | None,
    profile: str | None,
    variant: str | None,
    model: str | None,
    dtype: str | None,
    device: str | None,
    overwrite: bool,
    given: dict[str, Any],
) -> None:
    """Restore PATHs and make a page to see and hear them: `enqueue`, `work` and `report` in one.

    They are a batch of their own; other jobs of the queue are left alone. After Ctrl-C, or any other end, the same
    command goes on where it was.
    """
    app.stays()
    effective = profiles.effective(profile=profile, given=given)
    request = gather.Request(
        settings=effective.settings,
        variant=chosen_variant(model, variant_name(variant), effective.variant),
        out=out,
        batch=batch or batch_of(paths, out),
        overwrite=overwrite,
        provenance=manifest.provenance(effective),
    )
    files.check_format(request.settings.format, request.settings.subtype, 1)
    if page is not None:
        check_page(page)
    with app.queue(make=True) as queue:
        refused, elsewhere = _take_in(app, queue, gather.gather(paths, recursive=recursive), request)
        if not any(queue.counts(request.batch).values()):
            if elsewhere:
                remedy = (
                    "the command that began them goes on with them, and `batchsr work` with all; or name another --out"
                )
                raise UsageError("there is nothing to restore here that no other batch has", remedy=remedy)
            raise UsageError("there is nothing to restore here", remedy="name recordings, or folders with -r")
        with queue.of_batch(request.batch) as own:
            summary = _work(app, own, request, dtype, device)
        if summary.stopped_by is not None:
            sys.exit(summary.exit_code)
        failed = sum(queue.counts(request.batch)[state] for state in (State.FAILED, State.QUARANTINED))
        page = page or _page_of(queue, request.batch, out)
        write_page(app, queue, request.batch, page, 20, queue.totals(request.batch), named="the page below")
        counts = {state: count for state, count in queue.counts(request.batch).items() if count}
    app.answer({"batch": request.batch, "jobs": counts, "refused": refused, "report": str(page)}, str(page))
    code = summary.exit_code or (EXIT_SOME_FAILED if failed or refused else EXIT_OK)
    sys.exit(code)


def batch_of(paths: Iterable[str], out: str | None) -> str:
    """Return the batch's name: the same for the same paths and folder, so that the same command goes on."""
    whole = [os.path.abspath(path) for path in paths]
    digest = hashlib.sha256(os.fsencode("\0".join([*whole, os.path.abspath(out) if out else ""]))).hexdigest()
    word = re.sub(r"[^A-Za-z0-9-]+", "-", os.path.splitext(os.path.basename(whole[0]))[0]).strip("-")[:24]
    return f"run-{word or 'files'}-{digest[:6]}"


def _take_in(
    app: App, queue: Queue, found: Iterable[gather.Found | walk.Refused], request: gather.Request
) -> tuple[int, int]:
    """Enqueue what was found, and say what cannot be, or is another batch's. Returns how many these two are."""
    refused = elsewhere = 0

    def refuse(one: walk.Refused) -> None:
        nonlocal refused
        refused += 1
        app.note(f"batchsr: {one.message} [{one.code}]")

    def good() -> Iterator[gather.Found]:
        for one in found:
            if isinstance(one, gather.Found):
                yield one
            else:
                refuse(one)

    taken = gather.enqueue(queue, good(), request, lost=refuse, check_outputs=True)
    for one in known_files.settled(queue, taken, update=True):
        answer = one.intake.enqueued
        job = queue.get(answer.job_id) if answer.job_id is not None else None
        if answer.outcome is Outcome.OWN_OUTPUT:
            app.note(f"{shown(answer.source)} is an output of ours, and is left alone")
        elif answer.outcome is Outcome.OTHER_SETTINGS:
            app.note(f"{shown(answer.source)} is {answer.state} with other settings: add --overwrite, or another --out")
        if job is None or job.batch == request.batch:
            continue
        if not job.batch and queue.edit([job.id], batch=request.batch):
            continue
        elsewhere += 1
        of = f"batch {job.batch}" if job.batch else "no batch"
        app.note(f"{shown(answer.source)} is {job.state} already as #{job.id} of {of}, and is left to that")
    return refused, elsewhere


def _work(app: App, queue: Queue, request: gather.Request, dtype: str | None, device: str | None) -> Summary:
    """Restore what is left of the batch, on the screen that `work` has."""
    from batchsr.worker.options import WorkerOptions
    from batchsr.worker.variant_loop import VariantLoop

    with Screen(screen_console(color=app.color), plain=not app.color, quiet=app.verbosity < 0) as screen:
        load = functools.partial(load_model, dtype=dtype, device=device, say=screen.phase)
        with staying_awake(screen, None, allowed=True) as listener:
            totals = functools.partial(queue.totals, request.batch)
            loop = VariantLoop(
                queue, WorkerOptions(variant=""), listener, load, before=lambda: expect(screen, totals())
            )
            summary = loop.work(request.variant, DEFAULT_VARIANT)
        for place in summary.places:
            screen.message(f"{counted(place.jobs, 'job is', 'jobs are')} held: {place.trouble}")
        screen.show_summary(batch=request.batch)
    return summary


def _page_of(queue: Queue, batch: str, out: str | None) -> Path:
    """Return where the page goes where nothing is said: into --out, or the folder common to the outputs."""
    if out is not None:
        folder = os.path.abspath(out)
        os.makedirs(folder, exist_ok=True)
    else:
        folder = os.path.commonpath([os.path.dirname(row["output"]) for row in queue.rows(("output",), batch=batch)])
    return Path(folder) / f"{batch}.html"
