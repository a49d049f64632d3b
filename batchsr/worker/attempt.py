"""One claim of one job: from the queue to a restoration, and what that found back into the queue.

Longer than other modules: a claim and whatever it may end with are read in one piece.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from batchsr import storage
from batchsr.errors import BatchsrError, ClaimLost, QueueAway, ResourceError
from batchsr.queue import Backend, Job, Result, State, WorkQueue, is_published
from batchsr.remote.address import path_of
from batchsr.restoration import publishing
from batchsr.restoration.batcher import Batcher
from batchsr.restoration.sidecar import sidecar_path
from batchsr.restoration.task import Restored, Task
from batchsr.settings.profile import Settings
from batchsr.signals import Stop
from batchsr.worker import agreement, pauses, recovery
from batchsr.worker.in_flight import InFlightFile
from batchsr.worker.remote_files import RemoteFiles, RemoteOutput

_SIGN_OF_LIFE_S: Final = 5.0  # the same number of windows is written to the queue no more often than this
_WAIT_FOR_OTHER_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.2
RestoreFn = Callable[..., Restored]


class Interrupted(Exception):
    """Raised between two windows when a signal asked to stop. Not an error."""


class Attempt:
    """One claim of one job, from the queue to the restoration and back."""

    def __init__(
        self, queue: WorkQueue, file: InFlightFile, stop: Stop, tell_windows: Callable[[Job, int, int], None]
    ) -> None:
        job = file.job
        self._files = RemoteFiles(job, queue.scratch_folder)
        self.task = Task(
            source=self._files.source,
            output=self._files.output,
            scratch=self._files.scratch,
            settings=Settings(),
            overwrite=job.overwrite,
            size_bytes=job.size_bytes,
            mtime_ns=job.mtime_ns,
            tag=job.tag,
            still_ours=self._want_claim,
        )
        self.progressed = False
        """Whether it made windows."""
        self._rows = 1
        """Of each window."""
        self._stands_still = False
        """It waits to be denoised: it has no rows ready for the model, however many are left."""
        self._queue = queue
        self._file = file
        self._job = job
        self._stop = stop
        self._tell_windows = tell_windows
        self._windows_done = -1
        self._told_at_s = -math.inf
        self._prepared: Result | None = None
        self._is_done = False

    def restore(self, model: Batcher, restore: RestoreFn, variant: str) -> Job:
        """Restore the file, or adopt what an earlier attempt published. Returns the job, done."""
        try:
            done = self._restore(model, restore, variant)
            self._is_done = True
            return done
        except BatchsrError as e:
            self._files.named(e)
            raise

    def discard(self) -> None:
        """Remove what is no longer needed when the job is over. Raises ResourceError."""
        self._files.discard()

    def _restore(self, model: Batcher, restore: RestoreFn, variant: str) -> Job:
        job = self._job
        backend = backend_of(variant, model)
        settings = Settings.from_json(job.settings)
        self._rows = settings.rows_of(job.channels or 1)
        self.task = dataclasses.replace(self.task, settings=settings, provenance=_provenance(job, backend, model))
        self.task = self._files.on_record(self.task)
        if self._files.target is not None:
            return self._into_store(RemoteOutput(self._files, self._queue, job, settings), model, restore, backend)
        if self._queue.shared and not job.overwrite:
            publishing.want_links(self.task.output.parent)
        result = recovery.finished_before(job, settings, backend) or self._standing()
        if result is not None:
            self._queue.committing(job, result)
        else:
            self._make(model, restore, self._before_publish)
        return self._queue.finish(job, keep_report=not self._has_sidecar())

    def _make(self, model: Batcher, restore: RestoreFn, before_publish: Callable[[Restored], None]) -> None:
        """Restore the file, fetched before where it is in a store."""
        with self._files.fetched(self._bringing):
            restore(
                self.task,
                model,
                on_windows=self._on_windows,
                before_publish=before_publish,
                alive=self._stop_if_asked if self.task.settings.denoise == "off" else self._denoising,
                spent_s=lambda: self._job.wall_s + self._file.spent_s(),  # over all attempts
            )

    def _into_store(self, output: RemoteOutput, model: Batcher, restore: RestoreFn, backend: Backend) -> Job:
        """Restore the file and send it, or adopt what stands there, or send what an earlier attempt has finished."""
        job, settings = self._job, self.task.settings
        found = output.standing(
            lambda record, sha256, size: recovery.from_record(job, settings, backend, record, sha256, size)
        )
        if found is not None:
            self._queue.committing(job, found)
            return self._queue.finish(job, found)
        here = dataclasses.replace(job, output=str(self._files.output), overwrite=False)
        result = recovery.from_sidecar(here, settings, backend)
        if result is None:
            made: list[Result] = []
            self._make(model, restore, lambda restored: made.append(_result(restored)))
            (result,) = made
        upload = output.send(self._bringing)
        self._files.check_unchanged()
        self._queue.committing(job, result)
        return self._queue.finish(job, output.take_names(upload, result))

    def finish_if_published(self) -> Job | None:
        """After an error: the job, done, if the output had got its name all the same."""
        if self._prepared is None:
            return None
        result = self._prepared
        try:
            done = dataclasses.replace(
                self._job,
                output_sha256=result.output_sha256,
                output_bytes=result.output_bytes,
                report=json.dumps(result.report),
            )
            if not is_published(done):
                if (other := self._standing()) is None:
                    return None
                return self._queue.finish(self._job, other, keep_report=not self._has_sidecar())
            recovery.complete_sidecar(done)
            ended = self._queue.finish(self._job, keep_report=not self._has_sidecar())
            self._is_done = True
            return ended
        except ResourceError:
            return None

    def agree(self) -> None:
        """Let record and sidecar speak of what stands there, where another host has the file by now and this one may
        have replaced its output; as soon as the other has done what it was about to do (batchsr.worker.agreement).
        """
        if self._is_done or self._prepared is None or not (self._queue.shared and self._job.overwrite):
            return
        with contextlib.suppress(BatchsrError):  # then `verify` does it
            until_s = time.monotonic() + _WAIT_FOR_OTHER_S
            while (now := self._queue.get(self._job.id)) is not None and now.claim_seq != self._job.claim_seq:
                if now.state is State.COMMITTING and self._stop.signal is None and time.monotonic() < until_s:
                    self._stop.wait(_LOOK_AGAIN_S)
                elif now.state is State.DONE and self.task.settings.files_beside:
                    self._queue.correct(now, None)  # of its copies some may be gone
                    return
                else:
                    agreement.reach(self._queue, now)
                    return

    def _want_claim(self) -> None:
        """Raise ClaimLost where another has the file by now: what it may have made is not to be replaced."""
        if not self._queue.shared:
            return
        with contextlib.suppress(QueueAway):  # what is replaced all the same is put right afterwards
            now = self._queue.get(self._job.id)
            if now is None or (now.claim_seq, now.worker) != (self._job.claim_seq, self._job.worker):
                raise ClaimLost(f"job {self._job.id} is in other hands; this worker had claim {self._job.claim_seq}")

    def _standing(self) -> Result | None:
        """Return what to record of the file under the output's name, where another claim of this job has made it.

        A worker may lose its claim in the very moment in which it publishes. Its sidecar is beside it then.
        """
        output = path_of(self._job.output)
        if self._job.overwrite or not os.path.isfile(
            output
        ):  # Path's own raises where it cannot look: not ours to tell
            return None
        try:
            found = self._queue.standing(self._job, lambda: storage.sha256(output))
        except OSError:
            return None
        if found is not None:
            storage.make_durable(output)
            says = json.dumps(found.report) if found.report is not None else None
            recovery.complete_sidecar(dataclasses.replace(self._job, output_sha256=found.output_sha256, report=says))
        return found

    def _has_sidecar(self) -> bool:
        """Return whether the report stands beside the output, so that the queue need not keep it."""
        return os.path.isfile(sidecar_path(path_of(self._job.output)))

    def _on_windows(self, done: int, total: int) -> None:
        now_s = self._queue.clock.steady()
        if done != self._windows_done or now_s - self._told_at_s >= _SIGN_OF_LIFE_S:
            self._queue.progress(self._job, done, total)
            self._tell_windows(self._job, done, total)
            self.progressed = self.progressed or 0 <= self._windows_done < done
            self._file.progress((total - done) * self._rows, progressed=self.progressed)
            self._windows_done, self._told_at_s = done, now_s
            self._stands_still = False
        self._stop_if_asked()

    def _denoising(self) -> None:
        """Let another file be claimed while this one waits to be denoised: a fast device would wait with it."""
        if not self._stands_still:
            self._stands_still = True
            self._file.progress(0, progressed=self.progressed)
        self._stop_if_asked()

    def _bringing(self) -> None:
        """Show that we live while a source is fetched or an output is sent, and stop if asked to."""
        now_s = self._queue.clock.steady()
        if now_s - self._told_at_s >= _SIGN_OF_LIFE_S:
            done = max(self._windows_done, self._job.windows_done)
            self._queue.progress(self._job, done, max(done, self._job.windows_total or 0))
            self._told_at_s = now_s
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._stop.signal is not None:
            raise Interrupted

    def _before_publish(self, restored: Restored) -> None:
        self._files.check_unchanged()
        result = _result(restored)
        self._queue.committing(self._job, result)
        self._prepared = result


def backend_of(variant: str, model: Batcher) -> Backend:
    """Return what a job is bound to when this model claims it."""
    identity: Any = model.identity
    return Backend(
        variant=variant,
        repository=identity.repository,
        revision=identity.revision,
        weights_sha256=identity.weights_sha256,
        dtype=identity.dtype,
        device=identity.device,
        batch_windows=model.batch_windows,
    )


def _provenance(job: Job, backend: Backend, model: Batcher) -> dict[str, Any]:
    identity: Any = model.identity
    return dataclasses.asdict(backend) | {
        "warnings": list(getattr(identity, "warnings", ())),
        "job": {
            "id": job.id,
            "batch": job.batch,
            "attempts": job.attempts,
            "claim": job.claim_seq,
            "worker": job.worker,
            **json.loads(job.provenance or "{}"),
        },
    }


def _result(restored: Restored) -> Result:
    return Result(**{field.name: getattr(restored, field.name) for field in dataclasses.fields(Result)})


def failure_of(error: Exception) -> str:
    """Return the failure class of what ended an attempt: input, transient or resource."""
    if isinstance(error, BatchsrError):
        return error.failure
    if (isinstance(error, OSError) and error.errno in pauses.RESOURCE_ERRNOS) or pauses.is_want_of_threads(error):
        return "resource"
    return "transient"


def described(error: Exception) -> tuple[str, str]:
    """Return the code and message for the queue. What nobody foresaw keeps its last line of traceback."""
    if isinstance(error, BatchsrError):
        return error.code, str(error)
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({Path(where[0].filename).name}:{where[0].lineno})" if where else ""
    return "internal", f"{type(error).__name__}: {error}{place}"
