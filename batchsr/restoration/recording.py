"""The source of one restoration as streams: the recording at 48 kHz, and what of it the model is given.

    blocks -> stages at its own rate -> resampler -> stages at 48 kHz = resampled -> the model's stages = conditioned

What the stages are: batchsr.restoration.stages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

from batchsr.audio import files, levels
from batchsr.audio.cutoff import Cutoff, find_cutoff
from batchsr.audio.remarks import Remark, bounded
from batchsr.audio.resample import resample_blocks
from batchsr.audio.treatment import Treatment, decide
from batchsr.audio.windows import Block
from batchsr.errors import InputChanged
from batchsr.restoration.measurements import Measurements
from batchsr.restoration.source_identity import SourceHash
from batchsr.restoration.spool import Spool
from batchsr.restoration.stages import registry as stages
from batchsr.restoration.stages.interface import Stage
from batchsr.settings.profile import Settings


class Recording:
    """One source under one set of settings. Opens the file anew for each stream, so several may run at once."""

    def __init__(
        self, path: Path, info: files.SourceInfo, settings: Settings, alive: Callable[[], None] = lambda: None
    ) -> None:
        """`alive` is called now and then in passes that finish no window; it stops them by raising."""
        self.path = path
        self.info = info
        self.settings = settings
        self.source_hash = SourceHash(path, info)
        """Remembers what was read, for the hash that goes on record."""
        self.channels = info.channels
        self._alive = alive
        for stage in stages.chain(settings, Treatment(), info.sample_rate):
            self.channels = stage.channels(self.channels)
        self.rows = settings.rows_of(info.channels)
        """How many channels the model is given."""
        self.separate: Callable[[Iterator[Block]], Iterator[Block]] | None = None
        """What separates the recording into stems for the model, where that is asked for."""
        self.remarks = info.remarks
        """What is odd about the source; complete when `conditioned` has been read to its end."""
        self.spool: Spool | None = None
        """Where the denoised recording is kept, once it is decided that there is one."""
        self.resampled_digest = b""
        """BLAKE2b of the recording at 48 kHz before it is denoised; known where that is asked for."""
        self._full_scale = 1.0
        self._level_remarks: tuple[Remark, ...] = ()

    def treatment(self) -> Treatment:
        """Decide the treatment, from passes over the file: for its level, what stages must know, its cutoff.

        Each where the settings ask for it, and each behind what is done for those before it.

        Raises InputLevels for whole numbers written as floats, unless they are to be scaled.
        """
        self._full_scale, self._level_remarks = self._scale()
        before = stages.decide(self)
        decided = decide(
            self.settings.lowpass, self.settings.keep_band, self.info.sample_rate, lambda: self._cutoff(before)
        )
        return dataclasses.replace(decided, decided=before.decided)

    def stages(self, treatment: Treatment) -> list[Stage]:
        """Return what the recording goes through before the model, made anew for one stream."""
        return stages.chain(self.settings, treatment, self.info.sample_rate, self.spool)

    def at_own_rate(self, treatment: Treatment) -> Iterator[Block]:
        """Yield a whole pass over the recording behind the stages at its own rate, as far as they are decided."""
        with self._open() as source:
            blocks = self._living(self._blocks(source))
            yield from stages.run(self.stages(treatment), "recording", blocks, self.info.frames)

    def at_48_khz(self, treatment: Treatment) -> Iterator[Block]:
        """Yield a whole pass over the recording at 48 kHz, before it is denoised."""
        return self._living(self._noisy(treatment))

    def remark(self, remark: Remark) -> None:
        """Put on record what a stage found to be odd."""
        self._level_remarks = (*self._level_remarks, remark)

    def resampled(self, treatment: Treatment, measurements: Measurements | None = None) -> Generator[Block, None, None]:
        """Yield the recording at 48 kHz, (n, channels), measured on the way.

        Where it is denoised, the stream that is measured computes it, and one that is not waits for that one.
        """
        if self.spool is None:
            yield from self._noisy(treatment, measurements)
        elif measurements is None:
            yield from self.spool.read()
        else:
            yield from self.spool.fill(self._noisy(treatment, measurements))

    def _noisy(self, treatment: Treatment, measurements: Measurements | None = None) -> Generator[Block, None, None]:
        """Yield the recording at 48 kHz before it is denoised."""
        chain = self.stages(treatment)
        with self._open() as source:
            blocks = self._blocks(source)
            if measurements is not None:
                blocks = _measured(blocks, measurements.add_source)
            blocks = stages.run(chain, "recording", blocks, self.info.frames)
            blocks = resample_blocks(blocks, self.info.rate, self.info.frames)
            resampled = stages.run(chain, "resampled", blocks, self.info.samples_at())
            yield from resampled if measurements is None else _measured(resampled, measurements.add_resampled)
            if measurements is not None:
                self.remarks = bounded((*source.remarks, *self._level_remarks, *measurements.remarks()))

    def conditioned(self, treatment: Treatment, measurements: Measurements) -> Iterator[Block]:
        """Yield what the model is given, at 48 kHz; the recording is measured on the way."""
        blocks: Iterator[Block] = self.resampled(treatment, measurements)
        if self.separate is not None:
            blocks = self.separate(blocks)
        return stages.run(self.stages(treatment), "model", blocks, self.info.samples_at())

    def read_again(self, treatment: Treatment) -> None:
        """Make one more pass over the source for the hash. Raises InputChanged where the treatment would differ."""
        with self._open() as source:
            for _ in self.source_hash.watched(source.blocks()):
                self._alive()
        if self.treatment() != treatment:
            raise _changed(self.path)

    def _open(self) -> files.Source:
        source = files.Source.open(self.path, accept_truncated=self.settings.accept_truncated)
        now, then = source.info, self.info
        if (now.frames, now.sample_rate, now.channels) != (then.frames, then.sample_rate, then.channels):
            source.close()
            raise _changed(self.path)
        return source

    def _cutoff(self, before: Treatment) -> Cutoff:
        if any(stage.position == "recording" and stage.name in before.decided for stage in self.stages(before)):
            return find_cutoff(self.at_own_rate(before), self.info.sample_rate)
        with self._open() as source:
            return find_cutoff(self._living(self._blocks(source)), self.info.sample_rate)

    def _living(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            self._alive()
            yield block

    def _blocks(self, source: files.Source) -> Iterator[Block]:
        """Yield a whole pass over the source, its full scale at 1."""
        blocks = self.source_hash.watched(source.blocks())
        return blocks if self._full_scale == 1.0 else levels.scaled(blocks, self._full_scale)

    def _scale(self) -> tuple[float, tuple[Remark, ...]]:
        """Return what full scale is in the source, and what is to be said of its level. Only floats can be over it."""
        if self.info.subtype not in levels.FLOAT_SUBTYPES:
            return 1.0, ()
        with self._open() as source:
            peaks = levels.measure(self.source_hash.watched(source.blocks()))
        return levels.full_scale_of(peaks, self.settings.input_scale, files.shown(self.path))


def _changed(path: Path) -> InputChanged:
    return InputChanged(f"{path} changed while it was restored", remedy="enqueue it again once nothing writes to it")


def _measured(blocks: Iterable[Block], measure: Callable[[Block], None]) -> Iterator[Block]:
    for block in blocks:
        measure(block)
        yield block
