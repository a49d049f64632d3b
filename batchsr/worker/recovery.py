"""Believe the file: an output that stands there already, whole and ours, is not restored again.

That happens when a crash or an I/O error fell between the output's name and the queue's record of the job, and when the
database is older than the files: rolled back to a backup, or made anew over a finished archive.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from batchsr import storage
from batchsr.errors import SidecarForeign
from batchsr.queue import Backend, Job, Result, is_published
from batchsr.remote import objects
from batchsr.remote.address import is_url
from batchsr.restoration import publishing, sidecar, sidecar_reading
from batchsr.restoration.sidecar import sidecar_path
from batchsr.settings.profile import Settings


def finished_before(job: Job, settings: Settings, backend: Backend) -> Result | None:
    """Return what is under the output's name, if it is what this job would make; None if not, or if nothing is.

    Of an output in a store nothing is known here. Either the queue knows the file's hash from an attempt that got as
    far as committing, or the sidecar proves it: same source, settings and model, and the hashes of both files are those
    it names. A source that was moved away since is known by its job. Raises ResourceError.
    """
    if is_url(job.output):
        return None
    if is_published(job):
        assert job.output_sha256 is not None
        assert job.output_bytes is not None
        complete_sidecar(job)
        return Result(job.output_sha256, job.output_bytes)
    if job.overwrite:
        return None
    publishing.mend(Path(job.output))
    return from_sidecar(job, settings, backend)


def complete_sidecar(job: Job) -> None:
    """Write the sidecar of an output that the queue speaks of, if a crash fell between the two. Raises ResourceError.

    Where something else has the sidecar's name it is left alone: the queue has what the sidecar would say.
    """
    if job.report is None or is_url(job.output) or not Settings.from_json(job.settings).sidecar:
        return
    document = json.loads(job.report)
    if document["output"]["sha256"] == job.output_sha256:
        with contextlib.suppress(SidecarForeign):
            publishing.complete(Path(job.output), document)


def adoptable(jobs: Iterable[Job]) -> Iterator[Job]:
    """Yield those of the jobs whose output stands there with a sidecar of ours: they will be looked at, and not made
    again if the hashes are right."""
    for job in jobs:
        if job.overwrite or is_url(job.output) or not os.path.lexists(job.output):
            continue
        with contextlib.suppress(OSError, SidecarForeign):
            if sidecar_reading.read(sidecar_path(Path(job.output))) is not None:
                yield job


def _is_the_source(job: Job, size_bytes: int, sha256: str, said: Mapping[str, Any]) -> bool:
    """Return whether the job's source is what a sidecar speaks of: by its content, or by its job where it is gone.

    A hot folder moves sources that are done, so that a database that comes back knows them by a name that is free. The
    job has the name, size and time that the file had when it came, and the sidecar those that it had when it was read.
    """
    if is_url(job.source):
        there = (said.get("path"), said.get("e_tag"), size_bytes)
        return there == (job.source, objects.mark_of(job.identity).strip('"'), job.size_bytes)
    source = Path(job.source)
    try:
        return source.stat().st_size == size_bytes and storage.sha256(source) == sha256
    except FileNotFoundError:
        if not source.parent.is_dir():
            raise  # its share is away, and comes back
        when = None if job.mtime_ns is None else sidecar.modified(job.mtime_ns)
        return (said.get("path"), said.get("modified")) == (job.source, when) and job.size_bytes == size_bytes


def from_sidecar(job: Job, settings: Settings, backend: Backend) -> Result | None:
    """Return what is under the output's name, on this machine, if the sidecar beside it proves that this job would make
    it. Raises ResourceError."""
    output = Path(job.output)
    try:
        record = sidecar_reading.read(sidecar_path(output))
        if record is None:
            return None
        if record.said.output.size_bytes != output.stat().st_size:
            return None
        if (found := from_record(job, settings, backend, record, storage.sha256(output))) is None:
            return None
    except (OSError, SidecarForeign):
        return None  # what stands there is not ours, and the restoration says so
    storage.make_durable(output)
    return found


def from_record(
    job: Job, settings: Settings, backend: Backend, record: sidecar_reading.Record, sha256: str, size_bytes: int = -1
) -> Result | None:
    """Return what is recorded of an output with this hash, if it is what this job would make; None if not."""
    said = record.said
    wanted = (
        said.settings_sha256 == settings.digest(),
        (said.model.weights_sha256, said.model.dtype, said.model.device)
        == (backend.weights_sha256, backend.dtype, backend.device),
        said.output.sha256 == sha256,
        size_bytes in (-1, said.output.size_bytes),
    )
    if not all(wanted):
        return None
    if not _is_the_source(job, said.source.size_bytes, said.source.sha256, record.document["source"]):
        return None
    return result_of(record, windows_resumed=said.windows.total)


def result_of(record: sidecar_reading.Record, *, windows_resumed: int) -> Result:
    """Return what a restoration came to, as its sidecar says it."""
    said = record.said
    return Result(
        output_sha256=said.output.sha256,
        output_bytes=said.output.size_bytes,
        source_sha256=said.source.sha256,
        windows_total=said.windows.total,
        windows_resumed=windows_resumed,
        audio_s=said.source.duration_s,
        sample_rate=said.source.sample_rate_hz,
        channels=said.source.channels,
        frames=said.source.frames,
        clipped_samples=said.output.clipped_samples,
        wall_s=said.wall_s,
        report=record.document,
    )
