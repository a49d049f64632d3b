"""Sound of any length and rate through a loaded model, in memory: what `FlashSR.upsample` and `evaluate` do."""

from __future__ import annotations

from typing import Literal

import numpy as np

from batchsr.audio import channels as mixing
from batchsr.audio import filters, resample, treatment, windows
from batchsr.audio.cutoff import find_cutoff
from batchsr.errors import UsageError
from batchsr.models import arrays
from batchsr.models.interface import WindowModel
from batchsr.settings.profile import MAX_OVERLAP_S, Settings


def upsample(
    model: WindowModel,
    x: np.ndarray,
    sample_rate: float,
    *,
    timestep: int = 999,
    seed: int = 0,
    overlap: float = 0.5,
    lowpass: Literal["off", "auto"] | float = "off",
    keep_band: bool = False,
    channels: Literal["all", "mono"] = "all",
) -> np.ndarray:
    """Restore x, (samples,) or (samples, channels) at `sample_rate`, and return float32 at 48 kHz with as many axes.

    `FlashSR.upsample` says what the arguments may be and what is raised.
    """
    x = arrays.checked(arrays.scaled(x), (1, 2), "(samples,) or (samples, channels)")
    arrays.check_channels_last(x)
    rate_hz = arrays.whole_hz(sample_rate)
    if not arrays.is_number(overlap) or not 0 <= overlap <= MAX_OVERLAP_S:
        raise UsageError(f"overlap = {overlap!r} is not a number of seconds from 0 to {MAX_OVERLAP_S:g}")
    Settings(lowpass=lowpass, keep_band=keep_band, channels=channels)  # raises ConfigError
    restore = model.windows(timestep, seed)
    given = x.reshape(len(x), -1).astype(np.float32)
    decided = treatment.decide(lowpass, keep_band, rate_hz, lambda: find_cutoff([given], rate_hz))
    if channels == "mono":
        given = next(iter(mixing.mix_down([given])))
    sound = resample.resample(given, rate_hz)
    heard = sound
    if decided.lowpass_hz is not None:
        heard = np.concatenate(list(filters.condition([sound], len(sound), decided.lowpass_hz)))
    if decided.bypass:
        y = sound
    else:
        plan = windows.Plan.of(len(sound), model.frame_samples, overlap)
        cut = list(windows.cut(plan, [heard]))
        results = restore(np.concatenate([rows for _, rows in cut]), [index for index, rows in cut for _ in rows])
        done = {index: part for (index, _), part in zip(cut, np.split(results, len(cut)), strict=True)}
        y = np.concatenate(list(windows.assemble(plan, done.__getitem__)))
    if decided.crossover is not None:
        y = np.concatenate(list(filters.keep_band([sound], [y], decided.crossover)))
    return y.reshape(len(y), *((y.shape[1],) if x.ndim == 2 else ()))
