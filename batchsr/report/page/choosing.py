"""Which files a person should hear: those with the worst figures, and a sample of the rest."""

from __future__ import annotations

import dataclasses
import heapq
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from batchsr.queue import Job
from batchsr.report.facts import RUMBLE_MARK_DBFS, opinion_to_review, rumble_added_db, words_to_review

_SEED: Final = 0  # the same queue gives the same sample


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A job to hear, and why."""

    job: Job
    why: str


def _seam(report: Mapping[str, Any]) -> float:
    seams = report.get("output", {}).get("seams") or {}
    figures = [value for value in seams.values() if isinstance(value, int | float)]
    return max(figures, default=0.0)


def _clipping(report: Mapping[str, Any]) -> float:
    output = report.get("output", {})
    return float(output.get("clipped_samples") or 0) / max(1, int(output.get("frames") or 1))


def _level_change(report: Mapping[str, Any]) -> float:
    before, after = (report.get(side, {}).get("loudness_lufs") for side in ("source", "output"))
    return abs(after - before) if isinstance(before, int | float) and isinstance(after, int | float) else 0.0


def _doubt(report: Mapping[str, Any]) -> float:
    """Return a cutoff that was not found although it was looked for."""
    band = report.get("source", {}).get("band") or {}
    wanted = report.get("settings", {}).get("lowpass") == "auto" or report.get("settings", {}).get("keep_band")
    return 1.0 if wanted and band.get("cutoff_hz") is None else 0.0


def _oddness(report: Mapping[str, Any]) -> float:
    return float(len(report.get("source", {}).get("remarks") or []))


def _rumble(report: Mapping[str, Any]) -> float:
    """Return what was added below 50 Hz, where it is loud enough to matter."""
    added = rumble_added_db(report)
    if added is None or report["output"]["below_50_hz_dbfs"] < RUMBLE_MARK_DBFS:
        return 0.0
    return max(added, 0.0)


def _opinion(report: Mapping[str, Any]) -> float:
    """Return how far an opinion that is to be reviewed is from the best."""
    after = opinion_to_review(report)
    return 0.0 if after is None else 5.0 - after


def _words(report: Mapping[str, Any]) -> float:
    return words_to_review(report) or 0.0


_REASONS: Final[tuple[tuple[str, Callable[[Mapping[str, Any]], float]], ...]] = (
    ("the most clipping", _clipping),
    ("the largest change of level", _level_change),
    ("the lowest opinion of the speech", _opinion),
    ("the most words no longer heard", _words),
    ("the most added below 50 Hz", _rumble),
    ("the most noticeable joints", _seam),
    ("no cutoff was found", _doubt),
    ("the source is odd", _oddness),
)


def choose(
    done: Iterable[Mapping[str, Any]],
    count: int,
    jobs_of: Callable[[list[int]], Iterable[Job]],
    report_of: Callable[[Job], Mapping[str, Any]],
    *,
    looked_at: int = 2_000,
) -> list[Choice]:
    """Choose at most `count` jobs that are done: half for their worst figures, half by chance.

    done: of each its `id` and `clipped_samples`; of those that are drawn `jobs_of` gives the jobs. `report_of` gives a
    job's sidecar, empty where there is none. It is asked for no more than `looked_at` jobs, drawn by chance where there
    are more, and for those that clipped most: all sidecars of a large archive take hours.
    """
    if count <= 0:
        return []
    rng = random.Random(_SEED)
    numbers = _drawn(done, looked_at, rng)
    found = {job.id: job for job in jobs_of(numbers)}
    sample = [found[number] for number in numbers if number in found]
    each = -(-count // (2 * len(_REASONS)))
    worst: list[list[tuple[float, int, Job]]] = [[] for _ in _REASONS]
    for job in sample:
        report = report_of(job)
        for heap, (_, figure) in zip(worst, _REASONS, strict=True):
            if (value := figure(report)) > 0:
                heapq.heappush(heap, (value, -job.id, job))
                if len(heap) > each:
                    heapq.heappop(heap)
    chosen: dict[int, Choice] = {}
    for heap, (why, _) in zip(worst, _REASONS, strict=True):
        for _, _, job in sorted(heap, reverse=True):
            if len(chosen) < -(-count // 2):
                chosen.setdefault(job.id, Choice(job, why))
    rng.shuffle(sample)
    for job in sample:
        if len(chosen) < count:
            chosen.setdefault(job.id, Choice(job, "chosen by chance"))
    return list(chosen.values())


def _drawn(done: Iterable[Mapping[str, Any]], count: int, rng: random.Random) -> list[int]:
    """Return the numbers of so many jobs by chance, and of as many tenths of those that clipped most."""
    sample: list[int] = []
    clipped: list[tuple[int, int]] = []
    for seen, job in enumerate(done, 1):
        if len(sample) < count:
            sample.append(job["id"])
        elif (index := rng.randrange(seen)) < count:
            sample[index] = job["id"]
        if job["clipped_samples"]:
            heapq.heappush(clipped, (job["clipped_samples"], job["id"]))
            if len(clipped) > count // 10:
                heapq.heappop(clipped)
    there = set(sample)
    return sample + [number for _, number in clipped if number not in there]
