"""What a package that is made anew keeps of the one before: all that is not this program's, or stands nowhere else.

Removed is only what was put there by an export, is as it was put, and is in the new package or where it came from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from batchsr import storage
from batchsr.archive import checksums
from batchsr.archive.mark import NAME, Mark, Put, Seen
from batchsr.display import counted, shown
from batchsr.errors import PackageError

_MANIFESTS: Final = ("manifest-", "tagmanifest-")
_SUMS: Final = frozenset(f"{name.upper()}SUMS" for name in checksums.ALGORITHMS)
_MOST_TAGS_BYTES: Final = 1 << 20
_MOST_NAMED: Final = 10
_REMEDY: Final = "move it out of the package, or give it another name there; then the same command goes on"


@dataclasses.dataclass(slots=True)
class Kept:
    """What was found in the package before."""

    files: dict[str, Put] = dataclasses.field(default_factory=dict)
    """Path -> what is kept there, for the new mark."""
    folders: list[str] = dataclasses.field(default_factory=list)
    """Folders in which nothing is."""
    seen: dict[str, Seen] = dataclasses.field(default_factory=dict)
    """Every file, as it was when it was looked at."""
    tags: bytes = b""
    """bag-info.txt as it stands there: labels that others added stay."""


def look(target: Path, mark: Mark | None, new: Mapping[str, Put], made: Iterable[str], folder: Path) -> Kept:
    """Decide what becomes of each file of the package `target`, and read what is needed for that.

    `new` is the content that the package under construction, `folder`, has; `made` are the files that are written
    about it. Raises PackageError where somebody's work would be lost, naming the files.
    """
    kept = Kept()
    if mark is None:
        return kept
    hashes = {put.sha256 for put in new.values()}
    made = set(made)
    trouble: list[str] = []
    for path, place in _files(target, kept, trouble):
        put, why = mark.files.get(path), None
        kept.seen[path] = Seen.of(place)
        if path in new:
            why = _instead(place, put, new[path], folder / path)
        elif path in made:
            why = _rewritten(path, place, mark, kept)
        elif _is_manifest(path, mark) or (path in mark.made and storage.sha256(place) == mark.made[path]):
            continue  # of an algorithm, or a kind, that is no longer asked for
        elif put is None or not _stands_elsewhere(place, put, hashes, target):
            kept.files[path] = put or Put(storage.sha256(place), "kept", "kept")
            why = checksums.unfit_for_bag(path) if mark.bag and path.startswith("data/") else None
        if why:
            trouble.append(f"{shown(str(place))} {why}")
    if trouble:
        more = f"; and {len(trouble) - _MOST_NAMED:,} more" if len(trouble) > _MOST_NAMED else ""
        raise PackageError(
            f"the package would lose {counted(len(trouble), 'file')}: {'; '.join(trouble[:_MOST_NAMED])}{more}",
            remedy=_REMEDY,
        )
    return kept


def bring(kept: Kept, target: Path, folder: Path) -> None:
    """Give what is kept its place in the package under construction. Raises OSError."""
    for path in kept.files:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samefile(place, target / path):
                continue
            place.unlink()
        try:
            os.link(target / path, place)
        except OSError:
            shutil.copy2(target / path, place)
            storage.fsync_path(place)
    for path in kept.folders:
        (folder / path).mkdir(parents=True, exist_ok=True)


def _files(target: Path, kept: Kept, trouble: list[str]) -> Iterable[tuple[str, Path]]:
    def failed(error: OSError) -> None:
        raise error

    for above, folders, names in os.walk(target, onerror=failed):
        if not folders and not names and above != str(target):
            kept.folders.append(os.path.relpath(above, target))
        for name in (*folders, *names):
            place = Path(above, name)
            mode = place.lstat().st_mode
            if stat.S_ISREG(mode):
                yield os.path.relpath(place, target), place
            elif not stat.S_ISDIR(mode):
                trouble.append(f"{shown(str(place))} is a link, or no file at all")


def _instead(place: Path, put: Put | None, new: Put, fresh: Path) -> str | None:
    """Return why a file may not give way to the new one of its name; None: it may, or it is the same."""
    if os.path.samefile(place, fresh):
        return None
    found = storage.sha256(place)
    if found == new.sha256:
        return None
    if put is None:
        return "is not of an export, and an output would take its name"
    if found != put.sha256:
        return "was changed since it was put there"
    if put.way in ("copy", "link"):
        return None  # an output was restored anew, and its copy here follows
    return "was moved there, is of no job that is done, and an output would take its name"


def _rewritten(path: str, place: Path, mark: Mark, kept: Kept) -> str | None:
    """Return why what is written about the content may not be written anew."""
    if path == "bag-info.txt" and mark.bag:
        kept.tags = storage.read_small(place, _MOST_TAGS_BYTES)
        return None
    if path == NAME or mark.schema == 1 or _is_manifest(path, mark):
        return None
    if path not in mark.made:
        return "is not of an export, and what is written about the content would take its name"
    if storage.sha256(place) != mark.made[path] and path not in _SUMS:
        return "was changed since it was written"
    return None


def _is_manifest(path: str, mark: Mark) -> bool:
    """Return whether it is one of a bag's manifests: such a one is made anew, since it would be untrue."""
    return mark.bag and path.startswith(_MANIFESTS) and path.endswith(".txt")


def _stands_elsewhere(place: Path, put: Put, hashes: set[str], target: Path) -> bool:
    """Return whether a file that no job of the batch has any more can go: it is as it was put, and there is another.

    One that was moved there is the original, whoever has the same bytes: another batch may know it by its name. Where
    a copy came from may lead into the package itself: originals are replaced by links into it, folders renamed.
    """
    if put.way not in ("copy", "link"):
        return False
    try:
        if storage.sha256(place) != put.sha256:
            return False
        if put.sha256 in hashes:
            return True
        return storage.path_below(Path(put.origin), target) is None and storage.sha256(Path(put.origin)) == put.sha256
    except (OSError, ValueError):
        return False
