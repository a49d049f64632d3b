"""Answers for programs: one JSON object on one line, of the shapes that docs/schema describes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from batchsr.queue import Queue
from batchsr.settings import extras

SCHEMA: Final = 1
"""Stands in every JSON answer. It rises when a field goes or changes its meaning; a field that is added leaves it."""


def as_line(document: Mapping[str, Any]) -> str:
    """Return one JSON object, with the number of its schema in front (docs/json.md).

    ASCII, so that any file name passes any pipe. What is no number is null, as JSON has no other word for it.
    """
    try:
        return json.dumps({"schema": SCHEMA, **document}, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError):  # a mapping that is no dict, or what is no number
        return json.dumps({"schema": SCHEMA, **_finite(document)}, ensure_ascii=True, allow_nan=False)


def _finite(value: Any) -> Any:
    """Return the same, with None for infinities and NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def status_of(queue: Queue, batch: str | None = None) -> dict[str, Any]:
    """Return how a queue stands, as `status` answers: with what waits for packages that are not installed here."""
    status: dict[str, Any] = queue.status()
    if batch is not None:
        status |= {"jobs": queue.counts(batch), "batch": batch}
    missing = extras.missing()
    waiting = queue.asking_for(missing)
    return status | {"extras": {name: {"jobs": jobs, "remedy": missing[name]} for name, jobs in waiting.items()}}
