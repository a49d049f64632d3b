"""Quiet hours and stopping after a time, by clocks that the test moves."""

from __future__ import annotations

import datetime
import math

import pytest

from batchsr.errors import ConfigError
from batchsr.settings import schedule


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(f"2026-03-01T{text}")


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("19:00-07:00", ["19:00", "23:59:59", "00:00", "06:59:59"], ["07:00", "12:00", "18:59:59"]),
        ("08:30-17:15", ["08:30", "17:14:59"], ["08:29:59", "17:15", "00:00"]),
        ("00:00-06:00", ["00:00", "05:59"], ["06:00", "23:59"]),
        ("18:00-24:00", ["18:00", "23:59"], ["00:00", "17:59"]),
        ("9:00-9:01", ["09:00:30"], ["09:01", "08:59"]),
    ],
)
def test_a_span_holds_its_start_but_not_its_end_also_over_midnight(
    span: str, inside: list[str], outside: list[str]
) -> None:
    parsed = schedule.span(span)
    assert all(parsed.holds(at(time)) for time in inside)
    assert not any(parsed.holds(at(time)) for time in outside)


@pytest.mark.parametrize(
    "text", ["19-7", "19:00", "25:00-07:00", "19:60-07:00", "07:00-07:00", "00:00-24:00", "24:30-01:00", "", "a:b-c:d"]
)
def test_what_is_no_span_is_a_configuration_error_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schedule.span(text)
    assert repr(text) in str(caught.value)
    assert caught.value.remedy


def test_the_wait_ends_when_the_span_begins() -> None:
    span = schedule.span("19:00-07:00")
    assert span.wait_s(at("18:59:30")) == pytest.approx(30)
    assert span.wait_s(at("07:00")) == 12 * 3600
    assert span.wait_s(at("03:00")) == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("15 min", 900), ("1.5h", 5400), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert schedule.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "1w", "1h30", "nan", "inf"])
def test_what_is_no_duration_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError, match="no length of time"):
        schedule.duration_s(text)


def test_the_gate_asks_again_within_a_minute_so_that_a_clock_may_jump() -> None:
    now = at("12:00")
    gate = schedule.gate(
        only_between=schedule.span("19:00-07:00"), stop_after_s=None, wall=lambda: now, steady_s=lambda: 0.0
    )
    assert gate() == 60
    now = at("18:59:50")
    assert gate() == pytest.approx(10)
    now = at("19:00")
    assert gate() == 0
    now = at("06:59:59")
    assert gate() == 0
    now = at("07:00")
    assert gate() == 60


def test_the_gate_closes_for_good_when_the_time_is_up_also_while_waiting_for_the_night() -> None:
    steady_s = 100.0
    gate = schedule.gate(
        only_between=schedule.span("19:00-07:00"),
        stop_after_s=90.0,
        wall=lambda: at("12:00"),
        steady_s=lambda: steady_s,
    )
    assert gate() == 60
    steady_s = 160.0
    assert gate() == pytest.approx(30)
    steady_s = 190.0
    assert gate() == math.inf


def test_without_limits_the_gate_is_open() -> None:
    assert schedule.gate(only_between=None, stop_after_s=None, wall=lambda: at("12:00"), steady_s=lambda: 0.0)() == 0
