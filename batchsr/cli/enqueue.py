"""`enqueue`: put files into the queue."""

from __future__ import annotations

import collections
import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from batchsr.audio import files
from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.options import restoration_options
from batchsr.cli.variant import variant_name
from batchsr.errors import EXIT_USAGE, UsageError
from batchsr.intake import gather, manifest
from batchsr.queue import Outcome
from batchsr.queue.opening import preview_of
from batchsr.report.live import clock
from batchsr.settings import profile as profiles
from batchsr.storage import printable


@click.command("enqueue")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("-r", "--recursive", is_flag=True, help="Take the audio below folders.")
@click.option("--from-file", type=click.File("rb"), help="Read paths from a file, one a line ('-': stdin).")
@click.option("-0", "--null", is_flag=True, help="Paths in --from-file end with NUL, not with a newline.")
@click.option("--job", "manifests", multiple=True, type=click.Path(path_type=Path), help="A manifest (jobs/*.toml).")
@click.option("--profile", help="How to restore: default, speech, music, archive, or a file.")
@click.option("--out", type=click.Path(), help="Mirror the tree below this folder.")
@click.option("--root", type=click.Path(), help="Where the mirrored tree begins.  [default: the common folder]")
@click.option("--variant", help="int4, int8, tiny or a bundle's folder; left open, the worker's own is taken.")
@click.option("--batch", default="", help="Name of the batch, to filter by later.")
@click.option("--priority", type=int, help="Higher goes first.  [default: 0]")
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
    manifests: tuple[Path, ...],
    profile: str | None,
    out: str | None,
    root: str | None,
    variant: str | None,
    batch: str,
    priority: int | None,
    overwrite: bool,
    dry_run: bool,
    given: dict[str, Any],
) -> None:
    """Put files into the queue: PATHs are files, folders (with -r) and globs.

    Safe to repeat: what is queued or done already is left alone.
    """
    app.acts()
    arguments = [*paths, *(_lines(from_file, null) if from_file else ())]
    if not arguments and not manifests:
        raise UsageError("nothing to enqueue", remedy="name files, folders with -r, globs, --from-file or --job")
    variant = variant_name(variant)
    work: list[tuple[Iterable[gather.Found | gather.Refused], gather.Request]] = []
    for path in manifests:
        collection = manifest.load(path)
        effective = collection.effective(profile=profile, given=given)
        request = collection.request(effective, variant=variant, out=out, priority=priority, overwrite=overwrite)
        work.append((collection.found(), dataclasses.replace(request, batch=batch or request.batch)))
    if arguments:
        effective = profiles.effective(profile=profile, given=given)
        request = gather.Request(
            settings=effective.settings,
            variant=variant or effective.variant,
            out=out,
            batch=batch,
            priority=priority or 0,
            overwrite=overwrite,
            provenance=manifest.provenance(effective),
        )
        work.append((gather.gather(arguments, recursive=recursive, root=root and os.path.abspath(root)), request))
    tally = _Tally(app)
    with preview_of(app.db) if dry_run else app.queue() as queue:
        for found, request in work:
            files.check_format(request.settings.format, request.settings.subtype, 1)
            for taken in gather.enqueue(queue, tally.found(found), request, dry_run=dry_run):
                tally.taken(taken)
    app.note(("would be: " if dry_run else "") + tally.told())
    if any(one.code == "input.missing" for one in tally.refused) or (tally.refused and not tally.outcomes):
        sys.exit(EXIT_USAGE)


class _Tally:
    """Tells what becomes of each path, and counts."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.refused: list[gather.Refused] = []
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.audio_s = 0.0

    def found(self, paths: Iterable[gather.Found | gather.Refused]) -> Iterator[gather.Found]:
        """Those that can become jobs."""
        for one in paths:
            if isinstance(one, gather.Found):
                yield one
            else:
                self.refused.append(one)
                _tell_refused(self.app, one)

    def taken(self, taken: gather.Intake) -> None:
        """One that the queue has answered for."""
        self.outcomes[str(taken.enqueued.outcome)] += 1
        if taken.enqueued.outcome in (Outcome.QUEUED, Outcome.SUPERSEDING):
            self.audio_s += taken.job.audio_s or 0.0
        _tell_taken(self.app, taken)

    def told(self) -> str:
        """The counts in a line."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items()) or "nothing enqueued"
        refused = f"; {len(self.refused)} refused" if self.refused else ""
        return f"{counts}; {clock(self.audio_s)} of audio{refused}"


def _lines(file: BinaryIO, null: bool) -> Iterator[str]:
    """Paths of a list; their bytes are kept whatever the locale."""
    for raw in file.read().split(b"\0" if null else b"\n"):
        path = raw if null else raw.rstrip(b"\r")
        if path:
            yield os.fsdecode(path)


def _tell_taken(app: App, taken: gather.Intake) -> None:
    answer, job = taken.enqueued, taken.job
    document = {
        "source": job.source,
        "outcome": str(answer.outcome),
        "id": answer.job_id,
        "state": str(answer.state) if answer.state else None,
        "output": answer.output,
        "audio_s": job.audio_s,
        "note": job.note,
    }
    number = f"#{answer.job_id}" if answer.job_id is not None else "-"
    arrow = f" -> {answer.output}" if answer.outcome in (Outcome.QUEUED, Outcome.SUPERSEDING) else ""
    note = f"  ({job.note})" if job.note else ""
    app.answer(document, printable(f"{answer.outcome!s:<16} {number:<6} {job.source}{arrow}{note}"))


def _tell_refused(app: App, one: gather.Refused) -> None:
    app.answer(
        {"source": one.path, "outcome": "refused", "id": None, "error_code": one.code, "error": one.message},
        printable(f"{'refused':<16} {'-':<6} {one.message}"),
    )
