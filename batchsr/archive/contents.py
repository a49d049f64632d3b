"""What of a batch goes into a package, and under which names."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from batchsr import storage
from batchsr.archive import checksums
from batchsr.display import counted, shown
from batchsr.errors import PackageError, SidecarForeign
from batchsr.queue import Job, Queue, State
from batchsr.remote.address import is_url, path_of
from batchsr.restoration import sidecar_reading, sidecar_versions
from batchsr.restoration.sidecar import sidecar_path
from batchsr.settings.profile import Settings

Role = Literal["output", "copy", "sidecar"]
_MOST_NAMED: Final = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One file of a package."""

    path: str
    """Below the folder of the package's content, with / between folders."""
    origin: Path
    role: Role
    sha256: str
    """What it must have."""
    data: bytes | None = None
    """Its bytes, where they are no file: the sidecar of an output that has none beside it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """One restored recording: its files, and what is on record of it."""

    job: Job
    items: tuple[Item, ...]
    document: Mapping[str, Any]
    """The sidecar in today's form."""


def base_of(jobs: Iterable[Job], own: Path, before: str = "") -> str:
    """Return the folder that the outputs' names in a package are below: what all have in common.

    `own` is the folder of its content; what was moved there is not asked. `before` is the folder of the package that
    is made anew: it stays as long as all are below it, so that what comes later has its name in the same tree.
    """
    jobs = list(jobs)
    inside = _Inside(own)
    folders = {os.path.dirname(job.output) for job in jobs if inside.path_of(job.output) is None}
    if not folders:
        return before or "/"
    common = os.path.commonpath(folders)
    if before and os.path.isabs(before):
        both = os.path.commonpath([common, before])
        if both == before or any(inside.path_of(job.output) is not None for job in jobs):
            return both
    return common


def works_of(
    queue: Queue, batch: str, package: Path, *, content: str, in_bag: bool, before: str = ""
) -> tuple[list[Work], str]:
    """Return what a batch has done, each with the files that belong to it, and the folder that their names are below.

    Nothing is read but sidecars. `content` is the folder of the content below `package` ("" for none), `before` the
    folder of names that `base_of` knows. Raises PackageError where files are missing, or have names that a bag cannot
    hold, naming them.
    """
    jobs = list(queue.jobs(states=[State.DONE], batch=batch))
    if in_stores := [job for job in jobs if is_url(job.output)]:
        told = f"{counted(len(in_stores), 'output is', 'outputs are')} in a store, like {shown(in_stores[0].output)}"
        raise PackageError(told, remedy="a package is made of files: copy them to a folder, and import their sidecars")
    own = package / content if content else package
    inside = _Inside(own)
    base = base_of(jobs, own, before)
    trouble: list[str] = []
    works: list[Work] = []
    taken: dict[str, str] = {}
    for job in jobs:
        try:
            path = inside.path_of(job.output)
            output = path_of(job.output) if path is None else own / path
            work = _work(queue, job, output, os.path.relpath(job.output, base) if path is None else path)
        except PackageError as e:
            trouble.append(e.message)
            continue
        for item in work.items:
            why = checksums.unfit_for_bag(item.path) if in_bag else None
            if why is not None:
                trouble.append(checksums.named(str(item.origin), why))
            elif taken.setdefault(name := _folded(item.path, in_bag=in_bag), str(item.origin)) != str(item.origin):
                trouble.append(f"{shown(str(item.origin))} and {shown(taken[name])} want one name in it")
        works.append(work)
    if trouble:
        more = f"; and {len(trouble) - _MOST_NAMED:,} more" if len(trouble) > _MOST_NAMED else ""
        raise PackageError(
            f"{counted(len(trouble), 'file')} cannot go into the package: {'; '.join(trouble[:_MOST_NAMED])}{more}",
            remedy="`batchsr verify` says how outputs are; rename what has such a name, forget a job that is one too "
            "many, or leave out --bag",
        )
    return works, base


class _Inside:
    """Which files lie below a folder, by whatever name the folder goes: through links, or mounted a second time."""

    def __init__(self, own: Path) -> None:
        self._own = own
        self._known: dict[str, str | None] = {}

    def path_of(self, file: str) -> str | None:
        """Return the file's path below the folder; None: it lies elsewhere."""
        folder, name = os.path.split(file)
        if folder not in self._known:
            self._known[folder] = storage.path_below(Path(folder), self._own)
        below = self._known[folder]
        return None if below is None else os.path.normpath(os.path.join(below, name))


def _folded(path: str, *, in_bag: bool) -> str:
    """Return a name as it is told from others: in a bag also where letters of either case, and of either composition,
    are one.

    bagit.py takes names of either composition for one, and a bag goes to machines of every kind.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold()) if in_bag else path


def _work(queue: Queue, job: Job, output: Path, path: str) -> Work:
    folder = os.path.dirname(path)
    assert job.output_sha256 is not None  # the database insists for jobs that are done
    items = [Item(path, output, "output", job.output_sha256)]
    beside = sidecar_path(output)
    try:
        data = storage.read_small(beside, sidecar_reading.MOST_BYTES)
        record = sidecar_reading.parse(beside, data)
        own = None
    except FileNotFoundError:
        report = queue.report_of(job.id)
        if report is None:
            raise PackageError(f"{shown(output)} has no sidecar, and the queue keeps no report of it") from None
        data = own = (json.dumps(report, indent=2, ensure_ascii=True) + "\n").encode("ascii")
        record = sidecar_reading.parse(beside, data)
    except (OSError, SidecarForeign) as e:
        if isinstance(e, OSError) and e.errno == errno.ELOOP:
            raise PackageError(f"the sidecar of {shown(output)} is a link, and links are not followed") from e
        raise PackageError(f"the sidecar of {shown(output)} cannot be read: {e}") from e
    if record.said.output.sha256 != job.output_sha256:
        raise PackageError(f"the sidecar of {shown(output)} speaks of another file")
    items.append(Item(os.path.join(folder, beside.name), beside, "sidecar", checksums.of_bytes(data), own))
    try:
        copies = sidecar_reading.copies_of(record.document, output, Settings.from_json(job.settings).also)
    except SidecarForeign as e:
        raise PackageError(e.message) from e
    items += [Item(os.path.join(folder, one.beside.name), one.beside, "copy", one.sha256) for one in copies]
    for item in items:
        if item.data is None and not item.origin.is_file():
            raise PackageError(f"{shown(item.origin)} is not there")
    return Work(job, tuple(items), sidecar_versions.newest(record.document))
