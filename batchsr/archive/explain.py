"""What was done to a file, in words, from its sidecar alone.

A sidecar may have been written by anybody. So nothing is believed of its form: what is not there, or is not of the kind
that it should be, is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from batchsr.audio.windows import SAMPLE_RATE_HZ
from batchsr.display import clock, counted
from batchsr.models import registry
from batchsr.restoration.stages import registry as stages

_CHANNELS: Final = {1: "mono", 2: "stereo"}
_MOST_LISTED: Final = 20


def sentences(document: Mapping[str, Any]) -> Iterator[str]:
    """Say what was done, a paragraph each: where it comes from, what is made up, each step, what became of the rest.

    `document` is a sidecar in today's form (`sidecar_versions.newest`). What it quotes is as it stands there: whoever
    shows it makes it harmless.
    """
    at = _Reader(document)
    yield from _origin(at)
    sentence = at.text("synthetic", "sentence")
    if sentence:
        yield f"What is made up: {sentence}"
    yield from _steps(at)
    yield from _result(at)
    yield from _left_behind(at)
    yield from _circumstances(at)
    sha256 = at.text("output", "sha256")
    if sha256:
        yield f"All of this is said of the file whose SHA-256 is {sha256}."


class _Reader:
    """Looks into a document that may lack anything."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def value(self, *keys: str) -> Any:
        found: Any = self._document
        for key in keys:
            if not isinstance(found, dict):
                return None
            found = found.get(key)
        return found

    def text(self, *keys: str) -> str:
        found = self.value(*keys)
        return found.strip() if isinstance(found, str) else ""

    def number(self, *keys: str) -> float | None:
        found = self.value(*keys)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    def whole(self, *keys: str) -> int:
        found = self.value(*keys)
        return found if isinstance(found, int) and not isinstance(found, bool) else 0

    def table(self, *keys: str) -> Mapping[str, Any]:
        found = self.value(*keys)
        return found if isinstance(found, dict) else {}

    def items(self, *keys: str) -> list[Any]:
        found = self.value(*keys)
        return found if isinstance(found, list) else []


def _origin(at: _Reader) -> Iterator[str]:
    output, source = os.path.basename(at.text("output", "path")), at.text("source", "path")
    shape = [at.text("source", "format"), at.text("source", "subtype")]
    if rate := at.whole("source", "sample_rate_hz"):
        shape.append(f"{rate:,} Hz")
    if channels := at.whole("source", "channels"):
        shape.append(_CHANNELS.get(channels, f"{channels} channels"))
    if seconds := at.number("source", "duration_s"):
        shape.append(clock(seconds))
    by = " ".join(filter(None, (at.text("program", "name"), at.text("program", "version"))))
    when = at.text("finished")
    yield (
        f"{output or 'This file'} was made from {source or 'a recording that is not named'} "
        f"({', '.join(filter(None, shape))})"
        + (f" by {by}" if by else "")
        + (f", finished {when}" if when else "")
        + "."
    )
    if sha256 := at.text("source", "sha256"):
        decoder = at.text("source", "decoder")
        yield f"The recording's SHA-256 was {sha256}" + (f"; it was decoded by {decoder}." if decoder else ".")
    for remark in at.items("source", "remarks")[:_MOST_LISTED]:
        if isinstance(remark, dict):
            yield f"Odd about the recording: {remark.get('message')} [{remark.get('code')}]."
    band = at.number("source", "band", "cutoff_hz")
    if band is not None:
        yield f"The recording holds sound up to {band:,.0f} Hz."


def _steps(at: _Reader) -> Iterator[str]:
    for stage in at.items("stages"):
        if isinstance(stage, dict):
            yield stages.sentence(stage)
    rate = at.whole("source", "sample_rate_hz")
    if rate and rate != SAMPLE_RATE_HZ:
        yield f"It was resampled from {rate:,} Hz to {SAMPLE_RATE_HZ:,} Hz."
    variant = os.path.basename(at.text("model", "variant"))
    if at.value("treatment", "only_resampled") is True:
        yield "It is full-band already, so no model touched it."
    elif (about := registry.about(at.text("model", "variant"))) is not None and not about.synthesises:
        yield "No model was asked for, so it was only resampled."
    elif variant:
        where = ", ".join(filter(None, (at.text("model", "dtype"), at.text("model", "device"))))
        total, again = at.whole("windows", "total"), at.whole("windows", "computed_again_in_float32")
        yield (
            f"The model {variant} ({where}; revision {at.text('model', 'revision') or 'unknown'}) made "
            f"{counted(total, 'window')} of sound anew, with timestep {at.value('settings', 'timestep')} and seed "
            f"{at.value('settings', 'seed')}" + (f"; {again:,} of them in float32" if again else "") + "."
        )
    below_hz = at.number("synthetic", "recording_below_hz")
    if below_hz is not None:
        yield f"Below {below_hz:,.0f} Hz the recording itself was put in place of what the model had made."


def _result(at: _Reader) -> Iterator[str]:
    form, subtype = at.text("output", "format"), at.text("output", "subtype")
    if form:
        dithered = ", dithered" if subtype.startswith("PCM") else ""
        yield f"The result was written as {form} ({subtype}{dithered}) at {at.whole('output', 'sample_rate_hz'):,} Hz."
    before, after = at.number("source", "loudness_lufs"), at.number("output", "loudness_lufs")
    if before is not None and after is not None:
        yield f"Loudness was {before:.1f} LUFS before and {after:.1f} LUFS after."
    clipped = at.whole("output", "clipped_samples")
    if clipped:
        yield f"{counted(clipped, 'sample')} over full scale had to be clamped."
    if at.text("credentials", "format"):
        yield f"It holds a signed statement of this ({at.text('credentials', 'format')}); `batchsr verify` checks it."
    for copy in at.items("copies")[:_MOST_LISTED]:
        if isinstance(copy, dict) and isinstance(stem := copy.get("stem"), str):
            yield f"The stem {stem} was written in the same pass: {os.path.basename(str(copy.get('path')))}."
        elif isinstance(copy, dict):
            yield f"A copy for access was written in the same pass: {os.path.basename(str(copy.get('path')))}."


def _left_behind(at: _Reader) -> Iterator[str]:
    lost = [str(one) for one in at.items("metadata", "not_carried_over")]
    if lost:
        more = f"; and {len(lost) - _MOST_LISTED:,} more" if len(lost) > _MOST_LISTED else ""
        said = "; ".join(lost[:_MOST_LISTED])
        yield f"Of what the recording said about itself, the result cannot hold: {said}{more}."


def _circumstances(at: _Reader) -> Iterator[str]:
    for warning in at.items("model", "warnings")[:_MOST_LISTED]:
        yield f"About the model's bundle: {warning}"
    came = [f"{key} {at.text('job', key)}" for key in ("batch", "profile", "manifest") if at.text("job", key)]
    if came:
        yield f"It came with {', '.join(came)}."
    if notes := at.text("job", "notes"):
        yield f"Notes of the collection: {notes}"
