"""The two JSON texts of a bundle, read with care: bounded in size, from regular files, repeated names noticed.

msgspec and the safetensors library would read them faster, but neither tells of a name that stands twice, and a tensor
or a size that is named twice is a bundle that says two things.
"""

from __future__ import annotations

import collections
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from batchsr.errors import BundleError

_SHOWN = 80
"""Characters of a name or a value that a message repeats."""
_MOST_DIGITS = 4000
"""Of a whole number: Python itself refuses more than 4,300."""
A_BUNDLE = "a bundle is a folder with config.json and model.safetensors"


class Repeated(dict[str, Any]):
    """A JSON object in which names stand more than once; the last value counts, as for other readers."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = collections.Counter(name for name, _ in pairs)
        self.names: tuple[str, ...] = tuple(name for name, count in counts.items() if count > 1)


def parsed(text: bytes) -> Any:
    """Return what a JSON text says. Raises ValueError, in a few words, on one that cannot be read."""
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_object, parse_int=_integer)
    except RecursionError as e:
        raise ValueError("it is nested too deeply") from e


def _integer(digits: str) -> int | float:
    """Return a whole number; infinity where it is longer than Python reads one."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else Repeated(pairs)


def repeated(value: object) -> tuple[str, ...]:
    """Names that stand more than once in an object, or ()."""
    return value.names if isinstance(value, Repeated) else ()


@contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """Open a bundle's file for reading, without waiting for anything. Raises BundleError naming it.

    A FIFO would wait for a writer, and a device may have no end, so both are refused as a folder is.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as e:
        raise BundleError(f"{path} is missing", remedy=A_BUNDLE) from e
    except OSError as e:
        raise BundleError(f"{path} cannot be read: {e.strerror}", remedy=A_BUNDLE) from e
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            kind = next((name for test, name in _KINDS if test(mode)), "no regular file")
            raise BundleError(f"{path} is {kind}", remedy=A_BUNDLE)
        with os.fdopen(fd, "rb", closefd=False) as file:
            yield file
    except OSError as e:
        raise BundleError(f"{path} cannot be read: {e.strerror or e}", remedy=A_BUNDLE) from e
    finally:
        os.close(fd)


_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


def shown(value: object) -> str:
    """Return a name or value of a file as a message may repeat it: on one line, and not too much of it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple) and (len(value) > 8 or any(isinstance(e, list | dict | str) for e in value)):
        return f"a list of {len(value)}"
    text = repr(list(value) if isinstance(value, tuple) else value[: 2 * _SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def name_shown(name: str) -> str:
    """Return a key's or tensor's name as it is where that is harmless, else as `shown` has it."""
    return name if len(name) <= _SHOWN and name.isprintable() else shown(name)


def some(names: list[str] | tuple[str, ...]) -> str:
    """Return the first three of many names."""
    return ", ".join(name_shown(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
