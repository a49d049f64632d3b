"""What becomes of a claimed job: it is worked on and let go of, whatever happens; only a database's end is raised.

What an attempt ends with decides what becomes of the job:

    input       fails at once: it can never work (an output that cannot be written as asked counts as one)
    transient   waits (exponential backoff with jitter) and is tried again; fails after `max_attempts` in a row
                without a window of progress. An error nobody foresaw is one of these.
    a stage     waits likewise, and for ever, while what it computes with cannot be had (StageUnavailable); others go on
    a place     goes back, the attempt given back, held for the disk, share or folder that is in trouble, until that
                works again (batchsr.worker.places); jobs elsewhere go on
    resource    the machine as a whole, or the disk that the queue is on: goes back, the attempt given back, and the
                queue is paused; workers probe, and resume by themselves
    interrupt   goes back at once, with its finished windows, the attempt given back; so it does when the model's
                passes became smaller for want of memory
    crash       is seen by the reaper (batchsr.queue.sqlite.reaper), in this worker or the next
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from batchsr.errors import (
    BatchShrunk,
    ClaimLost,
    ExtraMissing,
    InputError,
    OutputError,
    QueueBusy,
    ResourceError,
    StageUnavailable,
    StoreAway,
    StoreDenied,
)
from batchsr.queue import Job, State, Trouble, WorkQueue
from batchsr.remote.address import is_url, path_of
from batchsr.restoration.batcher import Batcher
from batchsr.signals import Stop
from batchsr.worker import diagnosis, store_troubles
from batchsr.worker.attempt import Attempt, Interrupted, RestoreFn, described, failure_of
from batchsr.worker.in_flight import InFlightFile
from batchsr.worker.listener import Account
from batchsr.worker.options import WorkerOptions
from batchsr.worker.places import LONGEST_PROBE_PAUSE_S, Places


class Outcomes:
    """Works on jobs, each in the thread of its caller."""

    def __init__(
        self,
        queue: WorkQueue,
        options: WorkerOptions,
        account: Account,
        stop: Stop,
        places: Places,
        restore: RestoreFn,
        rng: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._options = options
        self._account = account
        self._stop = stop
        self._places = places
        self._restore = restore
        self._rng = rng

    def work_on(self, file: InFlightFile, model: Batcher) -> None:
        """Restore one claimed job, and let go of it."""
        job = file.job
        attempt = Attempt(self._queue, file, self._stop, self._account.listener.windows)
        self._account.listener.claimed(job)
        try:
            done = attempt.restore(model, self._restore, self._options.variant)
        except ClaimLost:
            self._lost(job)
        except (Interrupted, BatchShrunk):
            self.release(job)
        except Exception as e:  # noqa: BLE001 - the one place: whatever a file does, the next one gets its turn
            error = e
            self._insist(job, lambda: self._let_go(job, attempt, error))
        else:
            self._account.done(done)
            self._places.worked(done)
            with contextlib.suppress(ResourceError):  # what stays is for `gc`
                attempt.discard()
        finally:
            attempt.agree()
            if attempt.progressed:
                self._account.troubles = 0

    def release(self, job: Job) -> None:
        """Put a job back at once, with its finished windows; the attempt does not count."""
        self._insist(job, lambda: self._account.released(self._queue.release(job)))

    def give_back(self, job: Job, error: Exception) -> None:
        """Put the job back, and pause the queue until it can."""
        _, message = described(error)
        self._insist(job, lambda: self._paused(self._queue.give_back(job, message, "resource")))

    def _let_go(self, job: Job, attempt: Attempt, error: Exception) -> None:
        """Decide, by the failure's class, what becomes of the job."""
        if (done := attempt.finish_if_published()) is not None:
            self._account.done(done)
            return
        code, message = described(error)
        trouble, failure = self._diagnosed(job, error)
        if trouble is not None:
            self._places.failed(trouble)
            self._account.released(self._queue.hold(job, trouble))
            if self._queue.shared and self._queue.paused() is not None:  # this host alone, which looks ever less often
                self._account.trouble()
        elif failure == "resource" and not isinstance(error, StageUnavailable):
            probes = [path_of(job.output).parent, self._queue.scratch_folder, self._queue.probe_folder]
            self._paused(self._queue.give_back(job, message, "resource", [str(probe) for probe in probes]))
        else:
            backoff_s = self._next_try_s if isinstance(error, StageUnavailable) else self.backoff_s
            if failure == "input" and code == ResourceError.code:  # of this one file's path
                code = OutputError.code
            failed = self._queue.fail(job, code, message, backoff_s if failure != "input" else lambda failures: None)
            if failed.state is State.FAILED:
                self._account.failed(failed)
                if isinstance(error, InputError):
                    with contextlib.suppress(ResourceError):
                        attempt.discard()
            else:
                self._account.listener.retrying(failed, (failed.run_at or 0.0) - failed.changed_at)

    def _diagnosed(self, job: Job, error: Exception) -> tuple[Trouble | None, str]:
        """Return the place that is in trouble, if it is one, and the failure class."""
        if isinstance(error, StoreAway | ExtraMissing) and (is_url(job.source) or is_url(job.output)):
            failure = "input" if isinstance(error, StoreDenied) else failure_of(error)
            return store_troubles.trouble_of(job, error), failure
        if isinstance(error, StageUnavailable):  # by an errno of its own: the file's places have no part in it
            return None, failure_of(error)
        if diagnosis.is_source_error(job, error):
            return diagnosis.source_trouble(job), failure_of(error)
        if failure_of(error) == "resource" or diagnosis.is_write_error(job, error, self._queue.scratch_folder):
            found = diagnosis.write_trouble(job, error, self._queue.scratch_folder, self._queue.probe_folder)
            return (None, "input") if found == "own" else (found, "resource")
        return None, failure_of(error)

    def backoff_s(self, failures: int) -> float | None:
        """Return seconds until the next try: doubled each time, between half and all of it, so that jobs part ways."""
        if failures >= self._options.max_attempts:
            return None
        return self._next_try_s(failures)

    def _next_try_s(self, failures: int) -> float:
        longest_s = min(self._options.backoff_max_s, self._options.backoff_s * 2.0 ** min(failures - 1, 60))
        return longest_s * (0.5 + 0.5 * self._rng())

    def _insist(self, job: Job, action: Callable[[], None]) -> None:
        """Write what became of a job even if the database's own disk is full: wait until it can be written."""
        pause_s = self._options.poll_s
        while True:
            try:
                action()
            except ClaimLost:
                self._lost(job)
            except (ResourceError, QueueBusy) as e:
                if self._stop.signal is not None:
                    self._account.listener.message(f"{e}; the next worker takes the job up")
                    return
                self._account.listener.waiting(str(e), pause_s)
                self._stop.wait(min(pause_s, self._options.poll_s))
                pause_s = min(2 * pause_s, LONGEST_PROBE_PAUSE_S)
                continue
            return

    def _paused(self, job: Job) -> None:
        self._account.trouble()
        self._account.released(job)

    def _lost(self, job: Job) -> None:
        with contextlib.suppress(ResourceError, QueueBusy):
            job = self._queue.get(job.id) or job
        self._account.lost(job)
