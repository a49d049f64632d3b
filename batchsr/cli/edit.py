"""`edit`: another priority, batch, profile or output folder for jobs that are not begun."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable

import click

from batchsr.cli import completing
from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.paths import UserPath, check_folder
from batchsr.cli.selection import Selection, ask, selection_options, tell_ids, yes_option
from batchsr.cli.variant import KINDS, VariantType, chosen_variant, model_option, variant_name
from batchsr.display import counted
from batchsr.errors import UsageError
from batchsr.intake import buckets, manifest
from batchsr.intake.gather import Request
from batchsr.intake.instructions import common_root, instructions_for
from batchsr.queue import Answer, Changed, Job, Queue, State
from batchsr.remote.address import is_url
from batchsr.settings import profile as profiles
from batchsr.settings.profile import Settings

_HIGHEST = 2**63 - 1
_LEFT = {
    Answer.UNCHANGED: "were so already",
    Answer.IN_HAND: "are in a worker's hands, and are finished as they were asked for",
    Answer.DONE: "are done (`batchsr undo` takes their outputs away)",
    Answer.OVER: "are cancelled or superseded",
    Answer.TWIN: "are what another job does already",
    Answer.GONE: "went away meanwhile",
}
"""Why a job stays as it is."""


@click.command("edit")
@selection_options
@click.option("--priority", type=click.IntRange(-_HIGHEST, _HIGHEST), help="Higher goes first.")
@click.option(
    "--to-batch",
    shell_complete=completing.batches,
    metavar="NAME",
    help="The batch that they belong to from now on; '' for none.",
)
@click.option("--profile", shell_complete=completing.profiles, help="Restore them like this: a profile's name or file.")
@click.option("--variant", type=VariantType(), help=f"{KINDS}.  [default: the profile's, else left open]")
@model_option
@click.option("--out", type=UserPath(takes_urls=True), help="Mirror the tree of their sources below this folder.")
@click.option(
    "--root", type=UserPath(takes_urls=True), help="Where the mirrored tree begins.  [default: their common folder]"
)
@yes_option
@fleet_options
@json_option
@pass_app
def edit_command(
    app: App,
    selection: Selection,
    priority: int | None,
    to_batch: str | None,
    profile: str | None,
    variant: str | None,
    model: str | None,
    out: str | None,
    root: str | None,
    yes: bool,
) -> None:
    """Change how jobs are to be restored, where to, or in which order.

    --priority and --to-batch concern jobs that are queued or waiting; --profile, --variant and --out those that failed
    as well, which `retry` then takes up. Jobs in hand and jobs that are done stay as they are, and are counted.
    """
    if selection.is_empty:
        raise UsageError("nothing is named", remedy="name jobs by number, --state, --batch, --path or --error")
    usual = profiles.effective(profile=profile).variant if model is not None and profile is not None else None
    variant = chosen_variant(model, variant_name(variant), usual)
    if all(value is None for value in (priority, to_batch, profile, variant, out)):
        raise UsageError(
            "nothing is to be changed",
            remedy="say --priority N, --to-batch NAME, --profile P, --variant V or --out DIR",
        )
    if root is not None and out is None:
        raise UsageError("--root says where the tree below --out begins", remedy="add --out, or leave it out")
    check_folder("--out", out)
    buckets.check_out(out, Settings())
    with app.queue() as queue:
        selection.check_any(queue)
        jobs = list(selection.jobs(queue))
        edited: set[int] = set()
        if profile is not None or variant is not None or out is not None:
            ask(app, "change how {} will be restored", len(jobs), yes=yes or not selection.is_wide)
            edited |= _instruct(app, queue, jobs, profile, variant, out, root)
        if priority is not None or to_batch is not None:
            moved = set(queue.edit([job.id for job in jobs], priority=priority, batch=to_batch))
            if begun := len({job.id for job in jobs} - moved):
                app.note(f"left as they are, since they are neither queued nor waiting: {begun}")
            edited |= moved
        tell_ids(app, "edited", sorted(edited))
        selection.check(queue)


def _instruct(
    app: App,
    queue: Queue,
    jobs: list[Job],
    profile: str | None,
    variant: str | None,
    out: str | None,
    root: str | None,
) -> set[int]:
    """Give the jobs their new instructions, and tell of those that stay as they are. Returns which were changed."""
    request = None
    if profile is not None:
        effective = profiles.effective(profile=profile)
        request = Request(
            effective.settings, variant=variant or effective.variant, provenance=manifest.provenance(effective)
        )
    free = [job for job in jobs if job.state in (State.QUEUED, State.WAITING, State.FAILED, State.QUARANTINED)]
    below = _whole(out)
    begins = _whole(root) if root is not None else common_root(free) if free else None
    wanted = list(
        instructions_for(jobs, request, out=below, root=begins if below is not None else None, variant=variant)
    )
    changed = list(queue.instruct(wanted))
    _tell(app, changed)
    return {one.job_id for one in changed if one.answer is Answer.CHANGED}


def _whole(folder: str | None) -> str | None:
    return folder if folder is None or is_url(folder) else os.path.abspath(folder)


def _tell(app: App, changed: Iterable[Changed]) -> None:
    left: dict[Answer, list[int]] = collections.defaultdict(list)
    for one in changed:
        if one.answer is Answer.CHANGED:
            app.note(f"#{one.job_id} -> {one.output}", level=1)
        else:
            left[one.answer].append(one.job_id)
    for answer, ids in left.items():
        first = " ".join(f"#{number}" for number in ids[:10]) + (" ..." if len(ids) > 10 else "")
        app.note(f"left as they are, since they {_LEFT[answer]}: {counted(len(ids), 'job')} ({first})")
