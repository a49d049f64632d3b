"""The source of one restoration as streams: the programme at 48 kHz, and what of it the model gets to hear.

    blocks -> (mono) -> resampled = programme -> (low-pass) = conditioned

Stages that come before the model (denoising, separation) would stand here too: each is a function from a
stream at 48 kHz to a stream at 48 kHz.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from batchsr.audio import files, levels
from batchsr.audio.channels import Alikeness, mix_down
from batchsr.audio.cutoff import BandLevels, Cutoff, find_cutoff
from batchsr.audio.filters import Crossover, condition
from batchsr.audio.levels import MixMeter
from batchsr.audio.meters.loudness import LoudnessMeter
from batchsr.audio.meters.seams import SeamMeter
from batchsr.audio.remarks import Remark, bounded
from batchsr.audio.resample import resample_blocks
from batchsr.audio.windows import Block, Plan
from batchsr.errors import InputLevels
from batchsr.settings.profile import Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Treatment:
    """What is done around the model, decided once a file for all channels together."""

    lowpass_hz: float | None = None
    """Conditioning low-pass before the model; None: none."""
    crossover: Crossover | None = None
    """Where the recording itself ends and the restoration begins; None: the restoration is all of the output."""
    bypass: bool = False
    """The recording is full-band already: it is only resampled."""


class Recording:
    """One source under one set of settings. Opens the file anew for each stream, so several may run at once."""

    def __init__(self, path: Path, info: files.SourceInfo, settings: Settings) -> None:
        self.path = path
        self.info = info
        self.settings = settings
        self.channels = 1 if settings.channels == "mono" else info.channels
        self.remarks = info.remarks
        """What is odd about the source; complete when `conditioned` has been read to its end."""
        self._full_scale = 1.0
        self._levels: tuple[Remark, ...] = ()

    def treatment(self) -> Treatment:
        """Decide the treatment, from a pass over the file where the settings ask for its cutoff, and its level before.

        Raises InputLevels for whole numbers written as floats, unless they are to be scaled.
        """
        self._full_scale, self._levels = self._scale()
        lowpass, keep = self.settings.lowpass, self.settings.keep_band
        if lowpass == "off" and not keep:
            return Treatment()
        lowpass_hz: float | None
        if isinstance(lowpass, int | float):
            lowpass_hz, bypass, exact = float(lowpass), False, True
            band_hz = lowpass_hz
        else:
            cutoff = self._cutoff()
            band_hz, bypass, exact = cutoff.band_hz, cutoff.full_band, False
            lowpass_hz = cutoff.hz if lowpass == "auto" and not bypass else None
        if not keep or bypass:
            return Treatment(lowpass_hz, None, bypass)
        return Treatment(lowpass_hz, Crossover.below(band_hz, self.info.sample_rate, exact=exact))

    def programme(self, ear: Measurements | None = None) -> Generator[Block, None, None]:
        """The recording at 48 kHz, (n, channels), heard by `ear` on the way."""
        with self._source() as source:
            blocks = self._blocks(source) if ear is None else _heard(self._blocks(source), ear.hear_source)
            meter = MixMeter(self.info.channels)
            if self.settings.channels == "mono":
                blocks = mix_down(blocks, meter)
            programme = resample_blocks(blocks, self.info.rate, self.info.frames)
            yield from programme if ear is None else _heard(programme, ear.hear_programme)
            if ear is not None:
                cancelled = meter.remark()
                self.remarks = bounded((*source.remarks, *self._levels, *([cancelled] if cancelled else [])))

    def conditioned(self, treatment: Treatment, ear: Measurements) -> Iterator[Block]:
        """What the model hears, at 48 kHz; the recording is heard by `ear` on the way."""
        if treatment.lowpass_hz is None:
            return self.programme(ear)
        return condition(self.programme(ear), self.info.output_samples, treatment.lowpass_hz)

    def _cutoff(self) -> Cutoff:
        with self._source() as source:
            return find_cutoff(self._blocks(source), self.info.sample_rate)

    def _source(self) -> files.Source:
        return files.Source.open(self.path, accept_truncated=self.settings.accept_truncated)

    def _blocks(self, source: files.Source) -> Iterator[Block]:
        blocks = source.blocks()
        return blocks if self._full_scale == 1.0 else levels.scaled(blocks, self._full_scale)

    def _scale(self) -> tuple[float, tuple[Remark, ...]]:
        """What full scale is in the source, and what is to be said of its level. Only floats can be over it."""
        if self.info.subtype not in levels.FLOAT_SUBTYPES:
            return 1.0, ()
        with self._source() as source:
            peaks = levels.measure(source.blocks())
        asked = self.settings.input_scale
        if isinstance(asked, int | float):
            full_scale = float(asked)
        elif peaks.are_integers and asked == "off":
            raise self._levels_error(peaks)
        else:
            full_scale = float(peaks.full_scale) if peaks.are_integers else 1.0
        if full_scale == 1.0:
            return 1.0, (levels.over_full_scale(peaks),) if peaks.over else ()
        said = f"its samples, up to {peaks.peak:,.6g}, were divided by {full_scale:,.10g}, as --input-scale asks"
        louder = peaks.peak / full_scale
        over = (Remark(levels.OVER, f"it is over full scale by up to {_db(louder)} dB"),) if louder > 1.0 else ()
        return full_scale, (Remark(levels.SCALED, said), *over)

    def _levels_error(self, peaks: levels.Peaks) -> InputLevels:
        message = f"{files.shown(self.path)} holds floats up to {peaks.peak:,.6g} where full scale is 1: " + (
            "whole numbers were written as they are" if peaks.whole_numbers else "they have another scale"
        )
        remedy = f"restore it with --input-scale {peaks.full_scale}, or auto; as it stands nearly all would be clamped"
        return InputLevels(message, remedy=remedy)


class Measurements:
    """Listens to a restoration while it passes by, for the record: band, levels, channels, seams."""

    def __init__(self, recording: Recording, plan: Plan) -> None:
        self._source = BandLevels(recording.info.sample_rate)
        self._channels = Alikeness(recording.info.channels)
        self._before = LoudnessMeter(recording.channels)
        self._after = LoudnessMeter(recording.channels)
        self._seams = SeamMeter(plan.borders())

    def hear_source(self, block: Block) -> None:
        """One block (n, C) of the recording at its own rate."""
        self._source.add(block)
        self._channels.add(block)

    def hear_programme(self, block: Block) -> None:
        """One block (n, channels) of the recording at 48 kHz."""
        self._before.add(block)

    def hear_output(self, block: Block) -> None:
        """One block (n, channels) of the output at 48 kHz, before it is written."""
        self._after.add(block)
        self._seams.add(block)

    def source(self) -> dict[str, Any]:
        """What was heard of the recording, JSON-able."""
        cutoff = self._source.cutoff()
        return {
            "band": {
                "cutoff_hz": cutoff.hz and round(cutoff.hz, 1),
                "found_by": cutoff.how,
                "nyquist_hz": cutoff.nyquist_hz,
            },
            **_levels(self._before),
            "dual_mono": self._channels.dual_mono,
            "silent_channels": [number for number, silent in enumerate(self._channels.silent) if silent],
        }

    def output(self) -> dict[str, Any]:
        """What was heard of the output, JSON-able."""
        self._seams.finish()
        return {**_levels(self._after), "seams": dataclasses.asdict(self._seams.result)}


def _db(ratio: float) -> str:
    return f"{20 * math.log10(ratio):.1f}"


def _levels(meter: LoudnessMeter) -> dict[str, Any]:
    return {
        "peak_dbfs": round(20 * math.log10(meter.peak), 2) if meter.peak > 0 else None,
        "loudness_lufs": None if meter.lufs is None else round(meter.lufs, 2),
    }


def _heard(blocks: Iterable[Block], listen: Callable[[Block], None]) -> Iterator[Block]:
    for block in blocks:
        listen(block)
        yield block
