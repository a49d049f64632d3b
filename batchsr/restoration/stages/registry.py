"""The stages there are, in the order in which a recording goes through them, and what is asked of all of them.

    reader -> [recording] -> resampler -> [resampled] -> band that is kept; and -> [model] -> windows
              at its own rate              at 48 kHz                               for the model alone

A stage's identity goes into the scratch's key, so windows that were made from another stage's output are not believed,
and its entry into the sidecar. To add one: a module beside this one, and its line in `KINDS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from batchsr.audio.treatment import Treatment
from batchsr.audio.windows import Block
from batchsr.restoration.spool import Spool
from batchsr.restoration.stages import declick, dehum, denoise, lowpass, mono, stems
from batchsr.restoration.stages.entries import plain_sentence
from batchsr.restoration.stages.interface import Kind, Listening, Position, Stage
from batchsr.settings.profile import Settings

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {"mono": mono, "declick": declick, "dehum": dehum, "denoise": denoise, "stems": stems, "lowpass": lowpass}
)
"""Name -> module, in the order of the way."""


def decide(recording: Listening) -> Treatment:
    """Ask each stage in turn what it must know of the whole recording, behind what is decided for those before it."""
    treatment = Treatment()
    for name, kind in KINDS.items():
        if (decided := kind.decide(recording, treatment)) is not None:
            treatment = dataclasses.replace(treatment, decided={**treatment.decided, name: decided})
    return treatment


def chain(settings: Settings, treatment: Treatment, rate_hz: float, filled: Spool | None = None) -> list[Stage]:
    """Return the stages of one restoration, in order. `treatment` was decided from the settings and the recording.

    `rate_hz` is the recording's; `filled` keeps its denoised sound. What the treatment does not name, as while it is
    still being decided, is left out.
    """
    made = (kind.made(settings, treatment, rate_hz, filled) for kind in KINDS.values())
    return [stage for stage in made if stage is not None]


def run(stages: Sequence[Stage], position: Position, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
    """Return the stream behind all stages of one position."""
    for stage in stages:
        if stage.position == position:
            blocks = stage.run(blocks, total_samples)
    return blocks


def entries(stages: Sequence[Stage], *, measured: bool = False) -> list[dict[str, Any]]:
    """Return what the scratch's key says of them, or, with what was `measured` as they ran, the sidecar."""
    said = []
    for stage in stages:
        found = {**stage.found, **(stage.measured if measured else {})}
        said.append(
            {
                "name": stage.name,
                "version": stage.version,
                "place": stage.position,
                "context_samples": stage.context_samples,
                "settings": dict(stage.settings),
                **({"found": found} if found else {}),
            }
        )
    return said


def done(stages: Sequence[Stage]) -> str:
    """Return what was done to the recording before the model, in words: "de-clicked and denoised"; "" for nothing."""
    return " and ".join(filter(None, (stage.done for stage in stages)))


def fact(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return a label and words for `show` and pages, from a sidecar's entry; None for a stage without or unknown."""
    kind = _kind(entry)
    return None if kind is None else kind.fact(entry)


def sentence(entry: Mapping[str, Any]) -> str:
    """Return a sentence for `explain`, from a sidecar's entry."""
    kind = _kind(entry)
    return plain_sentence(entry) if kind is None else kind.sentence(entry)


def _kind(entry: Mapping[str, Any]) -> Kind | None:
    name = entry.get("name")
    return KINDS.get(name.strip()) if isinstance(name, str) else None
