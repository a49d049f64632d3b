"""What is done around the model, decided once a recording: by its cutoff, or by what a person asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, Literal

from batchsr.audio.cutoff import Cutoff
from batchsr.audio.filters import Crossover
from batchsr.audio.windows import SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True, slots=True)
class Treatment:
    """What is done around the model, for all channels together."""

    lowpass_hz: float | None = None
    """Conditioning low-pass before the model; None: none."""
    crossover: Crossover | None = None
    """Where the recording itself ends and the restoration begins; None: the restoration is all of the output."""
    bypass: bool = False
    """The recording is full-band already: it is only resampled."""
    decided: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """What the stages before the model decided from a pass over the recording, by their names; each knows its own."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class Synthetic:
    """What of an output is made up, known before the first sample is written, so that the output itself can say it."""

    above_hz: float | None
    """Content above this was never recorded; None where nothing is made up."""
    recording_below_hz: float | None
    """Content below this is the recording itself; None where a model has made all of it anew."""
    sentence: str
    """For a person, in ASCII and without a comma, so that every container holds it; "" where nothing is made up."""
    short: str
    """The same in a few words, for places that are small."""
    source_type: str | None
    """The term of IPTC's digital source types that says it; None where nothing is made up."""


EDITED_BY_A_MODEL: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's term for a recording to which a trained model has added."""
NOTHING_SYNTHETIC: Final = Synthetic(None, None, "", "", None)


def synthetic(treatment: Treatment, source_hz: float, rate_hz: int = SAMPLE_RATE_HZ, *, done: str = "") -> Synthetic:
    """Return what of an output at `rate_hz` is made up, of a recording at `source_hz` that is treated like this.

    done: what the stages did to the recording itself, in words ("de-clicked"); "" for nothing.
    Without a crossover the recording's own band ends where its low-pass was, or at half its rate.
    """
    end_hz = rate_hz / 2
    crossover = treatment.crossover
    if treatment.bypass or (crossover is not None and crossover.pass_hz >= end_hz):
        return NOTHING_SYNTHETIC
    if crossover is not None:
        # An output that ends in the cross-over itself holds no more than a mixture.
        above_hz = crossover.stop_hz if crossover.stop_hz < end_hz else crossover.pass_hz
        below_hz, rest = crossover.pass_hz, f"below {crossover.pass_hz:.0f} Hz it is the recording itself"
        rest += f" as it was {done}" if done else ""
    else:
        above_hz, below_hz = min(treatment.lowpass_hz or source_hz / 2, source_hz / 2), None
        above_hz = above_hz if above_hz < end_hz else 0.0
        rest = "the rest was resynthesised by the model as well" if above_hz else "none of it is the recording itself"
    what = f"Content above {above_hz:.0f} Hz" if above_hz else "All content above 0 Hz"
    return Synthetic(
        round(above_hz, 1),
        None if below_hz is None else round(below_hz, 1),
        f"{what} is synthetic (made by a trained model and never recorded); {rest}.",
        f"Synthetic above {above_hz:.0f} Hz.",
        EDITED_BY_A_MODEL,
    )
