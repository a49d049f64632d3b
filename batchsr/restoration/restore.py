"""One file, start to end: read -> windows -> model -> scratch -> output and sidecar.

The model stands behind a batcher (`restoration.batcher`), so that other files' windows share its passes and
everything around it can be tested with one that takes a microsecond. Threads run beside it (`restoration.pipeline`),
but a window's samples depend neither on them, nor on its company, nor on where an earlier attempt stopped.
So the output's bytes depend on source, settings and model alone.

Longer than other modules: the steps of a restoration are read in their order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

from batchsr import __version__, faults, storage, temporary
from batchsr.audio import broadcast, files, metadata, windows
from batchsr.audio.denoising import Denoising
from batchsr.audio.filters import keep_band
from batchsr.audio.resample import at_rate
from batchsr.audio.treatment import NOTHING_SYNTHETIC, Synthetic, Treatment, synthetic
from batchsr.audio.windows import Block
from batchsr.errors import InputChanged
from batchsr.models import separator
from batchsr.restoration import copies, pipeline, publishing, refusals, separation
from batchsr.restoration import sidecar as sidecars
from batchsr.restoration.batcher import Batcher
from batchsr.restoration.copies import Copies
from batchsr.restoration.credentials import Signing
from batchsr.restoration.measurements import Measurements
from batchsr.restoration.recording import Recording
from batchsr.restoration.scratch import Scratch, stems_path
from batchsr.restoration.spool import Spool, spool_path
from batchsr.restoration.stages import denoise
from batchsr.restoration.stages import registry as stages
from batchsr.restoration.task import Restored, Task
from batchsr.settings import extras
from batchsr.speech import denoiser
from batchsr.temporary import Temporary

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
    alive: Callable[[], None] = lambda: None,
    signing: Signing | None = None,
) -> Restored:
    """Restore one file, taking up where an earlier attempt stopped.

    `on_windows(done, total)` is called once with what the scratch holds already, then whenever more windows are
    safe there, then now and then with the same figures while the output is written and hashed; it stops the
    restoration by raising. `before_publish` is called when the output is finished but not yet visible, with all there
    is to record; it too may raise. `alive()` is called now and then before the first of these, while the recording is
    listened to for what is to be decided; it too may raise.

    `spent_s()` is the time to put on record, that since the call if not given. The scratch file stays in any case:
    discard it when the job is recorded as done. `signing` puts content credentials into output and copies.

    Raises the InputError, OutputError, ResourceError, TransientError and ModelError families.
    """
    if spent_s is None:
        started = time.monotonic()
        spent_s = lambda: time.monotonic() - started  # noqa: E731
    if signing is not None:
        signing.check([task.settings.format, *(form for form, _ in copies.paths(task))])
    case = _prepare(task, model, alive)
    with contextlib.ExitStack() as held:
        scratch = held.enter_context(case.scratch(model))
        output = held.enter_context(Temporary.beside(task.output))
        refusals.check_limits(task, case.recording, scratch if not case.treatment.bypass else None, output)
        denoising = denoise.decision(case.treatment)
        if denoising is not None and denoising.on:
            case.recording.spool = held.enter_context(case.spool(denoising, alive))
        if case.separated:
            case.recording.separate = held.enter_context(
                separation.opened(task, case.recording, case.treatment, case.plan, alive)
            )
        more = held.enter_context(
            Copies(
                task,
                case.recording.channels,
                case.output_samples,
                case.described,
                case.info.rate,
                separation.made_up(task.settings, case.info, case.treatment, case.synthetic),
            )
        )
        made = _make(case, model, scratch, output, more, on_windows)
        if signing is not None:
            _sign(case, signing, output, more)
        restored = _on_record(case, made, output, more, lambda: on_windows(case.plan.count, case.plan.count), spent_s)
        if signing is not None:
            restored.report["credentials"] = {"format": "c2pa", "algorithm": signing.algorithm}
        record = None
        if task.settings.sidecar:
            record = held.enter_context(publishing.record_beside(task.output, restored.report))
        before_publish(restored)
        more.publish()
        try:
            publishing.publish(output, record, overwrite=task.overwrite, still_ours=task.still_ours)
        except BaseException:
            if not output.is_published():
                more.take_back()
            raise
    return restored


def discard_scratch(path: Path) -> None:
    """Remove a scratch file that is no longer needed, and the spool and the stems beside it."""
    with storage.resource_errors(path, "remove the scratch file"):
        path.unlink(missing_ok=True)
        spool_path(path).unlink(missing_ok=True)
        stems_path(path).unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True, slots=True)
class _Case:
    """A task, and what was found and decided before anything is computed."""

    task: Task
    info: files.SourceInfo
    recording: Recording
    treatment: Treatment
    synthetic: Synthetic
    described: metadata.Metadata
    carried: metadata.Carried
    plan: windows.Plan

    def scratch(self, model: Batcher) -> Scratch:
        """Return the file of finished windows, opened."""
        return Scratch(
            self.task.scratch,
            key=_scratch_key(self, model),
            channels=self.recording.rows,
            frame_samples=self.plan.frame_samples,
            count=self.plan.count,
        )

    @property
    def output_samples(self) -> int:
        """Length of one channel of the output, at its own rate."""
        return self.info.samples_at(self.task.settings.rate)

    def spool(self, denoising: Denoising, alive: Callable[[], None]) -> Spool:
        """Return the denoised recording, opened."""
        parts = [
            ALGORITHM,
            stages.entries(self.recording.stages(self.treatment)),
            [denoising.spans, self.recording.resampled_digest.hex()],
        ]
        return Spool(
            spool_path(self.task.scratch),
            key=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest(),
            channels=self.recording.channels,
            total_samples=self.plan.total_samples,
            denoising=denoising,
            make=denoiser.Denoiser,
            delay_samples=denoiser.DELAY_SAMPLES,
            alive=alive,
            name=str(self.task.source),
        )

    @property
    def separated(self) -> bool:
        """Whether there are stems: for a mix that is only resampled they are not needed."""
        wanted = self.task.settings.stems
        return wanted == "files" or (wanted == "mix" and not self.treatment.bypass)

    def metadata(self) -> dict[str, object]:
        """Return what the recording says of itself, for the sidecar."""
        return {**self.described.to_dict(), "not_carried_over": list(self.carried.lost)}


@dataclasses.dataclass(frozen=True, slots=True)
class _Made:
    """How the windows were made, and what was measured meanwhile."""

    clipped_samples: int
    resumed: int
    computed_again: int
    measurements: Measurements


def _prepare(task: Task, model: Batcher, alive: Callable[[], None]) -> _Case:
    """Look at the source and at the place of the output, decide how it is done, and refuse what cannot end well."""
    extras.check(task.settings)
    info = files.probe(task.source, accept_truncated=task.settings.accept_truncated)
    # Behind the look at the source: with its share away, an output that stands there proves nothing yet.
    refusals.check_output(task.source, task.output, overwrite=task.overwrite, sidecar=task.settings.sidecar)
    for was, now in ((task.size_bytes, info.size_bytes), (task.mtime_ns, storage.kept_ns(info.mtime_ns))):
        if was is not None and was != now:
            raise InputChanged(f"{task.source} changed after it was enqueued", remedy="enqueue it again")
    settings = task.settings
    recording = Recording(task.source, info, settings, alive)
    plan = windows.Plan.of(info.samples_at(), model.frame_samples, settings.overlap)
    files.check_format(settings.format, settings.subtype, recording.channels, settings.rate)
    copies.check(task, recording.channels)
    refusals.check_size(task, recording, plan)
    storage.make_output_folder(task.output.parent)
    if task.tag.rpartition("-")[2] != "1":  # a first claim has nothing to find, and a folder may hold 100,000 files
        for path in (task.output, sidecars.sidecar_path(task.output), *(path for _, path in copies.paths(task))):
            temporary.remove_temporaries(path)
    described = metadata.read(task.source)
    decided = recording.treatment()
    variant = Path(str(task.provenance.get("variant", ""))).name
    about = model.about
    done = stages.done(recording.stages(decided))
    made_up = NOTHING_SYNTHETIC
    if about.synthesises:
        made_up = synthetic(decided, float(info.rate), settings.rate, done=done)
    carried = metadata.carry_over(
        described,
        form=settings.format,
        subtype=settings.subtype,
        channels=recording.channels,
        source_rate_hz=info.rate,
        program=f"batchsr {__version__}; {f'{about.label} {variant}'.strip()}".rstrip(),
        rate_hz=settings.rate,
        synthetic=made_up,
    )
    return _Case(task, info, recording, decided, made_up, described, carried, plan)


def _scratch_key(case: _Case, model: Batcher) -> bytes:
    """Return the SHA-256 over everything that a window's samples depend on, beside the samples it is made from."""
    identity = model.identity
    parts = {
        "algorithm": ALGORITHM,
        "settings": case.task.settings.digest(),
        "stages": stages.entries(case.recording.stages(case.treatment)),
        "weights": identity.weights_sha256,
        "dtype": identity.dtype,
        "device": identity.device,
        "batch_windows": model.batch_windows,
        # Two versions of libsndfile decode alike; of ffmpeg's many decoders nobody promises that.
        "source": [
            *(case.info.frames, case.info.sample_rate, case.info.channels),
            *([case.info.decoder] if "ffmpeg" in case.info.decoder else []),
        ],
        "plan": [case.plan.total_samples, case.plan.frame_samples, case.plan.overlap_samples],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def _make(
    case: _Case,
    model: Batcher,
    scratch: Scratch,
    output: Temporary,
    more: Copies,
    on_windows: Callable[[int, int], None],
) -> _Made:
    """Compute what windows are missing, and write the output from them as they come."""
    total = case.plan.count
    finished = set(range(total)) if case.treatment.bypass else scratch.finished()
    on_windows(len(finished), total)
    gate = pipeline.Gate(scratch)
    measurements = Measurements(case.info, case.task.settings, case.recording.channels, case.plan)
    with ThreadPoolExecutor(1, thread_name_prefix="join") as joiner:
        joining = joiner.submit(_join, case, gate, output, more, measurements)

        def on_more(done: int) -> None:
            if joining.done():
                joining.result()  # it cannot be finished yet, so it failed: no need to go on
            on_windows(done, total)

        try:
            resumed = _fill(case, model, scratch, gate, finished, measurements, on_more)
        finally:
            gate.close()
            if case.recording.spool is not None:
                case.recording.spool.give_up()
        writer = _wait(joining, lambda: on_windows(total, total))
    again = 0 if case.treatment.bypass else scratch.computed_again()
    return _Made(writer.clipped_samples, resumed, again, measurements)


def _fill(
    case: _Case,
    model: Batcher,
    scratch: Scratch,
    gate: pipeline.Gate,
    finished: set[int],
    measurements: Measurements,
    on_more: Callable[[int], None],
) -> int:
    """Draw the recording to its end, and bring the scratch to all windows. Returns how many were there already."""
    settings = case.task.settings
    conditioned = case.recording.conditioned(case.treatment, measurements)
    if case.treatment.bypass:  # no window is needed: it is only listened to
        for _ in conditioned:
            on_more(len(finished))
        gate.add(0)
        return len(finished)
    with closing(windows.cut(case.plan, conditioned)) as source:
        return pipeline.fill(
            scratch,
            gate,
            finished,
            source,
            lambda rows, index, keep, note: model.offer(rows, index, settings.timestep, settings.seed, keep, note),
            ahead=max(2, 2 * model.batch_windows // case.recording.rows),
            name=str(case.task.source),
            on_windows=on_more,
        )


def _join(
    case: _Case, gate: pipeline.Gate, output: Temporary, more: Copies, measurements: Measurements
) -> files.Writer:
    """Write the windows as they come, cross-faded and at the output's rate, to the temporary; for the band that is
    kept the recording itself is read once more."""
    settings, treatment = case.task.settings, case.treatment
    with (
        closing(case.recording.resampled(treatment)) as resampled,
        files.Writer(
            case.task.output,
            case.recording.channels,
            settings.format,
            settings.subtype,
            frames=case.output_samples,
            embedded=case.carried.embedded,
            fd=output.fd,
            rate_hz=settings.rate,
        ) as writer,
    ):
        blocks: Iterator[Block] = resampled
        if not treatment.bypass:
            blocks = windows.assemble(case.plan, gate.read)
            if case.separated:
                blocks = (separator.mixed(block) for block in blocks)
            if treatment.crossover is not None:
                blocks = keep_band(resampled, blocks, treatment.crossover)
        for block in at_rate(measurements.output_passing(blocks), settings.rate, case.output_samples):
            with storage.output_errors(case.task.output, "write"):
                writer.write(block)
            more.write(block)
            faults.point("assemble.during")
        writer.amend(b"bext", broadcast.LOUDNESS_AT, broadcast.loudness_fields(measurements.loudness()))
        if settings.umid:
            writer.amend(b"bext", broadcast.UMID_AT, _umid(case))
        if settings.stems == "files":
            if treatment.bypass:
                gate.wait(0)  # all chunks are there then
            stems = separation.stems(case.recording, treatment, case.plan, gate)
            for block in at_rate(stems, settings.rate, case.output_samples):
                more.write_stems(block)
                faults.point("assemble.during")
        more.finish()
    measurements.note_written_peak(writer.peak)
    return writer


def _umid(case: _Case) -> bytes:
    """Return a UMID that is the same whenever the same is made, also after a stop: of recording, settings and model."""
    model = (str(case.task.provenance.get(key) or "") for key in ("variant", "revision", "weights_sha256"))
    sha256 = case.recording.source_hash.sha256(lambda: _compare(case), tick=lambda: None)
    return broadcast.umid(case.recording.channels, sha256, case.task.settings.digest(), *model)


def _wait(joining: Future[files.Writer], alive: Callable[[], None]) -> files.Writer:
    """Return the joiner's result; meanwhile show that we live, and stop if asked to."""
    while True:
        try:
            return joining.result(timeout=_SIGN_OF_LIFE_S)
        except TimeoutError:
            if joining.done():
                raise
            alive()


def _sign(case: _Case, signing: Signing, output: Temporary, more: Copies) -> None:
    """Put content credentials into the finished files, still without their names."""
    sha256 = case.recording.source_hash.sha256(lambda: _compare(case), tick=lambda: None)
    source = {"name": case.task.title, "sha256": sha256}
    for form, file in ((case.task.settings.format, output), *more.files()):
        signing.sign(file.fd, file.final, form, source, case.synthetic)


def _on_record(
    case: _Case,
    made: _Made,
    output: Temporary,
    more: Copies,
    alive: Callable[[], None],
    spent_s: Callable[[], float],
) -> Restored:
    """Hash what was read and what was written, and write down all there is to know."""
    restored = Restored(
        source_sha256=case.recording.source_hash.sha256(lambda: _compare(case), tick=alive),
        output_sha256=output.sha256(tick=alive),
        output_bytes=output.size_bytes(),
        windows_total=case.plan.count,
        windows_resumed=made.resumed,
        windows_computed_again=made.computed_again,
        audio_s=case.info.duration_s,
        clipped_samples=made.clipped_samples,
        sample_rate=case.info.sample_rate,
        channels=case.info.channels,
        frames=case.info.frames,
        wall_s=spent_s(),
        report={},
    )
    through = case.recording.stages(case.treatment)
    document = sidecars.sidecar(
        case.task,
        case.info,
        case.plan,
        restored,
        case.treatment,
        case.synthetic,
        made.measurements,
        case.recording.remarks,
        stages.entries(through, measured=True),
        stages.done(through),
    )
    document["metadata"] = case.metadata()
    if checks := made.measurements.checks():
        document["checks"] = checks
    if case.task.settings.files_beside:
        document["copies"] = more.on_record(alive)
    return dataclasses.replace(restored, report=document)


def _compare(case: _Case) -> None:
    """Read all of a source that was touched once more, what it says of itself included."""
    case.recording.read_again(case.treatment)
    if metadata.read(case.task.source).to_dict() != case.described.to_dict():
        raise InputChanged(
            f"{case.task.source} changed while it was restored", remedy="`batchsr retry` it once nothing writes to it"
        )
