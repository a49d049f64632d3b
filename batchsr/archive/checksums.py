"""Checksums of files, and the lists of them: BagIt's manifests (RFC 8493) and the form that coreutils read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from batchsr.display import printable, shown
from batchsr.errors import ConfigError

ALGORITHMS: Final = ("sha256", "sha512", "sha1", "md5")
_READ_BYTES: Final = 1 << 20
_TICK_BYTES: Final = 64 << 20
_ENCODED: Final = re.compile(r"%(?:0[AaDd]|25)")
_MOST_LINE_ENDS: Final = 2
_ESCAPED: Final = re.compile(r"\\(.)")
_ESCAPES: Final = MappingProxyType({"n": "\n", "r": "\r", "\\": "\\"})
_SPLITS: Final = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


def chosen(text: str) -> tuple[str, ...]:
    """Return the algorithms of a list like `sha256,md5`, SHA-256 always among them. Raises ConfigError."""
    names = tuple(dict.fromkeys(name.strip().lower().replace("-", "") for name in text.split(",") if name.strip()))
    if unknown := [name for name in names if name not in ALGORITHMS]:
        raise ConfigError(f"there is no checksum {unknown[0]!r}", remedy="choose some of " + ", ".join(ALGORITHMS))
    return names if "sha256" in names else ("sha256", *names)


def of_file(path: Path, algorithms: Iterable[str], *, tick: Callable[[], None] = lambda: None) -> dict[str, str]:
    """Return a file's checksums, hexadecimal, from one reading of it. Raises OSError; a link is not followed."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb", buffering=0) as file:
        done = 0
        while block := file.read(_READ_BYTES):
            for digest in digests.values():
                digest.update(block)
            done += len(block)
            if done % _TICK_BYTES < len(block):
                tick()
    return {name: digest.hexdigest() for name, digest in digests.items()}


def sums(checksums: Mapping[str, str]) -> bytes:
    """Return path -> checksum as the list that `sha256sum --check` and its like read, sorted by path.

    A name with a backslash or an end of line is escaped, and its line begins with a backslash, as coreutils do it.
    """
    lines = []
    for path in sorted(checksums, key=os.fsencode):
        name = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        lines.append(os.fsencode(f"{chr(92) if name != path else ''}{checksums[path]}  {name}\n"))
    return b"".join(lines)


def read_sums(data: bytes) -> dict[str, str]:
    """Return path -> checksum of a list in that form; what is no line of one is passed over."""
    found = {}
    for line in os.fsdecode(data).split("\n"):
        escaped = line.startswith("\\")
        checksum, _, name = line.removeprefix("\\").partition("  ")
        if name:
            found[_ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[0]), name) if escaped else name] = checksum
    return found


def manifest(checksums: Mapping[str, str]) -> bytes:
    """Return path -> checksum as a manifest of a bag, sorted by path; ends of lines in names are percent-encoded."""
    lines = []
    for path in sorted(checksums):
        lines.append(f"{checksums[path]}  {path.replace(chr(13), '%0D').replace(chr(10), '%0A')}\n")
    return "".join(lines).encode("utf-8")


def unfit_for_bag(path: str) -> str | None:
    """Return why a path cannot stand in a bag's manifest so that every program reads it again; None if it can.

    A percent sign is written as it is, since bagit.py decodes ends of lines alone; so a name that looks encoded would
    be read as another one. It decodes two of each kind.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is no UTF-8, and a bag's manifest is"
    if (match := _ENCODED.search(path)) is not None:
        return f"its name holds {match[0]}, which a bag's manifest takes for an encoded character"
    if max(path.count("\n"), path.count("\r")) > _MOST_LINE_ENDS:
        return "its name holds more ends of lines than programs decode"
    if (match := _SPLITS.search(path)) is not None:
        return f"its name holds {printable(match[0])}, at which programs end a line"
    if path != path.rstrip():
        return "its name ends in a blank, which programs cut off"
    return None


def named(path: str, why: str) -> str:
    """Return a line for a person."""
    return f"{shown(path)}: {why}"


def of_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()
