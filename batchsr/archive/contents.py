"""What of a batch goes into a package, and under which names."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from batchsr import storage
from batchsr.archive import checksums
from batchsr.display import counted, shown
from batchsr.errors import PackageError, SidecarForeign
from batchsr.queue import Job, Queue, State
from batchsr.restoration import sidecar_reading, sidecar_versions
from batchsr.restoration.sidecar import sidecar_path

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


def works_of(queue: Queue, batch: str, package: Path, *, content: str, in_bag: bool) -> list[Work]:
    """Return what a batch has done, each with the files that belong to it; nothing is read but sidecars.

    `content` is the folder of the content below `package` ("" for none). Raises PackageError where files are missing,
    or have names that a bag cannot hold, naming them.
    """
    jobs = list(queue.jobs(states=[State.DONE], batch=batch))
    place = _places(jobs, package / content if content else package)
    trouble: list[str] = []
    works: list[Work] = []
    taken: dict[str, str] = {}
    for job in jobs:
        try:
            work = _work(queue, job, place(job))
        except PackageError as e:
            trouble.append(e.message)
            continue
        for item in work.items:
            why = checksums.unfit_for_bag(item.path) if in_bag else None
            if why is not None:
                trouble.append(checksums.named(str(item.origin), why))
            elif taken.setdefault(item.path.casefold(), str(item.origin)) != str(item.origin):
                trouble.append(f"{shown(str(item.origin))} and {shown(taken[item.path.casefold()])} want one name")
        works.append(work)
    if trouble:
        more = f"; and {len(trouble) - _MOST_NAMED:,} more" if len(trouble) > _MOST_NAMED else ""
        raise PackageError(
            f"{counted(len(trouble), 'file')} cannot go into the package: {'; '.join(trouble[:_MOST_NAMED])}{more}",
            remedy="`batchsr verify` says how outputs are; rename what has such a name, or leave out --bag",
        )
    return works


def _places(jobs: Iterable[Job], own: Path) -> Callable[[Job], str]:
    """Where each output goes: as below the folder that all have in common; what was moved here before stays."""
    inside = f"{own}{os.sep}"
    folders = {os.path.dirname(job.output) for job in jobs if not job.output.startswith(inside)}
    base = os.path.commonpath(folders) if folders else "/"

    def place(job: Job) -> str:
        return os.path.relpath(job.output, own if job.output.startswith(inside) else base)

    return place


def _work(queue: Queue, job: Job, path: str) -> Work:
    output = Path(job.output)
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
        raise PackageError(f"the sidecar of {shown(output)} cannot be read: {e}") from e
    if record.said.output.sha256 != job.output_sha256:
        raise PackageError(f"the sidecar of {shown(output)} speaks of another file")
    items.append(Item(os.path.join(folder, beside.name), beside, "sidecar", checksums.of_bytes(data), own))
    items += _copies(record.document, output, folder)
    for item in items:
        if item.data is None and not item.origin.is_file():
            raise PackageError(f"{shown(item.origin)} is not there")
    return Work(job, tuple(items), sidecar_versions.newest(record.document))


def _copies(document: Mapping[str, Any], output: Path, folder: str) -> Iterator[Item]:
    copies = document.get("copies")
    for copy in copies if isinstance(copies, list) else []:
        name, sha256 = os.path.basename(str(copy.get("path", ""))), str(copy.get("sha256", ""))
        yield Item(os.path.join(folder, name), output.with_name(name), "copy", sha256)
