"""How large what is written for one file becomes, and whether there is any place for it at all."""

from __future__ import annotations

from batchsr import storage
from batchsr.audio import formats, windows
from batchsr.errors import OutputTooLarge
from batchsr.restoration.recording import Recording
from batchsr.restoration.scratch import HEADER
from batchsr.restoration.spool import spool_bytes
from batchsr.restoration.task import Task


def check(task: Task, recording: Recording, plan: windows.Plan) -> None:
    """Refuse what is larger than a whole disk: no waiting for space would help, and the header may be lying."""
    scratch_bytes = plan.count * (HEADER.size + 4 * recording.channels * plan.frame_samples)
    if task.settings.denoise != "off":
        scratch_bytes += spool_bytes(plan.total_samples, recording.channels)
    for folder, needed in ((task.scratch.parent, scratch_bytes), (task.output.parent, output_bytes(task, recording))):
        with storage.output_errors(folder, "look at"):
            most = storage.total_bytes(folder)
        if needed > most:
            raise OutputTooLarge(
                f"{task.source} says that it lasts {recording.info.duration_s / 3600:,.0f} hours; to restore it takes "
                f"{needed / 1e9:,.0f} GB in {folder}, whose whole disk has {most / 1e9:,.0f}",
                remedy="if its header is wrong, convert it with ffmpeg; or choose a larger disk",
            )


def output_bytes(task: Task, recording: Recording) -> int:
    """Return how many bytes the output has at the least; 0 where it is compressed."""
    if formats.WRITTEN[task.settings.format].packing != "none":
        return 0
    samples = recording.info.samples_at(task.settings.rate) * recording.channels
    return formats.SAMPLE_BYTES[task.settings.subtype] * samples
