"""Searching folders and globs: every recording that can be reached, and a word for each place that cannot.

A folder that is closed, or that goes away while it is searched, costs what is in it and nothing else. Links to folders
are not followed: they may lead in a circle.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from batchsr.audio import formats
from batchsr.display import counted, listed, shown
from batchsr.intake import leftovers

# What a name may have behind its extension and is no part of it: ISO 9660's version, dots, blanks, what is not seen.
_TAIL: Final = re.compile(r"(?:;\d{1,5}|[\s.\u00a0\u200b-\u200f\u2060\ufeff])+$")
_LINK: Final = "link"
_PROGRAMS: Final = "program"
_SORTS: Final = (
    (_PROGRAMS, "file or folder of other programs", "files or folders of other programs"),
    (_LINK, "link to a folder, not followed", "links to folders, not followed"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A path that cannot become a job, and why."""

    path: str
    code: str
    message: str
    is_named: bool = True
    """Whether somebody named this very path; else it was met on the way."""


@dataclasses.dataclass(slots=True)
class LeftOut:
    """What searches passed by, by kind: an extension, or what sort of thing it was."""

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    _seen: set[int] = dataclasses.field(default_factory=set)
    """Hashes of the paths that were counted: searches may cross."""

    def passed(self, path: str) -> None:
        """Count a file that is no audio by its name, or that a program left; sidecars are nobody's loss."""
        name = os.path.basename(path)
        if leftovers.is_left_file(name):
            self.program(path)
        elif not _is_sidecar(name):
            self._count(path, os.path.splitext(name)[1].lower()[:12] or "without extension")

    def program(self, path: str) -> None:
        """Count a file or a folder that a program left."""
        self._count(path, _PROGRAMS)

    def told(self) -> str:
        """Return the counts in a line; nothing where nothing was left out."""
        kinds = dict(self.counts)
        told = [f"{counted(kinds.pop(kind), one, many)}" for kind, one, many in _SORTS if kind in kinds]
        return "; ".join([*([f"{listed(kinds)}: not read here"] if kinds else []), *told])

    def link(self, path: str) -> None:
        """Count a link to a folder."""
        self._count(path, _LINK)

    def _count(self, path: str, kind: str) -> None:
        if (seen := hash(path)) not in self._seen:
            self._seen.add(seen)
            self.counts[kind] += 1


def extension(name: str) -> str:
    """Return a name's extension in lower case, without what stands behind it: ".wav" for "SONG.WAV;1" and "a.wav. "."""
    return os.path.splitext(_TAIL.sub("", name))[1].lower()


def is_audio(path: str) -> bool:
    """Return whether a search takes this file: by its extension, or by its first bytes where it has none."""
    name = os.path.basename(path)
    if leftovers.is_left_file(name):
        return False
    kind = extension(name)
    if kind in formats.BY_EXTENSION:
        return True
    return (not kind or _TAIL.search(name) is not None) and _sounds(path)


def below(folder: str, left: LeftOut) -> Iterator[str | Refused]:
    """Yield the audio below a folder, in a fixed order, and what could not be searched."""
    listed_here = entries(folder)
    if isinstance(listed_here, Refused):
        yield listed_here
        return
    for found in _all_below(listed_here, left):
        if isinstance(found, Refused):
            yield found
        elif _kind(found) == "file":
            if is_audio(found.path):
                yield found.path
            else:
                left.passed(found.path)


def matches(pattern: str, left: LeftOut) -> Iterator[str | Refused]:
    """Yield what an absolute pattern matches (`*`, `?`, `[...]`, and `**` for folders of any depth), in a fixed order.

    What programs leave is passed by where the pattern's own words do not name it.
    """
    yield from _matches(os.sep, [part for part in pattern.split(os.sep) if part], left)


def _matches(folder: str, parts: Sequence[str], left: LeftOut) -> Iterator[str | Refused]:
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _at_any_depth(folder, rest, left)
        return
    if not glob.has_magic(part):
        path = os.path.join(folder, part)
        if os.path.lexists(path):
            yield from _matches(path, rest, left)
        return
    listed_here = entries(folder)
    if isinstance(listed_here, Refused):
        if os.path.isdir(folder):
            yield listed_here
        return
    for entry in listed_here:
        if not fnmatch.fnmatchcase(entry.name, part):
            continue
        if _kind(entry) == "file":
            if not rest and not _passes_file(entry, left):
                yield entry.path
        elif leftovers.is_left_folder(entry.name):
            left.program(entry.path)
        else:
            yield from _matches(entry.path, rest, left)


def _at_any_depth(folder: str, rest: Sequence[str], left: LeftOut) -> Iterator[str | Refused]:
    """Yield what `rest` matches in this folder and in all below it; where there is no rest, every file."""
    listed_here = entries(folder)
    if isinstance(listed_here, Refused):
        yield listed_here
        return
    if rest:
        yield from _matches(folder, rest, left)
    for found in _all_below(listed_here, left):
        if isinstance(found, Refused):
            yield found
        elif _kind(found) == "folder":
            if rest:
                yield from _matches(found.path, rest, left)
        elif not rest and not _passes_file(found, left):
            yield found.path


def _all_below(listed_here: Iterable[os.DirEntry[str]], left: LeftOut) -> Iterator[os.DirEntry[str] | Refused]:
    """Yield a folder's files and the folders that are entered, each before what is in it, in a fixed order.

    Links to folders are counted and not followed.
    """
    stack = [iter(listed_here)]  # and no recursion: a tree may be deeper than Python's stack
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        kind = _kind(entry)
        if kind == "folder":
            inner = _entered(entry, left)
            if isinstance(inner, Refused):
                yield inner
            elif inner is not None:
                yield entry
                stack.append(iter(inner))
        elif kind == "link":
            left.link(entry.path)
        else:
            yield entry


def _entered(entry: os.DirEntry[str], left: LeftOut) -> list[os.DirEntry[str]] | Refused | None:
    """Return what is in a folder, or why that cannot be said; None for one that a program left, which is counted.

    What a repair of the file system found is not entered either, but told of where it is closed.
    """
    if not leftovers.is_left_folder(entry.name):
        return entries(entry.path)
    left.program(entry.path)
    inner = entries(entry.path) if entry.name == "lost+found" else None
    return inner if isinstance(inner, Refused) else None


def _passes_file(entry: os.DirEntry[str], left: LeftOut) -> bool:
    if not leftovers.is_left_file(entry.name):
        return False
    left.program(entry.path)
    return True


def _is_sidecar(name: str) -> bool:
    return name.endswith(".json") and extension(name.removesuffix(".json")) in formats.BY_EXTENSION


def _kind(entry: os.DirEntry[str]) -> str:
    """Return "folder", "link" (to a folder) or "file" (all else, also what nobody can look at)."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "link" if entry.is_dir() else "file"
    except OSError:  # a link that leads in a circle, a share that drops
        return "file"


def entries(folder: str) -> list[os.DirEntry[str]] | Refused:
    """Return what is in a folder, by name; or why it cannot be said."""
    try:
        with os.scandir(folder) as listing:
            found = sorted(listing, key=lambda entry: os.fsencode(entry.name))
    except FileNotFoundError:
        return Refused(folder, "input.missing", f"{shown(folder)} went away while it was searched", is_named=False)
    except PermissionError:
        told = f"{shown(folder)} may not be read by this user (chmod u+rx, or run as its owner); what is in it is left"
        return Refused(folder, "input.unreadable", told, is_named=False)
    except OSError as e:
        told = f"{shown(folder)} cannot be searched: {e.strerror} (check the disk); what is in it is left"
        return Refused(folder, "input.unreadable", told, is_named=False)
    try:
        if found:
            found[0].stat(follow_symlinks=False)
    except PermissionError:
        told = f"{shown(folder)} can be listed, but not entered (chmod u+x); what is in it is left"
        return Refused(folder, "input.unreadable", told, is_named=False)
    except OSError:
        pass  # that one file's
    return found


def _sounds(path: str) -> bool:
    """Return whether a regular file's first bytes are those of a format."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            return formats.by_magic(os.read(fd, 32)) is not None
        finally:
            os.close(fd)
    except OSError:
        return False
