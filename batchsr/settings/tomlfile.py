"""Strict reading of TOML: whatever is wrong is told with the file, the key and what to write instead."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from batchsr.errors import ConfigError
from batchsr.settings import textfile

_KINDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "text": lambda value: isinstance(value, str),
    "a whole number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "true or false": lambda value: isinstance(value, bool),
    "a list of texts": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "a table": lambda value: isinstance(value, dict),
}


def read(path: Path) -> dict[str, Any]:
    """The file's top table. Raises ConfigError when it cannot be read or is not TOML."""
    try:
        return tomllib.loads(textfile.text_bytes(path.read_bytes(), str(path)).decode("utf-8"))
    except OSError as e:
        raise ConfigError(f"{path} cannot be read: {e.strerror}", remedy="check the name and its permissions") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path} is not UTF-8 (byte {e.start})", remedy="save it as UTF-8") from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path} is not TOML: {e}", remedy="texts stand in quotes, a key only once") from e


def check(path: Path, table: Mapping[str, Any], kinds: Mapping[str, str], *, prefix: str = "") -> None:
    """Raise ConfigError on a key that `kinds` lacks or a value that is not of its kind (a key of _KINDS)."""
    for key, value in table.items():
        check_known(path, key, kinds, prefix=prefix)
        kind = kinds[key]
        if not _KINDS[kind](value):
            raise ConfigError(f"{path}: {prefix}{key} = {value!r} is not {kind}", remedy=f"{prefix}{key} takes {kind}")


def check_known(path: Path, key: str, known: Iterable[str], *, prefix: str = "") -> None:
    """Raise ConfigError on a key that is not among `known`, with the likely meaning."""
    names = sorted(known)
    if key in names:
        return
    close = difflib.get_close_matches(key, names, n=1)
    remedy = f"did you mean {close[0]}?" if close else "known keys: " + ", ".join(names)
    raise ConfigError(f"{path}: unknown key {prefix}{key}", remedy=remedy)
