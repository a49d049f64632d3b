"""What a path is called on every host: shares are mounted in different places, so a fleet knows them by name.

A host says where a named root is (`archive=/mnt/archive`). In the database, and in every key that is made of a path,
what lies below is then written with the root's name; in memory a path is always this host's own. Without named roots,
and in a queue of one machine, nothing changes. They are set once, when the program starts.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from batchsr.errors import UsageError

MARK: Final = "\x03"  # no absolute path begins with it
_NAME: Final = re.compile(r"[A-Za-z][\w.-]*")
_BETWEEN: Final = re.compile(r"[:;,]\s*(?=[A-Za-z][\w.-]*=)")
_named: Final = contextvars.ContextVar("_named", default=False)
_places: dict[str, str] = {}
"""The longest first, so that the innermost of nested roots counts."""


def listed(text: str) -> dict[str, str]:
    """Return the folders by name of several `NAME=FOLDER` with `:` between, as BATCHSR_ROOTS has them.

    A comma, which people write as well, is never taken for a part of a folder's name before another `NAME=`; a `:` in a
    folder's own name stays. Raises UsageError.
    """
    return parsed(_BETWEEN.split(text.strip()))


def parsed(words: Iterable[str]) -> dict[str, str]:
    """Return the folders by name that `NAME=FOLDER` words give. Raises UsageError."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or not _NAME.fullmatch(name) or not os.path.isabs(folder):
            raise UsageError(f"{word!r} names no root", remedy="like archive=/mnt/archive, with an absolute path")
        folder = os.path.normpath(folder)
        if found.setdefault(name, folder) != folder:
            raise UsageError(f"the named root {name} is said to be in two places", remedy="leave one of them out")
    if len(set(found.values())) < len(found):
        raise UsageError("two named roots are the same folder", remedy="leave one of them out")
    return found


def use(folders: Mapping[str, str]) -> None:
    """Make these the named roots of this process from now on."""
    _places.clear()
    _places.update(sorted(folders.items(), key=lambda one: -len(one[1])))


def places() -> dict[str, str]:
    """Return the folders of this host by the names that they have on every host."""
    return dict(_places)


def portable(path: str) -> str:
    """Return a path as every host writes it: with the name of the root that it is below, else as it is."""
    for name, folder in _places.items():
        if path == folder or path.startswith(folder.rstrip("/") + "/"):
            return f"{MARK}{name}{path[len(folder.rstrip('/')) :]}"
    return path


@contextlib.contextmanager
def shown_by_name() -> Iterator[None]:
    """For the block, what lies below a root that this host does not have is called `archive:x/a.wav`: to be shown."""
    token = _named.set(True)
    try:
        yield
    finally:
        _named.reset(token)


def local(path: str) -> str:
    """Return a portable path as it is on this host. Raises UsageError where this host has no such root."""
    if not path.startswith(MARK):
        return path
    name, slash, rest = path[1:].partition("/")
    if name not in _places:
        if _named.get():
            return f"{name}:{rest}"
        raise UsageError(
            f"the fleet's files lie below a root named {name}, and this host has not said where that is",
            remedy=f"--named-root {name}=FOLDER, or BATCHSR_ROOTS={name}=FOLDER",
        )
    return _places[name].rstrip("/") + slash + rest
