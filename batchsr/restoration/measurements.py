"""What is measured of a restoration while it passes by, for the record: band, levels, channels, seams, opinions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

from batchsr.audio.channels import Alikeness
from batchsr.audio.cutoff import BandLevels
from batchsr.audio.files import SourceInfo
from batchsr.audio.levels import MixMeter
from batchsr.audio.meters.loudness import LoudnessMeter
from batchsr.audio.meters.rumble import RumbleMeter
from batchsr.audio.meters.seams import SeamMeter
from batchsr.audio.meters.true_peak import TruePeakMeter
from batchsr.audio.remarks import Remark
from batchsr.audio.windows import Block, Plan
from batchsr.models import recognisers
from batchsr.settings.profile import Settings
from batchsr.speech import opinion, recogniser
from batchsr.speech.opinion import Opinion
from batchsr.speech.words import WordCheck


class Measurements:
    """Measures a restoration while it passes by, for the record: band, levels, channels, seams."""

    def __init__(self, info: SourceInfo, settings: Settings, channels: int, plan: Plan) -> None:
        """`channels` is how many the output has."""
        self._source = BandLevels(info.sample_rate)
        self._channels = Alikeness(info.channels)
        self._mix = MixMeter(info.channels) if settings.channels == "mono" else None
        self._before = LoudnessMeter(channels)
        self._after = LoudnessMeter(channels)
        self._true_peak = TruePeakMeter(channels)
        self._low_before, self._low_after = RumbleMeter(channels), RumbleMeter(channels)
        self._seams = SeamMeter(plan.borders())
        self._written_peak = 0.0
        self._review_below = settings.review_below
        self._opinions: tuple[Opinion, Opinion] | None = None
        if settings.asks_opinions:
            self._opinions = Opinion(speech=True), Opinion(speech=False)
        self._words: WordCheck | None = None
        if settings.check_words != "off":
            self._words = WordCheck(
                lambda: recogniser.load(recognisers.find(settings.check_words)), keep_text=settings.keep_text
            )

    def remarks(self) -> tuple[Remark, ...]:
        """Return what was measured of the source and a person should know."""
        cancelled = self._mix.remark() if self._mix is not None else None
        return (cancelled,) if cancelled is not None else ()

    def add_source(self, block: Block) -> None:
        """Add one block (n, C) of the recording at its own rate."""
        if self._mix is not None:
            self._mix.add(block)
        self._source.add(block)
        self._channels.add(block)

    def add_resampled(self, block: Block) -> None:
        """Add one block (n, channels) of the recording at 48 kHz."""
        self._before.add(block)
        self._low_before.add(block)
        if self._opinions is not None:
            self._opinions[0].add(block)
        if self._words is not None:
            self._words.add_before(block)

    def output_passing(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Measure the output (n, channels) at 48 kHz while it passes by to be written."""
        for block in blocks:
            self._after.add(block)
            self._true_peak.add(block)
            self._low_after.add(block)
            if self._opinions is not None:
                self._opinions[1].add(block)
            if self._words is not None:
                self._words.add_after(block)
            self._seams.add(block)
            yield block

    def note_written_peak(self, peak: float) -> None:
        """Keep the largest absolute sample of the output at its own rate; full scale is 1."""
        self._written_peak = peak

    def checks(self) -> dict[str, Any]:
        """Return what was heard of the speech, JSON-able: opinions, words; those that were asked for."""
        found = {} if self._opinions is None else {"quality": self._quality(*self._opinions)}
        return found if self._words is None else {**found, "words": self._words.finish()}

    def _quality(self, before_listens: Opinion, after_listens: Opinion) -> dict[str, Any]:
        (before, share), (after, _) = before_listens.finish(), after_listens.finish()
        said: dict[str, Any] = {**opinion.identity(), "speech_share": round(share, 4), "before": None, "after": None}
        if share < opinion.FEWEST_SPEECH or before is None or after is None:
            return {**said, "review": None}
        asked = self._review_below
        return {**said, "before": before, "after": after, "review": None if asked == "off" else after["ovrl"] < asked}

    def source(self) -> dict[str, Any]:
        """Return what was measured of the recording, JSON-able."""
        cutoff = self._source.cutoff()
        return {
            "band": {
                "cutoff_hz": cutoff.hz and round(cutoff.hz, 1),
                "found_by": cutoff.how,
                "nyquist_hz": cutoff.nyquist_hz,
            },
            **_levels(self._before),
            "below_50_hz_dbfs": _rounded(self._low_before.dbfs),
            "dual_mono": self._channels.dual_mono,
            "silent_channels": [number for number, silent in enumerate(self._channels.silent) if silent],
        }

    def loudness(self) -> dict[str, float | None]:
        """Return how loud the output is, by EBU R 128's measures, as far as it was heard; None where there is
        no value."""
        return {**self._after.measures(), "max_true_peak_dbtp": _dbfs(self._true_peak.peak)}

    def output(self) -> dict[str, Any]:
        """Return what was measured of the output, JSON-able."""
        self._seams.finish()
        levels_after = {**_levels(self._after), "peak_dbfs": _dbfs(self._written_peak)}
        levels_after["below_50_hz_dbfs"] = _rounded(self._low_after.dbfs)
        return {**levels_after, "loudness": self.loudness(), "seams": dataclasses.asdict(self._seams.result)}


def _dbfs(peak: float) -> float | None:
    return round(20 * math.log10(peak), 2) if peak > 0 else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _levels(meter: LoudnessMeter) -> dict[str, Any]:
    return {
        "peak_dbfs": _dbfs(meter.peak),
        "loudness_lufs": None if meter.lufs is None else round(meter.lufs, 2),
    }
