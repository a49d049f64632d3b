"""What is done around the model, decided once a recording: by its cutoff, or by what a person asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from batchsr.audio.cutoff import Cutoff
from batchsr.audio.filters import Crossover
from batchsr.audio.repair.declick import Clicks
from batchsr.audio.repair.dehum import Hum


@dataclasses.dataclass(frozen=True, slots=True)
class Treatment:
    """What is done around the model, for all channels together."""

    lowpass_hz: float | None = None
    """Conditioning low-pass before the model; None: none."""
    crossover: Crossover | None = None
    """Where the recording itself ends and the restoration begins; None: the restoration is all of the output."""
    bypass: bool = False
    """The recording is full-band already: it is only resampled."""
    clicks: Clicks | None = None
    """The clicks that were found; None: they are not looked for."""
    hum: Hum | None = None
    """The hum that was found; None: it is not looked for."""


def decide(
    lowpass: Literal["off", "auto"] | float, keep_band: bool, rate_hz: int, find_cutoff: Callable[[], Cutoff]
) -> Treatment:
    """Decide for a recording at `rate_hz`. `find_cutoff` is called where the options ask for the cutoff."""
    if lowpass == "off" and not keep_band:
        return Treatment()
    lowpass_hz: float | None
    if isinstance(lowpass, int | float):
        lowpass_hz, bypass, exact = float(lowpass), False, True
        band_hz = lowpass_hz
    else:
        cutoff = find_cutoff()
        band_hz, bypass, exact = cutoff.band_hz, cutoff.full_band, False
        lowpass_hz = cutoff.hz if lowpass == "auto" and not bypass else None
    if not keep_band or bypass:
        return Treatment(lowpass_hz, None, bypass)
    return Treatment(lowpass_hz, Crossover.below(band_hz, rate_hz, exact=exact))
