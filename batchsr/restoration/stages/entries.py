"""Reading the entries of stages in a sidecar that anybody may have written. Loads nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def part(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a table within a table; an empty one where there is none."""
    value = entry.get(name)
    return value if isinstance(value, Mapping) else {}


def number(entry: Mapping[str, Any], name: str) -> float | None:
    """Return a finite number of a table; None where there is none."""
    value = entry.get(name)
    try:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of more digits than a float has
        return None
    return value if is_number else None


def plain_sentence(entry: Mapping[str, Any]) -> str:
    """Return a sentence for a stage that has none of its own, or that this version does not know."""
    found = {**part(entry, "settings"), **part(entry, "found")}
    values = ", ".join(f"{key} {value}" for key, value in found.items() if not isinstance(value, dict | list))
    name, version = entry.get("name"), entry.get("version")
    name = name.strip() if isinstance(name, str) else ""
    version = version if isinstance(version, int) and not isinstance(version, bool) else 0
    return f"It went through the stage {name} (version {version})" + (f" with {values}." if values else ".")
