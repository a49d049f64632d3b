"""The queue as the rest of the program sees it (batchsr.queue.interface). Nothing outside `queue/` knows SQL.

Longer than other modules: it is as long as the interface, and each method names the function that does it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batchsr import storage
from batchsr.queue.clock import Clock
from batchsr.queue.filters import Sort
from batchsr.queue.finished import Finished
from batchsr.queue.interface import Pulse, Worker
from batchsr.queue.job import Backend, Enqueued, Job, NewJob, Result, State, stored_text
from batchsr.queue.sqlite import (
    browsing,
    checking,
    claims,
    control,
    damage,
    enqueue,
    importing,
    manage,
    owners,
    places,
    queries,
    reaper,
    reports,
    steering,
    versions,
)
from batchsr.queue.sqlite.one_host import OneHost
from batchsr.queue.sqlite.store import Store
from batchsr.queue.sqlite.worker import SqliteWorker
from batchsr.queue.steering import Changed, Instructions, Move, Speed
from batchsr.queue.trouble import Pause, PauseKind, Place, Trouble


class SqliteQueue(OneHost):
    """A queue of jobs in one SQLite file on a local disk, shared by any number of processes.

    Beside it stand `queue.db.workers/` (locks of living workers) and `queue.db.scratch/` (windows of unfinished
    files). Every method may raise QueueError, QueueBusy or ResourceError.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.browser = browsing.Browser(store)

    @classmethod
    def open(cls, path: Path, *, clock: Clock | None = None) -> Self:
        """Open the queue, making or migrating the database as needed. Raises QueueVersion if it is too new."""
        clock = clock or Clock()
        damage.refuse_what_is_no_database(path)
        if not storage.is_there(path):
            versions.create(path, clock)
        store = Store.connect(path, clock)
        try:
            versions.migrate(store)
            if store.is_folded():
                damage.note_generation(path, damage.raw_generation(path))
        except BaseException:
            store.close()
            raise
        return cls(store)

    @classmethod
    def preview_of(cls, path: Path, *, clock: Clock | None = None) -> Self:
        """Return a copy in memory, empty if there is no database yet: what is done to it leaves no trace."""
        clock = clock or Clock()
        if not storage.is_there(path):
            copy = cls(Store.in_memory(None, clock))
            versions.migrate(copy._store)
            return copy
        with cls.open(path, clock=clock) as original:
            return cls(Store.in_memory(original._store, clock))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if damage.is_garbage(self.path, error):
            raise damage.described(self.path, "rows are unreadable") from error

    def close(self) -> None:
        """Close the database. Workers that joined through this object should have left."""
        self._store.close()

    @property
    def path(self) -> Path:
        """The database's file."""
        return self._store.path

    @property
    def clock(self) -> Clock:
        """The clocks that the queue goes by."""
        return self._store.clock

    def again(self) -> SqliteQueue:
        """Return the same queue through another connection, for another thread; close it."""
        other = SqliteQueue.open(self.path, clock=self.clock)
        other._store.batch = self._store.batch
        return other

    def of_batch(self, batch: str) -> SqliteQueue:
        """Return the same queue through another connection, which claims jobs of this batch alone; close it."""
        other = SqliteQueue.open(self.path, clock=self.clock)
        other._store.batch = stored_text(batch)
        return other

    @property
    def probe_folder(self) -> Path:
        """The folder on whose disk the queue itself depends."""
        return self.path.parent

    @property
    def scratch_folder(self) -> Path:
        """Where scratch files stand; may not exist yet."""
        return self.path.with_name(self.path.name + ".scratch")

    @property
    def workers_folder(self) -> Path:
        """Where lock files stand; may not exist yet."""
        return self.path.with_name(self.path.name + ".workers")

    # Taking in

    def enqueue(self, jobs: Iterable[NewJob]) -> Iterator[Enqueued]:
        """Take in jobs, some hundreds a transaction, and say for each, in order, what happened. Lazy: consume it."""
        return enqueue.enqueue(self._store, jobs)

    def import_done(self, finished: Iterable[Finished], *, dry_run: bool = False) -> Iterator[Enqueued]:
        """Take in jobs that are done already, and say for each, in order, what happened. Lazy: consume it.

        `queued` means that it was taken (its state is done). What the queue knows of that work or of that output stays
        as it is. With `dry_run` nothing is written.
        """
        if not dry_run:
            yield from importing.import_done(self._store, finished)
            return
        with contextlib.closing(SqliteQueue(Store.in_memory(self._store, self.clock))) as copy:
            yield from copy.import_done(finished)

    def preview(self, jobs: Iterable[NewJob]) -> Iterator[Enqueued]:
        """Yield what `enqueue` would say, without writing anything."""
        with contextlib.closing(SqliteQueue(Store.in_memory(self._store, self.clock))) as copy:
            yield from copy.enqueue(jobs)

    def is_output(self, path: str) -> bool:
        """Return whether a job writes, or wrote, this very file."""
        return queries.is_output(self._store, path)

    # Working

    @property
    def shared(self) -> bool:
        """Whether workers of other machines publish beside this one's: here never."""
        return False

    def join(self) -> SqliteWorker:
        """Become a worker: take an owner's lock, then write a row."""
        lock = owners.OwnerLock.take(self.workers_folder)
        try:
            claims.register(self._store, lock.worker)
        except BaseException:
            lock.release()
            raise
        return SqliteWorker(self._store, lock)

    def reap(self, complete: Callable[[Job], None] = lambda job: None) -> list[Job]:
        """Take the jobs of dead workers: done if the output has its name, else queued again or quarantined.

        `complete` is called before a job is done; where it raises ResourceError the job is queued again instead.
        """
        return reaper.reap(self._store, self.workers_folder, complete)

    def peek(self, variant: str) -> Job | None:
        """Return the job that a claim would give, were the queue not paused."""
        return claims.peek(self._store, variant)

    def leave(self, settings: Iterable[str]) -> None:
        """Claim no job through this connection that asks for one of these settings: others can do it."""
        self._store.without = tuple(settings)

    def take_last_try(self, variant: str) -> Job | None:
        """Queue a quarantined job once more, if one was not tried again since; None if there is none."""
        return claims.take_last_try(self._store, variant)

    def next_due_s(self, variant: str) -> float | None:
        """Return seconds until the first backoff of a job for this variant is over; None if none waits."""
        return claims.next_due_s(self._store, variant)

    def bound_variants(self) -> list[str]:
        """Return the variants that jobs still to be done name or are bound to, most urgent first."""
        return claims.bound_variants(self._store)

    def claim(self, worker: Worker, backend: Backend) -> Job | None:
        """Return the next job that is open or names this variant, bound to `backend` from now on.

        None if there is none or the queue is paused. Windows that another backend made do not count. Raises
        ClaimLost if the worker itself was taken for dead: it must join anew.
        """
        return claims.claim(self._store, worker.name, backend)

    def progress(self, job: Job, windows_done: int, windows_total: int) -> None:
        """Note that so many windows are safe in the scratch. Raises ClaimLost."""
        claims.progress(self._store, job, windows_done, windows_total)

    def committing(self, job: Job, result: Result) -> None:
        """Note that the output is whole and about to get its name. Raises ClaimLost: then it must not get it."""
        claims.committing(self._store, job, result)

    def finish(self, job: Job, result: Result | None = None, reason: str = "", *, keep_report: bool = True) -> Job:
        """Note that the output stands under its name, durably. Raises ClaimLost.

        Without `keep_report` its report is forgotten, since the sidecar has it.
        """
        return claims.finish(self._store, job, result, reason, keep_report=keep_report)

    def fail(
        self, job: Job, code: str, message: str, wait_s: Callable[[int], float | None] = lambda failures: None
    ) -> Job:
        """Note that it failed; `wait_s(failures in a row)` is the backoff, None gives it up. Raises ClaimLost."""
        return claims.fail(self._store, job, code, message, wait_s)

    def release(self, job: Job, reason: str = "interrupted") -> Job:
        """Put the job back at once; the attempt does not count. Raises ClaimLost."""
        return claims.release(self._store, job, "interrupt", reason)

    def give_back(self, job: Job, reason: str, kind: PauseKind = "resource", probes: Sequence[str] = ()) -> Job:
        """Do as `release`, and pause the queue until `probes` (paths) can be used again. Raises ClaimLost."""
        return claims.give_back(self._store, job, reason, kind, probes)

    def hold(self, job: Job, trouble: Trouble) -> Job:
        """Do as `release`, but let the job be held for a place in trouble until that works again. Raises ClaimLost."""
        return places.hold(self._store, job, trouble)

    def hold_queued(self, job: Job, trouble: Trouble, *, alike: bool = False) -> int:
        """Hold a queued job; `alike` all that have its folder on the side of the trouble. Returns how many."""
        return places.hold_queued(self._store, job, trouble, alike=alike)

    def places(self, variant: str | None = None, *, counted: bool = True) -> list[Place]:
        """Return the places that jobs (for a variant) are held for. Not `counted`, `jobs` is 1 where there are any."""
        return places.places(self._store, variant, counted=counted)

    def held_job(self, place: Place) -> Job | None:
        """Return the least demanding job that is held for a place."""
        return places.held_job(self._store, place)

    def free(self, place: Place | None = None) -> int:
        """Let jobs be claimed again that are held for a place, or for any. Returns how many."""
        return places.free(self._store, place)

    # Directing

    def pause(self, reason: str = "", kind: PauseKind = "user", probes: Sequence[str] = ()) -> None:
        """Let nothing be claimed until the queue is resumed. Jobs in flight are finished."""
        control.pause(self._store, kind, reason, probes)

    def resume(self, only: Pause | None = None) -> bool:
        """End the pause, or `only` this one. Returns whether there was one."""
        return control.resume(self._store, only)

    def paused(self) -> Pause | None:
        """Return the pause, if there is one."""
        return control.current(self._store)

    def retry(self, ids: Iterable[int] | None = None, *, redo: bool = False) -> list[int]:
        """Queue failed and quarantined jobs again, or those named: then also cancelled and, to redo, done ones."""
        return manage.retry(self._store, ids, redo=redo)

    def cancel(self, ids: Iterable[int]) -> list[int]:
        """Cancel jobs that are queued, waiting or running, and return which. A running one stops at its next window."""
        return manage.cancel(self._store, ids)

    def edit(self, ids: Iterable[int], *, priority: int | None = None, batch: str | None = None) -> list[int]:
        """Give jobs that are queued or waiting another priority or batch, and return which."""
        return manage.edit(self._store, ids, priority=priority, batch=batch)

    def instruct(self, wanted: Iterable[Instructions]) -> Iterator[Changed]:
        """Give jobs that nobody has in hand other settings or another output, and say for each what happened. Lazy."""
        return steering.instruct(self._store, wanted)

    def relocate(self, moves: Iterable[Move]) -> Iterator[Changed]:
        """Write down where the files of jobs are now, and say for each, in order, what happened. Lazy: consume it."""
        return steering.relocate(self._store, moves)

    def forget(self, ids: Iterable[int]) -> list[int]:
        """Take jobs that nobody has in hand out of the record, and return which. No file is touched."""
        return steering.forget(self._store, ids)

    def undone(self, job: Job, said: str) -> bool:
        """Note that the output of a job that is done was taken away, and where to; it is cancelled, with error code
        `undone`. False if the job is no longer as it was read."""
        return steering.undone(self._store, job, said)

    # Looking

    def get(self, job_id: int) -> Job | None:
        """Return a job, or None."""
        return queries.get(self._store, job_id)

    def jobs(
        self,
        *,
        states: Iterable[State | str] = (),
        batch: str | None = None,
        ids: Iterable[int] | None = None,
        source: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
        sort: Sort = "id",
        failures_first: bool = False,
    ) -> Iterator[Job]:
        """Yield jobs in an order, read in pages. `source` is a part of the source's path."""
        chosen = functools.partial(queries.jobs, self._store, states=states, batch=batch, ids=ids, source=source)
        return chosen(newest_first=newest_first, limit=limit, sort=sort, failures_first=failures_first)

    def in_hand(self) -> list[Job]:
        """Return the jobs that workers of this machine own now: all that are in flight."""
        return self.in_flight()

    def in_flight(self) -> list[Job]:
        """Return the jobs that workers own now."""
        return queries.in_flight(self._store)

    def batches(self) -> list[str]:
        """Return the names of the batches that have jobs, sorted; "" for jobs without one."""
        return queries.batches(self._store)

    def counts(self, batch: str | None = None) -> dict[str, int]:
        """Return how many jobs are in each state; every state is there."""
        return {state: int(total["jobs"]) for state, total in self.totals(batch).items()}

    def totals(self, batch: str | None = None) -> dict[str, dict[str, float]]:
        """Return for each state `jobs`, `audio_s` and `wall_s`."""
        return queries.totals(self._store, batch)

    def totals_of_run(self) -> dict[str, dict[str, float]]:
        """Return `totals` of the jobs that are left, and of those that ended since the oldest of them was enqueued."""
        return queries.totals_of_run(self._store)

    def status(self) -> dict[str, Any]:
        """Return the queue at a glance, JSON-able:
        `jobs` and `audio_s` by state, `workers` (a line for each job in a worker's hands, one for a worker without;
        `idle_s` since the worker's last window and `hung`), `held` (queued jobs that wait for a place in trouble) and
        `places` (`path`, `needed_for`, `code`, `reason`, `remedy`, `since`, `jobs`), `log` (None, or of one that is
        kept large `bytes`, `held_by`, `reason`, `remedy`), `paused` with `_kind`, `_reason`, `_since`, `database`.
        """
        return queries.status(self._store)

    @property
    def own_id(self) -> str:
        """Tells this queue from every other: a UUID that stays for as long as the queue does, also in a backup."""
        return queries.own_id(self._store)

    def report_of(self, job_id: int) -> dict[str, Any] | None:
        """Return the report that is kept of a finished job; None where its sidecar has it."""
        return reports.report_of(self._store, job_id)

    def rows(
        self,
        columns: Sequence[str],
        *,
        states: Iterable[State | str] = (),
        batch: str | None = None,
        limit: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Read these columns of `Job.to_dict` alone, in pages: for tables of any length."""
        return queries.rows(self._store, columns, states=states, batch=batch, limit=limit)

    def pulse(self) -> Pulse:
        """Return whether workers get on, as cheaply as can be: for who asks again and again."""
        return queries.pulse(self._store)

    def files_ended(self, since: float, pid: int | None = None) -> int:
        """Return how many files were brought to an end, done or failed, by workers (of one process) that began since
        then."""
        return queries.files_ended(self._store, since, pid)

    def note_hung(self, worker: str) -> None:
        """Note that a worker is ended because it makes no windows: its death blames no file as a crash does."""
        claims.note_hung(self._store, worker)

    def recent_speed(self, variant: str | None = None) -> Speed | None:
        """Return how fast the latest work went (for a variant); None if nothing was done yet."""
        return steering.recent_speed(self._store, variant)

    def asking_for(self, settings: Collection[str]) -> dict[str, int]:
        """Return how many of the next 10,000 queued jobs ask for each of these settings; none where none asks."""
        return queries.asking_for(self._store, settings)

    def queued_for(self) -> dict[str, int]:
        """Return how many jobs are queued or waiting for each variant that they name; "" is any worker's."""
        return queries.queued_for(self._store)

    def events(self, job_id: int) -> list[dict[str, Any]]:
        """Return every change of state of a job, oldest first."""
        return queries.events(self._store, job_id)

    def attempts(self, job_id: int) -> list[dict[str, Any]]:
        """Return every claim of a job, oldest first: who, how many windows and seconds, how it ended."""
        return queries.attempts(self._store, job_id)

    def output_folders(self) -> set[str]:
        """Return the folders in which outputs of jobs that were ever claimed stand."""
        return queries.output_folders(self._store)

    def check(self) -> list[str]:
        """Return what is wrong with the database, one sentence each; empty when it is sound."""
        return checking.check(self._store)

    def held_up(self) -> str | None:
        """Return what keeps the database's files growing, with the remedy; None if nothing does."""
        found = self._store.held_log()
        return None if found is None else f"{found}; {found.remedy}"

    def backup(self, target: Path) -> None:
        """Copy the database as of one moment, whole or not at all, while others go on working."""
        self._store.backup(target)

    def keep_still(self) -> contextlib.AbstractContextManager[object]:
        """Let no job change hands for the block: nothing is claimed, retried or finished. Keep it short."""
        return self._store.writing()

    def prune_events(self, older_than_s: float) -> int:
        """Forget changes of state and attempts of jobs that have been over for so long. Returns how many."""
        return manage.prune_events(self._store, older_than_s)

    def vacuum(self) -> int:
        """Give what the database no longer needs back to the disk. Returns how many bytes."""
        return manage.vacuum(self._store)

    def prune_locks(self) -> int:
        """Remove what dead workers left in `workers_folder`. Returns how many files."""
        return manage.prune_locks(self._store, self.workers_folder)
