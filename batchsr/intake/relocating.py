"""A moved archive: which jobs it concerns, and whether what lies at the new place is what was enqueued."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from batchsr import storage
from batchsr.audio import files
from batchsr.display import shown
from batchsr.errors import InputError
from batchsr.intake.instructions import identity_of, suffix_of
from batchsr.queue import OWNED, Job, Move, State
from batchsr.queue.job import dedupe_key_of
from batchsr.remote.address import is_url
from batchsr.settings.profile import Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Stays:
    """A job that is not relocated, and why."""

    job: Job
    why: str


def moves(jobs: Iterable[Job], old: str, new: str, *, outputs: bool) -> Iterator[Move | Stays]:
    """Yield for each job that has files below the folder `old` where they are below `new`. Nothing is written.

    A source is the same when its size and time are, or else its hash where one is on record, or else its length, rate
    and channels. With `outputs` also outputs below `old` are below `new` now; that of a job that is done must be there,
    of the size that it was made with. Superseded jobs are history, and are passed by.
    """
    for job in jobs:
        source, output = moved(job.source, old, new), moved(job.output, old, new) if outputs else None
        if (source is None and output is None) or job.state is State.SUPERSEDED:
            continue
        if job.state in OWNED:
            yield Stays(job, "a worker has it in hand")
            continue
        yield _move(job, source or job.source, output, old, new)


def moved(path: str, old: str, new: str) -> str | None:
    """Return where a path below the folder `old`, or that folder itself, is below `new`; None for any other."""
    if path == old:
        return new
    start = os.path.join(old, "")
    return os.path.join(new, path[len(start) :]) if path.startswith(start) else None


def _move(job: Job, source: str, output: str | None, old: str, new: str) -> Move | Stays:
    if is_url(source):
        return Stays(job, "its source is in a store, and only what stands on disks is moved")
    try:
        status = os.stat(source)
        own = os.lstat(source)
    except OSError as e:
        return Stays(job, f"{shown(source)} cannot be looked at: {e.strerror}")
    if source != job.source and (why := _differs(job, source, status)) is not None:
        return Stays(job, why)
    if output is not None and job.state is State.DONE and (why := _output_differs(job, output)) is not None:
        return Stays(job, why)
    wanted = wanted_output(job)
    if output is not None:
        wanted = moved(wanted, old, new) or wanted
    identity, mtime_ns = identity_of(job), job.mtime_ns
    if source != job.source:
        identity = f"{os.path.realpath(source)}\0{status.st_size}\0{status.st_mtime_ns}"
        mtime_ns = storage.kept_ns(status.st_mtime_ns)
    return Move(
        job.id,
        source=source,
        output=output or job.output,
        identity=identity,
        dedupe_key=dedupe_key(identity, job, wanted),
        size_bytes=status.st_size,
        mtime_ns=mtime_ns if mtime_ns is not None else storage.kept_ns(status.st_mtime_ns),
        inode=status.st_ino,
        device=own.st_dev,
        wanted=wanted,
    )


def _differs(job: Job, source: str, status: os.stat_result) -> str | None:
    """Return why a file at the new place is not the one that was enqueued; None if it is."""
    if status.st_size != job.size_bytes:
        return f"{shown(source)} is another file: {status.st_size:,} bytes, not {job.size_bytes or 0:,}"
    if storage.kept_ns(status.st_mtime_ns) == job.mtime_ns:
        return None
    try:
        if job.source_sha256 is not None:
            same = storage.sha256(Path(source)) == job.source_sha256
        else:
            info = files.probe(Path(source), accept_truncated=True)
            same = (info.frames, info.sample_rate, info.channels) == (job.frames, job.sample_rate, job.channels)
    except (InputError, OSError):
        same = False
    return None if same else f"{shown(source)} is of another time, and holds something else"


def _output_differs(job: Job, output: str) -> str | None:
    try:
        size_bytes = os.stat(output).st_size
    except OSError as e:
        return f"its output {shown(output)} cannot be looked at: {e.strerror}"
    if job.output_bytes is not None and size_bytes != job.output_bytes:
        return f"its output {shown(output)} is another file: {size_bytes:,} bytes, not {job.output_bytes:,}"
    return None


def wanted_output(job: Job) -> str:
    """Return the output that was first asked for: the queue keeps its key alone, and the name may have been taken."""
    folder = os.path.dirname(job.output)
    stem = os.path.splitext(os.path.basename(job.source))[0]
    extension = "." + Settings.from_json(job.settings).format
    first = os.path.join(folder, storage.fitted_name(stem, suffix_of(job) + extension))
    return first if dedupe_key(identity_of(job), job, first) == job.dedupe_key else job.output


def dedupe_key(identity: str, job: Job, wanted: str) -> str:
    """Return what identifies it, as `NewJob.dedupe_key` does."""
    return dedupe_key_of(identity, job.settings, job.wanted_variant, wanted)
