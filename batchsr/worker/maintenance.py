"""Looking after what was done: verify outputs against the queue, and remove what nobody needs any more."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from batchsr import storage
from batchsr.errors import ExtraMissing, SidecarForeign, StoreAway
from batchsr.queue import OWNED, Job, Queue, State
from batchsr.remote import publish
from batchsr.remote.address import Address, is_url, path_of
from batchsr.restoration import credentials, publishing, sidecar_reading
from batchsr.restoration.sidecar import sidecar_path
from batchsr.settings.profile import Settings
from batchsr.temporary import dead_in
from batchsr.worker import agreement

KEEP_EVENTS_S: Final = 90 * 86400.0
_OVER: Final = (State.DONE, State.CANCELLED, State.SUPERSEDED)
_SCRATCH: Final = re.compile(r"(\d+)-[0-9a-f]{16}\.slots(\.spool|\.stems|\.(source|output)(\.\w+)*)?")
_AT_ONCE: Final = 100  # files removed while the queue is held still


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an output since it was done."""

    job: Job
    verdict: Literal["ok", "missing", "truncated", "changed"]
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Garbage:
    """What was, or with `dry_run` would be, removed."""

    files: list[Path | str]
    """Paths, and URLs of what was left in stores."""
    bytes: int
    events: int


def verify(queue: Queue, ids: Iterable[int] | None = None) -> Iterator[Verdict]:
    """Hash the outputs of jobs that are done, all or those named, and compare with the queue.

    Where two hosts of a fleet replaced one output, record and sidecar are first made to speak of what stands there, or
    the job is queued again (`agreement.reach`).

    An output in a store is read there; raises StoreAway, StoreDenied, ExtraMissing where that cannot be.
    """
    for job in queue.jobs(states=[State.DONE], ids=ids):
        agreed = agreement.reach(queue, job)
        if agreed == "queued again":
            yield Verdict(job, "changed", "it was made otherwise than the job asks for: queued again")
            continue
        if agreed == "corrected":
            job = queue.get(job.id) or job
        verdict = _verdict_on_object(job) if is_url(job.output) else _verdict(job)
        verdict = _verdict_on_copies(queue, job) if verdict.verdict == "ok" else verdict
        if agreed == "corrected" and verdict.verdict == "ok":
            verdict = Verdict(job, "ok", "record and sidecar follow the file, which another host had made")
        yield verdict


def _verdict(job: Job) -> Verdict:
    output = path_of(job.output)
    try:
        size_bytes = output.stat().st_size
        if job.output_bytes is not None and size_bytes < job.output_bytes:
            return Verdict(job, "truncated", f"{size_bytes} of {job.output_bytes} bytes are left")
        found = storage.sha256(output)
    except FileNotFoundError:
        return Verdict(job, "missing", "no such file")
    except OSError as e:
        return Verdict(job, "missing", f"cannot be read: {e.strerror}")
    if found != job.output_sha256:
        return Verdict(job, "changed", f"SHA-256 is {found}, not {job.output_sha256}")
    return Verdict(job, "ok")


def _verdict_on_object(job: Job) -> Verdict:
    """Return the same of an output in a store, which is read to its end."""
    try:
        found, size_bytes = publish.sha256(Address.parse(job.output))
    except FileNotFoundError:
        return Verdict(job, "missing", "no such object")
    if found == job.output_sha256:
        return Verdict(job, "ok")
    if job.output_bytes is not None and size_bytes < job.output_bytes:
        return Verdict(job, "truncated", f"{size_bytes} of {job.output_bytes} bytes are left")
    return Verdict(job, "changed", f"SHA-256 is {found}, not {job.output_sha256}")


def _verdict_on_copies(queue: Queue, job: Job) -> Verdict:
    """Return the same for the copies for access that the report or the sidecar names."""
    if not Settings.from_json(job.settings).files_beside:
        return Verdict(job, "ok")
    document = queue.report_of(job.id)
    if document is None:
        with contextlib.suppress(SidecarForeign, OSError):
            record = sidecar_reading.read(sidecar_path(path_of(job.output)))
            document = None if record is None else record.document
    if document is None:
        return Verdict(job, "missing", "its sidecar, which names its copies, is not there")
    try:
        copies = sidecar_reading.copies_of(document, path_of(job.output), Settings.from_json(job.settings).also)
    except SidecarForeign as e:
        return Verdict(job, "missing", e.message)
    for copy in copies:
        path = copy.recorded
        if not os.path.lexists(path) and os.path.lexists(copy.beside):  # moved with it: `relocate`, `export --move`
            path = copy.beside
        try:
            found = storage.sha256(path)
        except FileNotFoundError:
            return Verdict(job, "missing", f"its copy {path} is not there")
        except OSError as e:
            return Verdict(job, "missing", f"its copy {path} cannot be read: {e.strerror}")
        if found != copy.sha256:
            return Verdict(job, "changed", f"its copy {path} has SHA-256 {found}, not {copy.sha256}")
    return Verdict(job, "ok")


def credentials_of(queue: Queue, job: Job) -> str | None:
    """Return what the content credentials of a job's files are: `trusted`, `valid`, `broken`, `missing` or `unchecked`.

    The worst of output and copies; None where its record says that they have none.
    """
    document = queue.report_of(job.id)
    if document is None:
        with contextlib.suppress(SidecarForeign, OSError):
            record = sidecar_reading.read(sidecar_path(path_of(job.output)))
            document = None if record is None else record.document
    if document is None or not document.get("credentials"):
        return None
    if is_url(job.output):
        return "unchecked"
    output = path_of(job.output)
    files = [(output, Settings.from_json(job.settings).format)]
    with contextlib.suppress(SidecarForeign):  # which `verify` tells
        files += [(copy.beside, copy.format) for copy in sidecar_reading.copies_of(document, output, "")]
    states = [credentials.state(path, form) for path, form in files]
    return min(states, key=("broken", "missing", "unchecked", "valid", "trusted").index)


def collect_garbage(queue: Queue, *, dry_run: bool = False, events_older_s: float = KEEP_EVENTS_S) -> Garbage:
    """Remove scratch files of jobs that are done, cancelled, superseded or unknown, what dead processes left beside
    outputs, locks of dead workers, and old events. Never anything else: names that are not ours are left alone, and so
    is whatever an unfinished or failed job may go on from, or a living process holds.
    """
    removed: dict[Path | str, int] = dict(_collect_scratch(queue, dry_run=dry_run))
    removed.update(_collect_temporaries(queue.scratch_folder, dry_run=dry_run))
    for folder in sorted(queue.output_folders()):
        if is_url(folder):
            removed.update(_collect_objects(queue, folder, dry_run=dry_run))
        else:
            removed.update(_collect_temporaries(Path(folder), dry_run=dry_run))
    freed_bytes = sum(removed.values())
    if dry_run:
        return Garbage(list(removed), freed_bytes, 0)
    queue.prune_locks()
    return Garbage(list(removed), freed_bytes, queue.prune_events(events_older_s))


def _collect_scratch(queue: Queue, *, dry_run: bool) -> Iterator[tuple[Path, int]]:
    """Remove the scratch files that nobody goes on from; yields each with its size in bytes."""
    candidates = list(_scratch_files(queue.scratch_folder))
    for start in range(0, len(candidates), _AT_ONCE):
        some = candidates[start : start + _AT_ONCE]
        with queue.keep_still():  # no job is claimed or retried between the look and the removal
            jobs = {job.id: job for job in queue.jobs(ids={job_id for job_id, _ in some})}
            garbage = [path for job_id, path in some if _is_garbage(path, jobs.get(job_id))]
            sizes = [_size_bytes(path) for path in garbage]
            for path in () if dry_run else garbage:
                with storage.resource_errors(path, "remove"):
                    path.unlink(missing_ok=True)
        yield from zip(garbage, sizes, strict=True)


def _collect_temporaries(folder: Path, *, dry_run: bool) -> Iterator[tuple[Path, int]]:
    """Remove what dead processes left beside outputs; yields each file that is gone with its size in bytes."""
    if not dry_run:
        publishing.mend_folder(folder)
    for temporary in dead_in(folder):
        size_bytes = temporary.size_bytes()
        temporary.close() if dry_run else temporary.discard()
        if dry_run or not os.path.lexists(temporary.path):  # in another user's folder it may have to stay
            yield temporary.path, size_bytes


def _collect_objects(queue: Queue, folder: str, *, dry_run: bool) -> Iterator[tuple[str, int]]:
    """Delete what crashes left below a prefix of a store: temporaries of claims that are over, of this queue's jobs."""
    try:
        left = list(publish.temporaries(Address.parse(folder + "/")))
        for address, key, job_id, claim in left:
            job = queue.get(job_id)
            if key and (job is None or job.output != address.at(key).url or _is_at_it(job, claim)):
                continue  # of another queue, or in the making
            if not dry_run:
                publish.delete(address)
            yield address.url, 0
    except (StoreAway, ExtraMissing):
        return  # the next time; what is left there harms nothing


def _is_at_it(job: Job, claim: int) -> bool:
    return job.state in OWNED and claim == job.claim_seq


def _is_garbage(scratch: Path, job: Job | None) -> bool:
    own = scratch.name.partition(".slots")[0] + ".slots"
    return job is None or job.state in _OVER or own != job.scratch_name  # of an older queue under our name


def _scratch_files(folder: Path) -> Iterator[tuple[int, Path]]:
    for entry in _entries(folder):
        if match := _SCRATCH.fullmatch(entry.name):
            yield int(match[1]), Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
