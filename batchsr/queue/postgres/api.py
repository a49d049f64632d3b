"""The queue of a fleet as the rest of the program sees it (batchsr.queue.interface).

What differs from a queue in a file: who is dead (alive.py); signs of life, of which a thousand hosts would otherwise
write 45,000 a second; a server that may be away for a while; and what each claim was about to publish.

Longer than other modules: it is the part of the interface that differs, held against one idea of who is alive.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import platform
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from batchsr.errors import ClaimLost, QueueAway, QueueError, UsageError
from batchsr.queue import roots
from batchsr.queue.clock import Clock
from batchsr.queue.finished import Finished
from batchsr.queue.interface import Worker
from batchsr.queue.job import Backend, Enqueued, Job, NewJob, Result, State, stored_text
from batchsr.queue.postgres import alive, calls, correcting, hosts, schema
from batchsr.queue.postgres.place import FleetPlace
from batchsr.queue.postgres.store import PgStore, ServerClock
from batchsr.queue.postgres.windows import Windows
from batchsr.queue.sqlite import checking, claims, importing, owners, reaper, reports
from batchsr.queue.sqlite.enqueue import CHUNK, Intake
from batchsr.queue.sqlite.worker import SqliteWorker
from batchsr.queue.trouble import Trouble

T = TypeVar("T")
_LONGEST_WAIT_S: Final = 30.0
_SWEEPS_IN_A_LEASE: Final = 4
_RAISED_AT_ONCE: Final = 20_000


class PostgresQueue(hosts.QueueOfHosts):
    """A queue of jobs in a PostgreSQL database, shared by the workers of many hosts.

    On each host stand lock files and scratch, in `place.folder`. Every method may raise QueueError, QueueAway,
    QueueBusy or ResourceError. What ends a claim waits for a server that is away, for two leases.
    """

    def __init__(self, store: PgStore, meta: dict[str, Any], beat_s: float) -> None:
        super().__init__(store)
        self._meta = meta
        self.windows = Windows(beat_s)
        """How far the files in this host's hands are."""
        self._lease_s = float(meta["lease_s"])
        self._workers: dict[str, PostgresWorker] = {}
        self._swept_s = time.monotonic()
        self._doubtful_claim = False
        self._claimed: dict[tuple[int, int], float] = {}

    @classmethod
    def connect(cls, place: FleetPlace, *, clock: Clock | None = None, beat_s: float | None = None) -> Self:
        """Open the queue of a fleet. Raises QueueError where there is none, QueueVersion, QueueAway."""
        store = PgStore(place, place.folder / "queue", clock or ServerClock())
        try:
            meta = schema.described(store)
        except BaseException:
            store.close()
            raise
        store.path = place.folder / f"fleet-{meta['fleet'][:8]}" / "queue"
        lease_s = float(meta["lease_s"])
        return cls(store, meta, lease_s / alive.BEATS_IN_A_LEASE if beat_s is None else beat_s)

    def __exit__(self, *_: object) -> None:
        self.close()

    def again(self) -> PostgresQueue:
        """Return the same queue through another connection, for another thread; close it."""
        store = PgStore(self._pg.place, self._pg.path, self._pg.clock)
        store.batch = self._pg.batch
        store.without = self._pg.without
        return PostgresQueue(store, self._meta, self.windows.beat_s)

    def of_batch(self, batch: str) -> PostgresQueue:
        """Return the same queue through another connection, which claims jobs of this batch alone; close it."""
        other = self.again()
        other._pg.batch = stored_text(batch)
        return other

    # Taking in

    def enqueue(self, jobs: Iterable[NewJob]) -> Iterator[Enqueued]:
        """Take in jobs and say for each, in order, what happened. A device number means nothing to other hosts."""
        yield from super().enqueue(_of_any_host(jobs))

    def preview(self, jobs: Iterable[NewJob]) -> Iterator[Enqueued]:
        """Yield what `enqueue` would say, some hundreds at a time, each as if those before had not been taken in."""
        source = _of_any_host(jobs)
        while chunk := list(itertools.islice(source, CHUNK)):
            with self._pg.rehearsing() as db:
                answers = Intake(self._store, db, chunk).run()  # type: ignore[arg-type]
            yield from answers

    def import_done(self, finished: Iterable[Finished], *, dry_run: bool = False) -> Iterator[Enqueued]:
        """See Queue.import_done; `dry_run` goes some hundreds at a time, as `preview` does."""
        if not dry_run:
            yield from importing.import_done(self._store, finished)
            return
        source = iter(finished)
        while chunk := list(itertools.islice(source, CHUNK)):
            with self._pg.rehearsing() as db:
                answers = importing.History(self._store, db, [one.job for one in chunk]).record(chunk)  # type: ignore[arg-type]
            yield from answers

    # Working

    def join(self) -> PostgresWorker:
        """Become a worker: take an owner's lock on this host, write a row, and begin to give signs of life."""
        home = alive.home_of(self.workers_folder)
        lock = owners.OwnerLock.take(self.workers_folder)
        try:
            claims.register(self._store, lock.worker)
            self._pg.rows("UPDATE workers SET home = ? WHERE id = ?", (home, lock.worker))
        except BaseException:
            lock.release()
            raise
        worker = PostgresWorker(self, lock, home)
        self._workers[worker.name] = worker
        return worker

    def reap(self, complete: Callable[[Job], None] = lambda job: None) -> list[Job]:
        """Take the jobs of dead workers: of this host by their locks, of others when their lease is over."""
        folder = self.workers_folder
        home = alive.home_of(folder)
        taken: list[Job] = []
        now_s = time.monotonic()
        sweep = now_s - self._swept_s >= self._lease_s / _SWEEPS_IN_A_LEASE * random.uniform(0.5, 1.0)
        which = "ended_at IS NULL"
        if sweep or self.windows.beat_s == 0:
            which = "(ended_at IS NULL OR id IN (SELECT worker FROM jobs WHERE worker IS NOT NULL))"
        here = self._store.rows(f"SELECT id FROM workers WHERE home = ? AND {which} ORDER BY id", (home,))
        with contextlib.ExitStack() as locks:
            dead = [one["id"] for one in here if locks.enter_context(owners.lock_of_dead(folder, one["id"]))]
            taken += self._take_from(dead, complete)
            for worker in dead:
                owners.lock_path(folder, worker).unlink(missing_ok=True)
        if sweep:
            self._swept_s = now_s
            healthy_s = max((worker.heartbeat.healthy_s for worker in self._workers.values()), default=0.0)
            taken += self._take_from(alive.silent(self._pg, home, self._lease_s, healthy_s), complete)
        return taken

    def _take_from(self, dead: Sequence[str], complete: Callable[[Job], None]) -> list[Job]:
        if not dead:
            return []
        blameless = reaper.died_of_something_else(self._store, dead)
        return [
            job
            for worker in dead
            for job in reaper.take_from(self._store, worker, complete, outage=worker in blameless)
        ]

    def claim(self, worker: Worker, backend: Backend) -> Job | None:
        """See WorkQueue.claim. A claim whose answer was lost is found again by the next call."""
        job = self._claim_in_doubt(worker) if self._doubtful_claim else None
        if job is None and self.is_taken_out():
            return None
        if job is None:
            try:
                job = calls.claim(self._pg, worker.name, backend)
            except QueueAway as e:
                self._doubtful_claim = self._doubtful_claim or e.in_doubt
                raise
        if job is not None:
            self._claimed[job.id, job.claim_seq] = time.monotonic()
        return job

    def peek(self, variant: str) -> Job | None:
        """See WorkQueue.peek."""
        return calls.peek(self._pg, variant)

    def in_hand(self) -> list[Job]:
        """Return the jobs that workers of this host own now."""
        return calls.in_hand(self._pg, alive.home_of(self.workers_folder))

    def _claim_in_doubt(self, worker: Worker) -> Job | None:
        rows = self._store.rows(f"SELECT {claims.COLUMNS} FROM jobs WHERE worker = ?", (worker.name,))
        self._doubtful_claim = False
        return next((job for job in map(claims.to_job, rows) if (job.id, job.claim_seq) not in self._claimed), None)

    def progress(self, job: Job, windows_done: int, windows_total: int) -> None:
        """Note that so many windows are safe in the scratch.

        They are written with the signs of life, those of all files in one message; the first ones of a file a little
        earlier, since a death after them blames it less. Raises ClaimLost as soon as the claim is known to be gone.
        """
        key = (job.id, job.claim_seq)
        worker = self._workers.get(job.worker or "")
        if worker is not None and worker.heartbeat.has_lost(*key, self._claimed.get(key, 0.0)):
            raise ClaimLost(f"job {job.id} is in other hands; this worker had claim {job.claim_seq}")
        if not self.windows.tell(job, windows_done, windows_total):
            return
        try:
            gone = self.windows.write(self._pg, job.worker or "", [key])
        except QueueAway:
            return  # computing goes on
        if gone:
            raise calls.lost(self._pg, job)

    def committing(self, job: Job, result: Result) -> None:
        """See WorkQueue.committing. What this claim is about to publish is kept, whatever becomes of the claim."""
        self._insist(job, lambda: calls.commit(self._pg, job, result, *self.windows.of(job)), (State.COMMITTING,))

    def standing(self, job: Job, sha256: Callable[[], str]) -> Result | None:
        """See WorkQueue.standing."""
        rows = self._store.rows("SELECT sha256, data FROM intents WHERE job = ?", (job.id,))
        found = sha256() if rows else None
        return next(
            (Result(**json.loads(reports.unpacked(one["data"]))) for one in rows if one["sha256"] == found), None
        )

    def correct(self, job: Job, result: Result | None) -> Job | None:
        """See WorkQueue.correct."""
        return correcting.correct(self._pg, job, result)

    def finish(self, job: Job, result: Result | None = None, reason: str = "", *, keep_report: bool = True) -> Job:
        """See WorkQueue.finish. Whose the output is need not be known any longer: its name is taken."""
        act = functools.partial(calls.finish, self._pg, job, result, reason, keep_report=keep_report)
        return self._ended(job, act, (State.DONE,))

    def fail(
        self, job: Job, code: str, message: str, wait_s: Callable[[int], float | None] = lambda failures: None
    ) -> Job:
        """See WorkQueue.fail."""
        again = super().fail
        return self._ended(job, lambda: again(job, code, message, wait_s), (State.WAITING, State.FAILED, State.QUEUED))

    def release(self, job: Job, reason: str = "interrupted") -> Job:
        """See WorkQueue.release."""
        again = super().release
        return self._ended(job, lambda: again(job, reason), (State.QUEUED,))

    def release_as(self, job: Job, outcome: str, reason: str) -> Job:
        """See QueueOfHosts.release_as."""
        return self._ended(job, lambda: claims.release(self._store, job, outcome, reason), (State.QUEUED,))

    def hold(self, job: Job, trouble: Trouble) -> Job:
        """See WorkQueue.hold. Where other hosts can use the place this one is paused, and the file is theirs."""
        if self._is_alone_with(trouble):
            given = self.release_as(job, "resource", trouble.reason)
            hosts.pause_for(self._pg, platform.node(), trouble, job)
            return given
        again = super().hold
        held = self._ended(job, lambda: again(job, trouble), (State.QUEUED,))
        hosts.resume_from(self._pg, trouble)
        return held

    def hold_queued(self, job: Job, trouble: Trouble, *, alike: bool = False) -> int:
        """See WorkQueue.hold_queued. Where other hosts can use the place this one is paused, and nothing is held."""
        if alike and self._is_alone_with(trouble):
            hosts.pause_for(self._pg, platform.node(), trouble, job)
            return 0
        held = super().hold_queued(job, trouble, alike=alike)
        if alike:
            hosts.resume_from(self._pg, trouble)
        return held

    def _is_alone_with(self, trouble: Trouble) -> bool:
        """Return whether what is in trouble fails this host alone, as far as is known. A store is the same for all."""
        return "://" not in trouble.path and hosts.is_alone_with(self._pg, trouble, self._lease_s)

    def _ended(self, job: Job, act: Callable[[], Job], reached: Sequence[State]) -> Job:
        ended = self._insist(job, act, reached) or self.get(job.id) or job
        self.windows.forget(job)
        self._claimed.pop((job.id, job.claim_seq), None)
        return ended

    def _insist(self, job: Job, act: Callable[[], T], reached: Sequence[State]) -> T | None:
        """Do it, waiting for a server that is away. None where an answer was lost and the row says that it is done."""
        began_s, wait_s, doubt = time.monotonic(), 0.2, False
        while True:
            try:
                return act()
            except QueueAway as e:
                doubt = doubt or e.in_doubt
                if time.monotonic() - began_s > 2 * self._lease_s:
                    raise
                time.sleep(wait_s * random.uniform(0.5, 1.0))
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            except ClaimLost:
                now = self.get(job.id) if doubt else None
                if now is not None and now.claim_seq == job.claim_seq and now.state in reached:
                    return None
                raise

    @property
    def shared(self) -> bool:
        """Whether workers of other machines publish beside this one's."""
        return True

    # Looking and keeping

    def status(self) -> dict[str, Any]:
        """See Overview.status; `database` is the fleet's URL without a password, `silent_s` since a worker was heard.

        Paths below a named root that this host does not have are told by that name.
        """
        with roots.shown_by_name():
            found = super().status() | {"hosts": hosts.listed(self._pg)}
        heard = {
            row["id"]: row["silent_s"]
            for row in self._store.rows(
                "SELECT id, extract(epoch FROM clock_timestamp())::float8 - seen_at AS silent_s FROM workers "
                "WHERE ended_at IS NULL"
            )
        }
        for one in found["workers"]:
            one["silent_s"] = heard.get(one["id"])
        return found | {"database": self.shown, "fleet": self.own_id, "lease_s": self._lease_s}

    @property
    def shown(self) -> str:
        """Names the fleet to people: its URL without a password."""
        return self._pg.place.shown

    @property
    def own_id(self) -> str:
        """Tells this queue from every other."""
        return str(self._meta["fleet"])

    def check(self) -> list[str]:
        """Return what is wrong with the queue, one sentence each; empty when it is sound."""
        with self._store.reading():
            return [f"job {row['id']} {what}" for what, sql in checking.CHECKS for row in self._store.rows(sql)]

    def held_up(self) -> str | None:
        """Return None: the server looks after its own files."""
        return None

    def backup(self, target: Path) -> None:
        """Raise UsageError: a fleet's database is backed up by its server's own means."""
        raise UsageError(f"{self.shown} is backed up with `pg_dump`", remedy="see docs/fleet.md")

    def prune_events(self, older_than_s: float) -> int:
        """See Maintenance.prune_events; with it go what jobs that are long over were about to publish."""
        gone = super().prune_events(older_than_s)
        self._pg.rows(
            "DELETE FROM intents WHERE job IN (SELECT id FROM jobs WHERE finished_at < ? AND worker IS NULL)",
            (self.clock.wall() - older_than_s,),
        )
        return gone

    def vacuum(self) -> int:
        """Return 0: the server does it by itself."""
        return 0

    def raise_claims(self, by: int = 1_000_000) -> int:
        """After the database was restored from a backup: no claim of before shall pass for one of after.

        Workers that are still at work join anew; a write of theirs with a claim of before has no effect, whether its
        number was raised already or not, since a claim is also its worker's. Returns how many jobs that were in hand
        are queued again.
        """
        with self._pg.writing() as db:
            db.execute(
                "UPDATE attempts SET ended_at = seen_at, outcome = 'interrupt', error = 'a backup was restored' "
                "WHERE ended_at IS NULL"
            )
            rows = list(
                db.query(
                    "UPDATE jobs SET state = 'queued', worker = NULL, attempts = greatest(0, attempts - 1), "
                    "changed_at = :now, reason = 'a backup was restored' WHERE worker IS NOT NULL RETURNING id",
                    {"now": self.clock.wall()},
                )
            )
            db.execute(
                "UPDATE workers SET ended_at = :now, ending = 'a backup was restored' WHERE ended_at IS NULL",
                {"now": self.clock.wall()},
            )
        (last,) = self._pg.rows("SELECT coalesce(max(id), 0) AS id FROM jobs")
        for start in range(0, last["id"] + 1, _RAISED_AT_ONCE):
            values = {"by": by, "start": start, "end": start + _RAISED_AT_ONCE}
            with self._pg.writing() as db:
                db.execute("UPDATE jobs SET claim_seq = claim_seq + :by WHERE id >= :start AND id < :end", values)
                for table in ("attempts", "events", "intents"):
                    which = "job >= :start AND job < :end"
                    db.execute(f"UPDATE {table} SET claim_seq = claim_seq + :by WHERE {which}", values)
        return len(rows)


class PostgresWorker(SqliteWorker):
    """A living worker of a fleet. It owns what it claims for as long as its signs of life arrive."""

    def __init__(self, queue: PostgresQueue, lock: owners.OwnerLock, home: str) -> None:
        super().__init__(queue._store, lock)
        self._fleet = queue
        self.home = home
        own = PgStore(queue._pg.place, queue._pg.path, queue.clock)
        beat_s = max(0.05, queue._lease_s / alive.BEATS_IN_A_LEASE)
        self.heartbeat = alive.Heartbeat(
            self.name, own, queue._pg, beat_s, lambda: queue.windows.write_all(own, self.name)
        )

    def leave(self, ending: str = "left") -> None:
        """Sign off; what it still owns is taken by the next reaper of this host."""
        self.heartbeat.stop()
        self._fleet._workers.pop(self.name, None)
        super().leave(ending)


def _of_any_host(jobs: Iterable[NewJob]) -> Iterator[NewJob]:
    return (dataclasses.replace(job, device=None) for job in jobs)


def initialise(place: FleetPlace, lease_s: float = schema.LEASE_S) -> bool:
    """Make the tables of a fleet. Returns whether there were none."""
    with contextlib.closing(PgStore(place, place.folder / "queue", ServerClock())) as store:
        return schema.init(store, lease_s)


def migrate(place: FleetPlace) -> tuple[int, int]:
    """Bring the tables of a fleet to this program's version. Returns the versions before and now."""
    with contextlib.closing(PgStore(place, place.folder / "queue", ServerClock())) as store:
        if schema.version_of(store) is None:
            raise QueueError(f"{place.shown} holds no queue yet", remedy="`batchsr fleet init` makes it, once")
        return schema.migrate(store)
