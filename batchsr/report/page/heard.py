"""One file to hear: what it looked and sounded like before and after, and what was done to it, in words."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from batchsr.audio import excerpts
from batchsr.display import clock, printable
from batchsr.report.facts import facts
from batchsr.report.record import report_of as report_of

SECONDS: Final = 10.0
COLUMNS: Final = 400


def heard(
    name: str,
    source: Path,
    output: Path,
    report: Mapping[str, Any],
    *,
    why: str = "",
    number: int = 0,
    seconds: float = SECONDS,
    start_s: float | None = None,
) -> dict[str, Any]:
    """Return what the page shows of one file, JSON-able: pictures and clips of a stretch, facts from the sidecar
    `report`.

    Raises the InputError family where source or output can no longer be read.
    """
    stretch = excerpts.excerpt(source, output, seconds, start_s)
    clips = excerpts.matched(stretch)
    words = ("source", "restored", "difference")
    return {
        "id": number,
        "name": printable(name),
        "why": why,
        "start": clock(stretch.start_s),
        "seconds": round(len(stretch.restored) / 48_000, 2),
        "cutoff_hz": _cutoff_hz(report),
        "columns": COLUMNS,
        "bins": excerpts.BINS,
        "spectrograms": [
            _base64(excerpts.spectrogram(part, COLUMNS).tobytes()) for part in (stretch.source, stretch.restored)
        ],
        "waveforms": [
            _base64(excerpts.waveform(part, COLUMNS).tobytes()) for part in (stretch.source, stretch.restored)
        ],
        "clips": {word: _base64(excerpts.opus(clip)) for word, clip in zip(words, clips, strict=True)},
        "facts": [[label, printable(value)] for label, value in facts(report)],
    }


def _cutoff_hz(report: Mapping[str, Any]) -> float | None:
    band = (report.get("source") or {}).get("band") or {}
    cutoff = band.get("cutoff_hz") or band.get("nyquist_hz")
    return float(cutoff) if isinstance(cutoff, int | float) else None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
