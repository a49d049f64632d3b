"""A job whose source or output is in a store: a copy to work on, an output that is sent when it is finished.

    <scratch>.source.wav     the copy of the source, fetched before and removed with the scratch
    <scratch>.output.wav     the finished output with its sidecar, until both are in the store

Both stand in the scratch folder of this machine, so whoever has the job next there goes on with them. In the store the
output is first, then its sidecar, and only then does the queue say that it is done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from batchsr import faults, storage
from batchsr.display import shown
from batchsr.errors import BatchsrError, OutputExists, OutputPathError, SidecarForeign, StoreAway
from batchsr.queue import Job, Result, WorkQueue
from batchsr.remote import answers, fetch, objects, publish
from batchsr.remote.address import Address, is_url, path_of
from batchsr.remote.objects import Facts
from batchsr.restoration import publishing, sidecar_reading
from batchsr.restoration.restore import discard_scratch
from batchsr.restoration.sidecar import sidecar_path
from batchsr.restoration.task import Task
from batchsr.settings.profile import Settings

_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,12}")


class RemoteFiles:
    """The files of one claim, where they are on this machine and what they are called elsewhere."""

    def __init__(self, job: Job, scratch_folder: Path) -> None:
        self._job = job
        self.scratch = scratch_folder / job.scratch_name
        self.source: Path = path_of(job.source)
        self.output: Path = path_of(job.output)
        self.origin = Address.parse(job.source) if is_url(job.source) else None
        self.target = Address.parse(job.output) if is_url(job.output) else None
        if self.origin is not None:
            self.source = self.scratch.with_name(f"{job.scratch_name}.source{_extension(self.origin.name)}")
        if self.target is not None:
            self.output = self.scratch.with_name(f"{job.scratch_name}.output{_extension(self.target.name)}")

    @contextlib.contextmanager
    def fetched(self, alive: Callable[[], None]) -> Iterator[None]:
        """Hold a copy of a source that is in a store for the block. Raises what `fetch.copied` does."""
        if self.origin is None:
            yield
            return
        with fetch.copied(self.origin, self._job.identity, self.source, alive=alive):
            yield

    def check_unchanged(self) -> None:
        """Make sure that a source in a store is still the one that was fetched. Raises InputChanged, StoreAway."""
        if self.origin is not None:
            fetch.unchanged(self.origin, self._job.identity)

    def on_record(self, task: Task) -> Task:
        """Return the task with what its files are called elsewhere."""
        of_source = {} if self.origin is None else {"source_name": self.origin.url, "e_tag": self._e_tag()}
        return dataclasses.replace(
            task,
            **of_source,  # type: ignore[arg-type]
            output_name=self.target.url if self.target is not None else "",
            overwrite=task.overwrite or self.target is not None,  # of the copy here, which nobody else has
        )

    def named(self, error: BatchsrError) -> None:
        """Let an error speak of the files by the names that people know."""
        for local, known in ((self.source, self._job.source), (self.output, self._job.output)):
            if is_url(known):
                error.message = error.message.replace(str(local), known)
                error.remedy = error.remedy.replace(str(local), known)

    def discard(self) -> None:
        """Remove what is no longer needed here. Raises ResourceError."""
        discard_scratch(self.scratch)
        if self.origin is not None:
            fetch.forget(self.source)
        if self.target is not None:
            for path in (self.output, sidecar_path(self.output)):
                with storage.resource_errors(path, "remove"):
                    path.unlink(missing_ok=True)

    def _e_tag(self) -> str:
        return objects.mark_of(self._job.identity).strip('"')


class RemoteOutput:
    """The output of one claim on its way into a store."""

    def __init__(self, files: RemoteFiles, queue: WorkQueue, job: Job, settings: Settings) -> None:
        assert files.target is not None
        self._files = files
        self._queue = queue
        self._job = job
        self._settings = settings
        self.target = files.target
        self._record = self.target.at(sidecar_key(self.target.key))
        self._replaces: Facts | None = None

    def standing(self, from_record: Callable[[sidecar_reading.Record, str, int], Result | None]) -> Result | None:
        """Return what to record of the object under the output's key, if it is what this job makes; None if none is.

        Refuses at the start what would be refused at the end. `from_record(record, hash, size)` is asked whether a
        sidecar that stands beside it proves it. Raises OutputExists, OutputPathError, StoreAway, StoreDenied.
        """
        if self._settings.files_beside:
            told = f"{shown(self._job.output)}: copies for access and files of stems are written to folders alone"
            raise OutputPathError(told, remedy="leave out --also and --stems files, or name a folder with --out")
        publish.want_condition(self.target)
        if (why := self.target.refusal()) is not None:
            raise OutputPathError(f"{shown(self._job.output)}: {why}", remedy="choose another --out")
        if self._job.claim_seq > 1:
            self._clear()
        facts = objects.look(self.target)
        if facts is None:
            self._want_record_place()
            return None
        found = self._whose(facts, from_record)
        if found is None:
            if not self._job.overwrite:
                told = f"{shown(self._job.output)} exists already"
                raise OutputExists(told, remedy="move it away, or pass --overwrite")
            self._want_record_place()
            self._replaces = facts
        return found

    def send(self, alive: Callable[[], None]) -> publish.Upload:
        """Bring what is large near its key."""
        upload = publish.Upload(self._files.output, self.target, self._job.tag, alive)
        upload.send()
        return upload

    def take_names(self, upload: publish.Upload, result: Result) -> Result:
        """Put output and sidecar under their keys. Returns what to record: of another claim, where that was first.

        Raises OutputExists where what is not of this job has the key, SidecarForeign, StoreAway, StoreDenied.
        """
        found = result
        try:
            upload.take_name(self._replaces)
        except answers.Taken:
            facts = objects.look(self.target)
            other = None if facts is None else self._by_hash(facts, result)
            if other is None:
                told = f"{shown(self._job.output)} exists already: somebody else has written it meanwhile"
                raise OutputExists(told, remedy="move it away, or pass --overwrite") from None
            found = other
        self.write_record(found.report)
        return found

    def write_record(self, document: Mapping[str, Any] | None) -> None:
        """Put the sidecar beside the output where it is missing, or another output's."""
        if document is None or not self._settings.sidecar:
            return
        replaces = self._want_record_place()
        data = publishing.record_bytes(document)
        with contextlib.suppress(answers.Taken):  # by another claim of this job, which writes the same
            publish.put_small(self._record, data, replaces)
        faults.point("sidecar.after")

    def _whose(
        self, facts: Facts, from_record: Callable[[sidecar_reading.Record, str, int], Result | None]
    ) -> Result | None:
        job = self._job
        own = Result(job.output_sha256, job.output_bytes or 0) if job.output_sha256 else None
        known = own is not None and own.output_bytes == facts.size_bytes
        found = self._by_hash(facts, own) if known or not job.overwrite else None
        if found is None and not job.overwrite and (record := self._standing_record()) is not None:
            if record.said.output.size_bytes == facts.size_bytes:
                return from_record(record, *publish.sha256(self.target))
            return None
        if found is not None:
            report = found.report if found.report is not None else json.loads(job.report) if job.report else None
            self.write_record(report if report and report["output"]["sha256"] == found.output_sha256 else None)
        return found

    def _by_hash(self, facts: Facts, own: Result | None) -> Result | None:
        """Return the result of the claim of this job that has made what stands there."""
        known: list[str] = []

        def sha256() -> str:
            if not known:
                known.append(publish.sha256(self.target)[0])
            return known[0]

        if own is not None and own.output_bytes == facts.size_bytes and sha256() == own.output_sha256:
            return own
        return None if self._job.overwrite else self._queue.standing(self._job, sha256)

    def _standing_record(self) -> sidecar_reading.Record | None:
        there = publish.read_small(self._record, sidecar_reading.MOST_BYTES)
        with contextlib.suppress(SidecarForeign):
            return None if there is None else sidecar_reading.parse(Path(self._record.name), there[0])
        return None

    def _want_record_place(self) -> Facts | None:
        """Return what stands under the sidecar's key, a sidecar of ours. Raises SidecarForeign for anything else."""
        if not self._settings.sidecar:
            return None
        there = publish.read_small(self._record, sidecar_reading.MOST_BYTES)
        if there is None:
            return None
        if not sidecar_reading.is_of_ours(there[0]):
            message = f"{shown(self._record.url)} exists and is not a sidecar of batchsr"
            raise SidecarForeign(message, remedy="move it away, or pass --no-sidecar")
        return there[1]

    def _clear(self) -> None:
        """Delete the temporaries that earlier claims of this job have left."""
        with contextlib.suppress(StoreAway):
            for left, _, job_id, claim in list(publish.temporaries(_folder(self.target), self.target.key)):
                if job_id == self._job.id and claim < self._job.claim_seq:
                    publish.delete(left)


def sidecar_key(key: str) -> str:
    """Return the key of an output's sidecar."""
    folder, slash, name = key.rpartition("/")
    return folder + slash + sidecar_path(Path(name)).name


def _folder(address: Address) -> Address:
    folder = address.key.rpartition("/")[0]
    return address.at(folder and folder + "/")


def _extension(name: str) -> str:
    """Return an extension that decides how a file is read; nothing else of a key becomes part of a name here."""
    found = os.path.splitext(name)[1]
    return found if _EXTENSION.fullmatch(found) else ""
