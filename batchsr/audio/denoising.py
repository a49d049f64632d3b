"""Whether and where a recording is denoised: decided from where somebody speaks and how loud it is then and between.

The network that denoises takes music for noise, and erases speech that is quiet. So its input is brought to one level,
by one gain a file; what it may take away is limited; where nobody speaks for longer than 20 s the recording stays; and
one in which hardly anybody speaks is not given to it at all.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

FRAME_SAMPLES: Final = 1_536
"""Frame of the decision at 48 kHz, 32 ms."""
AUTO_LIMIT_DB: Final = 12.0
LEVEL_DBFS: Final = -26.0
"""To which active speech is brought; 30 dB less, and clean speech was erased."""
FEWEST_SPEECH: Final = 0.05
CLEAN_DB: Final = 15.0
"""Over this ratio of speech to noise `auto` leaves a recording alone: there was nothing to win, and harm was done."""
_SPEAKS: Final = 0.5
_RATE_HZ: Final = 48_000
_HANG_SAMPLES: Final = 2 * _RATE_HZ
FADE_SAMPLES: Final = _RATE_HZ // 2
_FRAME_S: Final = FRAME_SAMPLES / _RATE_HZ
_BRIDGED_FRAMES: Final = int(20 / _FRAME_S)
_JOINED_FRAMES: Final = int(0.2 / _FRAME_S)
_SHORTEST_FRAMES: Final = math.ceil(0.25 / _FRAME_S)
_FEWEST_PAUSES: Final = 30
_QUIET_SHARE: Final = 0.2
"""Of pauses, for the noise: a shout that the detector misses is loud, and noise is there in the quiet ones too."""
_LOWEST_DB, _STEP_DB, _BINS = -120.0, 0.5, 280
_MOST_ON_RECORD: Final = 50

Asked = Literal["auto"] | float
Spans = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Denoising:
    """What was decided for one recording."""

    on: bool
    why: str
    """In a few words, for the record."""
    limit_db: float
    """The most that anything is attenuated by."""
    gain_db: float
    """By which it is louder while the network hears it."""
    speech_share: float
    """Of all frames, those in which somebody speaks."""
    snr_db: float | None
    """Speech over what is between; None where nobody speaks."""
    spans: Spans
    """(start, stop) at 48 kHz in which it is denoised, in order, apart from each other."""
    speech: Spans
    """Where somebody speaks, likewise."""
    total_samples: int

    def weights(self, start: int, count: int) -> NDArray[np.float32]:
        """Return how much of each sample [start, start + count) is the denoised one: float32 (count,), 0 to 1."""
        out = np.zeros(count, np.float32)
        at = np.arange(start, start + count)
        for first, stop in _overlapping(self.spans, start, start + count):
            rise = np.ones(count) if first <= 0 else np.clip((at - first) / FADE_SAMPLES, 0, 1)
            fall = np.ones(count) if stop >= self.total_samples else np.clip((stop - at) / FADE_SAMPLES, 0, 1)
            inside = (at >= first) & (at < stop)
            out[inside] = (rise * fall)[inside]
        return out

    def touches(self, start: int, stop: int) -> bool:
        """Return whether any of the samples [start, stop) are denoised."""
        return self.on and any(True for _ in _overlapping(self.spans, start, stop))

    def kind(self, start: int, stop: int) -> Literal["speech", "pause", "neither"]:
        """Return what the samples [start, stop) are: mostly speech, a pause that is denoised, or neither."""
        spoken = sum(min(b, stop) - max(a, start) for a, b in _overlapping(self.speech, start, stop))
        if 2 * spoken >= stop - start:
            return "speech"
        inside = any(a <= start and stop <= b for a, b in _overlapping(self.spans, start, stop))
        return "pause" if inside and not spoken else "neither"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types, for the sidecar."""
        kept = self.kept()
        return {
            "denoised": self.on,
            "why": self.why,
            "limit_db": self.limit_db,
            "gain_db": round(self.gain_db, 2),
            "speech_share": round(self.speech_share, 4),
            "snr_db": self.snr_db,
            "kept_s": round(sum(b - a for a, b in kept) / _RATE_HZ, 2),
            "kept_stretches_s": [[round(a / _RATE_HZ, 2), round(b / _RATE_HZ, 2)] for a, b in kept[:_MOST_ON_RECORD]],
        }

    def kept(self) -> Spans:
        """Return the stretches that stay as they are recorded."""
        if not self.on:
            return ((0, self.total_samples),)
        ends = (0, *(end for span in self.spans for end in span), self.total_samples)
        return tuple((a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b)


class Listener:
    """Takes in a recording frame by frame, and decides at its end."""

    def __init__(self) -> None:
        self._frames = self._spoken = 0
        self._spoken_power = 0.0
        self._runs: list[list[int]] = []  # of frames in which somebody speaks, [first, stop)
        self._in_speech = np.zeros(_BINS, np.int64)
        self._in_pauses = np.zeros(_BINS, np.int64)
        self._since = np.zeros(_BINS, np.int64)  # since somebody spoke: a pause, if it ends in time

    def add(self, probability: float, power: float) -> None:
        """Take in a frame: the probability that somebody speaks, and the loudest channel's mean square."""
        level = _bin(power)
        if probability > _SPEAKS:
            self._spoken += 1
            self._spoken_power += power
            self._in_speech[level] += 1
            if self._runs and self._frames - self._runs[-1][1] <= _JOINED_FRAMES:
                self._runs[-1][1] = self._frames + 1
            else:
                if self._runs and self._runs[-1][1] - self._runs[-1][0] < _SHORTEST_FRAMES:
                    self._runs.pop()
                self._runs.append([self._frames, self._frames + 1])
            if self._since.sum() <= _BRIDGED_FRAMES:
                self._in_pauses += self._since
            self._since[:] = 0
        else:
            self._since[level] += 1
        self._frames += 1

    def decision(self, asked: Asked, total_samples: int) -> Denoising:
        """Decide for the whole recording. `asked` is the limit in dB, or "auto"."""
        if self._since.sum() <= _BRIDGED_FRAMES:
            self._in_pauses += self._since
        if self._runs and self._runs[-1][1] - self._runs[-1][0] < _SHORTEST_FRAMES:
            self._runs.pop()
        share = self._spoken / max(self._frames, 1)
        snr_db = self._snr_db()
        limit_db = AUTO_LIMIT_DB if asked == "auto" else float(asked)
        if share < FEWEST_SPEECH or not self._runs:
            on, why = False, f"speech in {100 * share:.0f} % of it, less than {100 * FEWEST_SPEECH:.0f} %"
        elif asked == "auto" and snr_db is not None and snr_db >= CLEAN_DB:
            on, why = False, f"speech lies {snr_db:.0f} dB over the noise, {CLEAN_DB:.0f} dB or more"
        else:
            on, why = True, "asked for" if asked != "auto" else f"speech lies only {snr_db} dB over the noise"
        level_db = 10 * math.log10(max(self._spoken_power / max(self._spoken, 1), 1e-12))
        gain_db = min(max(LEVEL_DBFS - level_db, -40.0), 60.0) if on else 0.0
        speech = tuple((a * FRAME_SAMPLES, min(b * FRAME_SAMPLES, total_samples)) for a, b in self._runs)
        spans = _spans(speech, total_samples) if on else ()
        return Denoising(on, why, limit_db, gain_db, share, snr_db, spans, speech, total_samples)

    def _snr_db(self) -> float | None:
        if not self._spoken:
            return None
        pauses = self._in_pauses if self._in_pauses.sum() >= _FEWEST_PAUSES else None
        noise_db = _quantile_db(self._in_speech, 0.1) if pauses is None else _quantile_db(pauses, _QUIET_SHARE)
        both = self._spoken_power / self._spoken
        noise = 10 ** (noise_db / 10) if noise_db > _LOWEST_DB else 1e-12
        return round(min(max(10 * math.log10(max(both - noise, 1e-12) / noise), -20.0), 99.0), 1)


def loudness_for_detector(powers_db: NDArray[np.int64]) -> float:
    """Return the gain that brings a recording's louder frames to -20 dBFS, at most 60 dB: a detector hears levels."""
    if not powers_db.sum():
        return 1.0
    return float(10 ** (min(max(-20.0 - _quantile_db(powers_db, 0.9), -20.0), 60.0) / 20))


def histogram() -> NDArray[np.int64]:
    """Return an empty one, for `count`."""
    return np.zeros(_BINS, np.int64)


def count(counts: NDArray[np.int64], power: float) -> None:
    """Count a frame of this mean square."""
    counts[_bin(power)] += 1


def _bin(power: float) -> int:
    level_db = 10 * math.log10(max(power, 1e-13))
    return min(max(int((level_db - _LOWEST_DB) / _STEP_DB), 0), _BINS - 1)


def _quantile_db(counts: NDArray[np.int64], share: float) -> float:
    place = int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
    return _LOWEST_DB if place == 0 else _LOWEST_DB + _STEP_DB * (place + 0.5)


def _spans(speech: Spans, total: int) -> Spans:
    """Speech with what hangs on it, and the pauses between that are no longer than 20 s."""
    spans: list[list[int]] = []
    longest = _BRIDGED_FRAMES * FRAME_SAMPLES
    for first, stop in speech:
        if spans and first - (spans[-1][1] - _HANG_SAMPLES) <= longest:
            spans[-1][1] = stop + _HANG_SAMPLES
        else:
            start = 0 if not spans and first <= longest else first - _HANG_SAMPLES
            spans.append([max(start, 0), stop + _HANG_SAMPLES])
    if spans and total - (spans[-1][1] - _HANG_SAMPLES) <= longest:
        spans[-1][1] = total
    return tuple((first, min(stop, total)) for first, stop in spans)


def _overlapping(spans: Spans, start: int, stop: int) -> Spans:
    first = bisect.bisect_right(spans, start, key=lambda span: span[1])
    last = bisect.bisect_left(spans, stop, key=lambda span: span[0])
    return spans[first:last]
