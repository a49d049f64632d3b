"""The published form of sidecars, and what of one that anybody may have written has it.

Whoever reads a record may then count on the kind of each value that is there, and on nothing being there.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_LARGEST: Final = 2**63 - 1
_MOST_NUMBER: Final = 1e300
_NOTHING: Final = object()


@functools.cache
def of_version(version: int, newest: int) -> Mapping[str, Any]:
    """Return the JSON Schema of a version. Raises LookupError where there is none."""
    if not 1 <= version <= newest:
        raise LookupError(f"there is no version {version} of the sidecar")
    name = "sidecar.schema.json" if version == newest else f"sidecar-{version}.schema.json"
    found: dict[str, Any] = json.loads(
        importlib.resources.files("batchsr.restoration").joinpath(name).read_text("utf-8")
    )
    return found


def fitted(document: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a document without what is not of the kind that a schema says, and the names of what was left out.

    What the schema does not know stays. Of a list, what lacks a part that it must have is left out as well; of a table,
    a part may be missing.
    """
    dropped: list[str] = []
    found = _table(document, schema, "", dropped)
    return found, tuple(dropped)


def _table(value: Mapping[str, Any], schema: Mapping[str, Any], at: str, dropped: list[str]) -> dict[str, Any]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    others = others if isinstance(others, dict) else {}
    kept = {}
    for key, one in value.items():
        fit = _fit(one, known.get(key, others), f"{at}.{key}" if at else key, dropped)
        if fit is not _NOTHING:
            kept[key] = fit
    return kept


def _fit(value: Any, schema: Mapping[str, Any], at: str, dropped: list[str]) -> Any:
    if not any(_is(value, kind, schema) for kind in _kinds(schema)):
        dropped.append(at)
        return _NOTHING
    if isinstance(value, dict):
        return _table(value, schema, at, dropped)
    if isinstance(value, list) and "items" in schema:
        return list(_items(value, schema["items"], at, dropped))
    return value


def _items(value: list[Any], schema: Mapping[str, Any], at: str, dropped: list[str]) -> Iterator[Any]:
    for number, one in enumerate(value):
        fit = _fit(one, schema, f"{at}.{number}", dropped)
        if fit is not _NOTHING and isinstance(fit, dict) and not set(schema.get("required", ())) <= set(fit):
            dropped.append(f"{at}.{number}")
        elif fit is not _NOTHING:
            yield fit


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    """Return the kinds that a value may be of; `any` where the schema asks for none, or for one value (which is a
    text)."""
    kinds = schema.get("type", "string" if "const" in schema else "any")
    return kinds if isinstance(kinds, list) else [kinds]


def _is(value: Any, kind: str, schema: Mapping[str, Any]) -> bool:
    if isinstance(value, bool):
        return kind in ("boolean", "any")
    if isinstance(value, int | float):
        if kind == "integer" and not (isinstance(value, int) and abs(value) <= _LARGEST):
            return False
        finite = math.isfinite(value) if isinstance(value, float) else True
        fits = finite and abs(value) <= _MOST_NUMBER and value >= schema.get("minimum", value)
        return kind == "any" or (kind in ("integer", "number") and fits)
    if isinstance(value, str):
        pattern = schema.get("pattern")
        return kind == "any" or (kind == "string" and (pattern is None or re.search(pattern, value) is not None))
    is_kind = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else "null"
    return kind in ("any", is_kind)
