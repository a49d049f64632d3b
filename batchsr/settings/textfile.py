"""Text files and paths as people and programs write them: byte order marks, line ends, NUL, UTF-16, `~`."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from typing import Final

from batchsr.display import shown
from batchsr.errors import ConfigError

_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LOOKED_AT: Final = 4096
NO_HOME: Final = "/nonexistent"
"""What stands in for the home folder of a user who has none, as Debian's users without a home have it."""


def settle_home() -> None:
    """Give a user whom neither HOME nor the system's list of users knows a home that is not there.

    Libraries that ask for the home folder then find no cache and no profiles; they would raise an error, or make a
    folder called `~`, otherwise.
    """
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = NO_HOME


def text_bytes(data: bytes, name: str) -> bytes:
    """Return the bytes of a text file in UTF-8 without a mark; stray bytes stay. `name` is for messages.

    UTF-16 is read where it says that it is. Raises ConfigError for UTF-16 without its mark, and for UTF-32.
    """
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :]
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise ConfigError(f"{shown(name)} is in UTF-32", remedy="save it as UTF-8")
    if data.startswith(_UTF16):
        try:
            return data.decode("utf-16").encode("utf-8")
        except UnicodeError as e:
            raise ConfigError(f"{shown(name)} begins as UTF-16 and is not", remedy="save it as UTF-8") from e
    head = data[: _LOOKED_AT - _LOOKED_AT % 2]
    for zeros in (head[0::2], head[1::2]):  # letters of most languages have a zero in one of their two bytes
        if len(zeros) >= 2 and zeros.count(0) > 0.6 * len(zeros):
            raise ConfigError(f"{shown(name)} looks like UTF-16 without a byte order mark", remedy="save it as UTF-8")
    return data


def paths(data: bytes, name: str, *, null: bool = False, notes: bool = False) -> Iterator[str]:
    """Yield the paths of a list, one a line, with their bytes whatever the locale. Empty lines are skipped.

    With `null`, and where the list holds NUL, paths end with that and may hold newlines. With `notes`, lines that begin
    with # are skipped. Raises ConfigError as `text_bytes` does.
    """
    data = data.removeprefix(codecs.BOM_UTF8) if null else text_bytes(data, name)
    if null or b"\0" in data:
        lines = data.split(b"\0")
    else:
        lines = data.replace(b"\r\n", b"\n").split(b"\n" if b"\n" in data else b"\r")
    for line in lines:
        if line.strip() and not (notes and line.startswith(b"#")):
            yield os.fsdecode(line)


def expanded(path: str) -> str:
    """Return a path with the home folder in place of a leading `~`, unless a file has that very name.

    Raises ConfigError where nobody knows the home folder.
    """
    if not path.startswith("~") or os.path.lexists(path):
        return path
    told = os.path.expanduser(path)
    if (told == path or told.startswith(NO_HOME)) and path.split(os.sep)[0] == "~":
        raise ConfigError(
            f"{shown(path)}: there is no home folder for ~ (no HOME, no entry for user {os.getuid()})",
            remedy="set HOME, or give the path from /",
        )
    return told
