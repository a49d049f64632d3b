"""What a sidecar says, in words for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from batchsr.report.progress import clock


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
