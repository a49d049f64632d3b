"""The queue against a model of it in plain Python: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rig
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from batchsr.errors import ClaimLost
from batchsr.queue import OWNED, Job, NewJob, Result, State, Worker
from batchsr.queue.opening import open_queue
from batchsr.queue.steering import Answer, Instructions, Move
from batchsr.queue.trouble import Trouble
from batchsr.settings.profile import Settings

BACKOFF_S = 30.0
TROUBLE = Trouble("/archive", "output", "full", "the disk is full", "free some space", whole_system=True)
Q, W, R, C = State.QUEUED, State.WAITING, State.RUNNING, State.COMMITTING


@dataclasses.dataclass
class Model:
    """What a job should look like."""

    name: str
    version: int
    priority: int
    batch: str = ""
    state: State = Q
    claim: int = 0
    owner: str | None = None
    attempts: int = 0
    crashes: int = 0
    failures: int = 0
    windows: int = 0
    windows_at_claim: int | None = None
    due_s: float = 0.0
    done_events: int = 0
    seed: int = 0
    held: bool = False
    last_try: bool = False

    @property
    def is_held(self) -> bool:
        """Only what is queued can be held."""
        return self.held and self.state == Q

    def work(self, name: str | None = None, seed: int | None = None) -> NewJob:
        """Return what would be asked for to get this job, or one of another recording or in another way."""
        name, seed = name or self.name, self.seed if seed is None else seed
        return rig.new_job(name, identity=f"{name}{self.version}", settings=Settings(seed=seed).to_json())


@functools.cache
def fresh_database() -> Path:
    """Return a queue without jobs, to be copied: making one takes longer than fifty steps."""
    folder = Path(tempfile.mkdtemp(prefix="machine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    open_queue(folder / "queue.db").close()
    return folder / "queue.db"


class QueueMachine(RuleBasedStateMachine):
    """Three recordings that change now and then, workers that come, die and lag behind, a person, and time."""

    workers = Bundle("workers")
    claims = Bundle("claims")

    @initialize(target=workers)
    def start(self) -> Any:
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.clock = rig.HandClock()
        shutil.copyfile(fresh_database(), self.folder / "queue.db")
        self.queue = open_queue(self.folder / "queue.db", clock=self.clock)
        self.queue._store._connection.execute("PRAGMA synchronous = OFF")  # a power cut is another test's
        self.jobs: dict[int, Model] = {}
        self.paused = False
        self.dead: set[str] = set()
        self.gone: set[int] = set()
        self.given: list[tuple[Worker, Job]] = []
        self.turn = 0
        self.enqueue("a", 0, 0)
        self.enqueue("b", 0, 1)
        return multiple(self.queue.join(), self.queue.join())

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            assert self.queue.check() == []
            self.queue.close()
            shutil.rmtree(self.folder)

    # Taking in

    @rule(name=st.sampled_from("abc"), version=st.integers(0, 1), priority=st.integers(0, 2))
    def enqueue(self, name: str, version: int, priority: int) -> None:
        alike = [i for i, m in self.jobs.items() if (m.name, m.version) == (name, version) and m.state != "superseded"]
        same = [i for i in alike if self.jobs[i].seed == 0]
        others = [i for i in alike if self.jobs[i].state != State.CANCELLED]
        latest = max({0, *self.jobs, *self.gone})
        (answer,) = self.queue.enqueue([rig.new_job(name, identity=f"{name}{version}", priority=priority)])
        if same:
            state = self.jobs[same[0]].state
            expected = (
                "already done" if state == "done" else "already queued" if state in (Q, W, R, C) else "needs retry"
            )
            assert (answer.outcome, answer.job_id) == (expected, same[0])
            return
        if others:
            assert (answer.outcome, answer.job_id) == ("other settings", others[0])
            return
        retired = [
            model
            for model in self.jobs.values()
            if model.name == name and model.version != version and model.state in (Q, W, R, "failed", "quarantined")
        ]
        for model in retired:
            model.state, model.owner = State.SUPERSEDED, None
        assert answer.outcome == ("superseding" if retired else "queued")
        assert answer.job_id > latest, "a number that was forgotten comes never back"
        self.jobs[answer.job_id] = Model(name, version, priority)

    # Workers

    @rule(target=workers)
    def join(self) -> Worker:
        return self.queue.join()

    @rule(target=claims, worker=workers)
    def claim(self, worker: Worker) -> Any:
        if worker.name in self.dead:
            return multiple()
        if self.paused:
            assert self.queue.claim(worker, rig.BACKEND) is None
            self.resume()
        ready = [
            i
            for i, m in self.jobs.items()
            if (m.state == Q and not m.is_held) or (m.state == W and m.due_s <= self.clock.steady_s)
        ]
        peeked = self.queue.peek(rig.BACKEND.variant)
        job = self.queue.claim(worker, rig.BACKEND)
        assert (peeked and peeked.id) == (job and job.id), "what is said to come next comes next"
        if not ready:
            assert job is None
            return multiple()
        for model in self.jobs.values():
            if model.state == W and model.due_s <= self.clock.steady_s:
                model.state = Q
        expected = min(ready, key=lambda i: (-self.jobs[i].priority, i))
        assert job is not None
        assert job.id == expected
        model = self.jobs[expected]
        model.state, model.owner, model.claim, model.attempts = R, worker.name, model.claim + 1, model.attempts + 1
        model.windows_at_claim = None
        assert job.claim_seq == model.claim
        self.given.append((worker, job))
        return worker, job

    def current(self) -> list[tuple[Worker, Job]]:
        """The claims that are still their jobs'."""
        return [
            (worker, job)
            for worker, job in self.given
            if (model := self.jobs.get(job.id)) is not None
            and (model.claim, model.owner) == (job.claim_seq, worker.name)
        ]

    def write(
        self, claim: tuple[Worker, Job], states: tuple[State, ...], action: Callable[[Job], object]
    ) -> Model | None:
        """Do what an owner does; it must work exactly if the claim is still the job's. Most are stale: prefer not."""
        current = self.current()
        self.turn += 1
        if current and self.turn % 4:
            claim = current[self.turn % len(current)]
        worker, job = claim
        model = self.jobs.get(job.id)
        if model is not None and model.claim == job.claim_seq and model.owner == worker.name and model.state in states:
            action(job)
            return model
        with pytest.raises(ClaimLost):
            action(job)
        return None

    @rule(claim=claims, windows=st.integers(0, 9))
    def progress(self, claim: tuple[Worker, Job], windows: int) -> None:
        model = self.write(claim, (R,), lambda job: self.queue.progress(job, windows, 9))
        if model is not None:
            if windows > model.windows:
                model.crashes = model.failures = 0
                model.last_try = False
            if model.windows_at_claim is None:
                model.windows_at_claim = windows
            model.windows = windows

    @rule(claim=claims)
    def committing(self, claim: tuple[Worker, Job]) -> None:
        result = Result("ab" * 32, 5, windows_total=9)
        model = self.write(claim, (R,), lambda job: self.queue.committing(job, result))
        if model is not None:
            model.state = C

    @rule(claim=claims)
    def finish(self, claim: tuple[Worker, Job]) -> None:
        model = self.write(claim, (C,), lambda job: self.queue.finish(job))
        if model is not None:
            model.state, model.owner, model.windows = State.DONE, None, 9
            model.crashes = model.failures = 0
            model.last_try = False
            model.done_events += 1

    @rule(claim=claims, final=st.booleans())
    def fail(self, claim: tuple[Worker, Job], final: bool) -> None:
        wait_s = None if final else BACKOFF_S
        model = self.write(claim, (R, C), lambda job: self.queue.fail(job, "x", "x", lambda failures: wait_s))
        if model is not None:
            model.state, model.owner = (State.FAILED if final else W), None
            model.failures += 1
            model.due_s = self.clock.steady_s + BACKOFF_S

    @rule(claim=claims)
    def release(self, claim: tuple[Worker, Job]) -> None:
        model = self.write(claim, (R, C), lambda job: self.queue.release(job))
        if model is not None:
            model.state, model.owner, model.attempts = Q, None, model.attempts - 1

    @rule(claim=claims)
    def give_back(self, claim: tuple[Worker, Job]) -> None:
        model = self.write(claim, (R, C), lambda job: self.queue.give_back(job, "full"))
        if model is not None:
            model.state, model.owner, model.attempts = Q, None, model.attempts - 1
            self.paused = True

    @rule(claim=claims)
    def hold(self, claim: tuple[Worker, Job]) -> None:
        model = self.write(claim, (R, C), lambda job: self.queue.hold(job, TROUBLE))
        if model is not None:
            model.state, model.owner, model.attempts, model.held = Q, None, model.attempts - 1, True

    @rule(alike=st.booleans())
    def hold_what_is_next(self, alike: bool) -> None:
        job = self.queue.peek(rig.BACKEND.variant)
        if job is None:
            return
        free = [model for model in self.jobs.values() if model.state == Q and not model.is_held]
        mine = self.jobs[job.id]
        held = free if alike else [mine] if mine.state == Q else []
        assert self.queue.hold_queued(job, TROUBLE, alike=alike) == len(held)
        for model in held:
            model.held = True

    @rule()
    def free(self) -> None:
        assert self.queue.free() == sum(model.is_held for model in self.jobs.values())
        for model in self.jobs.values():
            model.held = False

    @rule()
    def take_last_try(self) -> None:
        tried = [i for i, model in self.jobs.items() if model.state == State.QUARANTINED and not model.last_try]
        job = self.queue.take_last_try(rig.BACKEND.variant)
        expected = min(tried, key=lambda i: (-self.jobs[i].priority, i), default=None)
        assert (job and job.id) == expected
        if job is not None:
            model = self.jobs[job.id]
            model.state, model.last_try, model.crashes = Q, True, job.crashes
            assert job.outages == 0

    @rule(worker=consumes(workers))
    def die(self, worker: Worker) -> None:
        worker._lock.release()
        self.dead.add(worker.name)

    @rule(target=workers, windows=st.integers(0, 2))
    def an_owner_dies_and_is_reaped(self, windows: int) -> Any:
        held = self.current()
        if not held:
            return multiple()
        worker, job = held[-1]
        if windows and self.jobs[job.id].state == R:
            self.turn = -1
            self.given = [(worker, job)]
            self.progress((worker, job), self.jobs[job.id].windows)
            self.turn = -1
            self.progress((worker, job), min(9, self.jobs[job.id].windows + windows - 1))
        if worker.name not in self.dead:
            self.die(worker)
        self.reap()
        return self.queue.join()

    @rule(target=workers)
    def the_next_file_is_done(self) -> Worker:
        """What takes four steps in their order, which chance alone seldom finds."""
        worker = self.queue.join()
        claim = self.claim(worker)
        if isinstance(claim, tuple):
            for step in (self.committing, self.finish):
                self.turn = -1
                step(claim)
        return worker

    @rule()
    def the_next_file_kills_three_workers(self) -> None:
        for _ in range(3):
            worker = self.queue.join()
            self.claim(worker)
            self.die(worker)
            self.reap()

    @rule()
    def reap(self) -> None:
        self.queue.reap()
        for number, model in self.jobs.items():
            if model.owner in self.dead:
                assert model.state in OWNED
                grew = model.windows_at_claim is not None and model.windows > model.windows_at_claim
                model.crashes = 0 if grew else model.crashes + 1
                job = self.queue.get(number)
                assert job.crashes + job.outages == model.crashes, "each death counts once, for the file or for others"
                assert (job.state == State.QUARANTINED) <= (job.crashes >= 3 or job.outages >= 10)
                assert (job.state == State.QUARANTINED) >= (job.crashes >= 3 and not job.outages)
                model.state, model.owner = job.state, None

    # People and time

    @rule(data=st.data())
    @precondition(lambda self: self.jobs)
    def cancel(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.jobs)))
        model = self.jobs[job]
        cancelled = self.queue.cancel([job])
        assert cancelled == ([job] if model.state in (Q, W, R) else [])
        if cancelled:
            model.state, model.owner = State.CANCELLED, None

    @rule(data=st.data(), priority=st.none() | st.integers(0, 2), batch=st.sampled_from([None, "", "b"]))
    @precondition(lambda self: self.jobs)
    def edit(self, data: st.DataObject, priority: int | None, batch: str | None) -> None:
        job = data.draw(st.sampled_from(sorted(self.jobs)))
        model = self.jobs[job]
        edited = self.queue.edit([job], priority=priority, batch=batch)
        assert edited == ([job] if model.state in (Q, W) else [])
        if edited:
            model.priority = model.priority if priority is None else priority
            model.batch = model.batch if batch is None else batch

    @rule(data=st.data())
    @precondition(lambda self: self.jobs)
    def forget(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.jobs)))
        expected = [job] if self.jobs[job].owner is None else []
        assert self.queue.forget([job]) == expected
        if expected:
            del self.jobs[job]
            self.gone.add(job)

    @rule(data=st.data(), seed=st.integers(0, 1), again=st.booleans())
    @precondition(lambda self: self.jobs)
    def instruct(self, data: st.DataObject, seed: int, again: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.jobs)))
        model = self.jobs[number]
        new = model.work(seed=seed)
        wanted = Instructions(number, new.identity, new.settings, None, new.output, new.alt_output, again=again)
        (said,) = self.queue.instruct([wanted])
        is_over = model.state in (State.FAILED, State.QUARANTINED, State.DONE)
        if model.state in OWNED:
            expected = Answer.IN_HAND
        elif model.state == State.DONE and not again:
            expected = Answer.DONE
        elif model.state in (State.CANCELLED, State.SUPERSEDED):
            expected = Answer.OVER
        elif self.twins(number, model.name, seed):
            expected = Answer.TWIN
        else:
            expected = Answer.UNCHANGED if model.seed == seed and not (again and is_over) else Answer.CHANGED
        assert said.answer == expected
        if expected is Answer.CHANGED:
            if again and (is_over or model.state == W):
                model.state, model.failures, model.crashes, model.last_try = Q, 0, 0, False
            model.seed, model.windows, model.held = seed, 0, False

    def twins(self, number: int, name: str, seed: int) -> list[int]:
        """Return the other jobs that do the work that this one would do."""
        work = (name, self.jobs[number].version, seed)
        others = {i: m for i, m in self.jobs.items() if i != number and m.state != State.SUPERSEDED}
        return [i for i, m in others.items() if (m.name, m.version, m.seed) == work]

    @rule(data=st.data(), name=st.sampled_from("abd"))
    @precondition(lambda self: self.jobs)
    def relocate(self, data: st.DataObject, name: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.jobs)))
        model = self.jobs[number]
        new = model.work(name)
        move = Move(number, new.source, new.output, new.identity, new.dedupe_key, 1, 2, 3, 4, new.output)
        over = (State.CANCELLED, State.SUPERSEDED)
        taken = {job.output for job in self.queue.jobs() if job.id != number and job.state not in over}
        (said,) = self.queue.relocate([move])
        if model.state in OWNED:
            expected = Answer.IN_HAND
        elif model.state != State.SUPERSEDED and self.twins(number, name, model.seed):
            expected = Answer.TWIN
        else:
            expected = Answer.TWIN if model.state not in over and new.output in taken else Answer.CHANGED
        assert said.answer == expected
        if expected is Answer.CHANGED:
            model.name, model.held = name, False

    @rule(data=st.data())
    @precondition(lambda self: self.jobs)
    def undone(self, data: st.DataObject) -> None:
        job = self.queue.get(data.draw(st.sampled_from(sorted(self.jobs))))
        model = self.jobs[job.id]
        assert self.queue.undone(job, "taken away") is (model.state == State.DONE)
        if model.state == State.DONE:
            model.state, model.windows = State.CANCELLED, 0
        assert not self.queue.undone(job, "taken away"), "what is undone is not undone again"

    @rule(data=st.data())
    @precondition(lambda self: self.jobs)
    def redo(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.jobs)))
        model = self.jobs[number]
        over = model.state in (State.FAILED, State.QUARANTINED, State.CANCELLED, State.DONE)
        assert self.queue.retry([number], redo=True) == ([number] if over else [])
        if over:
            model.state, model.crashes, model.failures, model.last_try = Q, 0, 0, False

    @rule(what=st.sampled_from(["prune", "vacuum", "backup"]))
    def housekeeping(self, what: str) -> None:
        if what == "prune":
            self.queue.prune_events(0.0)
        elif what == "vacuum":
            self.queue.vacuum()
        else:
            self.queue.backup(self.folder / "backup.db")
            with contextlib.closing(sqlite3.connect(self.folder / "backup.db")) as copy:
                assert dict(copy.execute("SELECT id, state FROM jobs")) == {i: m.state for i, m in self.jobs.items()}

    @rule()
    def retry_all(self) -> None:
        expected = [i for i, model in sorted(self.jobs.items()) if model.state in ("failed", "quarantined")]
        assert self.queue.retry() == expected
        for i in expected:
            self.jobs[i].state, self.jobs[i].crashes, self.jobs[i].failures, self.jobs[i].last_try = Q, 0, 0, False

    @rule()
    def pause(self) -> None:
        self.queue.pause("a person")
        self.paused = True

    @rule()
    def resume(self) -> None:
        assert self.queue.resume() is self.paused
        self.paused = False

    @rule(seconds=st.sampled_from([1.0, BACKOFF_S + 1]), jump_s=st.sampled_from([0.0, 86_400.0, -86_400.0]))
    def time_goes_by(self, seconds: float, jump_s: float) -> None:
        self.clock.pass_s(seconds)
        self.clock.wall_s += jump_s

    @invariant()
    def the_rows_are_as_the_model_says(self) -> None:
        if not hasattr(self, "queue"):
            return
        rows = list(self.queue.jobs())
        for job in rows:
            model = self.jobs[job.id]
            assert (job.state, job.claim_seq, job.worker) == (model.state, model.claim, model.owner)
            assert (job.attempts, job.crashes + job.outages, job.failures) == (
                model.attempts,
                model.crashes,
                model.failures,
            )
            assert job.windows_done == model.windows
            assert (job.priority, job.batch) == (model.priority, model.batch)
            model.held = model.is_held
            assert (job.held is not None, bool(job.last_try)) == (model.held, model.last_try)
        assert {job.id for job in rows} == set(self.jobs)
        assert sum(place.jobs for place in self.queue.places()) == sum(model.held for model in self.jobs.values())
        live = [job.output for job in rows if job.state not in ("cancelled", "superseded")]
        assert len(live) == len(set(live)), "no two jobs write one output"


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=30, stateful_step_count=60, deadline=None)
