"""Take clicks out of a recording at its own rate, as a stream: a resampler would smear each over its whole filter.

Where both the samples before and those behind fail to predict a sample, it is taken for a click and interpolated
(batchsr.audio.repair.declick_loops); twice, as a large click hides small ones. What is not touched stays to the bit.

The stream is cut into slots from its start, each computed with CONTEXT_SAMPLES on either side, which is further
than any sample's fate depends on: so the bytes depend neither on blocks nor on where an attempt began.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import scipy
from numpy.typing import NDArray

from batchsr.audio.remarks import Remark
from batchsr.audio.repair import declick_loops
from batchsr.audio.repair.declick_loops import BLOCK, STEP
from batchsr.audio.resample import reblock
from batchsr.audio.windows import Block

CONTEXT_SAMPLES: Final = 6 * STEP
"""Two passes, each of half a block and a whole one, a group of clicks and the predictor's order: 5,248 at most."""
CLICKS: Final = "input.clicks_everywhere"
MOST_SHARE: Final = 0.01
"""Of a recording's samples; where more would be touched it is no click that is found, but what the recording is."""
_SLOT_SAMPLES: Final = 64 * STEP
_PASSES: Final = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Clicks:
    """What was found in a whole recording."""

    touched_share: float
    """Share of all channels' samples that are interpolated."""
    steps_back: bool
    """More than MOST_SHARE: the recording stays as it is."""

    def remark(self) -> Remark | None:
        """Return what is to be said: None unless it steps back."""
        if not self.steps_back:
            return None
        share = (
            f"{100 * self.touched_share:.2g} % of its samples stand out as clicks do, more than {100 * MOST_SHARE:g} %"
        )
        return Remark(CLICKS, f"{share}: that is how it sounds, so --declick left it as it is")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types, for the sidecar."""
        return {"touched_share": round(self.touched_share, 7), "stepped_back": self.steps_back}


def find(blocks: Iterable[Block], threshold: float, total_samples: int) -> Clicks:
    """Go through a whole recording and return what would be touched."""
    touched = channels = 0
    for _, changed, out in _repaired(blocks, threshold, total_samples):
        touched, channels = touched + changed, out.shape[1]
    share = touched / (total_samples * channels) if touched else 0.0
    return Clicks(share, share > MOST_SHARE)


def declick(blocks: Iterable[Block], threshold: float, total_samples: int) -> Iterator[Block]:
    """Interpolate what stands out of a stream (n, C) of `total_samples` samples by `threshold` times the usual."""
    for _, _, out in _repaired(blocks, threshold, total_samples):
        yield out


def _repaired(blocks: Iterable[Block], threshold: float, total: int) -> Iterator[tuple[int, int, Block]]:
    """(first sample, how many were touched, samples) of one slot after another."""
    held: Block | None = None  # from `start` on
    start = done = 0
    for block in reblock(blocks, _SLOT_SAMPLES):
        held = block if held is None else np.concatenate([held, block])
        while start + len(held) >= done + _SLOT_SAMPLES + CONTEXT_SAMPLES or (done < total <= start + len(held)):
            end = min(done + _SLOT_SAMPLES, total)
            stop = min(end + CONTEXT_SAMPLES, start + len(held))
            changed, out = _slot(held[: stop - start], start, done, end, threshold, total)
            yield done, changed, out
            done = end
            drop = max(0, done - CONTEXT_SAMPLES) - start
            held, start = held[drop:], start + drop


def _slot(stretch: Block, start: int, first: int, end: int, threshold: float, total: int) -> tuple[int, Block]:
    """Return the samples [first, end) of a recording whose stretch from `start` on is given, and how many are new in
    them."""
    out = stretch[first - start : end - start].copy()
    if len(stretch) < BLOCK or total < BLOCK:
        return 0, out
    window = _window()
    flags = np.empty(len(stretch), np.uint8)
    models = np.empty((-(-len(stretch) // STEP), declick_loops.ORDER + 1))
    changed = 0
    for channel in range(stretch.shape[1]):
        x: NDArray[np.float64] = stretch[:, channel].astype(np.float64)
        touched = 0
        for _ in range(_PASSES):
            declick_loops.detect(x, start, total, threshold, window, flags, models)
            touched += declick_loops.interpolate(x, flags, models)
        if touched:
            new = x[first - start : end - start].astype(np.float32)
            changed += int(np.count_nonzero(new != out[:, channel]))
            out[:, channel] = new
    return changed, out


def _window() -> NDArray[np.float64]:
    window: NDArray[np.float64] = scipy.signal.windows.hann(BLOCK, sym=False)
    return window
