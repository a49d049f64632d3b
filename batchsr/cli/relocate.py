"""`relocate`: tell the queue that an archive was moved."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.paths import UserPath
from batchsr.cli.selection import ask, yes_option
from batchsr.display import counted, printable, shown
from batchsr.errors import EXIT_SOME_FAILED, UsageError
from batchsr.intake import relocating
from batchsr.queue import Answer, Job, Move, Queue, State


@click.command("relocate")
@click.argument("old", type=UserPath())
@click.argument("new", type=UserPath())
@click.option("--outputs", is_flag=True, help="Outputs below OLD are below NEW as well.")
@click.option("--dry-run", is_flag=True, help="Check all, and say what would be changed; change nothing.")
@yes_option
@fleet_options
@json_option
@pass_app
def relocate_command(app: App, old: str, new: str, outputs: bool, dry_run: bool, yes: bool) -> None:
    """Tell the queue that what was below the folder OLD lies below NEW now. Move the files first; this moves none.

    Each file is compared with what was enqueued before anything is written; one that is not there, or is another one,
    leaves its job as it is. Jobs keep their numbers, states and history. It asks first.
    """
    old, new = os.path.abspath(old), os.path.abspath(new)
    if old == new:
        raise UsageError("OLD and NEW are one folder", remedy="name the folder where the files are now as NEW")
    if not os.path.exists(new):
        raise UsageError(f"{shown(new)} is not there", remedy="move or mount the archive first")
    app.acts()
    with app.queue() as queue:
        jobs: dict[int, Job] = {}
        moves: list[Move] = []
        stay: list[tuple[Job, str]] = []
        for one in relocating.moves(queue.jobs(), old, new, outputs=outputs):
            if isinstance(one, Move):
                moves.append(one)
                jobs[one.job_id] = job = queue_job(queue, one.job_id)
                _tell(app, job, one, "would move" if dry_run else None)
            else:
                stay.append((one.job, one.why))
        if not moves and not stay:
            raise UsageError(
                f"no job has files below {shown(old)}", remedy="`batchsr list` shows where the sources are"
            )
        if not dry_run:
            ask(app, "relocate {} from " + _braced(old) + " to " + _braced(new), len(moves), yes=yes)
            stay += _write(app, queue, jobs, moves)
        for job, why in stay:
            document = {"id": job.id, "source": job.source, "outcome": "left", "why": why}
            app.answer(document, printable(f"{'left':<10} #{job.id:<6} {job.source}  ({why})"))
        left = {job.id for job, _ in stay}
        _tell_rest(app, [jobs[move.job_id] for move in moves if move.job_id not in left], old, outputs=outputs)
    count = len(moves) - sum(1 for job, _ in stay if job.id in jobs)
    rest = f"; left as they are: {len(stay)}" if stay else ""
    app.note(f"{'would be ' if dry_run else ''}relocated: {count}{rest}")
    if stay:
        sys.exit(EXIT_SOME_FAILED)


_WHY = {
    Answer.IN_HAND: "a worker has it in hand",
    Answer.GONE: "it was forgotten meanwhile",
}


def _write(app: App, queue: Queue, jobs: Mapping[int, Job], moves: list[Move]) -> Iterator[tuple[Job, str]]:
    """Write the moves down. Yields the jobs that stay after all, and why."""
    for move, changed in zip(moves, queue.relocate(moves), strict=True):
        job = jobs[move.job_id]
        if changed.answer is Answer.CHANGED:
            _tell(app, job, move, "relocated")
        else:
            yield job, _WHY.get(changed.answer, f"#{changed.twin} is that already")


def queue_job(queue: Queue, number: int) -> Job:
    """Return a job that was just read."""
    job = queue.get(number)
    if job is None:
        raise UsageError(f"job {number} was forgotten meanwhile", remedy="run the same command again")
    return job


def _braced(path: str) -> str:
    return shown(path).replace("{", "{{").replace("}", "}}")


def _tell(app: App, job: Job, move: Move, outcome: str | None) -> None:
    if outcome is None:
        return
    document: dict[str, Any] = {
        "id": job.id,
        "outcome": outcome,
        "source": move.source,
        "output": move.output,
        "old_source": job.source,
        "old_output": job.output,
    }
    line = printable(f"{outcome:<10} #{job.id:<6} {job.source} -> {move.source}")
    app.answer(document, line if outcome == "would move" or app.verbosity > 0 else ())


def _tell_rest(app: App, jobs: list[Job], old: str, *, outputs: bool) -> None:
    """Say what a person may still want to do."""
    behind = sum(relocating.moved(job.output, old, old) is not None for job in jobs)
    if behind and not outputs:
        app.note(f"{counted(behind, 'output is', 'outputs are')} below {shown(old)} on record: --outputs moves them")
    missing = sum(job.state is State.FAILED and (job.error_code or "").startswith("input.") for job in jobs)
    if missing:
        app.note(f"{counted(missing, 'job')} had failed by the source: `batchsr retry --error 'input.*'` tries again")
