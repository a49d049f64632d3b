"""Taking back what was made: outputs, sidecars and copies go into a folder of their own, if they still are as made.

    all files of a job are compared with what is on record of them     one that differs, and nothing of it is moved
    -> copies for access, then the sidecar, then the output are moved  linked under the new name, then unlinked
    -> both folders are synced, and only then does the queue say so

A crash between leaves a job that is done, with some of its files moved: the same command again finds those under their
new names and goes on. No file is replaced: a name that something else has gets the job's number and its claim's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from batchsr import faults, storage
from batchsr.copying import copy_whole
from batchsr.display import shown
from batchsr.errors import BatchsrError, OutputExists, SidecarForeign
from batchsr.queue import Job, Queue, State
from batchsr.remote.address import is_url, path_of
from batchsr.restoration import publishing, sidecar_reading
from batchsr.restoration.sidecar import sidecar_path
from batchsr.settings.profile import Settings

FOLDER: Final = "batchsr-undone"
"""Where an undone output goes, in its own folder, where nothing else is said. Searches for recordings pass it by."""
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclasses.dataclass(frozen=True, slots=True)
class Undone:
    """What became of one job."""

    job: Job
    verdict: Literal["undone", "missing", "changed", "busy"]
    detail: str = ""
    files: tuple[str, ...] = ()
    """Where its files are now."""


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    """A file that belongs to a job, where it was made, and its hash if that is on record."""

    path: Path
    sha256: str | None


def undo(queue: Queue, jobs: Iterable[Job], into: Path | None = None, *, dry_run: bool = False) -> Iterator[Undone]:
    """Take back what jobs that are done have made, and say for each, in order, what happened.

    into: a folder for all of it; without one, `FOLDER` beside each output. What is no longer as it was made, or is
    gone, stays, and so does the job. With `dry_run` nothing is moved or written. Raises ResourceError where files
    cannot be moved.
    """
    for job in jobs:
        if job.state is not State.DONE:
            yield Undone(job, "busy", f"it is {job.state}")
            continue
        if is_url(job.output):
            yield Undone(job, "busy", "its output is in a store, where nothing is moved or deleted: do that there")
            continue
        target = into if into is not None else path_of(job.output).parent / FOLDER
        if not dry_run:
            publishing.mend(path_of(job.output))
        files, wrong = _checked(queue, job, target)
        if wrong is not None:
            yield wrong
        elif dry_run:
            yield Undone(job, "undone", files=tuple(str(_name_in(target, one.path, job)) for one in files))
        else:
            yield _take_back(queue, job, files, target)


def _checked(queue: Queue, job: Job, target: Path) -> tuple[list[_File], Undone | None]:
    """Return a job's files in the order in which they are moved, the output last; or what is wrong with them."""
    output, record_path = path_of(job.output), sidecar_path(path_of(job.output))
    made = _File(output, job.output_sha256)
    wrong = _wrong(job, made, target)
    if wrong is not None:
        return [], wrong
    files: list[_File] = []
    settings = Settings.from_json(job.settings)
    document = queue.report_of(job.id)
    if settings.sidecar:
        at = next((path for path in (record_path, *_moved_names(target, record_path, job)) if _is_there(path)), None)
        try:
            record = sidecar_reading.read(at) if at is not None else None
        except SidecarForeign as e:
            return [], Undone(job, "changed", str(e.message))
        if record is not None:
            if record.said.output.sha256 != job.output_sha256:
                return [], Undone(job, "changed", f"{shown(record_path)} speaks of another output")
            document = record.document
            if at == record_path:
                files.append(_File(record_path, None))
    if settings.files_beside and document is None:
        return [], Undone(job, "missing", "its sidecar, which names its copies, is not there")
    try:
        copies = sidecar_reading.copies_of(document or {}, output, settings.also)
    except SidecarForeign as e:
        return [], Undone(job, "changed", str(e.message))
    for copy in copies:
        one = _File(copy.beside, copy.sha256)
        if (wrong := _wrong(job, one, target)) is not None:
            return [], wrong
        files.insert(0, one)
    return [*files, made], None


def _wrong(job: Job, file: _File, target: Path) -> Undone | None:
    """Return why a file cannot be taken back; None if it can, or was already."""
    try:
        if not stat.S_ISREG(os.lstat(file.path).st_mode):
            return Undone(job, "changed", f"{shown(file.path)} is no plain file any more")
        if storage.sha256(file.path) == file.sha256:
            return None
        return Undone(job, "changed", f"{shown(file.path)} is not as it was made")
    except FileNotFoundError:
        if _moved(target, file, job) is not None:
            return None
        return Undone(job, "missing", f"{shown(file.path)} is not there")
    except OSError as e:
        return Undone(job, "missing", f"{shown(file.path)} cannot be read: {e.strerror}")


def _take_back(queue: Queue, job: Job, files: list[_File], target: Path) -> Undone:
    if os.path.islink(target):
        raise OutputExists(f"{target} is a link, and nothing is moved through it", remedy="name a folder: --into")
    storage.make_folder(target)
    if os.path.samefile(target, path_of(job.output).parent):
        raise OutputExists(f"{target} is where the outputs are", remedy="name another folder: --into")
    now: list[str] = []
    for file in files:
        moved = _moved(target, file, job) if not _is_there(file.path) else None
        if moved is None:
            moved = _move(file.path, target, job)
            faults.point("undo.moved")
        now.append(str(moved))
    with storage.resource_errors(target, "sync"):
        storage.fsync_path(target)
        storage.fsync_path(path_of(job.output).parent)
    faults.point("undo.before_row")
    if not queue.undone(job, f"undone: its output was moved to {now[-1]}"):
        why = f"its files were moved to {shown(target)}, but it was queued again meanwhile"
        return Undone(job, "busy", why, tuple(now))
    return Undone(job, "undone", files=tuple(now))


def _move(path: Path, target: Path, job: Job) -> Path:
    """Give a file its new name, replacing nothing, and take the old one away. Raises ResourceError, OutputExists."""
    with storage.resource_errors(path, "move"):
        for new in _moved_names(target, path, job):
            if _give_name(path, new):
                if _is_there(path):
                    path.unlink()
                return new
    raise OutputExists(f"{target} holds other files by the names of {path.name} already", remedy="name another --into")


def _give_name(path: Path, new: Path) -> bool:
    """Let a file stand under a new name, durably where it is a copy. False if something else has the name."""
    try:
        os.link(path, new, follow_symlinks=False)
    except FileExistsError:
        return os.path.samefile(path, new)  # a crash between link and unlink left both names
    except OSError as e:
        if e.errno == errno.EXDEV:
            return _copy(path, new)
        if e.errno not in _NO_LINKS:
            raise
        if _is_there(new):  # FAT and some shares: look, then rename
            return False
        os.rename(path, new)
    return True


def _copy(path: Path, new: Path) -> bool:
    """Copy a file to another file system, whole or not at all. False if the name is taken."""
    if _is_there(new):  # by a crash between the copy and the end of the original, or somebody else's
        return not new.is_symlink() and storage.sha256(new) == storage.sha256(path)
    return copy_whole(path, new, compared=True)


def _moved(target: Path, file: _File, job: Job) -> Path | None:
    """Return where a file was moved to before a crash, if it was."""
    for path in _moved_names(target, file.path, job):
        with contextlib.suppress(OSError):
            if file.sha256 is not None and storage.sha256(path) == file.sha256:
                return path
    return None


def _moved_names(target: Path, path: Path, job: Job) -> tuple[Path, Path]:
    """Return the name that a file gets, and the one it gets where something else has that."""
    tagged = storage.fitted_name(path.stem, f".{job.tag}{path.suffix}")
    return target / path.name, target / tagged


def _name_in(target: Path, path: Path, job: Job) -> Path:
    first, second = _moved_names(target, path, job)
    return second if _is_there(first) else first


def _is_there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except (OSError, BatchsrError):
        return False
