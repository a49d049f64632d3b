"""A worker: it claims files and has them restored, until nothing is left.

    room for another file? -> reap the dead -> anything to claim? -> paused? enough space? -> claim -> a thread

Three kinds of threads: one decides and claims; one for each file restores it from claim to end
(batchsr.worker.in_flight, batchsr.worker.outcomes); and in the main one the model computes what these offer
(batchsr.restoration.batcher). A file's trouble never ends the run, nor does it reach another file.

It returns when nothing is left that it may claim: it waits for backoffs, but not for jobs in the hands of
other living workers, who have a supervisor or a next `batchsr work` to take up what they leave.

Longer than other modules: one look at the queue is read from its top to its end.
"""

from __future__ import annotations

import contextlib
import functools
import math
import random
import signal
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from batchsr.audio import blas
from batchsr.errors import BatchsrError, ClaimLost, QueueBusy, QueueError, ResourceError
from batchsr.queue import Job, Pause, Place, State, Trouble, Worker, WorkQueue
from batchsr.restoration.batcher import Batcher, WindowModel, run_beside_main
from batchsr.restoration.restore import restore
from batchsr.restoration.warm_up import warm_up
from batchsr.settings import extras
from batchsr.signals import Stop
from batchsr.worker import diagnosis, pauses, recovery, space
from batchsr.worker.attempt import Interrupted, RestoreFn, backend_of
from batchsr.worker.in_flight import InFlightFiles
from batchsr.worker.listener import Account, Listener, NullListener, Summary
from batchsr.worker.options import WorkerOptions
from batchsr.worker.outcomes import Outcomes
from batchsr.worker.places import LONGEST_PROBE_PAUSE_S, Places

_LONG_START_S: Final = 1.0  # a start that took so long is told


def run(
    queue: WorkQueue,
    load_model: Callable[[], WindowModel],
    options: WorkerOptions,
    listener: Listener | None = None,
    *,
    restore: RestoreFn = restore,
    rng: Callable[[], float] = random.random,
) -> Summary:
    """Work until nothing is left, a signal comes, or a person paused the queue.

    `load_model` is called once, when there is something to claim, in this thread as all of the model; its ModelError
    passes through, nothing claimed. Raises the QueueError family when the database itself cannot be used. `rng` gives
    the jitter.
    """
    if options.signing is not None:
        restore = functools.partial(restore, signing=options.signing)
    return _Run(queue, load_model, options, listener or NullListener(), restore, rng).run()


class _Run:
    def __init__(
        self,
        queue: WorkQueue,
        load_model: Callable[[], WindowModel],
        options: WorkerOptions,
        listener: Listener,
        restore: RestoreFn,
        rng: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._load_model = load_model
        self._options = options
        self._account = Account(listener)
        self._listener = self._account.listener
        self._stop = Stop(self._first_signal, self._second_signal)
        self._places = Places(queue, options, self._listener, self._no_room_for)
        self._outcomes = Outcomes(queue, options, self._account, self._stop, self._places, restore, rng)
        self._in_flight = InFlightFiles()
        self._model: Batcher | None = None
        self._worker: Worker | None = None
        self._told = ""
        self._waiting_since_s: float | None = None
        """When nothing but jobs held for places in trouble was left."""

    def run(self) -> Summary:
        missing = extras.missing()
        self._queue.leave(missing)
        with self._stop:
            run_beside_main(self._work)
            self._account.summary.stopped_by = self._stop.signal
        if self._stop.signal is None:
            for setting, jobs in self._queue.asking_for(missing).items():
                said = f"{jobs} with {setting} left for a worker that can do it, or {missing[setting]}"
                self._listener.message(said)
        return self._account.summary

    def _work(self, main_thread: Executor) -> None:
        """Join, claim until it is over, wait for the files in flight, leave."""
        try:
            with self._in_flight:
                try:
                    while self._stop.signal is None and self._turn(main_thread):
                        pass
                except BaseException:
                    self._interrupt_files()
                    raise
        finally:
            if self._worker is not None:
                with contextlib.suppress(QueueError, ResourceError):  # the next reaper signs it off
                    self._worker.leave()

    def _turn(self, main_thread: Executor) -> bool:
        """Join where that is still to do, and take one step; wait if the database is in trouble. Whether to go on."""
        try:
            if self._worker is None:
                self._worker = self._queue.join()
            return self._step(self._worker, main_thread)
        except (ResourceError, QueueBusy) as e:
            self._database_trouble(e)
            return True

    def _interrupt_files(self) -> None:
        """Let the files in flight go back with the windows that are finished or being computed."""
        if self._model is not None:
            self._model.refuse(Interrupted())
        self._in_flight.wake()

    def _database_trouble(self, error: BatchsrError) -> None:
        """Say that the database's own file system is in trouble, wait, look again."""
        with contextlib.suppress(ResourceError, QueueBusy):
            self._queue.pause(str(error), "resource", [str(self._queue.probe_folder)])
        self._account.trouble()
        self._wait(str(error), self._trouble_pause_s())

    def _trouble_pause_s(self) -> float:
        return min(LONGEST_PROBE_PAUSE_S, self._options.poll_s * 2.0 ** min(self._account.troubles - 1, 10))

    def _step(self, worker: Worker, main_thread: Executor) -> bool:
        """Look at the queue once, and claim at most once. Returns whether to go on."""
        options, files = self._options, self._in_flight
        in_flight = len(files)  # before all else: while we look, a file in flight may be done, or go back to the queue
        ended = self._account.summary.done + self._account.summary.failed
        if options.limit is not None and ended + in_flight >= options.limit:
            return self._wait_for_files(in_flight)
        if self._model is not None and not files.have_room(self._model.batch_windows):
            return self._wait_for_files(in_flight)
        if (gate_s := options.gate()) > 0:
            return gate_s != math.inf and self._wait("not yet time to work", gate_s)
        self._reap()
        self._places.look_after()
        job_ahead = self._next_job()
        if job_ahead is None:
            due_s = self._queue.next_due_s(options.variant)
            if due_s is not None:
                return self._wait("every job left waits for its next try", due_s)
            if in_flight:
                return self._wait_for_files(in_flight)
            if not self._queue.in_flight() and (suspect := self._queue.take_last_try(options.variant)) is not None:
                self._listener.message(f"trying #{suspect.id} once more, alone: its workers died on it")
                return True
            if held := self._queue.places(options.variant):
                return self._wait_for_places(held)
            return options.stay and not options.elsewhere() and self._wait("nothing to do", options.poll_s)
        self._waiting_since_s = None
        if (pause := self._queue.paused()) is not None:
            return self._sit_out(pause, job_ahead)
        if job_ahead.crashes and in_flight:
            return self._wait_for_files(in_flight)
        model = self._loaded_model(main_thread)
        if self._stop.signal is not None:  # loading may have taken a while
            return False
        if (short := self._shortage(job_ahead)) is not None:
            trouble = _trouble_of(short)
            if self._queue.hold_queued(job_ahead, trouble, alike=short.for_all):
                self._places.failed(trouble)
            return True
        try:
            job = self._queue.claim(worker, backend_of(options.variant, model))
        except ClaimLost:  # somebody removed our lock file
            self._worker = None
            return True
        if job is not None and job.crashes and files:  # another worker took the one we saw
            self._outcomes.release(job)
        elif job is not None:
            self._told = ""
            rows = space.need_of(job, model.frame_samples).rows
            try:
                files.start(job, rows, lambda file: self._outcomes.work_on(file, model))
            except RuntimeError as e:
                if not pauses.is_want_of_threads(e):
                    raise
                self._outcomes.give_back(job, e)
        return True

    def _wait_for_files(self, in_flight: int) -> bool:
        """Wait for the files in flight; False if there was none when this look at the queue began."""
        if self._in_flight:
            self._in_flight.wait(self._options.poll_s)
        return in_flight > 0

    def _loaded_model(self, main_thread: Executor) -> Batcher:
        """Return the model, loaded at the first call, with the passes that it can make now."""
        if self._model is None:
            began_s = self._queue.clock.steady()
            blas.load()  # before both threads load parts of SciPy, whose modules wait for one another
            loading = main_thread.submit(self._load_model)
            warm_up()  # meanwhile: on a GPU the model needs little of this processor
            self._model = Batcher(loading.result(), main_thread)
            took_s = self._queue.clock.steady() - began_s
            if took_s >= _LONG_START_S:
                self._listener.message(f"loaded and compiled in {took_s:.1f} s, which count for no file")
        if self._model.shrunk:
            self._model = self._model.renewed()
            self._listener.message(f"out of memory: going on in batches of {self._model.batch_windows}")
        return self._model

    def _next_job(self) -> Job | None:
        """Return the next job that lies on no place in trouble; those before it are held."""
        while (job_ahead := self._queue.peek(self._options.variant)) is not None:
            trouble = self._places.trouble_for(job_ahead)
            if trouble is None or not self._queue.hold_queued(job_ahead, trouble, alike=True):
                break
        return job_ahead

    def _wait_for_places(self, held: list[Place]) -> bool:
        """Say once that only held jobs are left, and wait for their places, though not for ever."""
        now_s = self._queue.clock.steady()
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        left_s = self._waiting_since_s + self._options.wait_for_places_s - now_s
        if self._options.stay and self._options.elsewhere():
            return False
        if not self._options.stay and left_s <= 0:
            self._account.summary.places = held
            return False
        jobs = sum(place.jobs for place in held)
        reason = f"{jobs} held: " + "; ".join(str(place.trouble) for place in held)
        return self._wait(reason, left_s if not self._options.stay else math.inf)

    def _no_room_for(self, job: Job) -> Trouble | None:
        short = self._shortage(job)
        return None if short is None else _trouble_of(short)

    def _shortage(self, job_ahead: Job) -> space.Shortage | None:
        """Say why the disks have no room for one more job; one claimed in the same moment is for ENOSPC to find."""
        frame_samples = self._model.frame_samples if self._model is not None else space.FRAME_SAMPLES
        in_flight, folder = self._queue.in_hand(), self._queue.scratch_folder
        return space.shortage(job_ahead, in_flight, folder, self._options.min_free_bytes, frame_samples=frame_samples)

    def _reap(self) -> None:
        for job in self._queue.reap(recovery.complete_sidecar):
            if job.state is State.QUARANTINED and not job.last_try:
                self._listener.message(f"quarantined #{job.id} {job.source}: {job.error}; one more try at the end")
            elif job.state is State.QUARANTINED:
                self._account.quarantined(job)
            elif job.state is State.DONE:
                self._account.done(job)
            else:
                self._listener.message(f"took job {job.id} from a worker that died: {job.state}")

    def _sit_out(self, pause: Pause, job_ahead: Job) -> bool:
        """Wait while the queue is paused: end the run if a person did it, else probe, and resume when it is over."""
        if pause.kind == "user":
            if self._options.stay:
                return self._wait(f"paused: {pause.reason}", self._options.poll_s)
            self._account.summary.paused = True
            self._listener.paused(pause.reason)
            return False
        if pause.reason != self._told:
            self._told = pause.reason
            self._listener.paused(pause.reason)
        # Wait before the probe too: what a small file survives may still fail a large one, again and again.
        left_s = self._trouble_pause_s() if self._account.troubles else 0.0
        while left_s > 0 and self._stop.signal is None and self._queue.paused() is not None:
            self._stop.wait(min(left_s, self._options.poll_s))
            left_s -= self._options.poll_s
        is_over = pauses.is_over(pause, self._options.min_free_bytes) or (
            pause.kind == "source" and diagnosis.refusal(job_ahead.source) == 0
        )
        if is_over and (pause.kind == "source" or self._shortage(job_ahead) is None):
            if self._queue.resume(only=pause):
                self._listener.resumed()
        else:
            self._account.trouble()
        return True

    def _wait(self, reason: str, seconds: float) -> bool:
        """Sleep until then or a signal, in short pieces: what others enqueue meanwhile should not wait as long."""
        if reason != self._told:
            self._told = reason
            self._listener.waiting(reason, seconds)
        self._stop.wait(min(seconds, self._options.poll_s))
        return True

    def _first_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        self._listener.message(f"{name}: finishing the windows in hand, then stopping (once more: at once)")
        self._interrupt_files()

    def _second_signal(self, number: int) -> None:
        """In another thread than the jobs', so with a connection of its own."""
        with self._queue.again() as queue:
            for job in self._in_flight.jobs:
                with contextlib.suppress(ClaimLost):
                    queue.release(job)


def _trouble_of(short: space.Shortage) -> Trouble:
    return diagnosis.trouble_at(str(short.folder), short.side, "short", short.words)
