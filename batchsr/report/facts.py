"""What a sidecar says, in words for people.

A sidecar may have been written by anybody: what is not of the kind that it should be is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from batchsr.display import clock
from batchsr.restoration.stages.entries import number, part

LEVEL_MARK_LU: Final = 1.0
"""A change of loudness from which on a person should listen."""
RUMBLE_MARK_DB: Final = 6.0
RUMBLE_MARK_DBFS: Final = -60.0
"""So much more below 50 Hz, and at least so loud, is marked."""


def facts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a sidecar says, as labels and sentences. What it does not say is left out."""
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
    yield from _words(report)
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
    before, after = (number(part(report, side), "below_50_hz_dbfs") for side in ("source", "output"))
    return None if after is None else after - (-120.0 if before is None else before)


def opinion_to_review(report: Mapping[str, Any]) -> float | None:
    """Return the opinion of the output's speech where it is lower than was asked for; None where it is not."""
    quality = part(part(report, "checks"), "quality")
    return number(part(quality, "after"), "ovrl") if quality.get("review") is True else None


def _stages(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what each stage found and did, for those that say something."""
    found = report.get("stages")
    entries = [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []
    if entries:
        from batchsr.restoration.stages import registry

        yield from filter(None, map(registry.fact, entries))


def words_to_review(report: Mapping[str, Any]) -> float | None:
    """Return how many words went beyond the recogniser's own unrest, where that is to be looked at; None where not."""
    words = part(part(report, "checks"), "words")
    gone, unrest = number(words, "gone"), number(words, "own_unrest")
    return gone - unrest if words.get("review") is True and gone is not None and unrest is not None else None


_NOT_COUNTED = {
    "little_speech": "not counted: little is spoken",
    "no_words": "not counted: the recogniser heard none",
    "unsure": "not counted: the recogniser was unsure of the recording",
    "recogniser_failed": "not counted: the recogniser failed",
}


def _words(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    words = part(part(report, "checks"), "words")
    sure, gone, unrest = (number(words, key) for key in ("sure", "gone", "own_unrest"))
    if sure is not None and gone is not None and unrest is not None:
        mark = ": review it" if words.get("review") is True else ""
        yield (
            "Words",
            f"of {sure:.0f} the recogniser was sure of, {gone:.0f} not heard after (own unrest {unrest:.0f}){mark}",
        )
    elif (why := words.get("not_counted_because")) is not None:
        trouble = words.get("trouble")
        yield "Words", _NOT_COUNTED.get(str(why), f"not counted: {why}") + (f" ({trouble})" if trouble else "")


def _opinions(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    quality = part(part(report, "checks"), "quality")
    before, after = (number(part(quality, side), "ovrl") for side in ("before", "after"))
    share = number(quality, "speech_share")
    if before is not None and after is not None:
        mark = ": review it" if quality.get("review") is True else ""
        yield "Opinion of the speech", f"{before:.2f} before, {after:.2f} after, of 5 (DNSMOS){mark}"
    elif share is not None:
        yield "Opinion of the speech", f"none: speech in {100 * share:.0f} % of it"
