"""Which files a person should hear: those with the worst figures, and a sample of the rest."""

from __future__ import annotations

import dataclasses
import heapq
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from batchsr.queue import Job, State

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
    """A cutoff that was not found although it was looked for."""
    band = report.get("source", {}).get("band") or {}
    wanted = report.get("settings", {}).get("lowpass") == "auto" or report.get("settings", {}).get("keep_band")
    return 1.0 if wanted and band.get("cutoff_hz") is None else 0.0


def _oddness(report: Mapping[str, Any]) -> float:
    return float(len(report.get("source", {}).get("remarks") or []))


_REASONS: Final[tuple[tuple[str, Callable[[Mapping[str, Any]], float]], ...]] = (
    ("the most clipping", _clipping),
    ("the largest change of level", _level_change),
    ("the most noticeable joints", _seam),
    ("no cutoff was found", _doubt),
    ("the source is odd", _oddness),
)


def choose(jobs: Iterable[Job], count: int, report_of: Callable[[Job], Mapping[str, Any]]) -> list[Choice]:
    """Choose at most `count` jobs that are done: half for their worst figures, half by chance. Keeps no more than that.

    `report_of` gives a job's sidecar, empty where there is none.
    """
    if count <= 0:
        return []
    each = -(-count // (2 * len(_REASONS)))
    worst: list[list[tuple[float, int, Job]]] = [[] for _ in _REASONS]
    sample: list[Job] = []
    rng = random.Random(_SEED)
    seen = 0
    for job in jobs:
        if job.state != State.DONE:
            continue
        seen += 1
        if len(sample) < count:
            sample.append(job)
        elif (place := rng.randrange(seen)) < count:
            sample[place] = job
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
