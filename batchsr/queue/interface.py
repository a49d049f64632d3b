"""What the program asks of a queue, in four parts; whoever keeps one implements `Queue`, all of it.

    WorkQueue      a worker's part: who is at it, the next job, what became of it; it knows nothing else
    IntakeQueue    taking jobs in, and what a person decides about them
    Overview       looking
    Maintenance    checking, backing up, tidying

`queue/sqlite/` keeps a queue in one file for the processes of one machine, `queue/postgres/` in a database for those of
many. Every method may raise QueueError, QueueBusy or ResourceError. The contract stands in `tests/queue`, which runs
against every implementation.

Longer than other modules: it is all that may be asked of a queue.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from batchsr.queue.clock import Clock
from batchsr.queue.filters import Browser, Sort
from batchsr.queue.finished import Finished
from batchsr.queue.job import Backend, Enqueued, Job, NewJob, Result, State
from batchsr.queue.steering import Changed, Instructions, Move, Speed
from batchsr.queue.trouble import Pause, PauseKind, Place, Trouble


class Worker(Protocol):
    """A living worker of a queue. It owns what it claims for as long as its process lives."""

    @property
    def name(self) -> str:
        """Unique, never used again."""

    def leave(self, ending: str = "left") -> None:
        """Sign off; what it still owns is taken by the next reaper."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Pulse:
    """Whether workers get on."""

    progress: tuple[int, int]
    """Another one when a job was done or windows were made."""
    hung: Mapping[int, str]
    """Workers that have made no window for far too long, by process."""


class _Closable(Protocol):
    def close(self) -> None:
        """Let go of the queue. Workers that joined through this object should have left."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def clock(self) -> Clock:
        """The clocks that the queue goes by."""

    @property
    def path(self) -> Path:
        """Names the queue to people, and in messages."""


class WorkQueue(_Closable, Protocol):
    """What a worker asks."""

    def again(self) -> WorkQueue:
        """Return the same queue through another connection, for another thread; close it."""

    @property
    def scratch_folder(self) -> Path:
        """Where this machine's scratch files stand; may not exist yet."""

    @property
    def probe_folder(self) -> Path:
        """The folder on whose disk the queue itself depends."""

    @property
    def shared(self) -> bool:
        """Whether workers of other machines publish beside this one's, so that only a link may take a name."""

    def join(self) -> Worker:
        """Become a worker."""

    def reap(self, complete: Callable[[Job], None] = lambda job: None) -> list[Job]:
        """Take the jobs of dead workers: done if the output has its name, else queued again or quarantined.

        `complete` is called before a job is done, to add what its worker did not come to; where it raises
        ResourceError, the job is queued again instead, and the next claim has the trouble.
        """

    def peek(self, variant: str) -> Job | None:
        """Return the job that a claim would give, were the queue not paused."""

    def leave(self, settings: Iterable[str]) -> None:
        """Claim no job through this connection that asks for one of these settings (see Settings): others can do it."""

    def asking_for(self, settings: Collection[str]) -> dict[str, int]:
        """Return how many of the next 10,000 queued jobs ask for each of these settings; none where none asks."""

    def take_last_try(self, variant: str) -> Job | None:
        """Queue a quarantined job once more, if one was not tried again since; None if there is none."""

    def next_due_s(self, variant: str) -> float | None:
        """Return seconds until the first backoff of a job for this variant is over; None if none waits."""

    def in_flight(self) -> list[Job]:
        """Return the jobs that workers own now."""

    def in_hand(self) -> list[Job]:
        """Return the jobs that workers of this machine own now: what its disks must have room for."""

    def get(self, job_id: int) -> Job | None:
        """Return a job, or None."""

    def claim(self, worker: Worker, backend: Backend) -> Job | None:
        """Return the next job that is open or names this variant, bound to `backend` from now on.

        None if there is none or the queue is paused. Windows that another backend made do not count. Raises
        ClaimLost if the worker itself was taken for dead: it must join anew.
        """

    def progress(self, job: Job, windows_done: int, windows_total: int) -> None:
        """Note that so many windows are safe in the scratch. Raises ClaimLost."""

    def committing(self, job: Job, result: Result) -> None:
        """Note that the output is whole and about to get its name. Raises ClaimLost: then it must not get it."""

    def standing(self, job: Job, sha256: Callable[[], str]) -> Result | None:
        """Return what a claim of this job, of whichever worker, was about to publish with this hash; None if none was.

        The hash is asked for only where it may tell something.

        The output's name may have been taken by a worker that lost its claim in that very moment: then its file is as
        good as any, and this is what is to be recorded of it.
        """

    def correct(self, job: Job, result: Result | None) -> Job | None:
        """Record another result of a job that is done: of the claim whose file stands under its name; None queues it
        again. Returns the job; None where it is no longer as it was read."""

    def finish(self, job: Job, result: Result | None = None, reason: str = "", *, keep_report: bool = True) -> Job:
        """Note that the output stands under its name, durably. Raises ClaimLost.

        Without `keep_report` its report is forgotten, since the sidecar has it.
        """

    def fail(
        self, job: Job, code: str, message: str, wait_s: Callable[[int], float | None] = lambda failures: None
    ) -> Job:
        """Note that the attempt failed; `wait_s(failures in a row)` is the backoff, None gives the job up. Raises
        ClaimLost."""

    def release(self, job: Job, reason: str = "interrupted") -> Job:
        """Put the job back at once; the attempt does not count. Raises ClaimLost."""

    def give_back(self, job: Job, reason: str, kind: PauseKind = "resource", probes: Sequence[str] = ()) -> Job:
        """Do as `release`, and pause the queue until `probes` (paths) can be used again. Raises ClaimLost."""

    def hold(self, job: Job, trouble: Trouble) -> Job:
        """Do as `release`, but let the job be held for a place in trouble until that works again. Raises ClaimLost."""

    def hold_queued(self, job: Job, trouble: Trouble, *, alike: bool = False) -> int:
        """Hold a queued job; `alike` all that have its folder on the side of the trouble. Returns how many."""

    def places(self, variant: str | None = None, *, counted: bool = True) -> list[Place]:
        """Return the places that jobs (for a variant) are held for. Not `counted`, `jobs` is 1 where there are any."""

    def held_job(self, place: Place) -> Job | None:
        """Return the least demanding job that is held for a place."""

    def free(self, place: Place | None = None) -> int:
        """Let jobs be claimed again that are held for a place, or for any. Returns how many."""

    def pause(self, reason: str = "", kind: PauseKind = "user", probes: Sequence[str] = ()) -> None:
        """Let nothing be claimed until the queue is resumed. Jobs in flight are finished."""

    def resume(self, only: Pause | None = None) -> bool:
        """End the pause, or `only` this one. Returns whether there was one."""

    def paused(self) -> Pause | None:
        """Return the pause, if there is one."""


class IntakeQueue(Protocol):
    """Taking jobs in, and what a person decides about them."""

    def enqueue(self, jobs: Iterable[NewJob]) -> Iterator[Enqueued]:
        """Take in jobs, some hundreds a transaction, and say for each, in order, what happened. Lazy: consume it."""

    def import_done(self, finished: Iterable[Finished], *, dry_run: bool = False) -> Iterator[Enqueued]:
        """Take in jobs that are done already, and say for each, in order, what happened. Lazy: consume it.

        `queued` means that it was taken (its state is done). What the queue knows of that work or of that output stays
        as it is. With `dry_run` nothing is written.
        """

    def preview(self, jobs: Iterable[NewJob]) -> Iterator[Enqueued]:
        """Yield what `enqueue` would say, without writing anything."""

    def is_output(self, path: str) -> bool:
        """Return whether a job writes, or wrote, this very file."""

    def pause_host(self, name: str, reason: str = "") -> str:
        """Let one host of a fleet claim nothing more; what it has in hand is finished. Returns its whole name.

        Raises UsageError for a host that never worked here, and where there are no hosts.
        """

    def resume_host(self, name: str) -> tuple[str, bool]:
        """End the pause of one host. Returns its whole name and whether it was paused. Raises as `pause_host`."""

    def retry(self, ids: Iterable[int] | None = None, *, redo: bool = False) -> list[int]:
        """Queue failed and quarantined jobs again, or those named: then also cancelled and, to redo, done ones."""

    def cancel(self, ids: Iterable[int]) -> list[int]:
        """Cancel jobs that are queued, waiting or running, and return which. A running one stops at its next window."""

    def edit(self, ids: Iterable[int], *, priority: int | None = None, batch: str | None = None) -> list[int]:
        """Give jobs that are queued or waiting another priority or batch, and return which."""

    def instruct(self, wanted: Iterable[Instructions]) -> Iterator[Changed]:
        """Give jobs that nobody has in hand other settings or another output, and say for each what happened. Lazy."""

    def relocate(self, moves: Iterable[Move]) -> Iterator[Changed]:
        """Write down where the files of jobs are now, and say for each, in order, what happened. Lazy: consume it."""

    def forget(self, ids: Iterable[int]) -> list[int]:
        """Take jobs that nobody has in hand out of the record, and return which. No file is touched."""

    def undone(self, job: Job, said: str) -> bool:
        """Note that the output of a job that is done was taken away, and where to; it is cancelled, with error code
        `undone`. False if the job is no longer as it was read."""


class Overview(Protocol):
    """Looking at the queue: nothing here writes."""

    @property
    def browser(self) -> Browser:
        """Looks at a long queue a page at a time, and at its failures and batches by kind."""

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
        """Yield jobs, read in pages. `source` is a part of the source's path.

        In the order they came in; or by path, longest first (`length`), slowest first (`rtf`), latest change first
        (`changed`), each with failed and quarantined ones before the others where `failures_first`. Ties go by
        number, the highest first where `newest_first`.
        """

    @property
    def own_id(self) -> str:
        """Tells this queue from every other: a UUID that stays for as long as the queue does, also in a backup."""

    def batches(self) -> list[str]:
        """Return the names of the batches that have jobs, sorted; "" for jobs without one."""

    def counts(self, batch: str | None = None) -> dict[str, int]:
        """Return how many jobs are in each state; every state is there."""

    def totals(self, batch: str | None = None) -> dict[str, dict[str, float]]:
        """Return for each state `jobs`, `audio_s` and `wall_s`."""

    def totals_of_run(self) -> dict[str, dict[str, float]]:
        """Return `totals` of the jobs that are left, and of those that ended since the oldest of them was enqueued.

        So a batch's total stays the batch's when its work is stopped and taken up again.
        """

    def status(self) -> dict[str, Any]:
        """Return the queue at a glance, JSON-able.

        `jobs` and `audio_s` by state, `workers` (a line for each job in a worker's hands, one for a worker without;
        `idle_s` since the worker's last window and `hung`), `held` (queued jobs that wait for a place in trouble) and
        `places` (`path`, `needed_for`, `code`, `reason`, `remedy`, `since`, `jobs`), `paused`, `paused_kind`,
        `paused_reason`, `paused_since`, `database`.
        """

    def report_of(self, job_id: int) -> dict[str, Any] | None:
        """Return the report that is kept of a finished job; None where its sidecar has it."""

    def rows(
        self,
        columns: Sequence[str],
        *,
        states: Iterable[State | str] = (),
        batch: str | None = None,
        limit: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Read these columns of `Job.to_dict` alone, in pages: for tables of any length."""

    def pulse(self) -> Pulse:
        """Return whether workers get on, as cheaply as can be: for who asks again and again."""

    def files_ended(self, since: float, pid: int | None = None) -> int:
        """Return how many files were brought to an end, done or failed, by workers (of one process) that began since
        then."""

    def note_hung(self, worker: str) -> None:
        """Note that a worker is ended because it makes no windows: its death blames no file as a crash does."""

    def bound_variants(self) -> list[str]:
        """Return the variants that jobs still to be done name or are bound to, most urgent first."""

    def recent_speed(self, variant: str | None = None) -> Speed | None:
        """Return how fast the latest work went (for a variant); None if nothing was done yet."""

    def asking_for(self, settings: Collection[str]) -> dict[str, int]:
        """Return how many of the next 10,000 queued jobs ask for each of these settings; none where none asks."""

    def queued_for(self) -> dict[str, int]:
        """Return how many jobs are queued or waiting for each variant that they name; "" are those that any worker
        takes."""

    def events(self, job_id: int) -> list[dict[str, Any]]:
        """Return every change of state of a job, oldest first."""

    def attempts(self, job_id: int) -> list[dict[str, Any]]:
        """Return every claim of a job, oldest first: who, how many windows and seconds, how it ended."""


class Maintenance(Protocol):
    """Checking, backing up, tidying."""

    @property
    def workers_folder(self) -> Path:
        """Where lock files stand; may not exist yet."""

    def output_folders(self) -> set[str]:
        """Return the folders in which outputs of jobs that were ever claimed stand."""

    def check(self) -> list[str]:
        """Return what is wrong with the queue, one sentence each; empty when it is sound."""

    def held_up(self) -> str | None:
        """Return what keeps the queue's files growing, with the remedy; None if nothing does."""

    def backup(self, target: Path) -> None:
        """Copy the queue as of one moment, whole or not at all, while others go on working."""

    def keep_still(self) -> contextlib.AbstractContextManager[object]:
        """Let no job change hands for the block: nothing is claimed, retried or finished. Keep it short."""

    def prune_events(self, older_than_s: float) -> int:
        """Forget changes of state and attempts of jobs that have been over for so long. Returns how many."""

    def vacuum(self) -> int:
        """Give what the database no longer needs back to the disk. Returns how many bytes."""

    def prune_locks(self) -> int:
        """Remove what dead workers left in `workers_folder`. Returns how many files."""


class Queue(WorkQueue, IntakeQueue, Overview, Maintenance, Protocol):
    """All of it, as the command line has it."""

    def of_batch(self, batch: str) -> Queue:
        """Return the same queue through another connection, which claims jobs of this batch alone; close it."""
