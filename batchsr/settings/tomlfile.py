"""Strict reading of TOML: whatever is wrong is told with the file, the key and what to write instead."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from batchsr.errors import ConfigError
from batchsr.settings import textfile

T = TypeVar("T", bound=msgspec.Struct)
_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<where>[^`]*)`)?$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_KINDS: Final[Mapping[str, str]] = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list of texts",
    "object": "a table",
}
"""msgspec's names of types, as people say them."""


def read(path: Path) -> dict[str, Any]:
    """Return the file's top table. Raises ConfigError when it cannot be read or is not TOML."""
    try:
        return tomllib.loads(textfile.text_bytes(path.read_bytes(), str(path)).decode("utf-8"))
    except OSError as e:
        raise ConfigError(f"{path} cannot be read: {e.strerror}", remedy="check the name and its permissions") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path} is not UTF-8 (byte {e.start})", remedy="save it as UTF-8") from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path} is not TOML: {e}", remedy="texts stand in quotes, a key only once") from e


def decoded(path: Path, kind: type[T]) -> T:
    """Read a file as a struct, which forbids what it does not know. Raises ConfigError as `read` does."""
    document = read(path)
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as e:
        raise _told(path, document, kind, str(e)) from e


def _told(path: Path, document: Mapping[str, Any], kind: type[msgspec.Struct], message: str) -> ConfigError:
    """msgspec's "Expected `int`, got `str` - at `$.output.suffix`", with file, key, value and remedy."""
    match = _AT.match(message)
    what, where = (match["what"], match["where"] or "") if match else (message, "")
    in_list = where.endswith("]")
    keys = [key for key in re.sub(r"\[.*", "", where).split(".") if key]
    if unknown := _UNKNOWN.match(what):
        known = _fields(kind, keys)
        try:
            check_known(path, unknown[1], known, prefix="".join(f"{key}." for key in keys))
        except ConfigError as e:
            return e
    value: Any = document
    for key in keys:
        value = value[key]
    expected = re.match(r"Expected `([^`]+)`", what)
    kinds = [one for one in expected[1].split(" | ") if one != "null"] if expected else []
    wanted = _KINDS.get(kinds[0], what) if len(kinds) == 1 else ""
    wanted = wanted or " or ".join("a list" if one == "array" else _KINDS.get(one, one) for one in kinds) or what
    if in_list:
        wanted = "a list of whole numbers" if kinds == ["int"] else "a list of texts"
    name = ".".join(keys)
    return ConfigError(f"{path}: {name} = {value!r:.200} is not {wanted}", remedy=f"{name} takes {wanted}")


def _fields(kind: type[msgspec.Struct], keys: Sequence[str]) -> list[str]:
    """Return the names of a struct's fields; with `keys`, those of the struct in it that they lead to."""
    for key in keys:
        kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == key)
    return [field.name for field in msgspec.structs.fields(kind)]


def check_known(path: Path, key: str, known: Iterable[str], *, prefix: str = "") -> None:
    """Raise ConfigError on a key that is not among `known`, with the likely meaning."""
    names = sorted(known)
    if key in names:
        return
    close = difflib.get_close_matches(key, names, n=1)
    remedy = f"did you mean {close[0]}?" if close else "known keys: " + ", ".join(names)
    raise ConfigError(f"{path}: unknown key {prefix}{key}", remedy=remedy)
