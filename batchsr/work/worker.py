"""A worker: claim, restore, finish, until nothing is left.

    reap the dead -> anything to claim? -> paused? enough space? -> claim -> restore -> finish, or let go

A file's trouble never ends the run. What an attempt ends with decides what becomes of the job:

    input       fails at once: it can never work (an output that cannot be written as asked counts as one)
    transient   waits (exponential backoff with jitter) and is tried again; fails after `max_attempts` in a row
                without a window of progress. An error nobody foresaw is one of these.
    resource    goes back, the attempt given back, and the queue is paused; workers probe, and resume by themselves
    lost share  as resource: the source is missing, and so is the folder it was in
    interrupt   goes back at once, with its finished windows, the attempt given back
    crash       is seen by the reaper (batchsr.queue.reaper), in this worker or the next

It returns when nothing is left that it may claim: it waits for backoffs, but not for jobs in the hands of
other living workers, who have a supervisor or a next `batchsr work` to take up what they leave.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from batchsr.errors import (
    EXIT_BUSY,
    EXIT_OK,
    EXIT_SOME_FAILED,
    BatchsrError,
    ClaimLost,
    InputError,
    QueueBusy,
    QueueError,
    ResourceError,
)
from batchsr.queue import Job, Pause, Queue, State, Worker
from batchsr.restore import WindowModel, discard_scratch, restore
from batchsr.work import obstacles, space
from batchsr.work.attempt import Attempt, Interrupted, RestoreFn, backend_of, described, failure_of
from batchsr.work.stopping import Stop

_LONGEST_PROBE_PAUSE_S: Final = 30.0


class Listener(Protocol):
    """Whom a worker tells what it does; `job` is the job as of then."""

    def claimed(self, job: Job) -> None: ...
    def windows(self, job: Job, done: int, total: int) -> None: ...
    def done(self, job: Job) -> None: ...
    def failed(self, job: Job) -> None: ...
    def retrying(self, job: Job, wait_s: float) -> None: ...
    def released(self, job: Job) -> None: ...
    def waiting(self, reason: str, seconds: float) -> None: ...
    def paused(self, reason: str) -> None: ...
    def resumed(self) -> None: ...
    def message(self, text: str) -> None: ...


class Silent:
    """A listener that says nothing."""

    def claimed(self, job: Job) -> None: ...
    def windows(self, job: Job, done: int, total: int) -> None: ...
    def done(self, job: Job) -> None: ...
    def failed(self, job: Job) -> None: ...
    def retrying(self, job: Job, wait_s: float) -> None: ...
    def released(self, job: Job) -> None: ...
    def waiting(self, reason: str, seconds: float) -> None: ...
    def paused(self, reason: str) -> None: ...
    def resumed(self) -> None: ...
    def message(self, text: str) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker behaves."""

    variant: str
    """What jobs may name to be claimed; open ones are claimed too."""
    min_free_bytes: float = 2e9
    """Pause the queue when an output's or the scratch's file system has less."""
    max_attempts: int = 5
    """Transient failures in a row, without a window of progress, until a job fails."""
    backoff_s: float = 5.0
    """The first wait; each further one is twice as long."""
    backoff_max_s: float = 600.0
    poll_s: float = 1.0
    """How often an idle worker looks."""
    stay: bool = False
    """Wait for more when nothing is left, and for a person's pause to end."""
    limit: int | None = None
    """Stop after so many files."""
    gate: Callable[[], float] = lambda: 0.0
    """Asked before each claim: seconds to wait and ask again; 0 goes on, infinity stops."""


@dataclasses.dataclass(slots=True)
class Summary:
    """What a run did."""

    done: int = 0
    failed: int = 0
    quarantined: int = 0
    released: int = 0
    lost: int = 0
    """Jobs that were cancelled, superseded or taken while in hand."""
    audio_s: float = 0.0
    wall_s: float = 0.0
    stopped_by: int | None = None
    paused: bool = False
    """A person paused the queue, and work is left."""

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        if self.stopped_by is not None:
            return 128 + self.stopped_by
        if self.paused:
            return EXIT_BUSY
        return EXIT_SOME_FAILED if self.failed or self.quarantined else EXIT_OK


def run(
    queue: Queue,
    load_model: Callable[[], WindowModel],
    options: WorkerOptions,
    listener: Listener | None = None,
    *,
    restore: RestoreFn = restore,
    rng: Callable[[], float] = random.random,
) -> Summary:
    """Work until nothing is left, a signal comes, or a person paused the queue.

    `load_model` is called once, when there is something to claim; its ModelError passes through, nothing
    claimed. Raises the QueueError family when the database itself cannot be used. `rng` gives the jitter.
    """
    return _Run(queue, load_model, options, listener or Silent(), restore, rng).run()


class _Run:
    def __init__(
        self,
        queue: Queue,
        load_model: Callable[[], WindowModel],
        options: WorkerOptions,
        listener: Listener,
        restore: RestoreFn,
        rng: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._load_model = load_model
        self._options = options
        self._listener = listener
        self._restore = restore
        self._rng = rng
        self._summary = Summary()
        self._model: WindowModel | None = None
        self._worker: Worker | None = None
        self._job: Job | None = None
        self._told = ""
        self._stop = Stop(self._first_signal, self._second_signal)
        self._troubles = 0  # pauses since the last window

    def run(self) -> Summary:
        with self._stop:
            try:
                going = True
                while going and self._stop.signal is None:
                    try:
                        if self._worker is None:
                            self._worker = self._queue.join()
                        going = self._step(self._worker)
                    except (ResourceError, QueueBusy) as e:
                        self._database_trouble(e)
            finally:
                if self._worker is not None:
                    with contextlib.suppress(QueueError, ResourceError):  # the next reaper signs it off
                        self._worker.leave()
            self._summary.stopped_by = self._stop.signal
        return self._summary

    def _database_trouble(self, error: BatchsrError) -> None:
        """Nothing is in hand, and the database's own file system is in trouble: say so, wait, look again."""
        with contextlib.suppress(ResourceError, QueueBusy):
            self._queue.pause(str(error), "resource", [str(self._queue.path.parent)])
        self._troubles += 1
        self._wait(str(error), self._trouble_pause_s())

    def _trouble_pause_s(self) -> float:
        return min(_LONGEST_PROBE_PAUSE_S, self._options.poll_s * 2.0 ** min(self._troubles - 1, 10))

    def _step(self, worker: Worker) -> bool:
        """One look at the queue and at most one job. Returns whether to go on."""
        options = self._options
        summary = self._summary
        if options.limit is not None and summary.done + summary.failed >= options.limit:
            return False
        if (gate_s := options.gate()) > 0:
            return gate_s != math.inf and self._wait("not yet time to work", gate_s)
        self._reap()
        following = self._queue.peek(options.variant)
        if following is None:
            due_s = self._queue.next_due_s(options.variant)
            if due_s is not None:
                return self._wait("every job left waits for its next try", due_s)
            return options.stay and self._wait("nothing to do", options.poll_s)
        if (pause := self._queue.paused()) is not None:
            return self._sit_out(pause, following)
        if self._model is None:
            self._model = self._load_model()
            if self._stop.signal is not None:  # it may have taken a while
                return False
        if (short := self._shortage(following)) is not None:
            folders = [Path(following.output).parent, self._queue.scratch_folder]
            self._queue.pause(short, "resource", [str(folder) for folder in folders])
            return True
        try:
            job = self._queue.claim(worker, backend_of(options.variant, self._model))
        except ClaimLost:  # somebody removed our lock file
            self._worker = None
            return True
        if job is not None:
            self._work_on(job, self._model)
        return True

    def _shortage(self, following: Job) -> str | None:
        """Why there is no room for this job beside those in hand; a claim in the same moment is for ENOSPC to find."""
        frame_samples = self._model.frame_samples if self._model is not None else space.FRAME_SAMPLES
        return space.shortage(
            following,
            self._queue.in_hand(),
            self._queue.scratch_folder,
            self._options.min_free_bytes,
            frame_samples=frame_samples,
        )

    def _reap(self) -> None:
        for job in self._queue.reap():
            if job.state is State.QUARANTINED:
                self._summary.quarantined += 1
                self._listener.failed(job)
            elif job.state is State.DONE:
                self._done(job)
            else:
                self._listener.message(f"took job {job.id} from a worker that died: {job.state}")

    def _work_on(self, job: Job, model: WindowModel) -> None:
        """Restore one claimed job, and let go of it whatever happens. The job boundary: nothing passes it."""
        self._job = job
        self._told = ""
        attempt = Attempt(self._queue, job, self._stop, functools.partial(self._listener.windows, job))
        self._listener.claimed(job)
        try:
            done = attempt.restore(model, self._restore, backend_of(self._options.variant, model))
        except ClaimLost:
            self._lost(job)
        except Interrupted:
            self._insist(lambda: self._released(self._queue.release(job)))
        except Exception as e:  # noqa: BLE001 - the one place: whatever a file does, the next one gets its turn
            error = e
            self._insist(lambda: self._let_go(job, attempt, error))
        else:
            self._done(done)
            with contextlib.suppress(ResourceError):  # what stays is for `gc`
                discard_scratch(attempt.task.scratch)
        finally:
            self._job = None
            if attempt.progressed:
                self._troubles = 0

    def _let_go(self, job: Job, attempt: Attempt, error: Exception) -> None:
        """Decide, by the failure's class, what becomes of the job."""
        if (done := attempt.finish_if_published()) is not None:
            self._done(done)
            return
        code, message = described(error)
        if obstacles.source_folder_is_gone(job, error):
            reason = f"{os.path.dirname(job.source)} is gone: is its share mounted?"
            self._paused(self._queue.give_back(job, reason, "source", [job.source]))
        elif failure_of(error) == "resource":
            probes = [Path(job.output).parent, self._queue.scratch_folder, self._queue.path.parent]
            self._paused(self._queue.give_back(job, message, "resource", [str(probe) for probe in probes]))
        else:
            transient = failure_of(error) == "transient"
            failed = self._queue.fail(job, code, message, self._backoff if transient else lambda failures: None)
            if failed.state is State.FAILED:
                self._summary.failed += 1
                self._listener.failed(failed)
                if isinstance(error, InputError):
                    with contextlib.suppress(ResourceError):
                        discard_scratch(attempt.task.scratch)
            else:
                self._listener.retrying(failed, (failed.run_at or 0.0) - failed.changed_at)

    def _backoff(self, failures: int) -> float | None:
        """Seconds until the next try: doubled each time, and between half and all of it, so that jobs part ways."""
        if failures >= self._options.max_attempts:
            return None
        longest_s = min(self._options.backoff_max_s, self._options.backoff_s * 2.0 ** (failures - 1))
        return longest_s * (0.5 + 0.5 * self._rng())

    def _insist(self, action: Callable[[], None]) -> None:
        """Write what became of a job even if the database's own disk is full: wait until it can be written."""
        pause_s = self._options.poll_s
        while True:
            try:
                action()
            except ClaimLost:
                assert self._job is not None
                self._lost(self._job)
            except (ResourceError, QueueBusy) as e:
                if self._stop.signal is not None:
                    self._listener.message(f"{e}; the next worker takes the job up")
                    return
                self._wait(str(e), pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PROBE_PAUSE_S)
                continue
            return

    def _sit_out(self, pause: Pause, following: Job) -> bool:
        """The queue is paused. A person's pause ends the run; otherwise wait, probe, and resume when it is over."""
        if pause.kind == "user":
            if self._options.stay:
                return self._wait(f"paused: {pause.reason}", self._options.poll_s)
            self._summary.paused = True
            self._listener.paused(pause.reason)
            return False
        if pause.reason != self._told:
            self._told = pause.reason
            self._listener.paused(pause.reason)
        # Wait before the probe too: what a small file survives may still fail a large one, again and again.
        left_s = self._trouble_pause_s() if self._troubles else 0.0
        while left_s > 0 and self._stop.signal is None and self._queue.paused() is not None:
            self._stop.wait(min(left_s, self._options.poll_s))
            left_s -= self._options.poll_s
        is_over = obstacles.is_over(pause, self._options.min_free_bytes, f"probe-{os.getpid()}")
        if is_over and (pause.kind == "source" or self._shortage(following) is None):
            if self._queue.resume(only=pause):
                self._listener.resumed()
        else:
            self._troubles += 1
        return True

    def _wait(self, reason: str, seconds: float) -> bool:
        """Sleep until then or a signal, in short pieces: what others enqueue meanwhile should not wait as long."""
        if reason != self._told:
            self._told = reason
            self._listener.waiting(reason, seconds)
        self._stop.wait(min(seconds, self._options.poll_s))
        return True

    def _done(self, job: Job) -> None:
        self._summary.done += 1
        self._summary.audio_s += job.audio_s or 0.0
        self._summary.wall_s += job.wall_s
        self._listener.done(job)

    def _released(self, job: Job) -> None:
        self._summary.released += 1
        self._listener.released(job)

    def _paused(self, job: Job) -> None:
        self._troubles += 1
        self._summary.released += 1
        self._listener.released(job)

    def _lost(self, job: Job) -> None:
        self._summary.lost += 1
        now = self._queue.get(job.id)
        self._listener.message(f"job {job.id} is no longer ours: {now.state if now else 'gone'}")

    def _first_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        self._listener.message(f"{name}: finishing the windows in hand, then stopping (once more: at once)")

    def _second_signal(self, number: int) -> None:
        """In another thread than the job's, so with a connection of its own."""
        if (job := self._job) is not None:
            with Queue.open(self._queue.path) as queue:
                queue.release(job)
