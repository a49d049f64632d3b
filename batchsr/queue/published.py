"""Whether an output that stands under its name is the one that a job speaks of."""

from __future__ import annotations

from batchsr import storage
from batchsr.queue.job import Job
from batchsr.remote.address import is_url, path_of


def is_published(job: Job) -> bool:
    """Return whether the file under the output's name is the one that the row speaks of; if so it is made durable.

    Of an output in a store it is False: whoever claims the job asks there. Raises ResourceError if the file system
    cannot promise that.
    """
    if is_url(job.output):
        return False
    output = path_of(job.output)
    try:
        if job.output_sha256 is None or output.stat().st_size != job.output_bytes:
            return False
        if storage.sha256(output) != job.output_sha256:
            return False
    except OSError:
        return False
    storage.make_durable(output)
    return True
