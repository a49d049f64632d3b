"""Which jobs somebody looks for, a page at a time: a page begins behind a key, so that none is slower than another."""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol

from batchsr.queue.job import Job, State

Sort = Literal["id", "path", "length", "rtf", "changed"]
"""An order in which jobs are listed."""


@dataclasses.dataclass(frozen=True, slots=True)
class JobFilter:
    """Conditions that must all hold; what is left out is not asked."""

    states: tuple[State, ...] = ()
    held: bool = False
    """Only those that are queued and wait for a place in trouble."""
    batch: str | None = None
    text: str | None = None
    """Stands in the source's path or in the error, whatever the case of ASCII letters."""
    error: str | None = None
    """The error's code, as a glob."""
    ids: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of a longer list."""

    jobs: list[Job]
    after: str | None
    """Where the next page begins; None behind the last."""


@dataclasses.dataclass(frozen=True, slots=True)
class FailureKind:
    """The failed and quarantined jobs that have one error code."""

    code: str
    jobs: int
    example: str
    """What is said of the first of them."""


class Browser(Protocol):
    """Looks at a long queue. Nothing here writes, and nothing takes longer far behind than at the beginning."""

    def page(
        self, matching: JobFilter, *, sort: Sort = "id", descending: bool = False, after: str = "", limit: int = 100
    ) -> Page:
        """Return the jobs that follow the place `after` which the page before gave, the least first.

        Raises ConfigError for a place that no page gave.
        """

    def numbers(self, matching: JobFilter) -> list[int]:
        """Return the numbers of all of them, ascending."""

    def count(self, matching: JobFilter) -> int:
        """Return how many there are."""

    def failures(self) -> list[FailureKind]:
        """Return what failed, by kind, the most frequent first."""

    def lately(self, limit: int) -> list[Job]:
        """Return the jobs that were brought to an end last, the latest first, as far as the latest changes go."""

    def totals_by_batch(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return for each batch ("" for none) and each state in it `jobs`, `audio_s` and `wall_s`."""

    def left_channel_s(self) -> float:
        """Return the seconds of audio still to be restored, counted once for each channel, or stem of one."""
