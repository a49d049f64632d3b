"""Pack a batch: built beside its final name, checked there, and given the name at the end, whole or not at all.

Every file is read in the package itself, so what its lists say is of what stands there. A package that grows is built
Every file is read in the package itself, so what its lists say is of what stands there. A package that grows is built
anew from hard links to the files that are in it already; what of it is not this program's stays: see `earlier_package`.
anew from hard links to the files that are in it already; what of it is not this program's stays: see `earlier_package`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchsr import faults, storage
from batchsr.archive import bag, checksums, earlier_package, exchange, mark, moving, premis
from batchsr.archive.contents import Work, works_of
from batchsr.archive.package_files import Brought, PackageRequest, fill, put_of
from batchsr.display import shown
from batchsr.errors import BatchsrError, OutputExists, PackageError, ResourceError
from batchsr.queue import Queue, State
from batchsr.report import batch as batch_report
from batchsr.report import columns


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """What became of it."""

    recordings: int
    files: int
    kept: tuple[str, ...]
    """Files in the package that are of no job of the batch that is done: they stay."""
    left: tuple[Path, ...]
    """Folders with what was put into the package before this one while this one was made."""
    changed: tuple[int, ...]
    """Jobs that were not as they had been when their files were to be moved: these are where they were, too."""


def pack(queue: Queue, request: PackageRequest, *, on_file: Callable[[str], None] = lambda path: None) -> Packed:
    """Make or renew the package `request.target`. `on_file` is told each file that is in it and right.

    Raises OutputExists where something else stands there, PackageError where a file is not what its record says or
    somebody's file would be lost, TransientError while another export is at it, ResourceError.
    """
    target = request.target
    check(request)
    with _told(target), exchange.alone(target):
        left = [exchange.recover(target)]
        moving.finish(queue, target)
        check(request)
        before = mark.read(target)
        works, base = works_of(
            queue,
            request.batch,
            target,
            content=request.content,
            in_bag=request.in_bag,
            before=before.base if before else "",
        )
        _check_owner(queue, request, before, works)
        if request.way == "move":
            moving.check(works, target)
        rows = queue.rows(columns.RECORD, batch=request.batch)
        report = "".join(batch_report.table(rows, "csv", columns.RECORD)).encode("utf-8", "surrogateescape")
        building = exchange.beside(target, "")
        building.mkdir(exist_ok=True)
        try:
            found = fill(works, request, building, on_file)
            new = put_of(works, request, found, before)
            tags = _tags(request)
            kept = earlier_package.look(target, before, new, tags, building)
            earlier_package.bring(kept, target, building)
        except BatchsrError:
            exchange.clear_if_empty(target)
            raise
        faults.point("export.step")
        about = {"queue": queue.own_id, "base": base, "recordings": len(works)}
        _describe(works, request, building, found, report, kept, tags, {**new, **kept.files}, about)
        if request.in_bag:
            bag.check(building)
        faults.point("rename.before")
        _sync_tree(building)
        left.append(exchange.exchange(target, kept.seen))
        faults.point("rename.after")
        changed: list[int] = []
        if request.way == "move":
            moving.note(queue, works, target, target / request.content)
            faults.point("export.step")
            changed = moving.finish(queue, target)
    return Packed(len(works), len(found), tuple(kept.files), tuple(filter(None, left)), tuple(changed))


@contextlib.contextmanager
def _told(target: Path) -> Iterator[None]:
    """Turn an OSError into a ResourceError: what is there already stays, and the same command goes on."""
    try:
        yield
    except OSError as e:
        message = f"cannot build the package {shown(target)}: {e.strerror or e}"
        raise ResourceError(message, remedy="see to that; then the same command goes on") from e
    except RecursionError as e:
        raise PackageError(f"folders in {shown(target)} are nested too deeply", remedy="move them out of it") from e


def check(request: PackageRequest) -> None:
    """Refuse at the start what would be refused at the end. Raises OutputExists, ConfigError."""
    if request.premis:
        premis.needed()
    if request.in_bag:
        bag.needed()
    target = request.target
    if not os.path.lexists(target):
        return
    found = None
    with contextlib.suppress(OSError):
        if target.is_dir() and not target.is_symlink():
            if not any(target.iterdir()):
                return
            found = mark.read(target)
    if found is None or found.batch != request.batch or found.bag != request.in_bag:
        what = "is no package of this batch and form"
        raise OutputExists(f"{shown(target)} exists and {what}", remedy="choose another folder")


def _check_owner(queue: Queue, request: PackageRequest, before: mark.Mark | None, works: Sequence[Work]) -> None:
    """Refuse a package of another queue, unless this one knows every output in it, as one that was made anew does."""
    if before is None or before.queue == queue.own_id:
        return
    known = {job.output_sha256 for job in queue.jobs(states=[State.DONE], batch=request.batch)}
    unknown = sorted(path for path, sha256 in mark.outputs(before).items() if sha256 not in known)
    if unknown:
        raise OutputExists(
            f"{shown(request.target)} is a package of another queue's batch of this name: this one does not know "
            f"{shown(unknown[0])} in it",
            remedy="choose another folder, or take what is in it into this queue first: `batchsr import-sidecars "
            f"{shown(request.target)}`",
        )


def _tags(request: PackageRequest) -> list[str]:
    """Return the files that are written about the content; a bag's manifests of tag files list them."""
    tags = {mark.NAME, "metadata/report.csv", *(f"{name.upper()}SUMS" for name in request.algorithms)}
    tags |= {"metadata/premis.xml"} if request.premis else set()
    tags |= bag.tag_names(request.algorithms) if request.in_bag else set()
    return sorted(tags)


def _describe(
    works: Sequence[Work],
    request: PackageRequest,
    folder: Path,
    found: Mapping[str, Brought],
    report: bytes,
    kept: earlier_package.Kept,
    tags: Sequence[str],
    put: Mapping[str, mark.Put],
    about: Mapping[str, Any],
) -> None:
    """Write what speaks of the content: report, PREMIS, lists of checksums, the mark, the bag's own files."""
    now = datetime.datetime.now(datetime.UTC)
    _remove_other_files(folder, {*found, *kept.files, *tags}, kept.folders)
    listed = {path: read.checksums for path, read in found.items()}
    own = f"{request.content}/" if request.content else ""
    more = [path for path in kept.files if path.startswith(own)]
    listed |= {path: checksums.of_file(folder / path, request.algorithms) for path in more}
    (folder / "metadata").mkdir(exist_ok=True)
    (folder / "metadata" / "report.csv").write_bytes(report)
    if request.premis:
        with (folder / "metadata" / "premis.xml").open("wb") as file:
            read = {path.removeprefix(own): one for path, one in found.items()}
            premis.write(file, works, read, now)
    for name in request.algorithms:
        sums = checksums.sums({path: one[name] for path, one in listed.items()})
        (folder / f"{name.upper()}SUMS").write_bytes(sums)
    if request.in_bag:
        total_bytes = sum((folder / path).stat().st_size for path in listed)
        notes = dict.fromkeys(filter(None, map(_notes, works)))
        bag.write_tags(folder, listed, total_bytes, request.batch, list(notes), request.algorithms, now, kept.tags)
    made = {path: storage.sha256(folder / path) for path in tags if path != mark.NAME}
    mark.write(folder, mark.new(batch=request.batch, bag=request.in_bag, files=put, made=made, **about))
    if request.in_bag:
        others = [path for path in kept.files if path not in listed and checksums.unfit_for_bag(path) is None]
        bag.write_tag_manifests(folder, [*tags, *others], request.algorithms)


def _notes(work: Work) -> str:
    own = work.document.get("job")
    notes = own.get("notes") if isinstance(own, dict) else ""
    return notes if isinstance(notes, str) else ""


def _remove_other_files(folder: Path, ours: set[str], empty: Sequence[str]) -> None:
    """Remove what an export before this one brought that no longer belongs to the batch."""
    for above, folders, names in os.walk(folder, topdown=False):
        for name in names:
            if os.path.relpath(os.path.join(above, name), folder) not in ours:
                os.unlink(os.path.join(above, name))
        for name in folders:
            if os.path.relpath(os.path.join(above, name), folder) not in empty:
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.join(above, name))  # where it is empty


def _sync_tree(folder: Path) -> None:
    for above, _, names in os.walk(folder):
        for name in names:
            path = Path(above, name)
            if path.parent == folder or path.parent.name == "metadata":
                storage.fsync_path(path)
        storage.fsync_path(Path(above))
