"""What a sidecar says, in words for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from batchsr.report.progress import clock

LEVEL_MARK_LU: Final = 1.0
"""A change of loudness from which on a person should listen."""
RUMBLE_MARK_DB: Final = 6.0
RUMBLE_MARK_DBFS: Final = -60.0
"""So much more below 50 Hz, and at least so loud, is marked."""


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
    yield from _stages(report)
    before, after = source.get("loudness_lufs"), output.get("loudness_lufs")
    if before is not None and after is not None:
        mark = ": listen to it" if abs(after - before) >= LEVEL_MARK_LU else ""
        yield "Loudness", f"{before:.1f} LUFS before, {after:.1f} after ({after - before:+.1f}){mark}"
    if (added := rumble_added_db(report)) is not None:
        low = output["below_50_hz_dbfs"]
        mark = ": listen to it" if added >= RUMBLE_MARK_DB and low >= RUMBLE_MARK_DBFS else ""
        yield "Below 50 Hz", f"{low:.1f} dBFS, {added:+.1f} dB against the recording{mark}"
    yield from _opinions((report.get("checks") or {}).get("quality") or {})
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


def rumble_added_db(report: Mapping[str, Any]) -> float | None:
    """By how much the output is louder below 50 Hz than the recording, in dB; None where that was not measured."""
    before, after = ((report.get(side) or {}).get("below_50_hz_dbfs") for side in ("source", "output"))
    if not isinstance(after, int | float):
        return None
    return after - (before if isinstance(before, int | float) else -120.0)


def _stages(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What each stage found and did, for those that say something."""
    for stage in report.get("stages") or []:
        found, settings = stage.get("found") or {}, stage.get("settings") or {}
        if stage.get("name") == "declick":
            share = f"{100 * found.get('touched_share', 0):.3f} % of the samples"
            back = found.get("stepped_back")
            yield "Clicks", f"stepped back: {share} stand out" if back else f"{share} were interpolated"
        elif stage.get("name") == "dehum":
            lines = sum(len(channel) for channel in found.get("multiples") or [])
            base = found.get("base_hz")
            yield "Hum", f"{lines} lines of {base:.0f} Hz were subtracted" if base and lines else "none stands out"
        elif stage.get("name") == "denoise":
            yield "Noise", _denoised(found, settings)


def _denoised(found: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    if not found.get("denoised"):
        return f"not denoised: {found.get('why')}"
    removed = found.get("removed_db") or {}
    parts = [f"{db:.1f} dB of {kind}" for kind, db in removed.items() if db is not None]
    kept_s = found.get("kept_s") or 0
    stays = f"; {clock(kept_s)} without speech stays" if kept_s else ""
    taken = f", took {' and '.join(parts)}" if parts else ""
    return f"denoised by {settings.get('limit_db'):.0f} dB at most ({found.get('why')}){taken}{stays}"


def _opinions(quality: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    before, after = quality.get("before"), quality.get("after")
    if before and after:
        mark = ": review it" if quality.get("review") else ""
        yield "Opinion of the speech", f"{before['ovrl']:.2f} before, {after['ovrl']:.2f} after, of 5 (DNSMOS){mark}"
    elif quality:
        yield "Opinion of the speech", f"none: speech in {100 * quality.get('speech_share', 0):.0f} % of it"
