"""Bring the files of a batch into the package under construction, and read each of them there."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from batchsr import faults, storage
from batchsr.archive import checksums, exchange, mark
from batchsr.archive.contents import Item, Work
from batchsr.audio import files
from batchsr.display import shown
from batchsr.errors import InputError, PackageError
from batchsr.temporary import WITHOUT_LINKS

Way = Literal["copy", "link", "move"]
_NO_LINK: Final = (errno.EXDEV, *WITHOUT_LINKS)


@dataclasses.dataclass(frozen=True, slots=True)
class PackageRequest:
    """How a package is to be."""

    batch: str
    target: Path
    in_bag: bool = False
    premis: bool = False
    algorithms: tuple[str, ...] = ("sha256",)
    way: Way = "copy"

    @property
    def content(self) -> str:
        """The folder of the content below the package, "" for none."""
        return "data" if self.in_bag else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Brought:
    """A file in the package, as it was read there."""

    checksums: dict[str, str]
    size_bytes: int
    read_at: str
    run: str
    """Which export read it: this one, or one that was killed."""


def fill(
    works: Sequence[Work], request: PackageRequest, folder: Path, on_file: Callable[[str], None]
) -> dict[str, Brought]:
    """Bring every file into the package, and read it there. Returns path in the package -> what was read."""
    progress_at, run = exchange.beside(request.target, ".progress"), uuid.uuid4().hex
    known = _progress(progress_at)
    found: dict[str, Brought] = {}
    names: dict[str, str] = {}
    with progress_at.open("ab") as progress:
        for work in works:
            for item, path in ((item, os.path.join(request.content, item.path)) for item in work.items):
                place = folder / path
                read = _right_already(place, item, known.get(path), request, path)
                if read is None:
                    _check_name(folder, path, names, request)
                    sums = _bring(item, place, request, path)
                    status = place.stat()
                    read = Brought(sums, status.st_size, _now(), run)
                    line = {"path": path, "mtime_ns": status.st_mtime_ns, **dataclasses.asdict(read)}
                    progress.write(json.dumps(line).encode("ascii") + b"\n")
                    progress.flush()
                    faults.point("assemble.during")
                names[path.casefold()] = path
                found[path] = read
                on_file(path)
            _validate(work, folder / request.content)
    return found


def _check_name(folder: Path, path: str, names: Mapping[str, str], request: PackageRequest) -> None:
    """Raise PackageError where the file system of the package takes a name for that of another file in it."""
    other = names.get(path.casefold())
    if other is not None and other != path and _is_same_file(folder / other, folder / path):
        message = f"{shown(path)} and {shown(other)} are one name on the disk of {shown(request.target)}"
        raise PackageError(message, remedy="rename one of them, or choose another disk")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _progress(path: Path) -> dict[str, Mapping[str, Any]]:
    lines: dict[str, Mapping[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last one may be cut
                one = json.loads(line)
                lines[one["path"]] = one
    return lines


def _right_already(
    place: Path, item: Item, known: Mapping[str, Any] | None, request: PackageRequest, path: str
) -> Brought | None:
    """Return what an export before this one read of a file that it brought here, if it is still that file."""
    if known is None:
        return None
    with contextlib.suppress(OSError, KeyError, TypeError):
        status = os.lstat(place)
        sums: dict[str, str] = {name: known["checksums"][name] for name in request.algorithms}
        as_it_was = (status.st_size, status.st_mtime_ns) == (known["size_bytes"], known["mtime_ns"])
        if as_it_was and sums["sha256"] == item.sha256 and _fits(place, item, request, path):
            return Brought(sums, status.st_size, str(known["read_at"]), str(known["run"]))
    return None


def _fits(place: Path, item: Item, request: PackageRequest, path: str) -> bool:
    """Return whether a file is there in the way that is asked for: a link is the output itself, and a copy is not."""
    if item.data is not None or request.way == "move" or item.origin == request.target / path:
        return True
    return _is_same_file(place, item.origin) == (request.way == "link")


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _bring(item: Item, place: Path, request: PackageRequest, path: str) -> dict[str, str]:
    """Put one file into the package, from the package before it where that has it. Returns its checksums there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        place.unlink()
    before = request.target / path
    for origin, link in ((before, True), (item.origin, request.way != "copy")):
        if origin is before and not _fits(before, item, request, path):
            continue
        try:
            if origin is item.origin and item.data is not None:
                place.write_bytes(item.data)
            elif link:
                _link(origin, place, must=origin is item.origin and request.way == "link")
            else:
                shutil.copy2(origin, place, follow_symlinks=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        read = checksums.of_file(place, request.algorithms)
        if read["sha256"] == item.sha256:
            storage.fsync_path(place)
            return read
        place.unlink()
    raise PackageError(
        f"{shown(item.origin)} is not there, or not as it was made",
        remedy="`batchsr verify` says what became of it; then the same command goes on",
    )


def _link(origin: Path, place: Path, *, must: bool) -> None:
    """Give a file a second name in the package; where that cannot be, copy it, unless a link is what was asked for."""
    try:
        os.link(origin.resolve(strict=True), place)
    except OSError as e:
        if e.errno not in _NO_LINK:
            raise
        if must:
            message = f"{shown(origin)} cannot be linked from there: {e.strerror}"
            raise PackageError(message, remedy="leave out --link: then it is copied") from e
        shutil.copy2(origin, place)


def put_of(
    works: Sequence[Work], request: PackageRequest, found: Mapping[str, Brought], before: mark.Mark | None
) -> dict[str, mark.Put]:
    """Return what the mark says of each file of the content."""
    put = {}
    for work in works:
        for item in work.items:
            path = os.path.join(request.content, item.path)
            known = before.files.get(path) if before is not None else None
            if item.origin == request.target / path:  # moved here by an export before this one, or imported from here
                origin = known.origin if known is not None else ""
                put[path] = mark.Put(item.sha256, item.role, "move", origin)
            else:
                put[path] = mark.Put(found[path].checksums["sha256"], item.role, request.way, str(item.origin))
    return put


def _validate(work: Work, content: Path) -> None:
    """Read the output's header in the package. Raises PackageError where it is not what the record says."""
    output = next(item for item in work.items if item.role == "output")
    said, source, settings = (work.document.get(key) or {} for key in ("output", "source", "settings"))
    channels = 1 if settings.get("channels") == "mono" else source.get("channels")
    try:
        info = files.probe(content / output.path)
    except InputError as e:
        raise PackageError(f"{shown(output.origin)} cannot be read: {e.message}") from e
    for what, is_so, ought in (
        ("rate", info.sample_rate, said.get("sample_rate_hz")),
        ("length", info.frames, said.get("frames")),
        ("number of channels", info.channels, channels),
    ):
        if is_so != ought:
            raise PackageError(f"the {what} of {shown(output.origin)} is {is_so}, and {ought} by its record")
