"""The process ends with SIGKILL at every named point, again and again; the next worker makes it right.

Each point is hit at least 20 times, over all windows of a file, often twice in a row. After every kill
no name shows anything but a whole output; in the end every output has the bytes of an uninterrupted run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import rig
from sqlite_utils import Database

from batchsr import faults, storage, temporary
from batchsr.queue import LIVE, State
from batchsr.queue.opening import open_queue
from batchsr.queue.sqlite import schema, versions
from batchsr.restoration import sidecar_reading
from batchsr.restoration.sidecar import sidecar_path
from batchsr.worker import maintenance, recovery

TIMES = 20
WINDOW_POINTS = ("slot.before_write", "slot.after_write", "slot.after_fsync", "slot.after_row", "assemble.during")
JOB_POINTS = (
    "claim.after",
    "committing.before",
    "committing.after",
    "rename.before",
    "rename.after",
    "sidecar.after",
    "folder_fsync.before",
    "folder_fsync.after",
    "done.before",
    "done.after",
)
OTHER_POINTS = ("migration.during", "enqueue.during", "reaper.during", "undo.moved", "undo.before_row", "export.step")


def test_every_point_is_tried_here() -> None:
    assert {*WINDOW_POINTS, *JOB_POINTS, *OTHER_POINTS} == set(faults.POINTS)


class Bench:
    """One recording, a queue, and an account of the windows computed."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.db, self.out = folder / "queue.db", folder / "out"
        self.source = rig.record(folder / "in" / "a.wav", seconds)
        self._account = folder / "windows.jsonl"
        peace = folder / "peace"
        rig.enqueue(folder / "peace.db", [self.source], peace)
        assert rig.work(folder / "peace.db").done == 1
        self.expected = storage.sha256(peace / "a_upsampled.wav")
        self.rounds = 0

    def enqueue(self) -> int:
        """The recording once more, to another folder."""
        self.rounds += 1
        (number,) = rig.enqueue(self.db, [self.source], self.out / str(self.rounds))
        return number

    def work_and_die(self, fault: str) -> bool:
        """A worker that dies at `fault`. False if it got done without coming by there so often."""
        code = rig.wait(rig.fork(self._work, fault=fault))
        assert code in (0, -signal.SIGKILL)
        for path in self.out.rglob("*.wav"):
            if not path.name.startswith("."):
                assert storage.sha256(path) == self.expected, "a name showed something else than a whole output"
        return code != 0

    def finish(self) -> None:
        """A worker in peace, after a person retried what was quarantined."""
        with open_queue(self.db) as queue:
            queue.reap(recovery.complete_sidecar)
            queue.retry()
        rig.work(self.db, rig.FastModel())
        with open_queue(self.db) as queue:
            assert not any(queue.counts()[state] for state in (*LIVE, State.FAILED, State.QUARANTINED))

    def _work(self) -> None:
        def called(indices: Sequence[int]) -> None:
            fd = os.open(self._account, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, json.dumps([rig_listener.job, sorted(set(indices))]).encode() + b"\n")
            os.close(fd)

        rig_listener = Remembering()
        rig.work(self.db, rig.FastModel(calls=called), listener=rig_listener)

    def redone(self) -> int:
        """Windows that were computed more than once."""
        computed: list[tuple[int, int]] = []
        if self._account.exists():
            for line in self._account.read_text().splitlines():
                job, indices = json.loads(line)
                computed += [(job, index) for index in indices]
        return len(computed) - len(set(computed))


class Remembering(rig.Told):
    job = 0

    def claimed(self, job: rig.Job) -> None:
        self.job = job.id


def judge(bench: Bench, kills: int) -> None:
    """What must hold in the end."""
    with open_queue(bench.db) as queue:
        assert queue.check() == []
        for job in queue.jobs():
            assert (job.state, job.output_sha256) == (State.DONE, bench.expected)
            assert sum(event["new"] == "done" for event in queue.events(job.id)) == 1
            record = sidecar_reading.read(sidecar_path(Path(job.output)))
            assert record is not None, "an output was left without its sidecar"
            assert record.said.output.sha256 == bench.expected
        assert {verdict.verdict for verdict in maintenance.verify(queue)} == {"ok"}
        maintenance.collect_garbage(queue)
        assert list(queue.scratch_folder.iterdir()) == []
        assert list(bench.out.rglob(temporary.TEMPORARY_PREFIX + "*")) == []
    assert bench.redone() <= rig.BACKEND.batch_windows * kills


@pytest.mark.parametrize("point", WINDOW_POINTS)
def test_a_kill_at_any_window_costs_at_most_one_batch(tmp_path: Path, point: str) -> None:
    bench = Bench(tmp_path, seconds=1.3)
    kills = die_again_and_again(bench, point, nth=lambda kills: 1 + kills % 3)
    judge(bench, kills)


@pytest.mark.parametrize("point", JOB_POINTS)
def test_a_kill_around_claim_commit_and_rename_loses_and_doubles_nothing(tmp_path: Path, point: str) -> None:
    bench = Bench(tmp_path, seconds=0.25)
    kills = die_again_and_again(bench, point, nth=lambda kills: 1)
    judge(bench, kills)


def die_again_and_again(bench: Bench, point: str, nth: Callable[[int], int]) -> int:
    """Workers that die at `point`, each going on where the one before died, over as many files as it takes."""
    kills = 0
    while kills < TIMES:
        if bench.work_and_die(f"{point}:{nth(kills)}"):
            kills += 1
        else:
            bench.enqueue()  # the last one got to the end of its file: another one
        with open_queue(bench.db) as queue:
            queue.retry()
    bench.finish()
    return kills


@pytest.mark.parametrize("point", ["rename.after", "sidecar.after", "folder_fsync.before"])
def test_a_kill_between_the_names_is_made_good_even_where_the_database_is_lost(tmp_path: Path, point: str) -> None:
    bench = Bench(tmp_path, seconds=0.25)
    for time in range(3):
        bench.enqueue()
        assert bench.work_and_die(f"{point}:1")
        output = bench.out / str(bench.rounds) / "a_upsampled.wav"
        assert storage.sha256(output) == bench.expected
        assert sidecar_path(output).exists() == (point != "rename.after")
        for path in tmp_path.glob("queue.db*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (number,) = rig.enqueue(bench.db, [bench.source], output.parent)
        if time == 2:  # a clean-up in between loses nothing
            with open_queue(bench.db) as queue:
                with queue.join() as worker:
                    queue.release(queue.claim(worker, rig.BACKEND))
                maintenance.collect_garbage(queue)
        model = rig.FastModel(calls=lambda indices: pytest.fail("it was whole already"))
        assert rig.work(bench.db, model).done == 1
        record = sidecar_reading.read(sidecar_path(output))
        assert record is not None
        assert record.said.output.sha256 == bench.expected
        assert rig.job_of(bench.db, number).output_sha256 == bench.expected
        assert list(output.parent.glob(temporary.TEMPORARY_PREFIX + "*")) == []


def test_a_kill_in_the_reaper_leaves_the_job_to_the_next_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, seconds=0.25)
    kills = 0
    while kills < TIMES:
        number = bench.enqueue()
        assert bench.work_and_die("slot.after_row:2")
        assert bench.work_and_die("reaper.during:1")
        with open_queue(bench.db) as queue:
            job = queue.get(number)
            assert (job.state, job.crashes) == (State.RUNNING, 0), "all of the reaper's transaction or nothing"
        kills += 1
        bench.finish()
    judge(bench, 2 * kills)


def test_a_kill_in_a_bulk_enqueue_takes_in_whole_chunks_and_repeating_it_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchsr.queue.sqlite.enqueue.CHUNK", 50)
    jobs = [rig.new_job(str(number)) for number in range(110)]

    def child(db: Path) -> None:
        with open_queue(db) as queue:
            list(queue.enqueue(jobs))

    for time in range(TIMES):
        db = tmp_path / f"{time}.db"
        chunk = 1 + time % 3
        assert rig.wait(rig.fork(lambda db=db: child(db), fault=f"enqueue.during:{chunk}")) == -signal.SIGKILL
        with open_queue(db) as queue:
            assert queue.counts()["queued"] == 50 * (chunk - 1)
            outcomes = [str(answer.outcome) for answer in queue.enqueue(jobs)]
            assert outcomes.count("already queued") == 50 * (chunk - 1)
            assert queue.counts()["queued"] == 110
            assert queue.check() == []


@pytest.mark.parametrize("existing", [False, True])
def test_a_kill_in_a_migration_leaves_the_version_before_it(
    tmp_path: Path, existing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = type(schema.migrations)("batchsr")
    later._migrations = [*schema.migrations._migrations]

    @later()
    def add_colour(db: Database) -> None:
        db.table("jobs").add_column("colour", str)

    def upgrade() -> None:
        if existing:
            schema.migrations, versions.VERSION = later, versions.VERSION + 1  # type: ignore[misc]
        open_queue(db).close()

    for time in range(TIMES // 2):
        db = tmp_path / str(time) / "queue.db"
        if existing:
            with open_queue(db) as queue:
                list(queue.enqueue([rig.new_job()]))
        assert rig.wait(rig.fork(upgrade, fault="migration.during:1")) == -signal.SIGKILL
        with open_queue(db) as queue:
            assert queue.counts()["queued"] == int(existing)
            assert "colour" not in queue._store.db.table("jobs").columns_dict
            assert queue.check() == []
        assert len(list(db.parent.glob(f"*.backup-schema{versions.VERSION}-*"))) == int(existing)
        assert rig.wait(rig.fork(upgrade)) == 0
        if existing:
            monkeypatch.setattr(versions, "VERSION", versions.VERSION + 1)
            with open_queue(db) as queue:
                assert "colour" in queue._store.db.table("jobs").columns_dict
            monkeypatch.undo()
