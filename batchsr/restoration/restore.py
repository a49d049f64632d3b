"""One file, start to end: read -> windows -> model -> scratch -> output and sidecar.

The model stands behind a batcher (`restoration.batcher`), so that other files' windows share its passes and
everything around it can be tested with one that takes a microsecond. Threads run beside it (`restoration.pipeline`),
but a window's samples depend neither on them, nor on its company, nor on where an earlier attempt stopped.
So the output's bytes depend on source, settings and model alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

from batchsr import __version__, faults, storage
from batchsr.audio import files, metadata, windows
from batchsr.audio.filters import keep_band
from batchsr.audio.windows import Block
from batchsr.errors import InputChanged, InputMissing, OutputExists, OutputIsSource
from batchsr.restoration import pipeline
from batchsr.restoration import sidecar as sidecars
from batchsr.restoration.batcher import Batcher
from batchsr.restoration.recording import Measurements, Recording, Treatment
from batchsr.restoration.scratch import Scratch
from batchsr.restoration.task import Restored, Task

ALGORITHM: Final = 1
"""Raise it when the same source, settings and model would give other bytes: scratch of before is then not believed."""
_SIGN_OF_LIFE_S: Final = 1.0


def restore(
    task: Task,
    model: Batcher,
    *,
    on_windows: Callable[[int, int], None],
    before_publish: Callable[[Restored], None],
    spent_s: Callable[[], float] | None = None,
) -> Restored:
    """Restore one file, taking up where an earlier attempt stopped.

    `on_windows(done, total)` is called once with what the scratch holds already, then whenever more windows are
    safe there, then now and then with the same figures while the output is written and hashed; it stops the
    restoration by raising. `before_publish` is called when the output is finished but not yet
    visible, with all there is to record; it too may raise. `spent_s()` is the time to put on record, that since the
    call if not given. The scratch file stays in any case: discard it when the job is recorded as done.

    Raises the InputError, OutputError, ResourceError, TransientError and ModelError families.
    """
    if spent_s is None:
        started = time.monotonic()
        spent_s = lambda: time.monotonic() - started  # noqa: E731
    _check_output(task)
    info = files.probe(task.source, accept_truncated=task.settings.accept_truncated)
    _check_unchanged(task, info)
    settings = task.settings
    recording = Recording(task.source, info, settings)
    treatment = recording.treatment()
    described = metadata.read(task.source)
    carried = metadata.carry_over(
        described,
        form=settings.format,
        subtype=settings.subtype,
        channels=recording.channels,
        source_rate_hz=info.rate,
        program=f"batchsr {__version__}; FlashSR {Path(str(task.provenance.get('variant', ''))).name}".rstrip(),
    )
    plan = windows.Plan.of(info.output_samples, model.frame_samples, settings.overlap)
    storage.make_folder(task.output.parent)
    job, _, claim = task.tag.rpartition("-")
    if claim != "1":  # the first claim has nothing to find, and the folder may hold a hundred thousand files
        for path in (task.output, sidecars.sidecar_path(task.output)):
            storage.remove_temporaries(path, job)
    key = _scratch_key(task, model, info, plan)
    with Scratch(
        task.scratch, key=key, channels=recording.channels, frame_samples=plan.frame_samples, count=plan.count
    ) as scratch:
        finished = set(range(plan.count)) if treatment.bypass else scratch.finished()
        on_windows(len(finished), plan.count)
        temporary = storage.temporary_for(task.output, task.tag)
        gate = pipeline.Gate(scratch, finished)
        ear = Measurements(recording, plan)
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="join") as joiner:
                joining = joiner.submit(_join, gate, plan, temporary, recording, treatment, ear, carried.embedded)

                def on_more(done: int) -> None:
                    if joining.done():
                        joining.result()  # it cannot be finished yet, so it failed: no need to go on
                    on_windows(done, plan.count)

                def alive() -> None:
                    on_windows(plan.count, plan.count)

                try:
                    with closing(windows.cut(plan, recording.conditioned(treatment, ear))) as source:
                        pipeline.fill(
                            scratch,
                            gate,
                            finished,
                            source,
                            lambda rows, index, keep: model.offer(rows, index, settings.timestep, settings.seed, keep),
                            ahead=max(2, 2 * model.batch_windows // recording.channels),
                            name=str(task.source),
                            on_windows=on_more,
                        )
                finally:
                    gate.close()
                writer = _wait(joining, alive)
            restored = Restored(
                source_sha256=_hash_source(task, info, alive),
                output_sha256=_hash_output(temporary, alive),
                output_bytes=temporary.stat().st_size,
                windows_total=plan.count,
                windows_resumed=len(finished),
                audio_s=info.duration_s,
                clipped_samples=writer.clipped_samples,
                sample_rate=info.sample_rate,
                channels=info.channels,
                frames=info.frames,
                wall_s=spent_s(),
                report={},
            )
            document = sidecars.sidecar(task, info, plan, restored, treatment, ear, recording.remarks)
            document["metadata"] = {**described.to_dict(), "not_carried_over": list(carried.lost)}
            restored = dataclasses.replace(restored, report=document)
            before_publish(restored)
            if settings.sidecar:  # before the output, so that an output never stands without its record
                sidecars.write_sidecar(task.output, document, tag=task.tag)
            storage.publish(temporary, task.output, overwrite=task.overwrite)
        finally:
            temporary.unlink(missing_ok=True)
    return restored


def discard_scratch(path: Path) -> None:
    """Remove a scratch file that is no longer needed."""
    with storage.resource_errors(path, "remove the scratch file"):
        path.unlink(missing_ok=True)


def _check_output(task: Task) -> None:
    """Refuse at the start what would be refused at the end, hours later."""
    try:
        same = task.output.samefile(task.source)
    except OSError:
        same = False
    if same:
        raise OutputIsSource(f"{task.output} is the source itself", remedy="choose another output")
    if not task.overwrite and (task.output.exists() or task.output.is_symlink()):
        raise OutputExists(f"{task.output} exists already", remedy="move it away, or pass --overwrite")


def _check_unchanged(task: Task, info: files.SourceInfo) -> None:
    for was, now in ((task.size_bytes, info.size_bytes), (task.mtime_ns, info.mtime_ns)):
        if was is not None and was != now:
            raise InputChanged(f"{task.source} changed after it was enqueued", remedy="enqueue it again")


def _scratch_key(task: Task, model: Batcher, info: files.SourceInfo, plan: windows.Plan) -> bytes:
    """SHA-256 over everything that a window's samples depend on."""
    identity = model.identity
    parts = {
        "algorithm": ALGORITHM,
        "settings": task.settings.digest(),
        "weights": identity.weights_sha256,
        "dtype": identity.dtype,
        "device": identity.device,
        "batch_windows": model.batch_windows,
        "source": [info.size_bytes, info.mtime_ns, info.frames, info.sample_rate, info.channels],
        "plan": [plan.total_samples, plan.frame_samples, plan.overlap_samples],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def _join(
    gate: pipeline.Gate,
    plan: windows.Plan,
    temporary: Path,
    recording: Recording,
    treatment: Treatment,
    ear: Measurements,
    embedded: files.Embedded,
) -> files.Writer:
    """Write the windows as they come, cross-faded, to the temporary; for the band that is kept the recording itself
    is read once more."""
    settings = recording.settings
    with (
        closing(recording.programme()) as programme,
        files.Writer(
            temporary,
            recording.channels,
            settings.format,
            settings.subtype,
            frames=plan.total_samples,
            embedded=embedded,
        ) as writer,
    ):
        blocks: Iterator[Block] = programme
        if not treatment.bypass:
            blocks = windows.assemble(plan, gate.read)
            if treatment.crossover is not None:
                blocks = keep_band(programme, blocks, treatment.crossover)
        for block in blocks:
            ear.hear_output(block)
            with storage.resource_errors(temporary, "write"):
                writer.write(block)
            faults.point("assemble.during")
    return writer


def _wait(joining: Future[files.Writer], alive: Callable[[], None]) -> files.Writer:
    """The joiner's result; meanwhile show that we live, and stop if asked to."""
    while True:
        try:
            return joining.result(timeout=_SIGN_OF_LIFE_S)
        except TimeoutError:
            if joining.done():
                raise
            alive()


def _hash_source(task: Task, info: files.SourceInfo, alive: Callable[[], None]) -> str:
    """SHA-256 of the source, which must still be the file that was read."""
    try:
        digest = storage.sha256(task.source, tick=alive)
        status = task.source.stat()
    except OSError as e:
        raise InputMissing(f"{task.source} went away while it was restored", remedy="bring it back and retry") from e
    if (status.st_size, status.st_mtime_ns) != (info.size_bytes, info.mtime_ns):
        raise InputChanged(f"{task.source} changed while it was restored", remedy="enqueue it again")
    return digest


def _hash_output(temporary: Path, alive: Callable[[], None]) -> str:
    """SHA-256 of what was written, read back from the file."""
    with storage.resource_errors(temporary, "read back"):
        return storage.sha256(temporary, tick=alive)
