"""From what the user names to jobs: gather paths, name outputs, probe, enqueue.

The command line, a manifest and the hot folder all come in through here. Whatever exists becomes a job, even
what looks bad: the worker then fails it with a code and a sentence, so that the record is complete. Only
what can never be a job (a folder, a name that matches nothing) is refused here.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self

from batchsr.audio import files, formats
from batchsr.display import shown
from batchsr.errors import InputError, UsageError
from batchsr.intake import buckets
from batchsr.intake.walk import LeftOut, Refused, below, matches
from batchsr.queue import Enqueued, Job, NewJob, Queue
from batchsr.remote.address import is_url
from batchsr.remote.objects import Facts
from batchsr.settings import textfile
from batchsr.settings.profile import OUTPUT_SUFFIX, Settings
from batchsr.storage import NAME_BYTES, fitted_name, kept_ns

_OUTPUT_NAME_BYTES: Final = NAME_BYTES - len(".json")  # so that the sidecar's name is the output's and more

AUDIO_SUFFIXES: Final = formats.extensions()
"""What a folder is searched for. Some of it cannot be decoded here; it is taken all the same, so that the record says
why such a file was not restored."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A path to enqueue, absolute, or a URL, and the folder that an output tree mirrors from."""

    path: str
    root: str
    facts: Facts | None = None
    """What a store says of an object."""


@dataclasses.dataclass(frozen=True, slots=True)
class Intake:
    """What became of one path: the queue's answer beside what the probe saw."""

    job: NewJob
    enqueued: Enqueued


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """How the gathered files are to be restored."""

    settings: Settings
    variant: str | None = None
    out: str | None = None
    """Folder, or prefix of a store, that mirrors the tree below the common root; None puts outputs beside their
    sources."""
    batch: str = ""
    priority: int = 0
    overwrite: bool = False
    suffix: str = OUTPUT_SUFFIX
    """What the output's stem ends with."""
    provenance: str = ""
    """Canonical JSON of where the settings came from (profile, manifest, notes), kept in the queue and the sidecar."""

    @classmethod
    def of_job(cls, job: Job) -> Self:
        """Return how a job that is queued is to be restored, but for the folder of its output."""
        return cls(
            settings=Settings.from_json(job.settings),
            variant=job.wanted_variant,
            batch=job.batch,
            priority=job.priority,
            overwrite=job.overwrite,
            provenance=job.provenance,
        )


def gather(
    arguments: Iterable[str], *, recursive: bool, root: str | None = None, left: LeftOut | None = None
) -> Iterator[Found | Refused]:
    """Expand files, folders, globs and URLs, in order, each path once.

    `root` defaults to the folder common to all arguments, of URLs to that of one bucket. A folder needs `recursive`;
    what it holds is taken by extension, or by its first bytes where the name says nothing. Never opens anything but
    regular files. What cannot be reached is told and the rest is taken; what is passed by is counted in `left`. Raises
    ExtraMissing for a URL.
    """
    left = left if left is not None else LeftOut()
    expanded = list(_expand(arguments, left))
    objects = buckets.Named([one for one in expanded if isinstance(one, str) and is_url(one)], root, recursive, left)
    if root is None or is_url(root):
        paths = [one for one in expanded if isinstance(one, str) and not is_url(one)]
        folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in paths]
        root = os.path.commonpath(folders) if folders else os.getcwd()
    seen: set[str] = set()
    for one in expanded:
        if isinstance(one, Refused):
            yield one
        elif is_url(one):
            yield from (other if isinstance(other, Refused) else Found(*other) for other in objects.found(one))
        elif not os.path.isdir(one):
            if one not in seen:
                seen.add(one)
                yield Found(one, root)
        elif not recursive:
            yield Refused(one, "input.not_regular", f"{shown(one)} is a folder (pass -r to take what is in it)")
        else:
            for inner in below(one, left):
                if isinstance(inner, Refused):
                    yield inner
                elif inner not in seen:
                    seen.add(inner)
                    yield Found(inner, root)


def output_names(path: str, root: str, request: Request) -> tuple[str, str]:
    """Return the wanted output path, and the one that keeps the extension in case another job has the first.

    Raises UsageError for a URL that cannot be written to.
    """
    if is_url(path) or is_url(request.out or ""):
        ending = f"{request.suffix}.{request.settings.format}"
        return buckets.output_names(path, root, request.out, ending, _OUTPUT_NAME_BYTES)
    folder, name = os.path.split(path)
    if request.out is not None:
        folder = os.path.normpath(os.path.join(os.path.abspath(request.out), os.path.relpath(folder, root)))
    stem = os.path.splitext(name)[0]
    extension = "." + request.settings.format
    return (
        os.path.join(folder, fitted_name(stem, request.suffix + extension, _OUTPUT_NAME_BYTES)),
        os.path.join(folder, fitted_name(name, request.suffix + extension, _OUTPUT_NAME_BYTES)),
    )


def to_job(found: Found, request: Request) -> NewJob:
    """Probe one path and describe the job. Never raises on a bad file: its `note` says what the probe saw.

    Raises OSError where not even the name can be looked at (any more), UsageError where its output can have no name.
    """
    output, alternative = output_names(found.path, found.root, request)
    if found.facts is not None:
        return _of_object(found.path, found.facts, output, alternative, request)
    info, note = None, ""
    try:
        info = files.probe(Path(found.path), accept_truncated=request.settings.accept_truncated)
    except InputError as e:
        note = f"{e.code}: {e}"
    own = os.lstat(found.path)
    try:
        status = os.stat(found.path)
    except OSError:
        status = own  # a dangling or looping link: its own identity is all there is
    return NewJob(
        source=found.path,
        output=output,
        alt_output=alternative,
        identity=f"{os.path.realpath(found.path)}\0{status.st_size}\0{status.st_mtime_ns}",
        size_bytes=status.st_size,
        mtime_ns=kept_ns(status.st_mtime_ns),
        inode=status.st_ino,
        device=own.st_dev,  # of the name's own file system, also where it is a link
        frames=info.frames if info else None,
        sample_rate=info.sample_rate if info else None,
        channels=info.channels if info else None,
        audio_s=info.duration_s if info else None,
        note=note,
        **_asked(request),
    )


def _of_object(url: str, facts: Facts, output: str, alternative: str, request: Request) -> NewJob:
    """Describe the job of an object: nothing of it is read before a worker fetches it."""
    return NewJob(
        source=url,
        output=output,
        alt_output=alternative,
        identity=facts.identity(url),
        size_bytes=facts.size_bytes,
        mtime_ns=kept_ns(facts.modified_ns),
        **_asked(request),
    )


def _asked(request: Request) -> dict[str, Any]:
    """Return what a job has of its request, whatever its source is."""
    return {
        "settings": request.settings.to_json(),
        "variant": request.variant,
        "batch": request.batch,
        "priority": request.priority,
        "overwrite": request.overwrite,
        "provenance": request.provenance,
    }


def enqueue(
    queue: Queue,
    found: Iterable[Found],
    request: Request,
    *,
    dry_run: bool = False,
    lost: Callable[[Refused], None] = lambda refused: None,
    check_outputs: bool = False,
) -> Iterator[Intake]:
    """Probe and enqueue, in bulk, telling for each path what happened. With `dry_run` nothing is written.

    `lost` is told of what is no longer there, or cannot be looked at; with `check_outputs` also of what would have its
    output in a folder that cannot be written, such as beside the files of a read-only archive.
    """
    closed = functools.cache(_closed_folder)
    pending: deque[NewJob] = deque()  # the queue takes jobs in bulk and answers in order

    def remember() -> Iterator[NewJob]:
        for one in found:
            try:
                job = to_job(one, request)
            except OSError as e:
                lost(_gone(one.path, e))
                continue
            except UsageError as e:
                lost(Refused(one.path, e.code, str(e), is_named=False))
                continue
            if check_outputs and (why := closed(os.path.dirname(job.output))):
                lost(Refused(one.path, "output.closed", f"{shown(one.path)}: its output's {why}", is_named=False))
                continue
            pending.append(job)
            yield job

    answers = queue.preview(remember()) if dry_run else queue.enqueue(remember())
    for answer in answers:
        yield Intake(pending.popleft(), answer)


def _expand(arguments: Iterable[str], left: LeftOut) -> Iterator[str | Refused]:
    """Yield absolute paths of what is there, a glob only where no file has that very name; URLs as they are."""
    for argument in arguments:
        if is_url(argument):
            yield argument
            continue
        path = os.path.abspath(textfile.expanded(argument))
        try:
            os.lstat(path)
        except (OSError, ValueError) as e:
            yield from (found := list(matches(path, left)) if glob.has_magic(argument) else [])
            if not found:
                yield _not_there(path, e)
        else:
            yield path


def _closed_folder(folder: str) -> str:
    """Return why nothing can be written there now, or in the nearest folder above that exists, in words; "" if
    it can."""
    if is_url(folder):
        return ""  # a worker tries it
    while not os.path.isdir(folder) and (above := os.path.dirname(folder)) != folder:
        if os.path.lexists(folder):
            return f"folder {shown(folder)} is none but a file or a broken link: choose another one with --out"
        folder = above
    try:
        read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return ""  # the restoration says it
    effective = os.access in os.supports_effective_ids
    if not read_only and os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
        return ""
    why = "is read-only" if read_only else "may not be written by this user"
    return f"folder {shown(folder)} {why}: choose another one with --out"


def _gone(path: str, e: OSError) -> Refused:
    if e.errno in (errno.ENOENT, errno.ENOTDIR):
        return Refused(path, "input.missing", f"{shown(path)} went away while it was enqueued", is_named=False)
    told = f"{shown(path)} cannot be looked at: {e.strerror} (check its folder's permissions)"
    return Refused(path, "input.unreadable", told, is_named=False)


def _not_there(path: str, e: OSError | ValueError) -> Refused:
    if isinstance(e, ValueError):  # a NUL
        return Refused(path, "input.missing", f"{shown(path)} is no possible file name")
    if e.errno in (errno.ENOENT, errno.ENOTDIR):
        return Refused(path, "input.missing", f"{shown(path)}: no such file, folder or match")
    return Refused(path, "input.unreadable", f"{shown(path)} cannot be looked at: {e.strerror}", is_named=False)
