"""Readers of the values of config.json: (key, value) -> typed value, or a BundleError naming the key."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from batchsr.errors import BundleError

FLOAT_FORMATS = {
    "float32": "float32",
    "fp32": "float32",
    "f32": "float32",
    "float16": "float16",
    "fp16": "float16",
    "f16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
}
"""Spellings of `format` for a bundle that is not quantised."""
QUANTISED_FORMATS = {"int4": 4, "int8": 8}
"""Spellings of `format` for a quantised bundle, and the bits that go with them."""
QUANTISATION_MODE = "mlx_affine_flat"

Reader = Callable[[str, object], Any]


def _wrong(key: str, value: object, expected: str) -> BundleError:
    return BundleError(f"config.json: {key} = {value!r} is not {expected}")


def _integer(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(key, value, "a whole number")
    return value


def _number(key: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _wrong(key, value, "a number")
    return float(value)


def _boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def _string(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(key, value, "a string")
    return value


def _integers(key: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(key, value, "a list of whole numbers")
    return tuple(_integer(f"{key}[{i}]", entry) for i, entry in enumerate(value))


def _integer_lists(key: str, value: object) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(key, value, "a list of lists of whole numbers")
    return tuple(_integers(f"{key}[{i}]", entry) for i, entry in enumerate(value))


_OF_TYPE: dict[str, Reader] = {
    "int": _integer,
    "float": _number,
    "bool": _boolean,
    "str": _string,
    "tuple[int, ...]": _integers,
    "tuple[tuple[int, ...], ...]": _integer_lists,
}


def section(
    cls: type[Any], constants: Mapping[str, object] | None = None, readers: Mapping[str, Reader] | None = None
) -> Reader:
    """Reader of an object with the fields of a dataclass, each read by its type unless `readers` has another way.

    `constants` are keys that the authors' code has but that can have one value here; they are checked and dropped.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    ways = {name: _OF_TYPE[str(field.type)] for name, field in fields.items()} | dict(readers or {})

    def read(section: str, value: object) -> Any:
        if not isinstance(value, Mapping):
            raise _wrong(section, value, "an object")
        kept: dict[str, Any] = {}
        for name, entry in value.items():
            key = f"{section}.{name}"
            if name in ways:
                kept[name] = ways[name](key, entry)
            elif constants is None or name not in constants:
                raise BundleError(f"config.json: unknown key {key!r}")
            elif entry != constants[name] or type(entry) is not type(constants[name]):
                raise BundleError(f"config.json: {key} = {entry!r} is not built; it can only be {constants[name]!r}")
        for name, field in fields.items():
            if field.default is dataclasses.MISSING and name not in kept:
                raise BundleError(f"config.json: {section}.{name} is missing")
        return cls(**kept)

    return read


def optional(reader: Reader) -> Reader:
    """Reader of what may be null as well."""
    return lambda key, value: None if value is None else reader(key, value)


def format_(key: str, value: object) -> str:
    """A spelling of a bundle's format -> float32, float16, bfloat16, int4 or int8."""
    text = _string(key, value)
    if text in QUANTISED_FORMATS:
        return text
    if text not in FLOAT_FORMATS:
        known = ", ".join([*QUANTISED_FORMATS, *dict.fromkeys(FLOAT_FORMATS.values())])
        raise BundleError(f"config.json: unknown {key} {text!r}", remedy=f"known formats: {known}")
    return FLOAT_FORMATS[text]


def bits(key: str, value: object) -> int:
    """Bits of a quantised weight."""
    bits = _integer(key, value)
    if bits not in QUANTISED_FORMATS.values():
        raise _wrong(key, value, "4 or 8")
    return bits


def group_size(key: str, value: object) -> int:
    """Weights that share a scale."""
    size = _integer(key, value)
    if size not in (32, 64, 128):
        raise _wrong(key, value, "32, 64 or 128")
    return size


def mode(key: str, value: object) -> str:
    """How quantised weights are laid out."""
    if value != QUANTISATION_MODE:
        raise BundleError(
            f"config.json: unknown {key} {value!r}", remedy=f"the only one known is {QUANTISATION_MODE!r}"
        )
    return QUANTISATION_MODE


def shapes(key: str, value: object) -> dict[str, tuple[int, ...]]:
    """Key of each quantised tensor to its shape."""
    if not isinstance(value, Mapping):
        raise _wrong(key, value, "an object of tensor names and shapes")
    return {str(name): _integers(f"{key}[{name!r}]", shape) for name, shape in value.items()}
