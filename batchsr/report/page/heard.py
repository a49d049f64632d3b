"""One file to hear: what it looked and sounded like before and after, and what was done to it, in words."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from batchsr.audio import excerpts
from batchsr.display import printable
from batchsr.errors import OutputExists
from batchsr.queue import Job
from batchsr.report.progress import clock
from batchsr.restoration import sidecar, sidecar_reading

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
    """What the page shows of one file, JSON-able: pictures and clips of a stretch, facts from the sidecar `report`.

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


def report_of(output: Path, job: Job | None = None) -> Mapping[str, Any]:
    """Return what is on record of an output: its sidecar, or what its row keeps of it; empty where there is neither."""
    try:
        record = sidecar_reading.read(sidecar.sidecar_path(output))
    except OutputExists:
        record = None
    if record is not None:
        return record.document
    try:
        kept = json.loads((job.report if job else None) or "{}")
    except ValueError:
        kept = {}
    return kept if isinstance(kept, dict) else {}


def facts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a sidecar says, as labels and sentences. What it does not say is left out."""
    source, output = report.get("source") or {}, report.get("output") or {}
    treatment, model = report.get("treatment") or {}, report.get("model") or {}
    if report.get("note"):
        yield "In one sentence", str(report["note"])
    if source.get("sample_rate_hz"):
        channels = {1: "mono", 2: "stereo"}.get(source.get("channels", 0), f"{source.get('channels')} channels")
        yield (
            "Recording",
            f"{source.get('format')}, {source.get('subtype')}, {source['sample_rate_hz']:,} Hz, {channels}, "
            f"{clock(source.get('duration_s'))}",
        )
    band = source.get("band") or {}
    if band.get("cutoff_hz"):
        yield "Its band", f"ends at {band['cutoff_hz']:,.0f} Hz (found by its {band.get('found_by')})"
    elif band:
        yield "Its band", f"no end was found below {band.get('nyquist_hz', 0):,.0f} Hz"
    if treatment.get("only_resampled"):
        yield "Treatment", "full-band already: resampled, nothing synthesised"
    elif treatment:
        said = []
        if treatment.get("lowpass_hz"):
            said.append(f"low-pass at {treatment['lowpass_hz']:,.0f} Hz before the model")
        if treatment.get("kept_below_hz"):
            said.append(f"the recording itself below {treatment['kept_below_hz']:,.0f} Hz")
        yield "Treatment", "; ".join(said) or "all of the output is the model's"
    if model.get("variant"):
        yield "Model", f"{Path(str(model['variant'])).name} in {model.get('dtype')} on {model.get('device')}"
    before, after = source.get("loudness_lufs"), output.get("loudness_lufs")
    if before is not None and after is not None:
        yield "Loudness", f"{before:.1f} LUFS before, {after:.1f} after ({after - before:+.1f})"
    if output.get("peak_dbfs") is not None:
        clipped = output.get("clipped_samples") or 0
        clipping = f"{clipped:,} samples clipped" if clipped else "no clipping"
        yield "Peak", f"{output['peak_dbfs']:.1f} dBFS, {clipping}"
    for remark in source.get("remarks") or []:
        yield "Odd about the source", f"{remark.get('message')} [{remark.get('code')}]"
    if report.get("rtf"):
        yield "Speed", f"{1 / report['rtf']:.2f} x real time"
    if output.get("sha256"):
        yield "SHA-256 of the output", str(output["sha256"])


def _cutoff_hz(report: Mapping[str, Any]) -> float | None:
    band = (report.get("source") or {}).get("band") or {}
    cutoff = band.get("cutoff_hz") or band.get("nyquist_hz")
    return float(cutoff) if isinstance(cutoff, int | float) else None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
