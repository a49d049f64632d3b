"""From what the user names to jobs: gather paths, name outputs, probe, enqueue.

The command line, a manifest and the hot folder all come in through here. Whatever exists gets a row, even
what looks bad: the worker then fails it with a code and a sentence, so that the record is complete. Only
what can never be a job (a folder, a name that matches nothing) is refused here.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from batchsr.audio import files, formats
from batchsr.errors import InputError
from batchsr.queue import Enqueued, NewJob, Queue
from batchsr.settings.profile import OUTPUT_SUFFIX, Settings
from batchsr.storage import NAME_BYTES, fitted_name
from batchsr.temporary import TEMPORARY_PREFIX

_OUTPUT_NAME_BYTES: Final = NAME_BYTES - len(".json")  # so that the sidecar's name is the output's and more

AUDIO_SUFFIXES: Final = formats.extensions()
"""What a folder is searched for. Some of it cannot be decoded here; it is taken all the same, so that the record says
why such a file was not restored."""
_AUDIO_MAGIC: Final = (b"RIFF", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b".snd", b"caff", b"ID3")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A path to enqueue, absolute, and the folder that an output tree mirrors from."""

    path: str
    root: str


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A path that cannot become a job, and why."""

    path: str
    code: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Intake:
    """What became of one path: the queue's answer beside what the probe saw."""

    job: NewJob
    enqueued: Enqueued


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """How the gathered files are to be restored."""

    settings: Settings
    variant: str | None = None
    out: str | None = None
    """Folder that mirrors the tree below the common root; None puts outputs beside their sources."""
    batch: str = ""
    priority: int = 0
    overwrite: bool = False
    suffix: str = OUTPUT_SUFFIX
    """What the output's stem ends with."""
    provenance: str = ""
    """Canonical JSON of where the settings came from (profile, manifest, notes), kept in the row and the sidecar."""


def gather(arguments: Iterable[str], *, recursive: bool, root: str | None = None) -> Iterator[Found | Refused]:
    """Expand files, folders and globs, in order, each path once.

    `root` defaults to the folder common to all arguments. A folder needs `recursive`; what it holds is taken
    by suffix, or by its first bytes where the suffix says nothing. Never opens anything but regular files.
    """
    expanded = list(_expand(arguments))
    if root is None:
        folders = [path if os.path.isdir(path) else os.path.dirname(path) for path, _ in expanded]
        root = os.path.commonpath(folders) if folders else os.getcwd()
    seen: set[str] = set()
    for path, exists in expanded:
        if not exists:
            yield Refused(path, "input.missing", f"{path}: no such file, folder or match")
        elif not os.path.isdir(path):
            if path not in seen:
                seen.add(path)
                yield Found(path, root)
        elif not recursive:
            yield Refused(path, "input.not_regular", f"{path} is a folder (pass -r to take what is in it)")
        else:
            for inner in _walk(path):
                if inner not in seen:
                    seen.add(inner)
                    yield Found(inner, root)


def output_names(path: str, root: str, request: Request) -> tuple[str, str]:
    """The wanted output path, and the one that keeps the extension in case another job has the first."""
    folder, name = os.path.split(path)
    if request.out is not None:
        folder = os.path.normpath(os.path.join(os.path.abspath(request.out), os.path.relpath(folder, root)))
    stem = os.path.splitext(name)[0]
    extension = "." + request.settings.format
    return (
        os.path.join(folder, fitted_name(stem, request.suffix + extension, _OUTPUT_NAME_BYTES)),
        os.path.join(folder, fitted_name(name, request.suffix + extension, _OUTPUT_NAME_BYTES)),
    )


def to_job(found: Found, request: Request) -> NewJob:
    """Probe one path and describe the job. Never raises on a bad file: its `note` says what the probe saw."""
    output, alternative = output_names(found.path, found.root, request)
    info, note = None, ""
    try:
        info = files.probe(Path(found.path), accept_truncated=request.settings.accept_truncated)
    except InputError as e:
        note = f"{e.code}: {e}"
    try:
        status = os.stat(found.path)
    except OSError:
        status = os.lstat(found.path)  # a dangling or looping link: its own identity is all there is
    return NewJob(
        source=found.path,
        output=output,
        alt_output=alternative,
        identity=f"{os.path.realpath(found.path)}\0{status.st_size}\0{status.st_mtime_ns}",
        settings=request.settings.to_json(),
        variant=request.variant,
        batch=request.batch,
        priority=request.priority,
        overwrite=request.overwrite,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        device=os.lstat(found.path).st_dev,  # of the name's own file system, also where it is a link
        frames=info.frames if info else None,
        sample_rate=info.sample_rate if info else None,
        channels=info.channels if info else None,
        audio_s=info.duration_s if info else None,
        note=note,
        provenance=request.provenance,
    )


def enqueue(queue: Queue, found: Iterable[Found], request: Request, *, dry_run: bool = False) -> Iterator[Intake]:
    """Probe and enqueue, in bulk, telling for each path what happened. With `dry_run` nothing is written."""
    pending: deque[NewJob] = deque()  # the queue takes jobs in bulk and answers in order

    def remember() -> Iterator[NewJob]:
        for one in found:
            try:
                job = to_job(one, request)
            except FileNotFoundError:
                continue  # gone since it was listed: there is nothing to restore
            pending.append(job)
            yield job

    answers = queue.preview(remember()) if dry_run else queue.enqueue(remember())
    for answer in answers:
        yield Intake(pending.popleft(), answer)


def _expand(arguments: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Absolute paths with whether they exist; a glob only where no file has that very name."""
    for argument in arguments:
        path = os.path.abspath(argument)
        if os.path.lexists(path):
            yield path, True
        elif glob.has_magic(argument) and (matches := sorted(glob.glob(path, recursive=True, include_hidden=True))):
            yield from ((match, True) for match in matches)
        else:
            yield path, False


def _walk(folder: str) -> Iterator[str]:
    """Audio below `folder` in a fixed order. Links to folders are not followed: they may loop."""
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif not entry.is_dir() and is_audio(entry.path):
            yield entry.path


def is_audio(path: str) -> bool:
    """Whether a folder's search takes this file: by its suffix, or by its first bytes where it has none."""
    name = os.path.basename(path)
    if name.startswith((TEMPORARY_PREFIX, "._")):  # ours, and what macOS leaves on foreign disks
        return False
    suffix = os.path.splitext(name)[1].lower()
    if suffix:
        return suffix in AUDIO_SUFFIXES
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return file.read(4).startswith(_AUDIO_MAGIC)
    except OSError:
        return False
