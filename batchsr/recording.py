"""The source of one restoration as streams: the programme at 48 kHz, and what of it the model gets to hear.

    blocks -> (mono) -> resampled = programme -> (low-pass) = conditioned

Stages that come before the model (denoising, separation) would stand here too: each is a function from a
stream at 48 kHz to a stream at 48 kHz.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from batchsr.audio import files
from batchsr.audio.cutoff import BandLevels, Cutoff, find_cutoff
from batchsr.audio.filters import Crossover, condition
from batchsr.audio.resample import resample_blocks
from batchsr.audio.windows import Block
from batchsr.profile import Settings


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

    def treatment(self) -> Treatment:
        """Decide the treatment, from a pass over the file where the settings ask for its cutoff."""
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

    def programme(self, *, listen: Callable[[Block], None] = lambda _: None) -> Generator[Block, None, None]:
        """The recording at 48 kHz, (n, channels). `listen` hears each block as read, at its own rate."""
        with files.Source.open(self.path) as source:
            blocks = _heard(source.blocks(), listen)
            if self.settings.channels == "mono":
                blocks = (block.mean(axis=1, keepdims=True, dtype=np.float32) for block in blocks)
            yield from resample_blocks(blocks, self.info.sample_rate, self.info.frames)

    def conditioned(self, treatment: Treatment) -> Iterator[Block]:
        """What the model hears, at 48 kHz."""
        if treatment.lowpass_hz is None:
            return self.programme()
        return condition(self.programme(), self.info.output_samples, treatment.lowpass_hz)

    def _cutoff(self) -> Cutoff:
        with files.Source.open(self.path) as source:
            return find_cutoff(source.blocks(), self.info.sample_rate)


class Ear:
    """Listens to a recording while it passes by, for the record: its band and its peak."""

    def __init__(self, rate_hz: int) -> None:
        self._levels = BandLevels(rate_hz)
        self.peak = 0.0

    def __call__(self, block: Block) -> None:
        """Hear one block (n, C) at the recording's own rate."""
        self._levels.add(block)
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))

    def band(self) -> dict[str, Any]:
        """Where the recording's band ends and by what that was found, JSON-able."""
        cutoff = self._levels.cutoff()
        return {"cutoff_hz": cutoff.hz and round(cutoff.hz, 1), "found_by": cutoff.how, "nyquist_hz": cutoff.nyquist_hz}


def _heard(blocks: Iterable[Block], listen: Callable[[Block], None]) -> Iterator[Block]:
    for block in blocks:
        listen(block)
        yield block
