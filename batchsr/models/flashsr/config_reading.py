"""Readers of the values of config.json: (key, value) -> typed value, or a BundleError naming the key.

Kept by hand: a library of typed decoding either refuses a key that it does not know or forgets it, and here it must be
told (`Notes`).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from batchsr.errors import BundleError
from batchsr.models.flashsr import config_claims
from batchsr.models.flashsr.config_sizes import QUANTISATION_MODE
from batchsr.models.flashsr.json_files import name_shown, repeated, shown

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
_BITS_SAID = re.compile(r"(?i)(?:int|nf|fp|float|bf|[qwf])[-_ ]?([0-9]{1,3})|([0-9]{1,3})[-_ ]?bit")
"""What in a spelling of `format` speaks of a precision."""


@dataclasses.dataclass
class Notes:
    """What a config says that this program has no use for, collected while it is read."""

    unknown: list[str] = dataclasses.field(default_factory=list)
    """Path of each unknown key, as messages show it."""
    claims: list[tuple[tuple[str, ...], object]] = dataclasses.field(default_factory=list)
    """Their paths as they stand, and their values."""
    oddities: list[str] = dataclasses.field(default_factory=list)
    """Sentences about other things that were taken calmly."""

    def note(self, *path: str, value: object) -> None:
        """Keep a key that this program does not read."""
        self.unknown.append(".".join(name_shown(part) for part in path))
        self.claims.append((path, value))


Reader = Callable[[str, object, Notes], Any]


def _wrong(key: str, value: object, expected: str) -> BundleError:
    return BundleError(f"config.json: {key} = {shown(value)} is not {expected}", remedy=f"correct {key}")


def _integer(key: str, value: object, _: Notes) -> int:
    if isinstance(value, float) and value.is_integer():  # as programs write it whose numbers are all of one type
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(key, value, "a whole number")
    return value


def _number(key: str, value: object, _: Notes) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        pass
    raise _wrong(key, value, "a number")


def _boolean(key: str, value: object, _: Notes) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def _integers(key: str, value: object, notes: Notes) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(key, value, "a list of whole numbers")
    return tuple(_integer(f"{key}[{i}]", entry, notes) for i, entry in enumerate(value))


def _integer_lists(key: str, value: object, notes: Notes) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(key, value, "a list of lists of whole numbers")
    return tuple(_integers(f"{key}[{i}]", entry, notes) for i, entry in enumerate(value))


_OF_TYPE: dict[str, Reader] = {
    "int": _integer,
    "float": _number,
    "bool": _boolean,
    "tuple[int, ...]": _integers,
    "tuple[tuple[int, ...], ...]": _integer_lists,
}


def section(
    cls: type[Any], constants: Mapping[str, object] | None = None, readers: Mapping[str, Reader] | None = None
) -> Reader:
    """Return the reader of an object with the fields of a dataclass, each read by its type or as `readers` has it.

    `constants` are keys that the authors' code has but that can have one value here; they are checked and dropped.
    Any other key is noted as unknown.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    given = dict(readers or {})
    ways = {name: given.get(name) or _OF_TYPE[str(field.type)] for name, field in fields.items()}

    def read(section: str, value: object, notes: Notes) -> Any:
        if not isinstance(value, Mapping):
            raise _wrong(section, value, "an object")
        for name in repeated(value):
            if name in ways:
                raise BundleError(f"config.json names {section}.{name} twice", remedy="leave one of them")
        kept: dict[str, Any] = {}
        for name, entry in value.items():
            key = f"{section}.{name}"
            if name in ways:
                kept[name] = ways[name](key, entry, notes)
            elif constants is None or name not in constants:
                notes.note(section, name, value=entry)
            elif not config_claims.same(entry, constants[name]):
                raise BundleError(
                    f"config.json: {key} = {shown(entry)} is not built; it can only be {constants[name]!r}",
                    remedy="this program cannot run that model",
                )
        for name, field in fields.items():
            if field.default is dataclasses.MISSING and name not in kept:
                raise BundleError(f"config.json: {section}.{name} is missing", remedy=f"add {section}.{name}")
        return cls(**kept)

    return read


def optional(reader: Reader) -> Reader:
    """Return the reader of what may be null, or an empty object, as well."""
    return lambda key, value, notes: None if value is None or value == {} else reader(key, value, notes)


def top_hz(key: str, value: object, notes: Notes) -> float:
    """Read the upper end of a mel spectrogram; null is half the sample rate, as in BigVGAN's configs."""
    return 24_000.0 if value is None else _number(key, value, notes)


def words(key: str, value: object, notes: Notes) -> str:
    """Read what is for people alone: anything that is not a text is left out."""
    return value if isinstance(value, str) else ""


def format_(text: object, bits: int | None, notes: Notes) -> str:
    """Return the format that a spelling means: float32, float16, bfloat16, int4 or int8.

    `bits` are those of the section `quantization`, None without one. A word that says nothing of a precision, such as
    `mlx`, leaves it to that section, or to the types of the tensors themselves, and is noted.
    """
    known = ", ".join([*QUANTISED_FORMATS, *dict.fromkeys(FLOAT_FORMATS.values())])
    if text is None:
        text = "null"
    if not isinstance(text, str):
        raise _wrong("format", text, f"one of {known}")
    if text in QUANTISED_FORMATS:
        return text
    if text in FLOAT_FORMATS:
        return FLOAT_FORMATS[text]
    said = [int(a or b) for a, b in _BITS_SAID.findall(text)]
    if any(number != bits for number in said):
        raise BundleError(f"config.json: unknown format {shown(text)}", remedy=f"known formats: {known}")
    meant = f"int{bits}" if bits else "float32"
    taken = f"as {meant}, by the section quantization" if bits else "as the types of its tensors say"
    notes.oddities.append(f"format {shown(text)} is not one of ours ({known}) and was taken {taken}")
    return meant


def bits(key: str, value: object, notes: Notes) -> int:
    """Read the bits of a quantised weight."""
    number = _integer(key, value, notes)
    if number not in QUANTISED_FORMATS.values():
        raise _wrong(key, value, "4 or 8")
    return number


def group_size(key: str, value: object, notes: Notes) -> int:
    """Read how many weights share a scale."""
    size = _integer(key, value, notes)
    if size not in (32, 64, 128):
        raise _wrong(key, value, "32, 64 or 128")
    return size


def mode(key: str, value: object, _: Notes) -> str:
    """Read how quantised weights are laid out."""
    if value != QUANTISATION_MODE:
        raise BundleError(
            f"config.json: unknown {key} {shown(value)}", remedy=f"the only one known is {QUANTISATION_MODE!r}"
        )
    return QUANTISATION_MODE


def shapes(key: str, value: object, notes: Notes) -> dict[str, tuple[int, ...]]:
    """Read the shape of each quantised tensor, by its name."""
    if not isinstance(value, Mapping):
        raise _wrong(key, value, "an object of tensor names and shapes")
    for name in repeated(value):
        raise BundleError(f"config.json: {key} names {name_shown(name)} twice", remedy="leave one of them")
    return {name: _integers(f"{key}[{name_shown(name)}]", shape, notes) for name, shape in value.items()}
