"""From what a person wants of queued jobs to their new instructions: settings, variant, folder of the output."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence

from batchsr.intake.gather import Request, output_names
from batchsr.queue import Instructions, Job, NewJob
from batchsr.remote.address import common_folder, folder_of, is_url
from batchsr.settings.profile import OUTPUT_SUFFIX


def instructions_of(number: int, job: NewJob, *, again: bool) -> Instructions:
    """Return the instructions to restore job `number` as this new one asks for."""
    return Instructions(
        number,
        identity=job.identity,
        settings=job.settings,
        variant=job.variant,
        output=job.output,
        alt_output=job.alt_output,
        provenance=job.provenance,
        overwrite=job.overwrite,
        again=again,
    )


def instructions_for(
    jobs: Iterable[Job], request: Request | None, *, out: str | None, root: str | None, variant: str | None = None
) -> Iterator[Instructions]:
    """Yield for each job the instructions to restore it as `request` says (None: as before), below the folder `out`.

    Without `out` each output stays in its folder; with it the tree below `root` is mirrored there. The end of the
    output's name, behind the source's stem, stays as it is, but for the extension of another format.
    """
    for job in jobs:
        kept = Request.of_job(job)
        asked = kept if request is None else dataclasses.replace(request, overwrite=request.overwrite or job.overwrite)
        asked = dataclasses.replace(asked, out=out, suffix=suffix_of(job), variant=variant or asked.variant)
        source = job.source if out is not None else os.path.join(os.path.dirname(job.output), _name(job))
        output, alternative = output_names(source, root or os.path.dirname(source), asked)
        yield Instructions(
            job.id,
            identity=identity_of(job),
            settings=asked.settings.to_json(),
            variant=asked.variant,
            output=output,
            alt_output=alternative,
            provenance=asked.provenance,
            overwrite=asked.overwrite,
        )


def common_root(jobs: Sequence[Job]) -> str | None:
    """Return the folder that all sources are below; None where they are of several stores, or of one and of disks."""
    places = {"/".join(job.source.split("/")[:3]) if is_url(job.source) else "" for job in jobs}
    if places != {""}:
        return common_folder([folder_of(job.source) for job in jobs]) if len(places) == 1 else None
    return os.path.commonpath([os.path.dirname(job.source) for job in jobs])


def suffix_of(job: Job) -> str:
    """Return what stands behind the source's stem in the output's name, without the extension."""
    made = os.path.splitext(os.path.basename(job.output))[0]
    for name in (_name(job), os.path.splitext(_name(job))[0]):
        if made.startswith(name):
            rest = made[len(name) :]
            stem, _, number = rest.rpartition("_")
            return stem if number.isdigit() and stem else rest
    return OUTPUT_SUFFIX


def identity_of(job: Job) -> str:
    """Return what made the source this very file when it was enqueued, with its name's stray bytes as they are."""
    try:
        job.source.encode()
    except UnicodeEncodeError:  # the queue holds a name with escapes
        return f"{os.path.realpath(job.source)}\0{job.size_bytes}\0{job.mtime_ns}"
    return job.identity


def _name(job: Job) -> str:
    return os.path.basename(job.source)
