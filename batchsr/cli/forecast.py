"""What a dry run of `enqueue` says of disk and time, for people and for programs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchsr.cli.app import App
from batchsr.display import clock, shown
from batchsr.errors import BatchsrError
from batchsr.intake.gather import Request
from batchsr.queue import Queue
from batchsr.settings.profile import DEFAULT_VARIANT
from batchsr.storage import NO_BOUND
from batchsr.worker import forecast


def pace(app: App, queue: Queue, request: Request, *, calibrate: bool) -> forecast.Pace | None:
    """Return how fast this machine restores: measured now, or by the latest work on this queue; None if unknown."""
    if calibrate:
        from batchsr.models import registry

        name = request.variant or DEFAULT_VARIANT
        load = functools.partial(registry.load, name, say=lambda text: app.note(text, level=1))
        return forecast.calibrated(load, name, request.settings.overlap)
    speed = queue.recent_speed(request.variant)
    return None if speed is None else forecast.pace_of(speed)


def document(needs: forecast.Forecast, found: forecast.Pace | None) -> dict[str, Any]:
    """Return the forecast for programs."""
    return {
        "work_s": None if found is None else round(needs.channel_s * found.work_s, 1),
        "basis": None if found is None else found.basis,
        "scratch_most_bytes": needs.scratch_most_bytes,
        "places": [
            {
                "folder": room.folder,
                "output_bytes": room.output_bytes,
                "scratch_bytes": room.scratch_bytes,
                "free_bytes": room.free_bytes,
                "enough": room.is_enough,
            }
            for room in needs.rooms()
        ],
    }


def told(needs: forecast.Forecast, found: forecast.Pace | None) -> Iterator[str]:
    """Yield the forecast for people, a line each."""
    if not needs.channel_s:
        return
    if found is None:
        yield "work: unknown, since nothing was restored with this queue yet (--calibrate measures it)"
    else:
        yield f"work: about {clock(needs.channel_s * found.work_s)} on this machine ({found.basis})"
    try:
        rooms = needs.rooms()
    except (OSError, BatchsrError) as e:
        yield f"disk: cannot be looked at: {e}"
        return
    for room in rooms:
        parts = [f"{room.output_bytes / 1e9:,.2f} GB for outputs"] if room.output_bytes else []
        if room.scratch_bytes:
            parts.append(f"{room.scratch_bytes / 1e9:,.2f} GB of scratch for the largest file")
        enough = "" if room.is_enough else "TOO LITTLE: "
        needed = " and ".join(parts)
        free = f"{room.free_bytes / 1e9:,.2f} GB are free" if room.free_bytes < NO_BOUND else "what is free is not told"
        yield f"disk: {enough}{shown(Path(room.folder))} needs {needed}, {free}"
