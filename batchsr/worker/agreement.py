"""Record, sidecar and file brought into agreement, where two hosts of a fleet have replaced one output.

With `--overwrite` a name is taken by replacing what stands there, which no host can be kept from that sleeps for longer
than its lease in that very moment. What it leaves is whole, and the queue has kept what every claim was about to
publish: so the file says by its hash whose it is, and record and sidecar are made to speak of it. Where it was made
otherwise than the job asks for now (it was edited or retried meanwhile), the job is queued again.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Final, Literal

from batchsr import storage
from batchsr.errors import SidecarForeign
from batchsr.queue import Job, Result, State, WorkQueue
from batchsr.remote.address import is_url, path_of
from batchsr.restoration import publishing, sidecar_reading
from batchsr.restoration.sidecar import sidecar_path
from batchsr.settings.profile import Settings

Agreed = Literal["agrees", "corrected", "queued again", "unknown"]
AGREES: Final = "agrees"


def reach(queue: WorkQueue, job: Job) -> Agreed:
    """Make the record and the sidecar of a job that is done speak of the file under its output's name.

    "corrected" where one of them spoke of another claim's, "queued again" where the file is not what the job asks for
    now, "unknown" where the file is none that a claim of this job made, or cannot be read. Nothing is done to a job
    that does not overwrite, that is no longer as it was read, or whose output is in a store, nor where one machine is
    alone: there the record is always the file's. Raises ResourceError.
    """
    if not queue.shared or not job.overwrite or is_url(job.output) or job.state is not State.DONE:
        return AGREES
    output = path_of(job.output)
    try:
        found = storage.sha256(output)
    except OSError:
        return "unknown"
    if (made := queue.standing(job, lambda: found)) is None:
        return AGREES if found == job.output_sha256 else "unknown"
    if found == job.output_sha256:
        return "corrected" if _put_beside(job, made) else AGREES
    if not _is_wanted(job, made):
        return "queued again" if queue.correct(job, None) is not None else AGREES
    storage.make_durable(output)
    if queue.correct(job, made) is None:
        return AGREES  # it is another's matter now
    _put_beside(job, made)
    return "corrected"


def _is_wanted(job: Job, made: Result) -> bool:
    """Return whether a claim made what the job asks for now: of the same source, with the same settings and weights."""
    said = made.report
    if said is None or made.source_sha256 != job.source_sha256:
        return False
    same_weights = said.get("model", {}).get("weights_sha256") == job.weights_sha256
    return same_weights and said.get("settings_sha256") == Settings.from_json(job.settings).digest()


def _put_beside(job: Job, made: Result) -> bool:
    """Put the sidecar of the file beside it, where it is missing or another's. Returns whether that was to be done."""
    if made.report is None or not Settings.from_json(job.settings).sidecar:
        return False
    document = json.loads(json.dumps(made.report))
    with contextlib.suppress(SidecarForeign):
        beside = sidecar_reading.read(sidecar_path(path_of(job.output)))
        if beside is not None and beside.said.output.sha256 == made.output_sha256:
            return False
        publishing.complete(path_of(job.output), document)
        return os.path.isfile(sidecar_path(path_of(job.output)))
    return False
