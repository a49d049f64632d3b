"""How far the files in a host's hands are: kept in memory, written with the signs of life, all in one message."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence

from batchsr.queue.job import Job
from batchsr.queue.postgres.store import PgStore
from batchsr.queue.sqlite import claims

Claim = tuple[int, int]
"""A job's number and its claim's."""


@dataclasses.dataclass(slots=True)
class _Told:
    worker: str
    first: int
    """Windows when it began."""
    began_s: float
    done: int = 0
    total: int = 0
    fresh: bool = True
    """Not in the row yet."""
    proven: bool = False
    """That it made windows is in the row, or on its way."""


class Windows:
    """What workers tell of the files in their hands. Threads may share it."""

    def __init__(self, beat_s: float) -> None:
        self.beat_s = beat_s
        """Between two signs of life; 0 writes at once."""
        self._told: dict[Claim, _Told] = {}
        self._lock = threading.Lock()

    def tell(self, job: Job, done: int, total: int) -> bool:
        """Note it. Returns whether to write it now: the first windows of a file do not wait for the next sign of life,
        since a death after them blames the file less."""
        now_s = time.monotonic()
        with self._lock:
            told = self._told.setdefault((job.id, job.claim_seq), _Told(job.worker or "", done, now_s))
            told.done, told.total, told.fresh = done, total, True
            first = not told.proven and done > told.first and now_s - told.began_s >= self.beat_s / 10
            told.proven = told.proven or first
        return first or self.beat_s == 0

    def of(self, job: Job) -> tuple[int | None, int | None]:
        """Return the windows that a claim began with, and those it has; None where nothing was told."""
        with self._lock:
            told = self._told.get((job.id, job.claim_seq))
        return (told.first, told.done) if told is not None else (None, None)

    def forget(self, job: Job) -> None:
        """Forget a job whose claim is over."""
        with self._lock:
            self._told.pop((job.id, job.claim_seq), None)

    def write_all(self, store: PgStore, worker: str) -> None:
        """Write what a worker told since the last time."""
        with self._lock:
            fresh = [claim for claim, told in self._told.items() if told.fresh and told.worker == worker]
        if fresh:
            self.write(store, worker, fresh)

    def write(self, store: PgStore, worker: str, which: Sequence[Claim]) -> set[Claim]:
        """Write what a worker told of these, and forget those that are in other hands. Returns those."""
        with self._lock:
            told = {claim: self._told[claim] for claim in which if claim in self._told}
            rows = [(*claim, one.first, one.done, one.total) for claim, one in told.items()]
            for one in told.values():
                one.fresh = False
        if not rows:
            return set()
        names = ("jobs", "claims", "firsts", "dones", "totals")
        values = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        written = store.call(
            "SELECT note_windows(:worker, :now, :steady, :jobs, :claims, :firsts, :dones, :totals) AS id",
            values | claims.clock_values(store) | {"worker": worker},  # type: ignore[arg-type]
        )
        gone = told.keys() - {claim for claim in told if claim[0] in {row["id"] for row in written}}
        with self._lock:
            for claim in gone:
                self._told.pop(claim, None)
        return set(gone)
