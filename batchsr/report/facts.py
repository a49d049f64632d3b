"""What a sidecar says, in words for people."""

from __future__ import annotations

import math
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
    yield from _opinions(report)
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
    before, after = (_number(_part(report, side), "below_50_hz_dbfs") for side in ("source", "output"))
    return None if after is None else after - (-120.0 if before is None else before)


def opinion_to_review(report: Mapping[str, Any]) -> float | None:
    """The opinion of the output's speech where it is lower than was asked for; None where it is not."""
    quality = _part(_part(report, "checks"), "quality")
    return _number(_part(quality, "after"), "ovrl") if quality.get("review") is True else None


# A sidecar may have been written by anybody: what is not of the kind that it should be is left out.


def _part(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = report.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(part: Mapping[str, Any], name: str) -> float | None:
    value = part.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _stages(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What each stage found and did, for those that say something."""
    stages = report.get("stages")
    for stage in stages if isinstance(stages, list) else []:
        if not isinstance(stage, Mapping):
            continue
        found, settings = _part(stage, "found"), _part(stage, "settings")
        if stage.get("name") == "declick" and (touched := _number(found, "touched_share")) is not None:
            share = f"{100 * touched:.3f} % of the samples"
            back = found.get("stepped_back")
            yield "Clicks", f"stepped back: {share} stand out" if back else f"{share} were interpolated"
        elif stage.get("name") == "dehum":
            channels = found.get("multiples")
            lines = sum(len(one) for one in channels if isinstance(one, list)) if isinstance(channels, list) else 0
            base = _number(found, "base_hz")
            yield "Hum", f"{lines} lines of {base:.0f} Hz were subtracted" if base and lines else "none stands out"
        elif stage.get("name") == "denoise":
            yield "Noise", _denoised(found, _number(settings, "limit_db"))


def _denoised(found: Mapping[str, Any], limit_db: float | None) -> str:
    if found.get("denoised") is not True or limit_db is None:
        return f"not denoised: {found.get('why')}"
    removed = _part(found, "removed_db")
    parts = [f"{db:.1f} dB of {kind}" for kind in ("speech", "pause") if (db := _number(removed, kind)) is not None]
    kept_s = _number(found, "kept_s")
    stays = f"; {clock(kept_s)} without speech stays" if kept_s else ""
    taken = f", took {' and '.join(parts)}" if parts else ""
    return f"denoised by {limit_db:.0f} dB at most ({found.get('why')}){taken}{stays}"


def _opinions(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    quality = _part(_part(report, "checks"), "quality")
    before, after = (_number(_part(quality, side), "ovrl") for side in ("before", "after"))
    share = _number(quality, "speech_share")
    if before is not None and after is not None:
        mark = ": review it" if quality.get("review") is True else ""
        yield "Opinion of the speech", f"{before:.2f} before, {after:.2f} after, of 5 (DNSMOS){mark}"
    elif share is not None:
        yield "Opinion of the speech", f"none: speech in {100 * share:.0f} % of it"
