"""Sidecars of earlier versions, brought to the form of today, so that whoever reads one has one form to know.

`sidecar_reading` has checked what decides about an output; here nothing is believed beyond its type. What an earlier
version did not say stays unsaid (None), and is never guessed.

    1   the first: what is made up stands in `note` and `treatment` alone
    2   `synthetic` says what is made up, for programs and for people; `output.loudness` has EBU R 128's measures
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from batchsr.audio.broadcast import LOUDNESS
from batchsr.audio.treatment import EDITED_BY_A_MODEL
from batchsr.restoration import sidecar_form
from batchsr.restoration.sidecar_reading import PREFIX, READ, SCHEMA

_MOST_SENTENCE: Final = 250


def schema(version: int | None = None) -> dict[str, Any]:
    """Return the published JSON Schema of a version, today's if none is named. Raises LookupError for another."""
    newest = int(SCHEMA.removeprefix(PREFIX))
    return copy.deepcopy(dict(sidecar_form.of_version(newest if version is None else version, newest)))


def newest(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sidecar of any version, as `sidecar_reading.Record.document` has it, in the form of today's.

    `synthetic` with its sentence is always there; anything else may be missing, but what is there is of its kind.
    """
    version = document.get("schema")
    number = int(version.removeprefix(PREFIX)) if version in READ else len(READ)
    found, _ = sidecar_form.fitted(
        document, sidecar_form.of_version(number, len(READ))
    )  # a queue may keep a twisted one
    if not _table(found, "synthetic").get("sentence"):  # version 1, or twisted
        found["synthetic"] = _synthetic_of_1(found)
    if found.get("schema") == PREFIX + "1":
        output = dict(_table(found, "output"))
        integrated = {"integrated_lufs": _number(output.get("loudness_lufs"))}
        found["output"] = output | {"loudness": dict.fromkeys(LOUDNESS) | integrated}
        found["schema"] = SCHEMA
    return found


def _synthetic_of_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """Version 1 has the frequency in `treatment` where the band was kept, else its note names that of the band."""
    treatment, band = _table(document, "treatment"), _table(_table(document, "source"), "band")
    note = document.get("note")
    sentence = note[:_MOST_SENTENCE] if isinstance(note, str) else "What of it is synthetic is not on record."
    made = treatment.get("only_resampled") is not True and _table(document, "model").get("variant") != "resample"
    candidates = (treatment.get("synthesised_above_hz"), band.get("cutoff_hz"), band.get("nyquist_hz"))
    above_hz = next(filter(None, map(_number, candidates)), None)
    return {
        "above_hz": above_hz if made else None,
        "recording_below_hz": _number(treatment.get("kept_below_hz")) if made else None,
        "sentence": sentence,
        "digital_source_type": EDITED_BY_A_MODEL if made else None,
    }


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
