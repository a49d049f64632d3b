"""Whether an output that stands under its name is the one that a job speaks of."""

from __future__ import annotations

from pathlib import Path

from batchsr import storage
from batchsr.queue.job import Job


def is_published(job: Job) -> bool:
    """Return whether the file under the output's name is the one that the row speaks of; if so it is made durable.

    Raises ResourceError if the file system cannot promise that.
    """
    output = Path(job.output)
    try:
        if job.output_sha256 is None or output.stat().st_size != job.output_bytes:
            return False
        if storage.sha256(output) != job.output_sha256:
            return False
    except OSError:
        return False
    storage.make_durable(output)
    return True
