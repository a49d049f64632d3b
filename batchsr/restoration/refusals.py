"""What is refused before anything is computed, since it could not end well hours later."""

from __future__ import annotations

from pathlib import Path

from batchsr import storage
from batchsr.audio import formats, windows
from batchsr.errors import OutputIsSource, OutputTooLarge
from batchsr.restoration import publishing
from batchsr.restoration.recording import Recording
from batchsr.restoration.scratch import HEADER, Scratch, stems_bytes
from batchsr.restoration.spool import spool_bytes
from batchsr.restoration.task import Task
from batchsr.settings.profile import STEMS
from batchsr.temporary import Temporary


def check_output(source: Path, output: Path, *, overwrite: bool, sidecar: bool) -> None:
    """Refuse at the start what would be refused at the end, hours later.

    Raises OutputIsSource, and what `publishing.check_names` raises.
    """
    try:
        same = output.samefile(source)
    except OSError:
        same = False
    if same:
        raise OutputIsSource(f"{output} is the source itself", remedy="choose another output")
    publishing.mend(output)
    publishing.check_names(output, overwrite=overwrite, sidecar=sidecar)


def check_size(task: Task, recording: Recording, plan: windows.Plan) -> None:
    """Refuse what is larger than a whole disk: no waiting for space would help, and the header may be lying."""
    scratch_bytes = plan.count * (HEADER.size + 4 * recording.rows * plan.frame_samples)
    if task.settings.stems != "off":
        scratch_bytes += stems_bytes(plan.total_samples, recording.channels)
    if task.settings.denoise != "off":
        scratch_bytes += spool_bytes(plan.total_samples, recording.channels)
    of_stems = len(STEMS) if task.settings.stems == "files" else 0
    output_bytes = (1 + of_stems) * _output_bytes(task, recording)
    needs: dict[int, tuple[Path, int]] = {}
    for folder, wanted in ((task.scratch.parent, scratch_bytes), (task.output.parent, output_bytes)):
        with storage.output_errors(folder, "look at"):
            system = storage.nearest_existing(folder).stat().st_dev
        needs[system] = folder, wanted + needs.get(system, (folder, 0))[1]
    for folder, needed in needs.values():
        with storage.output_errors(folder, "look at"):
            most = storage.total_bytes(folder)
        if needed > most:
            raise OutputTooLarge(
                f"{task.source} says that it lasts {recording.info.duration_s / 3600:,.0f} hours; to restore it takes "
                f"{needed / 1e9:,.0f} GB in {folder}, whose whole disk has {most / 1e9:,.0f}",
                remedy="if its header is wrong, convert it with ffmpeg; or choose a larger disk",
            )


def check_limits(task: Task, recording: Recording, scratch: Scratch | None, output: Temporary) -> None:
    """Refuse what is larger than one file may be, by `ulimit -f` or its file system. Raises OutputTooLarge.

    A stem's file is as large as the output's; the files of chunks and of slots beside the scratch are looked at where
    they are opened.
    """
    if scratch is not None:
        scratch.refuse_too_large()
    storage.refuse_too_large(output.fd, task.output, _output_bytes(task, recording))


def _output_bytes(task: Task, recording: Recording) -> int:
    """Return how many bytes the output has at the least; 0 where it is compressed."""
    if formats.WRITTEN[task.settings.format].packing != "none":
        return 0
    samples = recording.info.samples_at(task.settings.rate) * recording.channels
    return formats.SAMPLE_BYTES[task.settings.subtype] * samples
