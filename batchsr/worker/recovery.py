"""Believe the file: an output that stands there already, whole and ours, is not restored again.

That happens when a crash or an I/O error fell between the output's name and the job's row, and when the
database is older than the files: rolled back to a backup, or made anew over a finished archive.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batchsr import storage
from batchsr.queue import Backend, Job, Result, is_published
from batchsr.restoration import sidecar as sidecars
from batchsr.settings.profile import Settings


def finished_before(job: Job, settings: Settings, backend: Backend) -> Result | None:
    """What is under the output's name, if it is what this job would make; None if not, or if nothing is.

    Either the row knows the file's hash from an attempt that got as far as committing, or the sidecar proves
    it: same source, settings and model, and the hashes of both files are those it names. Raises ResourceError.
    """
    if is_published(job):
        assert job.output_sha256 is not None
        assert job.output_bytes is not None
        return Result(job.output_sha256, job.output_bytes)
    if job.overwrite:
        return None
    return _from_sidecar(job, settings, backend)


def _from_sidecar(job: Job, settings: Settings, backend: Backend) -> Result | None:
    output, source = Path(job.output), Path(job.source)
    try:
        document = json.loads(sidecars.sidecar_path(output).read_bytes())
        said: dict[str, Any] = document["output"]
        wanted = (
            document["schema"] == sidecars.SCHEMA,
            document["settings_sha256"] == settings.digest(),
            all(document["model"][key] == getattr(backend, key) for key in ("weights_sha256", "dtype", "device")),
            document["source"]["size_bytes"] == source.stat().st_size,
            said["size_bytes"] == output.stat().st_size,
        )
        if not all(wanted) or storage.sha256(output) != said["sha256"]:
            return None
        if storage.sha256(source) != document["source"]["sha256"]:
            return None
        with storage.resource_errors(output, "sync"):
            storage.fsync_path(output)
            storage.fsync_path(output.parent)
        return Result(
            output_sha256=said["sha256"],
            output_bytes=said["size_bytes"],
            source_sha256=document["source"]["sha256"],
            windows_total=document["windows"]["total"],
            windows_resumed=document["windows"]["total"],
            audio_s=document["source"]["duration_s"],
            sample_rate=document["source"]["sample_rate_hz"],
            channels=document["source"]["channels"],
            frames=document["source"]["frames"],
            clipped_samples=said["clipped_samples"],
            report=document,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no sidecar, or not one of ours
