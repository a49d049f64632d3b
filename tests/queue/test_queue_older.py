"""A database of an earlier version opens: nothing is lost, a backup stands beside it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import rig

from batchsr.queue import Result, State
from batchsr.queue.clock import Clock
from batchsr.queue.job import exact_key, folded_key
from batchsr.queue.opening import open_queue
from batchsr.queue.sqlite import damage, schema, store, versions

REPORT = {"source": {"remarks": [{"code": "input.odd", "message": "it is odd"}]}, "any": "thing"}


def made_by_version_1(path: Path) -> list[str]:
    """A queue as the first version kept it: one job done, one running, one quarantined, one queued. Their keys."""
    opened = store.Store.connect(path, Clock())
    with opened.writing() as db:
        schema.migrations.apply(db, stop_before="add_places")
        db.execute(f"PRAGMA application_id = {damage.APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO workers VALUES ('1-dead', 1, 'host', 'boot', 'fast', 'cpu', 1.0, 1.0, NULL, NULL)")
        keys = []
        for number, state in enumerate(("done", "running", "quarantined", "queued"), 1):
            job = rig.new_job(f"{state}")
            keys.append(job.dedupe_key)
            row = {
                "id": number,
                "state": state,
                "source": job.source,
                "source_key": exact_key(job.source),
                "output": job.output,
                "output_key": folded_key(job.output),
                "wanted_key": folded_key(job.output),
                "overwrite": 0,
                "identity": job.identity,
                "dedupe_key": job.dedupe_key,
                "settings": job.settings,
                "worker": "1-dead" if state == "running" else None,
                "claim_seq": int(state == "running"),
                "attempts": int(state == "running"),
                "wall_s": 12.5,
                "error_code": "crash" if state == "quarantined" else None,
                "output_sha256": "ab" * 32 if state == "done" else None,
                "report": json.dumps(REPORT) if state == "done" else None,
                "created_at": 1.0,
                "finished_at": 2.0 if state == "done" else None,
                "changed_at": 2.0,
            }
            db.table("jobs").insert(row)
        db.execute(
            "INSERT INTO attempts VALUES (2, 1, '1-dead', 'fast', 'r1', 1, 1, 'boot', 0, 0, 1, 1, 0, "
            "NULL, NULL, NULL, NULL)"
        )
    opened.close()
    return keys


def test_a_database_of_version_1_opens_with_all_that_it_held(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    keys = made_by_version_1(path)
    with open_queue(path) as queue:
        jobs = list(queue.jobs())
        assert [job.dedupe_key for job in jobs] == keys, "what makes a job the same is what it was"
        assert [str(job.state) for job in jobs] == ["done", "running", "quarantined", "queued"]
        assert [job.wall_s for job in jobs] == [12.5] * 4
        assert queue.report_of(1) == REPORT
        assert list(jobs[0].remarks) == REPORT["source"]["remarks"]
        assert [job.state for job in queue.reap()] == [State.QUEUED]
        assert queue.check() == []
        assert queue.take_last_try("fast").id == 3, "it was quarantined under the older, quicker rule"
        assert [str(answer.outcome) for answer in queue.enqueue([rig.new_job("queued")])] == ["already queued"]
    (backup,) = tmp_path.glob("queue.db.backup-schema1-*")
    with sqlite3.connect(backup) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (4,)
    with open_queue(path) as queue:
        assert queue._store.rows("PRAGMA user_version")[0]["user_version"] == versions.VERSION


def test_time_of_a_redone_job_is_that_of_the_redoing_alone(tmp_path: Path) -> None:
    clock = rig.HandClock()
    with open_queue(tmp_path / "queue.db", clock=clock) as queue:
        list(queue.enqueue([rig.new_job("a")]))
        with queue.join() as worker:
            for _ in range(2):
                job = queue.claim(worker, rig.BACKEND)
                clock.pass_s(10)
                queue.progress(job, 1, 1)
                queue.committing(job, Result("ab" * 32, 1))
                done = queue.finish(job)
                assert done.wall_s == 10
                assert done.rtf == 5
                assert queue.retry([1], redo=True) == [1]
        assert [one["wall_s"] for one in queue.attempts(1)] == [10, 10]


def test_time_of_a_retried_job_counts_what_its_finished_windows_took(tmp_path: Path) -> None:
    clock = rig.HandClock()
    with open_queue(tmp_path / "queue.db", clock=clock) as queue:
        list(queue.enqueue([rig.new_job("a")]))
        with queue.join() as worker:
            job = queue.claim(worker, rig.BACKEND)
            clock.pass_s(10)
            queue.progress(job, 1, 2)
            queue.fail(job, "input.format", "no")
            assert queue.retry() == [1]
            job = queue.claim(worker, rig.BACKEND)
            clock.pass_s(5)
            queue.committing(job, Result("ab" * 32, 1))
            assert queue.finish(job).wall_s == 15
