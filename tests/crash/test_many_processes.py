"""Sixteen processes at one queue: nobody sees a locked database, nothing is done twice."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import rig

from batchsr.errors import ClaimLost
from batchsr.queue import Queue, Result, State
from batchsr.queue.opening import open_queue

PROCESSES = 16
SECONDS = float(os.environ.get("BATCHSR_CROWD_SECONDS", "5"))


def busybody(db: Path, number: int, seconds: float) -> None:
    """Does a bit of everything, at random, until the time is up and enough is done, however slow the machine is."""
    rng = random.Random(number)
    deadline = time.monotonic() + seconds
    copies = 0
    with open_queue(db) as queue, queue.join() as worker:
        while (left_s := deadline - time.monotonic()) > 0 or (left_s > -60 and queue.counts()[State.DONE] <= 100):
            match rng.randrange(7):
                case 0:
                    names = [f"n{rng.randrange(2000)}" for _ in range(20)]
                    assert len(list(queue.enqueue(rig.new_job(name) for name in names))) == 20
                case 1:
                    assert len(list(queue.jobs(limit=1000))) <= 1000
                case 2:
                    assert set(queue.status()["jobs"]) == set(State)
                case 3 if copies < 2:
                    copies += 1
                    queue.backup(db.with_name(f"copy-{number}-{copies}.db"))
                case 4:
                    queue.reap()
                case _:
                    restore_something(queue, worker, rng)


def restore_something(queue: Queue, worker: object, rng: random.Random) -> None:
    job = queue.claim(worker, rig.BACKEND)
    if job is None:
        return
    try:
        queue.progress(job, 1, 2)
        if rng.random() < 0.2:
            queue.release(job)
        elif rng.random() < 0.2:
            queue.fail(job, "transient", "hiccup", lambda failures: 0.0)
        else:
            queue.committing(job, Result("ab" * 32, 1))
            queue.finish(job)
    except ClaimLost as e:
        raise AssertionError("a living worker lost its job") from e


def test_sixteen_processes_enqueue_claim_list_and_back_up_at_once(tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    stderr = tmp_path / "stderr.txt"
    stderr.touch()
    pids = [rig.fork(lambda n=n: busybody(db, n, SECONDS), stderr=stderr) for n in range(PROCESSES)]
    codes = [rig.wait(pid) for pid in pids]
    assert codes == [0] * PROCESSES, stderr.read_text()[-3000:]
    assert "database is locked" not in stderr.read_text()
    with open_queue(db) as queue:
        assert queue.check() == []
        jobs = list(queue.jobs())
        assert len(jobs) > 100
        assert sum(job.state is State.DONE for job in jobs) > 100
        assert len({job.source for job in jobs}) == len(jobs), "the same work is one job, whoever enqueued it"
        for job in jobs[:: max(1, len(jobs) // 200)]:
            assert sum(event["new"] == "done" for event in queue.events(job.id)) == (job.state is State.DONE)
    copies = sorted(tmp_path.glob("copy-*.db"))
    assert copies
    for copy in copies[:4]:
        with open_queue(copy) as queue:
            assert queue.check() == []


def test_workers_share_a_queue_and_restore_each_file_once(tmp_path: Path) -> None:
    db, out = tmp_path / "queue.db", tmp_path / "out"
    sources = [rig.record(tmp_path / "in" / f"{number}.wav", 0.2, seed=number) for number in range(12)]
    rig.enqueue(db, sources, out)
    pids = [rig.fork(lambda: rig.work(db).exit_code) for _ in range(4)]
    assert [rig.wait(pid) for pid in pids] == [0] * 4
    with open_queue(db) as queue:
        assert [job.state for job in queue.jobs()] == [State.DONE] * 12
        assert [job.claim_seq for job in queue.jobs()] == [1] * 12
        assert len({queue.attempts(job.id)[0]["worker"] for job in queue.jobs()}) > 1
        assert queue.check() == []
