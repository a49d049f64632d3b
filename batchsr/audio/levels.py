"""Levels that are not what they seem: whole numbers written as floats, and channels that cancel each other.

A float file's full scale is 1. Some programs write their 16-bit numbers into it as they are, up to 32,767: taken as
they stand nearly all samples would be clamped. Such a file is recognised here and refused, or scaled where it is asked
for; it is never clamped without a word.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import numpy as np

from batchsr.audio.remarks import Remark
from batchsr.audio.windows import Block
from batchsr.errors import InputLevels

InputScale = Literal["off", "auto"] | float
"""off, auto, or the sample value that is full scale."""
FLOAT_SUBTYPES: Final = ("FLOAT", "DOUBLE")
SCALED: Final = "input.scaled"
OVER: Final = "input.over_full_scale"
CANCEL: Final = "input.channels_cancel"
_FULL_SCALES: Final = (2**15, 2**23, 2**31)
_IMPLAUSIBLE_PEAK: Final = 64.0
"""+36 dBFS: past any mix that somebody could have meant."""
_DAMAGED_SHARE: Final = 0.001
_LOUD_PEAK: Final = 2.0
_IMPLAUSIBLE_SHARE: Final = 0.5
_SILENT_DB: Final = 90.0
_CANCELLED_SHARE: Final = 0.1
"""Share of the power that the mean of unrelated channels has: 10 dB below it is no coincidence."""


@dataclasses.dataclass(frozen=True, slots=True)
class Peaks:
    """The largest samples of a recording."""

    peak: float = 0.0
    over: int = 0
    """Samples over full scale."""
    sounding: int = 0
    """Samples that are not zero."""
    whole_numbers: bool = True
    """Whether every sample is a whole number."""

    @property
    def are_integers(self) -> bool:
        """Whether these are whole numbers of some bits, written as floats."""
        if self.peak <= 1.0:
            return False
        often = self.peak > _LOUD_PEAK and self.over > _IMPLAUSIBLE_SHARE * self.sounding
        return self.whole_numbers or self.peak > _IMPLAUSIBLE_PEAK or often

    @property
    def are_damaged(self) -> bool:
        """Whether a few samples stand far over full scale, and the others do not: no scale would mend that."""
        return not self.whole_numbers and self.peak > _IMPLAUSIBLE_PEAK and self.over <= _DAMAGED_SHARE * self.sounding

    @property
    def full_scale(self) -> int:
        """What full scale was, most likely: of 16, 24 or 32 bits, the fewest that hold the peak."""
        return next((scale for scale in _FULL_SCALES if self.peak <= scale), _FULL_SCALES[-1])


def measure(blocks: Iterable[Block]) -> Peaks:
    """Listen to a whole recording of floats."""
    peak, over, sounding, whole = 0.0, 0, 0, True
    for block in blocks:
        if not len(block):
            continue
        sizes = np.abs(block)
        peak = max(peak, float(sizes.max()))
        over += int(np.count_nonzero(sizes > 1.0))
        sounding += int(np.count_nonzero(sizes))
        whole = whole and bool(np.array_equal(np.rint(block), block))
    return Peaks(peak, over, sounding, whole)


def scaled(blocks: Iterable[Block], full_scale: float) -> Iterator[Block]:
    """Yield blocks whose full scale was `full_scale` at a full scale of 1."""
    gain = np.float32(1.0 / full_scale)
    for block in blocks:
        yield block * gain


def full_scale_of(peaks: Peaks, asked: InputScale, name: str) -> tuple[float, tuple[Remark, ...]]:
    """Return what full scale is in the file `name` that was measured, and what is to be said of its level.

    Raises InputLevels for whole numbers where nothing was asked for.
    """
    if isinstance(asked, int | float):
        full_scale = float(asked)
    elif peaks.are_damaged:
        raise InputLevels(
            f"{name} holds {peaks.over:,} samples of up to {peaks.peak:,.6g} where full scale is 1, among "
            f"{peaks.sounding:,}: these few are damaged, and a scale would make all the others silent",
            remedy="silence or cut them in an editor",
        )
    elif peaks.are_integers and asked == "off":
        why = "whole numbers were written as they are" if peaks.whole_numbers else "they have another scale"
        raise InputLevels(
            f"{name} holds floats up to {peaks.peak:,.6g} where full scale is 1: {why}",
            remedy=f"restore it with --input-scale {peaks.full_scale}, or auto; as it is nearly all would be clamped",
        )
    else:
        full_scale = float(peaks.full_scale) if peaks.are_integers else 1.0
    remarks = []
    if full_scale != 1.0:
        said = f"its samples, up to {peaks.peak:,.6g}, were divided by {full_scale:,.10g}, as --input-scale asks"
        remarks.append(Remark(SCALED, said))
    louder = peaks.peak / full_scale
    if louder > 1.0:
        some = f"{peaks.over:,} of its samples are" if full_scale == 1.0 else "it is"
        remarks.append(Remark(OVER, f"{some} over full scale, by up to {20 * math.log10(louder):.1f} dB"))
    return full_scale, tuple(remarks)


class MixMeter:
    """Listens to channels for what is left in their mean."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._each = self._mean = 0.0

    def add(self, block: Block) -> None:
        """Take in the next (n, C) of the channels."""
        self._each += float(np.square(block, dtype=np.float64).sum())
        self._mean += float(np.square(block.mean(axis=1, dtype=np.float64)).sum())

    def remark(self) -> Remark | None:
        """Return what is to be said: None unless the channels cancel each other."""
        if self._channels < 2 or self._mean >= _CANCELLED_SHARE * self._each / self._channels**2 or not self._each:
            return None
        softer_db = 10 * math.log10(self._each / self._channels / self._mean) if self._mean else math.inf
        left = f"their mean is {softer_db:.0f} dB softer than they are" if softer_db < _SILENT_DB else "it is silence"
        return Remark(CANCEL, f"its channels cancel each other, one is probably inverted: {left}; try --channels all")
