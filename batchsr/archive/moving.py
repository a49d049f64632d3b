"""Moving outputs into a package: the queue is told first, then the originals go; a crash in between is gone on from.

What is to be moved stands in `.NAME.batchsr-export.moves` beside the package from before the first row is changed until
the last original is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from batchsr import faults, storage
from batchsr.archive import exchange, mark
from batchsr.archive.contents import Work
from batchsr.display import shown
from batchsr.errors import PackageError
from batchsr.queue import Answer, Job, Move, Queue, State


def check(works: Sequence[Work], target: Path) -> None:
    """Refuse to take files out of another package, whose lists would no longer be true. Raises PackageError."""
    packages: dict[Path, Path | None] = {}
    for work in works:
        folder = Path(work.job.output).parent
        if folder not in packages:
            real = Path(os.path.realpath(folder))
            own = (above for above in (real, *real.parents) if (above / mark.NAME).is_file())
            packages[folder] = next(own, None)
        package = packages[folder]
        if package is not None and storage.path_below(package, target) != ".":
            raise PackageError(
                f"{shown(work.job.output)} is in the package {shown(package)}, which would lose it",
                remedy="leave out --move, or pass --link",
            )


def note(queue: Queue, works: Sequence[Work], target: Path, content: Path) -> None:
    """Put on record, durably, which outputs are to be where, and which originals then go."""
    path = exchange.beside(target, ".moves")
    with path.open("w", encoding="ascii") as file:
        file.write(json.dumps({"queue": queue.own_id}) + "\n")
        for work in works:
            if work.items[0].origin.is_relative_to(content):
                continue  # it lies there, by whatever name the queue knows it
            files = [[str(item.origin), str(content / item.path), item.sha256] for item in work.items]
            file.write(json.dumps({"job": work.job.id, "files": files}) + "\n")
        file.flush()
        storage.fsync(file.fileno())
    storage.fsync_path(path.parent)


def finish(queue: Queue, target: Path) -> list[int]:
    """Tell the queue where outputs are now, and remove the originals of which the package has the same bytes.

    Does what a killed export left to do. Returns the jobs that changed meanwhile: their files stay where they were.
    Raises OSError.
    """
    path = exchange.beside(target, ".moves")
    if not path.is_file():
        return []
    changed = []
    for line in _lines(path, queue):
        files = [(Path(origin), Path(place), str(sha256)) for origin, place, sha256 in line["files"]]
        if not _moved(queue, int(line["job"]), files):
            changed.append(int(line["job"]))
    path.unlink()
    return changed


def _lines(path: Path, queue: Queue) -> Iterator[dict[str, Any]]:
    """Yield what was put on record; nothing of a record that was cut, or of another queue."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        head, *lines = map(json.loads, path.read_text("ascii").splitlines())
        if head["queue"] == queue.own_id:
            yield from lines


def _moved(queue: Queue, number: int, files: Sequence[tuple[Path, Path, str]]) -> bool:
    """Move one job's output, whose file is the first; False: the job is no longer as it was, and its files stay."""
    (origin, place, sha256), job = files[0], queue.get(number)
    if job is None or job.state is not State.DONE or job.output_sha256 != sha256 or not place.is_file():
        return False
    if job.output == str(origin):
        (answer,) = queue.relocate([_move(job, place)])
        if answer.answer is not Answer.CHANGED:
            return False
    elif job.output != str(place):
        return False
    faults.point("export.step")
    for one, there, digest in files:
        if _is_same(one, there, digest):
            one.unlink()
        faults.point("export.step")
    return True


def _move(job: Job, place: Path) -> Move:
    return Move(
        job_id=job.id,
        source=job.source,
        output=str(place),
        identity=job.identity,
        dedupe_key=job.dedupe_key,  # as it was asked for, so that `enqueue` knows the recording again
        size_bytes=job.size_bytes or 0,
        mtime_ns=job.mtime_ns or 0,
        inode=job.inode or 0,
        device=job.source_device or 0,
        wanted=job.output,
    )


def _is_same(one: Path, there: Path, digest: str) -> bool:
    """Return whether the package has a second name, or a whole copy, of a file."""
    try:
        if os.path.samefile(one, there):
            return one.stat().st_nlink > 1 and os.path.realpath(one) != os.path.realpath(there)
        return storage.sha256(one) == storage.sha256(there) == digest
    except OSError:
        return False
