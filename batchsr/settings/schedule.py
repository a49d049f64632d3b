"""When and how long to work: quiet hours, and stopping after a time. Pure: the caller brings the clock."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from collections.abc import Callable
from typing import Final

from batchsr.errors import ConfigError

_SPAN: Final = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_UNITS_S: Final = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_ASK_AGAIN_S: Final = 60.0  # so a clock that is set, summer time or a sleep costs a minute at most
_DAY_MINUTES: Final = 24 * 60


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A part of every day, local time, in minutes since midnight; it may go over midnight. The end is not in it."""

    start: int
    end: int

    def holds(self, now: datetime.datetime) -> bool:
        """Return whether the clock on the wall shows a time in the span."""
        minute = now.hour * 60 + now.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def wait_s(self, now: datetime.datetime) -> float:
        """Return seconds until the span begins, by the clock on the wall; 0 within it."""
        if self.holds(now):
            return 0.0
        minute = now.hour * 60 + now.minute + (now.second + now.microsecond / 1e6) / 60
        return ((self.start - minute) % _DAY_MINUTES) * 60


def span(text: str) -> Span:
    """Read "19:00-07:00". Raises ConfigError."""
    match = _SPAN.fullmatch(text.strip())
    hours = [int(part) for part in match.groups()] if match else []
    if not hours or hours[0] > 23 or hours[2] > 24 or hours[1] > 59 or hours[3] > 59 or (hours[2] == 24 and hours[3]):
        raise ConfigError(f"{text!r} is no span of the day", remedy="write it like 19:00-07:00")
    start, end = hours[0] * 60 + hours[1], (hours[2] * 60 + hours[3]) % _DAY_MINUTES
    if start == end:
        raise ConfigError(f"{text!r} is empty, or the whole day", remedy="leave the option out to work at any time")
    return Span(start, end)


def duration_s(text: str) -> float:
    """Read "90", "90s", "15m", "2h" or "1d" as seconds. Raises ConfigError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not math.isfinite(value := float(match[1]) * _UNITS_S[match[2]]):
        raise ConfigError(f"{text!r} is no length of time", remedy="write it like 90s, 15m, 2h or 1d")
    return value


def position_s(text: str) -> float:
    """Read a place in a recording, "90", "1:30" or "1:02:03.5", as seconds. Raises ConfigError."""
    parts = text.strip().split(":")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    sound = all(0 <= value < (60 if number else math.inf) for number, value in enumerate(values))  # 1:75 is a slip
    if not values or len(values) > 3 or not sound:
        raise ConfigError(f"{text!r} is no place in a recording", remedy="write it like 90 or 1:30")
    seconds = 0.0
    for value in values:
        seconds = 60 * seconds + value
    return seconds


def gate(
    *,
    only_between: Span | None,
    stop_after_s: float | None,
    wall: Callable[[], datetime.datetime],
    steady_s: Callable[[], float],
) -> Callable[[], float]:
    """Return a worker's question before each claim: how many seconds to wait and ask again. 0: go on; infinity: stop.

    The time to stop counts from this call. `wall` gives local time.
    """
    began_s = steady_s()

    def wait_s() -> float:
        left_s = math.inf if stop_after_s is None else stop_after_s - (steady_s() - began_s)
        if left_s <= 0:
            return math.inf
        waiting_s = only_between.wait_s(wall()) if only_between is not None else 0.0
        return min(waiting_s, left_s, _ASK_AGAIN_S)

    return wait_s
