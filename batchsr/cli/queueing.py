"""Commands that put jobs into the queue and steer it: enqueue, retry, cancel, pause, resume."""

from __future__ import annotations

import collections
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from batchsr import intake
from batchsr.cli.app import App, job_ids, json_option, pass_app, printable, restoration_options, settings_from
from batchsr.errors import EXIT_USAGE, UsageError
from batchsr.queue import Queue
from batchsr.screen import clock


@click.command("enqueue")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("-r", "--recursive", is_flag=True, help="Take the audio below folders.")
@click.option("--from-file", type=click.File("rb"), help="Read paths from a file, one a line ('-': stdin).")
@click.option("-0", "--null", is_flag=True, help="Paths in --from-file end with NUL, not with a newline.")
@click.option("--out", type=click.Path(), help="Mirror the tree below this folder.")
@click.option("--root", type=click.Path(), help="Where the mirrored tree begins.  [default: the common folder]")
@click.option("--variant", help="int4, int8 or a bundle's folder; left open, the worker's own is taken.")
@click.option("--batch", default="", help="Name of the batch, to filter by later.")
@click.option("--priority", type=int, default=0, help="Higher goes first.")
@click.option("--overwrite", is_flag=True, help="Let outputs replace existing files.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and how much audio it is; write nothing.")
@restoration_options
@json_option
@pass_app
def enqueue_command(
    app: App,
    paths: tuple[str, ...],
    recursive: bool,
    from_file: BinaryIO | None,
    null: bool,
    out: str | None,
    root: str | None,
    variant: str | None,
    batch: str,
    priority: int,
    overwrite: bool,
    dry_run: bool,
    given: dict[str, Any],
) -> None:
    """Put files into the queue: PATHs are files, folders (with -r) and globs.

    Safe to repeat: what is queued or done already is left alone.
    """
    arguments = [*paths, *(_lines(from_file, null) if from_file else ())]
    if not arguments:
        raise UsageError("nothing to enqueue", remedy="name files, folders with -r, globs, or --from-file")
    request = intake.Request(
        settings=settings_from(given),
        variant=variant_name(variant),
        out=out,
        batch=batch,
        priority=priority,
        overwrite=overwrite,
    )
    refused: list[intake.Refused] = []

    def found() -> Iterator[intake.Found]:
        for one in intake.gather(arguments, recursive=recursive, root=root and os.path.abspath(root)):
            if isinstance(one, intake.Found):
                yield one
            else:
                refused.append(one)
                _tell_refused(app, one)

    outcomes: collections.Counter[str] = collections.Counter()
    audio_s = 0.0
    with Queue.preview_of(app.db) if dry_run else app.queue() as queue:
        for taken in intake.enqueue(queue, found(), request, dry_run=dry_run):
            outcomes[str(taken.enqueued.outcome)] += 1
            if taken.enqueued.outcome in ("queued", "superseding"):
                audio_s += taken.job.audio_s or 0.0
            _tell_taken(app, taken)
    told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "nothing enqueued"
    app.note(f"{'would be: ' if dry_run else ''}{told}; {clock(audio_s)} of audio" + (f"; {len(refused)} refused" if refused else ""))
    missing = [one for one in refused if one.code == "input.missing"]
    if missing or (refused and not outcomes):
        sys.exit(EXIT_USAGE)


@click.command("retry")
@click.argument("ids", nargs=-1)
@click.option("--redo", is_flag=True, help="Also jobs that are done.")
@json_option
@pass_app
def retry_command(app: App, ids: tuple[str, ...], redo: bool) -> None:
    """Queue failed and quarantined jobs again: all of them, or the IDS given."""
    with app.queue() as queue:
        _tell_ids(app, "retried", queue.retry(job_ids(ids) or None, redo=redo))


@click.command("cancel")
@click.argument("ids", nargs=-1, required=True)
@json_option
@pass_app
def cancel_command(app: App, ids: tuple[str, ...]) -> None:
    """Cancel jobs; a running one stops at its next window."""
    with app.queue() as queue:
        _tell_ids(app, "cancelled", queue.cancel(job_ids(ids)))


@click.command("pause")
@click.argument("reason", default="")
@json_option
@pass_app
def pause_command(app: App, reason: str) -> None:
    """Pause the queue: workers finish the file in hand and take no other."""
    with app.queue() as queue:
        queue.pause(reason)
    if app.json:
        app.emit({"paused": True, "reason": reason})
    else:
        app.say("paused")


@click.command("resume")
@json_option
@pass_app
def resume_command(app: App) -> None:
    """Let a paused queue go on."""
    with app.queue() as queue:
        was_paused = queue.resume()
    if app.json:
        app.emit({"paused": False, "was_paused": was_paused})
    else:
        app.say("resumed" if was_paused else "was not paused")


def variant_name(variant: str | None) -> str | None:
    """A variant as the queue keeps it: a bundle's folder by its absolute path, so that any worker finds it."""
    if variant is not None and (os.sep in variant or Path(variant).is_dir()):
        return os.path.abspath(variant)
    return variant


def _lines(file: BinaryIO, null: bool) -> Iterator[str]:
    """Paths of a list; their bytes are kept whatever the locale."""
    for raw in file.read().split(b"\0" if null else b"\n"):
        path = raw if null else raw.rstrip(b"\r")
        if path:
            yield os.fsdecode(path)


def _tell_taken(app: App, taken: intake.Taken) -> None:
    answer, job = taken.enqueued, taken.job
    if app.json:
        app.emit(
            {
                "source": job.source,
                "outcome": str(answer.outcome),
                "id": answer.job_id,
                "state": str(answer.state) if answer.state else None,
                "output": answer.output,
                "audio_s": job.audio_s,
                "note": job.note,
            }
        )
        return
    number = f"#{answer.job_id}" if answer.job_id is not None else "-"
    arrow = f" -> {answer.output}" if answer.outcome in ("queued", "superseding") else ""
    note = f"  ({job.note})" if job.note else ""
    app.say(printable(f"{answer.outcome!s:<16} {number:<6} {job.source}{arrow}{note}"))


def _tell_refused(app: App, one: intake.Refused) -> None:
    if app.json:
        app.emit({"source": one.path, "outcome": "refused", "id": None, "error_code": one.code, "error": one.message})
    else:
        app.say(printable(f"{'refused':<16} {'-':<6} {one.message}"))


def _tell_ids(app: App, what: str, ids: list[int]) -> None:
    if app.json:
        app.emit({what: ids})
    else:
        app.say(f"{what} {len(ids)}" + (": " + " ".join(f"#{one}" for one in ids) if ids else ""))
