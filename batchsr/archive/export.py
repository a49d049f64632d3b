"""Pack a batch: built beside its final name, checked there, and given the name at the end, whole or not at all.

Every file is read in the package itself, so what its lists say is of what stands there. A package that grows is built
anew from hard links to the files that are in it already.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from batchsr import __version__, faults, storage
from batchsr.archive import bag, checksums, exchange, premis
from batchsr.archive.contents import Item, Work
from batchsr.audio import files
from batchsr.display import shown
from batchsr.errors import BatchsrError, InputError, OutputExists, PackageError, ResourceError

Way = Literal["copy", "link", "move"]
MARK: Final = "batchsr-export.json"
"""In every package: what it is, for the program that comes back to it."""
_NO_LINK: Final = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """How a package is to be."""

    batch: str
    target: Path
    in_bag: bool = False
    premis: bool = False
    algorithms: tuple[str, ...] = ("sha256",)
    way: Way = "copy"
    notes: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """The folder of the content below the package, "" for none."""
        return "data" if self.in_bag else ""


def export(
    works: Sequence[Work], wish: Wish, report: bytes, *, on_file: Callable[[str], None] = lambda path: None
) -> None:
    """Make or renew the package `wish.target`. `on_file` is told each file that is in it and right.

    Raises OutputExists where something else stands there, PackageError where a file is not what its record says,
    TransientError while another export is at it, ResourceError.
    """
    target = wish.target
    check(wish)
    storage.make_output_folder(target.parent)
    with _told(target):
        work_folder = exchange.beside(target, "")
        work_folder.mkdir(exist_ok=True)
        with exchange.alone(work_folder):
            exchange.recover(target)
            try:
                found = _fill(works, wish, work_folder, on_file)
            except BatchsrError:
                exchange.clear_if_empty(work_folder, target)
                raise
            _describe(works, wish, work_folder, found, report)
            _remove_strangers(work_folder, found, wish)
            if wish.in_bag:
                bag.check(work_folder)
            faults.point("rename.before")
            _sync_tree(work_folder)
            exchange.exchange(work_folder, target)
            faults.point("rename.after")


@contextlib.contextmanager
def _told(target: Path) -> Iterator[None]:
    """Turn an OSError into a ResourceError: what is there already stays, and the same command goes on."""
    try:
        yield
    except OSError as e:
        message = f"cannot build the package {shown(target)}: {e.strerror or e}"
        raise ResourceError(message, remedy="see to that; then the same command goes on") from e


def check(wish: Wish) -> None:
    """Refuse at the start what would be refused at the end. Raises OutputExists, ConfigError."""
    if wish.premis:
        premis.needed()
    if wish.in_bag:
        bag.needed()
    target = wish.target
    if not os.path.lexists(target):
        return
    mark: Any = None
    with contextlib.suppress(OSError, ValueError):
        if target.is_dir() and not target.is_symlink():
            if not any(target.iterdir()):
                return
            mark = json.loads(storage.read_small(target / MARK, 1 << 20))
    if not isinstance(mark, dict) or mark.get("batch") != wish.batch or mark.get("bag") != wish.in_bag:
        what = "is no package of this batch and form"
        raise OutputExists(f"{shown(target)} exists and {what}", remedy="choose another folder")


def _fill(works: Sequence[Work], wish: Wish, folder: Path, on_file: Callable[[str], None]) -> dict[str, dict[str, str]]:
    """Bring every file into the package, and read it there. Returns path in the package -> its checksums."""
    progress_at = exchange.beside(wish.target, ".progress")
    known = _progress(progress_at)
    found: dict[str, dict[str, str]] = {}
    with progress_at.open("ab") as progress:
        for work in works:
            for item in work.items:
                path = os.path.join(wish.content, item.path)
                place = folder / path
                read = _right_already(place, item, known.get(path), wish.algorithms)
                if read is None:
                    read = _bring(item, place, wish, path)
                    status = place.stat()
                    line = {"path": path, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "checksums": read}
                    progress.write(json.dumps(line).encode("ascii") + b"\n")
                    progress.flush()
                    faults.point("assemble.during")
                found[path] = read
                on_file(path)
            _validate(work, folder / wish.content)
    return found


def _progress(path: Path) -> dict[str, Mapping[str, Any]]:
    lines: dict[str, Mapping[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last one may be cut
                one = json.loads(line)
                lines[one["path"]] = one
    return lines


def _right_already(
    place: Path, item: Item, known: Mapping[str, Any] | None, algorithms: Sequence[str]
) -> dict[str, str] | None:
    """The checksums of a file that an export before this one brought here, if it is still that file."""
    if known is None:
        return None
    with contextlib.suppress(OSError, KeyError, TypeError):
        status = os.lstat(place)
        read: dict[str, str] = {name: known["checksums"][name] for name in algorithms}
        if (status.st_size, status.st_mtime_ns) == (known["size"], known["mtime_ns"]) and read["sha256"] == item.sha256:
            return read
    return None


def _bring(item: Item, place: Path, wish: Wish, path: str) -> dict[str, str]:
    """Put one file into the package, from the package before it where that has it. Returns its checksums there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        place.unlink()
    before = wish.target / path
    for origin, link in ((before, True), (item.origin, wish.way != "copy")):
        try:
            if origin is item.origin and item.data is not None:
                place.write_bytes(item.data)
            elif link:
                _link(origin, place, must=origin is item.origin and wish.way == "link")
            else:
                shutil.copy2(origin, place, follow_symlinks=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        read = checksums.of_file(place, wish.algorithms)
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


def _validate(work: Work, content: Path) -> None:
    """Read the output's header in the package. Raises PackageError where it is not what the record says."""
    output = next(item for item in work.items if item.role == "output")
    said = work.document["output"]
    try:
        info = files.probe(content / output.path)
    except InputError as e:
        raise PackageError(f"{shown(output.origin)} cannot be read: {e.message}") from e
    if (info.sample_rate, info.frames) != (said.get("sample_rate_hz"), said.get("frames")):
        raise PackageError(f"{shown(output.origin)} is of another rate or length than its record says")


def _describe(
    works: Sequence[Work], wish: Wish, folder: Path, found: Mapping[str, dict[str, str]], report: bytes
) -> None:
    """Write what speaks of the content: report, PREMIS, lists of checksums, the bag's own files."""
    now = datetime.datetime.now(datetime.UTC)
    (folder / "metadata").mkdir(exist_ok=True)
    (folder / "metadata" / "report.csv").write_bytes(report)
    sizes = {path: (folder / path).stat().st_size for path in found}
    if wish.premis:
        cut = len(wish.content) + 1 if wish.content else 0
        with (folder / "metadata" / "premis.xml").open("wb") as file:
            premis.write(
                file,
                works,
                {path[cut:]: read for path, read in found.items()},
                {path[cut:]: size for path, size in sizes.items()},
                now,
            )
    mark = {"schema": 1, "program": f"batchsr {__version__}", "batch": wish.batch, "bag": wish.in_bag}
    (folder / MARK).write_text(json.dumps({**mark, "recordings": len(works)}, indent=2) + "\n")
    for name in wish.algorithms:
        (folder / f"{name.upper()}SUMS").write_bytes(checksums.sums({path: read[name] for path, read in found.items()}))
    if wish.in_bag:
        bag.write_tags(folder, found, sum(sizes.values()), wish.batch, wish.notes, wish.algorithms, now)


def _remove_strangers(folder: Path, found: Mapping[str, Any], wish: Wish) -> None:
    """Remove what an export before this one brought that no longer belongs to the batch."""
    tags = {MARK, "metadata/report.csv", *(f"{name.upper()}SUMS" for name in wish.algorithms)}
    tags |= {"metadata/premis.xml"} if wish.premis else set()
    tags |= bag.tag_names(wish.algorithms) if wish.in_bag else set()
    for above, folders, names in os.walk(folder, topdown=False):
        for name in names:
            path = os.path.relpath(os.path.join(above, name), folder)
            if path not in found and path not in tags:
                os.unlink(os.path.join(above, name))
        for name in folders:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(above, name))  # where it is empty
    if wish.in_bag:
        bag.write_tag_manifests(folder, sorted(tags), wish.algorithms)


def _sync_tree(folder: Path) -> None:
    for above, _, names in os.walk(folder):
        for name in names:
            path = Path(above, name)
            if path.parent == folder or path.parent.name == "metadata":
                storage.fsync_path(path)
        storage.fsync_path(Path(above))
