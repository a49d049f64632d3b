"""Taking jobs in: in bulk, the same work once, each output for one job."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchsr import faults
from batchsr.queue.job import (
    LIVE,
    Enqueued,
    NewJob,
    Outcome,
    State,
    exact_key,
    folded_key,
    loaded_path,
    signed,
    stored_path,
    stored_text,
)
from batchsr.queue.sqlite.folders import folder_id
from batchsr.queue.sqlite.store import Store

if TYPE_CHECKING:
    from sqlite_utils import Database

CHUNK: Final = 500  # jobs a transaction: a few tens of milliseconds, so that workers hardly wait
_INDEXES: Final = {
    "dedupe_key": ("jobs_dedupe", "state <> 'superseded'"),
    "output_key": ("jobs_output", "state NOT IN ('cancelled', 'superseded')"),
    "source_key": ("jobs_source", "true"),
}
"""Which index finds a key, and the condition that it is limited to: without it SQLite reads the whole table."""
_UNFINISHED: Final = (State.QUEUED, State.WAITING, State.RUNNING, State.FAILED, State.QUARANTINED)


def enqueue(store: Store, jobs: Iterable[NewJob]) -> Iterator[Enqueued]:
    """Take in jobs and say for each, in order, what happened. Nothing is locked while `jobs` makes the next one."""
    source = iter(jobs)
    while chunk := list(itertools.islice(source, CHUNK)):
        with store.taking_in() as db:
            answers = Intake(store, db, chunk).run()
            faults.point("enqueue.during")
        yield from answers


@dataclasses.dataclass(slots=True)
class _KnownJob:
    """What matters of a job that is in the queue already."""

    id: int
    state: State
    source_key: str
    output: str
    output_key: str
    wanted_key: str
    identity: str
    dedupe_key: str

    @property
    def holds_output(self) -> bool:
        return self.state not in (State.CANCELLED, State.SUPERSEDED)


class Intake:
    """One chunk in one transaction. What the database knows about its names is read once, at the start."""

    def __init__(self, store: Store, db: Database, chunk: list[NewJob]) -> None:
        self._db = db
        self._chunk = chunk
        self._now = store.clock.wall()
        last = next(db.query("SELECT max(coalesce((SELECT max(id) FROM jobs), 0), last_id) AS id FROM control"))["id"]
        self._next_id = 1 + last  # never the number of a job that was forgotten: a claim of it may still be around
        self._rows: list[dict[str, Any]] = []
        self._folders: dict[str, int] = {}
        self._by_dedupe: dict[str, _KnownJob] = {}
        self._by_output: dict[str, _KnownJob] = {}
        self._by_source: dict[str, list[_KnownJob]] = {}
        self._load()

    def run(self) -> list[Enqueued]:
        answers = [self._take(job) for job in self._chunk]
        self._flush()
        return answers

    def _load(self) -> None:
        outputs = {folded_key(name) for job in self._chunk for name in (job.output, job.alt_output, job.source)}
        sources = {exact_key(name) for job in self._chunk for name in (job.output, job.alt_output, job.source)}
        self._look_up("dedupe_key", {job.dedupe_key for job in self._chunk})
        self._look_up("output_key", outputs)
        self._look_up("source_key", sources)

    def _look_up(self, column: str, keys: Iterable[str]) -> None:
        sql = (
            "SELECT id, state, source_key, output, output_key, wanted_key, identity, dedupe_key "
            f"FROM jobs INDEXED BY {_INDEXES[column][0]} "
            f"WHERE {column} IN (SELECT value FROM json_each(?)) AND {_INDEXES[column][1]}"
        )
        for row in self._db.query(sql, (json.dumps(sorted(keys)),)):
            self._remember(
                _KnownJob(**(row | {"state": State(row["state"]), "output": loaded_path(row["output"])})),
            )

    def _remember(self, known: _KnownJob) -> None:
        if any(other.id == known.id for other in self._by_source.get(known.source_key, ())):
            return
        if known.state is not State.SUPERSEDED:
            self._by_dedupe[known.dedupe_key] = known
        if known.holds_output:
            self._by_output[known.output_key] = known
        self._by_source.setdefault(known.source_key, []).append(known)

    def _take(self, job: NewJob) -> Enqueued:
        if self._is_own_output(job.source):
            return Enqueued(None, Outcome.OWN_OUTPUT, job.source, None, job.source)
        if (earlier := self._by_dedupe.get(job.dedupe_key)) is not None:
            if earlier.state in LIVE:
                outcome = Outcome.ALREADY_QUEUED
            else:
                outcome = Outcome.ALREADY_DONE if earlier.state is State.DONE else Outcome.NEEDS_RETRY
            return Enqueued(earlier.id, outcome, earlier.output, earlier.state, job.source)
        if (other := self._other_work(job)) is not None:
            return Enqueued(other.id, Outcome.OTHER_SETTINGS, other.output, other.state, job.source)
        beside = self._beside(job)
        superseded = self._supersede(job)
        output = self._free_name(job)
        known = self._insert(job, output)
        outcome = Outcome.SUPERSEDING if superseded else Outcome.QUEUED
        return Enqueued(known.id, outcome, output, State.QUEUED, job.source, beside)

    def _is_own_output(self, source: str) -> bool:
        known = self._by_output.get(folded_key(source))
        if known is None:
            return False
        if known.output == source:
            return True
        with contextlib.suppress(OSError):  # another case: the same file only where the file system says so
            return os.path.samefile(known.output, source)
        return False

    def _other_work(self, job: NewJob) -> _KnownJob | None:
        """Return the job that restores this very source to this very output, but in another way."""
        wanted_key, identity = folded_key(job.output), stored_text(job.identity)
        for known in self._by_source.get(exact_key(job.source), ()):
            if known.holds_output and (known.wanted_key, known.identity) == (wanted_key, identity):
                return known
        return None

    def _beside(self, job: NewJob) -> int | None:
        """Return a job that restores this very source as well, to another output."""
        identity = stored_text(job.identity)
        others = self._by_source.get(exact_key(job.source), ())
        return next((known.id for known in others if known.holds_output and known.identity == identity), None)

    def _supersede(self, job: NewJob) -> bool:
        """Retire the unfinished jobs of a source that has changed since: they could only fail."""
        wanted_key = folded_key(job.output)
        retired = False
        for known in self._by_source.get(exact_key(job.source), ()):
            if known.wanted_key != wanted_key or known.identity == stored_text(job.identity):
                continue
            if known.state not in _UNFINISHED and not (known.state is State.DONE and job.overwrite):
                continue
            self._flush()  # it may be of this very chunk
            sql = "SELECT state FROM jobs WHERE id = ? /* pg: FOR UPDATE */"
            (row,) = self._db.query(sql, (known.id,))  # a worker may have got on with it since it was read
            known.state = State(row["state"])
            if known.state not in _UNFINISHED and not (known.state is State.DONE and job.overwrite):
                continue
            self._db.execute(
                "UPDATE attempts SET ended_at = ?, outcome = 'superseded' WHERE ended_at IS NULL AND job = ?",
                (self._now, known.id),
            )
            self._db.execute(
                "UPDATE jobs SET state = 'superseded', worker = NULL, run_at = NULL, finished_at = ?, changed_at = ?, "
                "reason = 'the source changed' WHERE id = ?",
                (self._now, self._now, known.id),
            )
            retired = retired or known.state is not State.DONE
            known.state = State.SUPERSEDED
            self._by_dedupe.pop(known.dedupe_key, None)
            self._by_output.pop(known.output_key, None)
        return retired

    def _free_name(self, job: NewJob) -> str:
        """Return the first name that no other job writes to or reads from."""
        for attempt, name in enumerate(itertools.chain((job.output, job.alt_output), numbered(job.alt_output))):
            if attempt >= 2:  # beyond what was read at the start
                self._look_up("output_key", [folded_key(name)])
                self._look_up("source_key", [exact_key(name)])
            if folded_key(name) not in self._by_output and exact_key(name) not in self._by_source:
                return name
        raise AssertionError("numbers do not end")

    def _insert(self, job: NewJob, output: str, state: State = State.QUEUED) -> _KnownJob:
        identity = stored_text(job.identity)
        known = _KnownJob(
            id=self._next_id,
            state=state,
            source_key=exact_key(job.source),
            output=output,
            output_key=folded_key(output),
            wanted_key=folded_key(job.output),
            identity=identity,
            dedupe_key=job.dedupe_key,
        )
        self._next_id += 1
        self._remember(known)
        self._rows.append(
            {
                "id": known.id,
                "state": known.state.value,
                "source_key": known.source_key,
                "output_key": known.output_key,
                "wanted_key": known.wanted_key,
                "identity": identity,
                "dedupe_key": known.dedupe_key,
                "source": stored_path(job.source),
                "source_folder": self._folder(job.source),
                "output": stored_path(output),
                "output_folder": self._folder(output),
                "settings": job.settings,
                "wanted_variant": job.variant,
                "variant": job.variant,
                "batch": stored_text(job.batch),
                "priority": job.priority,
                "overwrite": int(job.overwrite),
                "size_bytes": job.size_bytes,
                "mtime_ns": job.mtime_ns,
                "inode": signed(job.inode),
                "source_device": signed(job.device),
                "frames": job.frames,
                "sample_rate": job.sample_rate,
                "channels": job.channels,
                "audio_s": job.audio_s,
                "note": stored_text(job.note),
                "provenance": job.provenance,
                "created_at": self._now,
                "changed_at": self._now,
            }
        )
        return known

    def _folder(self, path: str) -> int:
        folder = os.path.dirname(path)
        if folder not in self._folders:
            self._folders[folder] = folder_id(self._db, stored_path(folder))
        return self._folders[folder]

    def _flush(self) -> None:
        if self._rows:
            names = self._rows[0].keys()
            sql = f"INSERT INTO jobs ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"
            self._db.conn.executemany(sql, self._rows)  # half the time of insert_all, which looks at every value
            self._rows.clear()


def numbered(output: str) -> Iterator[str]:
    """Yield names like this one, with a number from 2 on."""
    stem, extension = os.path.splitext(output)
    return (f"{stem}_{number}{extension}" for number in itertools.count(2))


def free_output(db: Database, job_id: int, output: str) -> str | None:
    """Return another name for a job to be taken up again, if its output went to another job meanwhile; else None."""
    for name in itertools.chain((output,), numbered(output)):
        sql = "output_key = ? AND id <> ? AND state NOT IN ('cancelled', 'superseded')"
        if not db.table("jobs").count_where(sql, (folded_key(name), job_id)):
            return None if name == output else name
    raise AssertionError("numbers do not end")


def same_file_as_output(outputs: Iterable[str], path: str) -> bool:
    """Return whether `path` is one of these outputs, by name or as the file system sees it."""
    for output in outputs:
        if output == path:
            return True
        with contextlib.suppress(OSError):
            if Path(output).samefile(path):
                return True
    return False
