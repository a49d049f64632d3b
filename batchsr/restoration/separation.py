"""The stems of one restoration: the file of what was separated, beside its scratch, and the streams made from it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping

from batchsr.audio import windows
from batchsr.audio.files import SourceInfo
from batchsr.audio.treatment import Synthetic, Treatment, synthetic
from batchsr.audio.windows import Block
from batchsr.models import separator
from batchsr.restoration.pipeline import Gate
from batchsr.restoration.recording import Recording
from batchsr.restoration.scratch import Scratch, fingerprint, stems_path
from batchsr.restoration.stages.stems import network
from batchsr.restoration.task import Task
from batchsr.settings.profile import Settings


@contextlib.contextmanager
def opened(
    task: Task, recording: Recording, treatment: Treatment, plan: windows.Plan, alive: Callable[[], None]
) -> Iterator[Callable[[Iterator[Block]], Iterator[Block]]]:
    """Give what separates the recording at 48 kHz, with the file of finished chunks open.

    Raises StageFailed for what is no network, OutputTooLarge where the file may never hold all chunks, ResourceError.
    """
    found = network(treatment)
    if found is None:
        raise AssertionError("no network was decided on")
    loaded = separator.Separator(found.path)
    total = plan.total_samples
    with Scratch(
        stems_path(task.scratch),
        key=hashlib.sha256(f"stems {separator.VERSION} {found.sha256}".encode()).digest(),
        channels=recording.rows,
        frame_samples=loaded.chunk_samples,
        count=loaded.chunks(total),
    ) as store:
        store.refuse_too_large()
        yield lambda blocks: loaded.run(blocks, total, store, fingerprint, alive)


def stems(recording: Recording, treatment: Treatment, plan: windows.Plan, gate: Gate) -> Iterator[Block]:
    """Return the restored stems (n, 4C) at 48 kHz, from windows that are there, or as separated."""
    if not treatment.bypass:
        return windows.assemble(plan, gate.read)
    if recording.separate is None:
        raise AssertionError("nothing separates")
    return recording.separate(recording.resampled(treatment))


def made_up(
    settings: Settings, info: SourceInfo, treatment: Treatment, of_output: Synthetic
) -> Mapping[str, Synthetic]:
    """Return what of the output is made up (""), and of a stem ("stem"), of which nothing is the recording itself."""
    whole = dataclasses.replace(treatment, crossover=None, bypass=False)
    return {"": of_output, "stem": synthetic(whole, float(info.rate), settings.rate)}
