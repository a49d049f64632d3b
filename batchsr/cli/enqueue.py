"""`enqueue`: put files into the queue."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import functools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from batchsr.audio import files
from batchsr.cli import completing, enqueue_messages, forecast
from batchsr.cli.app import App, fleet_options, json_option, no_database, pass_app
from batchsr.cli.options import restoration_options
from batchsr.cli.paths import UserFile, UserPath
from batchsr.cli.preview import Preview, preview_options, some_of
from batchsr.cli.variant import KINDS, VariantType, chosen_variant, model_option, variant_name
from batchsr.display import clock, counted, listed, shown
from batchsr.errors import EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, UsageError
from batchsr.intake import buckets, gather, known_files, manifest, walk
from batchsr.queue import Outcome, Queue
from batchsr.queue.opening import preview_of
from batchsr.remote.address import is_url
from batchsr.settings import extras, textfile
from batchsr.settings import profile as profiles
from batchsr.settings.profile import DEFAULT_VARIANT
from batchsr.worker.forecast import Forecast, Pace

_Work = tuple[Iterable[gather.Found | walk.Refused], gather.Request]
"""What was found, and how it is to be restored."""


@click.command("enqueue")
@click.argument("paths", nargs=-1, type=click.Path(readable=False), callback=no_database)
@click.option("-r", "--recursive", is_flag=True, help="Take the audio below folders.")
@click.option("--from-file", type=UserFile("rb"), help="Read paths from a file, one a line ('-': stdin).")
@click.option("-0", "--null", is_flag=True, help="Paths in --from-file end with NUL, not with a newline.")
@click.option("--job", "manifests", multiple=True, type=UserPath(path_type=Path), help="A manifest (jobs/*.toml).")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave these names or paths.")
@click.option(
    "--profile", shell_complete=completing.profiles, help="How to restore: default, speech, music, archive, or a file."
)
@click.option("--out", type=UserPath(takes_urls=True), help="Mirror the tree below this folder.")
@click.option(
    "--root", type=UserPath(takes_urls=True), help="Where the mirrored tree begins.  [default: the common folder]"
)
@click.option("--variant", type=VariantType(), help=f"{KINDS}; left open, the worker's own is taken.")
@model_option
@click.option("--batch", shell_complete=completing.batches, default="", help="Name of the batch, to filter by later.")
@click.option("--priority", type=int, help="Higher goes first.  [default: 0]")
@click.option("--overwrite", is_flag=True, help="Let outputs replace existing files.")
@click.option("--update", is_flag=True, help="Let files that are queued already take the settings given now.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, how long it takes and what room; write nothing.")
@click.option("--calibrate", is_flag=True, help="With --dry-run: measure this machine for some seconds.")
@preview_options
@restoration_options
@fleet_options
@json_option
@pass_app
def enqueue_command(
    app: App,
    paths: tuple[str, ...],
    recursive: bool,
    from_file: BinaryIO | None,
    null: bool,
    manifests: tuple[Path, ...],
    exclude: tuple[str, ...],
    profile: str | None,
    out: str | None,
    root: str | None,
    variant: str | None,
    model: str | None,
    batch: str,
    priority: int | None,
    overwrite: bool,
    update: bool,
    dry_run: bool,
    calibrate: bool,
    preview: Preview | None,
    given: dict[str, Any],
) -> None:
    """Put files into the queue: PATHs are files, folders (with -r), globs and URLs (s3, gs, az, https).

    Safe to repeat: what is queued or done already is left alone. A job whose output is gone is done again. A file that
    is known with other settings is said to be, and takes the new ones with --update.
    """
    app.acts()
    arguments = [*paths, *(textfile.paths(from_file.read(), from_file.name, null=null) if from_file else ())]
    if not arguments and not manifests:
        raise UsageError("nothing to enqueue", remedy="name files, folders with -r, globs, --from-file or --job")
    chosen = functools.partial(chosen_variant, model, variant_name(variant))
    if calibrate and not dry_run:
        raise UsageError("--calibrate is for the forecast of a dry run", remedy="add --dry-run")
    tally = _Tally(app, dry_run, exclude)
    work: list[_Work] = []
    for path in manifests:
        collection = manifest.load(path)
        effective = collection.effective(profile=profile, given=given)
        variant = chosen(effective.variant)
        request = collection.request(effective, variant=variant, out=out, priority=priority, overwrite=overwrite)
        work.append((collection.found(tally.left), dataclasses.replace(request, batch=batch or request.batch)))
    if arguments:
        effective = profiles.effective(profile=profile, given=given)
        request = gather.Request(
            settings=effective.settings,
            variant=chosen(effective.variant),
            out=out,
            batch=batch,
            priority=priority or 0,
            overwrite=overwrite,
            provenance=manifest.provenance(effective),
        )
        below = root if is_url(root or "") else root and os.path.abspath(root)
        work.append((gather.gather(arguments, recursive=recursive, root=below, left=tally.left), request))
    _check(request for _, request in work)
    if preview is not None:
        _preview(app, preview, work, tally)
        return
    with _opened(app, dry_run=dry_run) as queue:
        asked = priority if not dry_run else None
        for found, request in work:
            taken = gather.enqueue(
                queue, tally.found(found), request, dry_run=dry_run, lost=tally.refuse, check_outputs=True
            )
            for one in known_files.settled(queue, taken, update=update):
                tally.taken(one, queue, _kept_priority(queue, one.intake, asked))
        if dry_run:
            tally.pace = forecast.pace(app, queue, work[-1][1], calibrate=calibrate)
    if app.json:
        # With the keys of every line, for programs that look at no others.
        app.emit({"source": None, "outcome": "summary", "id": None, "summary": tally.summary()})
    for line in (*tally.told(), *_told_of_manifests(manifests, tally)):
        app.note(line)
    sys.exit(tally.exit_code)


def _preview(app: App, preview: Preview, work: Sequence[_Work], tally: _Tally) -> None:
    """Make a page to hear some of the files in several ways, and enqueue nothing."""
    found = [one.path for some, _ in work for one in tally.found(some)]
    request = work[0][1]
    page = Path(request.out or ".", "batchsr-preview.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    head = {"source": None, "outcome": "preview", "id": None}
    variant = request.variant or DEFAULT_VARIANT
    preview.make(app, some_of(found), request.settings, variant, page=page, head=head)


def _check(requests: Iterable[gather.Request]) -> None:
    """Refuse at once what no file could be made as, or what needs a package that is not there."""
    for request in requests:
        files.check_format(request.settings.format, request.settings.subtype, 1)
        extras.check(request.settings)
        buckets.check_out(request.out, request.settings)


def _opened(app: App, *, dry_run: bool) -> Queue:
    """Open the queue; for a dry run a copy of one in a file, and a fleet's own, which is only asked."""
    return preview_of(app.db) if dry_run and app.fleet is None else app.queue(make=True)


def _scratch_of(app: App) -> Path:
    if app.fleet is not None:
        return app.host_folder
    return app.db.with_name(app.db.name + ".scratch")


class _Tally:
    """Tells what becomes of each path, and counts."""

    def __init__(self, app: App, dry_run: bool, exclude: tuple[str, ...]) -> None:
        self.app = app
        self.exclude = exclude
        self.excluded = 0
        self.dry_run = dry_run
        self.left = walk.LeftOut()
        self.refused: list[walk.Refused] = []
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.audio_s = 0.0
        self.needs = Forecast(_scratch_of(app))
        self.pace: Pace | None = None
        self.doubtful: collections.Counter[str] = collections.Counter()

    def found(self, paths: Iterable[gather.Found | walk.Refused]) -> Iterator[gather.Found]:
        """Yield those that can become jobs."""
        for one in paths:
            if self._is_excluded(one):
                self.excluded += 1
            elif isinstance(one, gather.Found):
                yield one
            else:
                self.refuse(one)

    def _is_excluded(self, one: gather.Found | walk.Refused) -> bool:
        """Return whether it is, by its name, its path below the root, or its whole path."""
        names = [os.path.basename(one.path), one.path]
        if isinstance(one, gather.Found):
            names.append(
                one.path[len(one.root) :].lstrip("/") if is_url(one.path) else os.path.relpath(one.path, one.root)
            )
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.exclude for name in names)

    def refuse(self, one: walk.Refused) -> None:
        """Take note of one that cannot become a job."""
        self.refused.append(one)
        enqueue_messages.tell_refused(self.app, one)

    def taken(self, settled: known_files.SettledIntake, queue: Queue, note: str = "") -> None:
        """Take note of one that the queue has answered for."""
        taken = settled.intake
        self.outcomes[str(taken.enqueued.outcome)] += 1
        if taken.enqueued.outcome in enqueue_messages.TO_DO:
            self.audio_s += taken.job.audio_s or 0.0
            if self.dry_run:
                self.needs.add(taken.job, taken.enqueued.output)
            if taken.job.note:
                self.doubtful[taken.job.note.partition(":")[0]] += 1
        # A number that only the copy of a dry run has given is nobody's.
        number = taken.enqueued.job_id
        is_known = not self.dry_run or (number is not None and queue.get(number) is not None)
        enqueue_messages.tell_taken(self.app, settled, note, is_known=is_known)

    def summary(self) -> dict[str, Any]:
        """Return the counts, for programs."""
        return {
            "dry_run": self.dry_run,
            "outcomes": dict(self.outcomes),
            "audio_s": round(self.audio_s, 3),
            "will_fail": dict(self.doubtful),
            "refused": dict(collections.Counter(one.code for one in self.refused)),
            "excluded": self.excluded,
        } | ({"forecast": forecast.document(self.needs, self.pace)} if self.dry_run else {})

    def told(self) -> Iterator[str]:
        """Yield the counts, and what was left out."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items()) or "nothing enqueued"
        doubtful = f"; {self.doubtful.total()} will fail as it looks ({listed(self.doubtful)})" if self.doubtful else ""
        codes = collections.Counter(one.code for one in self.refused)
        refused = f"; {len(self.refused)} refused ({listed(codes)})" if self.refused else ""
        yield f"{'would be: ' if self.dry_run else ''}{counts}; {clock(self.audio_s)} of audio{doubtful}{refused}"
        if self.dry_run:
            yield from forecast.told(self.needs, self.pace)
        if others := self.outcomes[Outcome.OTHER_SETTINGS]:
            yield (
                f"{counted(others, 'file is', 'files are')} known with other settings, and left as they are: "
                "--update gives them those of this command, --out makes another output elsewhere"
            )
        if self.excluded:
            yield f"excluded: {self.excluded}"
        if told := self.left.told():
            yield f"left out: {told}"

    @property
    def exit_code(self) -> int:
        """2 where something that was named is not there, 3 where something met on the way could not be taken."""
        if any(one.code == "input.missing" and one.is_named for one in self.refused):
            return EXIT_USAGE
        if any(not one.is_named for one in self.refused):
            return EXIT_SOME_FAILED
        return EXIT_USAGE if self.refused and not self.outcomes else EXIT_OK


def _kept_priority(queue: Any, taken: gather.Intake, asked: int | None) -> str:
    """Say that a job which is queued already keeps its priority, where another was asked for."""
    answer = taken.enqueued
    if asked is None or answer.outcome is not Outcome.ALREADY_QUEUED:
        return ""
    job = queue.get(answer.job_id)
    if job is None or job.priority == asked:
        return ""
    return f"it keeps priority {job.priority}: `batchsr edit {job.id} --priority {asked}` changes it"


def _told_of_manifests(manifests: tuple[Path, ...], tally: _Tally) -> Iterator[str]:
    """Yield what to change where a manifest names what is not there."""
    if any(one.code == "input.missing" and one.is_named for one in tally.refused):
        for path in manifests:
            yield f"{shown(path)}: its [sources] are relative to {shown(path.absolute().parent)}; name your own there"
