"""What becomes of a job, by the way its attempt ended. The rest of the queue always goes on."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import rig
from rig import Told, job_of

from batchsr.errors import (
    InputFormat,
    InputMissing,
    ModelUnavailable,
    NonFiniteOutput,
    OutputExists,
    QueueBusy,
    ResourceError,
    TransientError,
)
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.restoration.restore import restore
from batchsr.restoration.task import Restored, Task
from batchsr.signals import Stop
from batchsr.worker import worker
from batchsr.worker.listener import Account, NullListener
from batchsr.worker.options import WorkerOptions
from batchsr.worker.outcomes import Outcomes
from batchsr.worker.places import Places


class Failing:
    """A restoration that raises `errors` in turn, then works."""

    def __init__(self, *errors: Exception, after_windows: int = 0) -> None:
        self.errors = list(errors)
        self.after_windows = after_windows
        self.calls = 0

    def __call__(self, task: Task, model: Any, **callbacks: Any) -> Restored:
        self.calls += 1
        if self.errors:
            error = self.errors.pop(0)
            if self.after_windows:
                callbacks["on_windows"](0, 9)
                callbacks["on_windows"](self.after_windows * self.calls, 9)
            raise error
        return restore(task, model, **callbacks)


def test_a_drained_queue_leaves_outputs_sidecars_and_nothing_else(db: Path, sources: list[Path], out: Path) -> None:
    rig.enqueue(db, sources, out)
    summary = rig.work(db)
    assert (summary.done, summary.failed, summary.exit_code) == (3, 0, 0)
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(f"{n}_upsampled.wav{s}" for n in "abc" for s in ("", ".json"))
    with open_queue(db) as queue:
        assert list(queue.scratch_folder.iterdir()) == []
        assert list(queue.workers_folder.iterdir()) == []
        job = queue.get(1)
        assert job.windows_done == job.windows_total > 1
        assert job.rtf == pytest.approx(job.wall_s / 0.4)
        assert queue.check() == []


def test_one_bad_file_fails_with_its_code_and_the_rest_is_done(db: Path, sources: list[Path], told: Told) -> None:
    rig.enqueue(db, sources)
    sources[1].write_bytes(b"not audio" * 100)
    summary = rig.work(db, listener=told)
    assert (summary.done, summary.failed, summary.exit_code) == (2, 1, 3)
    job = job_of(db, 2)
    assert (job.state, job.error_code, job.attempts) == (State.FAILED, "input.format", 1)
    assert "failed 2 input.format" in told.said


@pytest.mark.parametrize("error", [InputFormat("no"), OutputExists("there"), NonFiniteOutput("nan")])
def test_what_can_never_work_fails_at_once(db: Path, sources: list[Path], error: Exception) -> None:
    rig.enqueue(db, sources[:1])
    failing = Failing(error)
    assert rig.work(db, restore=failing).exit_code == 3
    assert failing.calls == 1
    assert job_of(db, 1).error_code == error.code


@pytest.mark.parametrize(
    "error", [TransientError("hiccup"), OSError(errno.EIO, "share"), RuntimeError("bug"), MemoryError("big")]
)
def test_what_may_work_later_is_tried_again(db: Path, sources: list[Path], told: Told, error: Exception) -> None:
    rig.enqueue(db, sources[:1])
    summary = rig.work(db, restore=Failing(error, error), listener=told)
    assert (summary.done, summary.exit_code) == (1, 0)
    assert told.said.count("retrying 1") == 2
    assert job_of(db, 1).attempts == 3


def test_a_transient_failure_is_given_up_after_so_many_attempts_in_a_row(db: Path, sources: list[Path]) -> None:
    rig.enqueue(db, sources[:1])
    failing = Failing(*[ValueError("a bug nobody foresaw")] * 9)
    summary = rig.work(db, restore=failing, options=dataclasses.replace(rig.OPTIONS, max_attempts=3))
    assert (failing.calls, summary.failed) == (3, 1)
    job = job_of(db, 1)
    assert job.error_code == "internal"
    assert job.error.startswith("ValueError: a bug nobody foresaw (test_worker_outcomes.py:")


def test_attempts_that_make_windows_do_not_count_towards_giving_up(db: Path, sources: list[Path]) -> None:
    rig.enqueue(db, sources[:1])
    failing = Failing(*[TransientError("hiccup")] * 4, after_windows=1)
    options = dataclasses.replace(rig.OPTIONS, max_attempts=2)
    assert rig.work(db, restore=failing, options=options).done == 1


@pytest.mark.parametrize("jitter", [0.0, 0.999])
def test_backoff_doubles_up_to_a_limit_with_jitter_of_half(db: Path, jitter: float) -> None:
    options = WorkerOptions(variant="fast", backoff_s=5.0, backoff_max_s=60.0, max_attempts=7)
    with open_queue(db) as queue:
        places = Places(queue, options, NullListener(), lambda job: None)
        account, stop = Account(NullListener()), Stop(print, print)
        outcomes = Outcomes(queue, options, account, stop, places, restore, lambda: jitter)
        waits = [outcomes.backoff_s(failures) for failures in range(1, 8)]
    full = [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert waits[:-1] == pytest.approx([wait * (0.5 + 0.5 * jitter) for wait in full])
    assert waits[-1] is None


def test_a_machine_that_cannot_go_on_pauses_the_queue_until_it_can(
    db: Path, sources: list[Path], out: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.enqueue(db, sources, out)
    probes: list[Path] = []

    def probe(folder: Path) -> bool:
        probes.append(folder)
        return len(probes) > 3

    monkeypatch.setattr("batchsr.worker.diagnosis.can_write", probe)
    statuses: list[dict[str, Any]] = []

    def look() -> None:
        with open_queue(db) as queue:
            statuses.append(queue.status())

    told.on_paused = look
    full = ResourceError("no space left", remedy="free some")
    summary = rig.work(db, restore=Failing(full), listener=told)
    assert (summary.done, summary.failed, summary.exit_code) == (3, 0, 0)
    assert (statuses[0]["paused"], statuses[0]["paused_reason"]) == (True, "no space left (free some)")
    assert statuses[0]["jobs"]["queued"] == 3
    assert told.said.index("paused no space left (free some)") < told.said.index("resumed")
    assert job_of(db, 1).attempts == 1, "the attempt is given back"
    assert {out, db.parent} <= set(probes)


def test_a_file_that_goes_back_while_the_worker_looks_at_the_queue_is_taken_again(
    db: Path, tmp_path: Path, told: Told
) -> None:
    """The queue was seen without it while it was in flight; then it is in the queue, and no more in flight."""
    rig.enqueue(db, [rig.record(tmp_path / "in" / "short.wav", 0.05)])  # so short that another file is looked for
    looked, failing = threading.Event(), Failing(ResourceError("no space left"))

    def restoring(task: Task, model: Any, **callbacks: Any) -> Restored:
        assert looked.wait(10)
        return failing(task, model, **callbacks)

    def peeking(peek: Any, variant: str) -> Any:
        found = peek(variant)
        if found is None and not looked.is_set():
            looked.set()
            deadline_s = time.monotonic() + 10
            while "released 1" not in told.said and time.monotonic() < deadline_s:
                time.sleep(0.005)
            time.sleep(0.1)
        return found

    assert rig.work(db, restore=restoring, listener=told, instead={"peek": peeking}).done == 1


def test_a_full_disk_without_a_class_of_ours_is_known_by_its_number(db: Path, sources: list[Path], told: Told) -> None:
    rig.enqueue(db, sources[:1])
    assert rig.work(db, restore=Failing(OSError(errno.ENOSPC, "full")), listener=told).done == 1
    assert any(said.startswith("freed") for said in told.said)


def test_min_free_is_checked_before_a_claim(
    db: Path, sources: list[Path], out: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.enqueue(db, sources[:1], out)
    free = [1.9e9]
    monkeypatch.setattr("batchsr.storage.free_bytes", lambda path: free[0])

    def look() -> None:
        job = job_of(db, 1)
        assert (job.state, job.claim_seq) == (State.QUEUED, 0)
        free[0] = 2.1e9

    told.on_paused = look
    summary = rig.work(db, options=dataclasses.replace(rig.OPTIONS, min_free_bytes=2e9), listener=told)
    assert summary.done == 1
    assert any("1.90 GB free, less than --min-free 2.00 GB" in said for said in told.said)
    assert job_of(db, 1).claim_seq == 1


def test_files_of_a_share_that_vanished_are_held_until_it_is_back(
    db: Path, sources: list[Path], out: Path, told: Told
) -> None:
    rig.enqueue(db, sources, out)
    share, away = sources[0].parent, sources[0].parent.with_name("away")
    share.rename(away)
    told.on_paused = lambda: away.rename(share)
    summary = rig.work(db, listener=told)
    assert (summary.done, summary.failed) == (3, 0)
    assert f"held {share} is gone (mount its disk or share, or put the folder back)" in told.said
    assert f"freed {share}" in told.said
    assert job_of(db, 1).attempts == 1


def test_an_empty_mount_point_is_a_vanished_share_too(db: Path, sources: list[Path], out: Path, told: Told) -> None:
    with open_queue(db) as queue:
        (job,) = rig.jobs_for(sources[:1], out)
        list(queue.enqueue([dataclasses.replace(job, device=12345)]))  # the file system it was on
    kept = sources[0].read_bytes(), sources[0].stat()
    for path in sources:
        path.unlink()

    def mount() -> None:
        sources[0].write_bytes(kept[0])
        import os

        os.utime(sources[0], ns=(kept[1].st_atime_ns, kept[1].st_mtime_ns))

    told.on_paused = mount
    assert rig.work(db, listener=told).done == 1
    assert any(said.startswith("held") and " is gone" in said for said in told.said)


def test_a_deleted_file_on_a_share_that_was_mounted_anew_is_just_missing(db: Path, sources: list[Path]) -> None:
    with open_queue(db) as queue:
        list(queue.enqueue(dataclasses.replace(job, device=12345) for job in rig.jobs_for(sources)))
    sources[0].unlink()
    assert rig.work(db).failed == 1
    assert job_of(db, 1).error_code == "input.missing"


def test_a_deleted_file_is_just_missing(db: Path, sources: list[Path]) -> None:
    rig.enqueue(db, sources)
    sources[0].unlink()
    summary = rig.work(db)
    assert (summary.done, summary.failed) == (2, 1)
    assert job_of(db, 1).error_code == "input.missing"


def test_a_cancelled_job_stops_at_its_next_window(db: Path, sources: list[Path], out: Path, told: Told) -> None:
    rig.enqueue(db, sources[:2], out)

    def cancel(job: Any, done: int, total: int) -> None:
        if job.id == 1 and done >= 2:
            with open_queue(db) as queue:
                queue.cancel([1])

    told.on_windows = cancel
    summary = rig.work(db, listener=told)
    assert (summary.done, summary.lost) == (1, 1)
    assert job_of(db, 1).state is State.CANCELLED
    assert job_of(db, 1).windows_done < job_of(db, 2).windows_total
    assert not (out / "a_upsampled.wav").exists()


def test_a_persons_pause_ends_the_run_after_the_file_in_flight(db: Path, sources: list[Path], told: Told) -> None:
    rig.enqueue(db, sources)

    def pause(job: Any, done: int, total: int) -> None:
        with open_queue(db) as queue:
            queue.pause("lunch")

    told.on_windows = pause
    summary = rig.work(db, listener=told)
    assert (summary.done, summary.paused, summary.exit_code) == (1, True, 75)
    assert rig.work(db).exit_code == 75
    with open_queue(db) as queue:
        queue.resume()
    assert rig.work(db).done == 2


def test_without_a_model_nothing_is_claimed_and_nothing_is_loaded_without_work(db: Path, sources: list[Path]) -> None:
    def load() -> rig.FastModel:
        raise ModelUnavailable("no network")

    with open_queue(db) as queue:
        assert worker.run(queue, load, rig.OPTIONS).exit_code == 0
        rig.enqueue(db, sources)
        with pytest.raises(ModelUnavailable):
            worker.run(queue, load, rig.OPTIONS)
        assert queue.counts()["queued"] == 3
        assert queue.get(1).claim_seq == 0
        assert queue.status()["workers"] == []


def test_limit_stops_after_so_many_files(db: Path, sources: list[Path]) -> None:
    rig.enqueue(db, sources)
    assert rig.work(db, options=dataclasses.replace(rig.OPTIONS, limit=2)).done == 2


def test_the_gate_is_asked_before_each_claim(db: Path, sources: list[Path]) -> None:
    rig.enqueue(db, sources)
    answers = iter([0.0, 0.001, 0.0, math.inf])
    summary = rig.work(db, options=dataclasses.replace(rig.OPTIONS, gate=lambda: next(answers)))
    assert (summary.done, summary.exit_code) == (2, 0)


def test_a_job_that_died_with_its_worker_goes_on_where_it_was(db: Path, sources: list[Path], out: Path) -> None:
    rig.enqueue(db, sources[:1], out)
    pid = rig.fork(lambda: rig.work(db), fault="slot.after_row:3")
    assert rig.wait(pid) == -9
    assert rig.work(db).done == 1
    job = job_of(db, 1)
    assert job.attempts == 2
    assert job.windows_resumed > 0


def test_the_output_already_published_is_adopted_and_not_made_again(db: Path, sources: list[Path], out: Path) -> None:
    rig.enqueue(db, sources[:1], out)
    rig.work(db)
    first = job_of(db, 1)
    fresh = db.with_name("made-anew.db")
    rig.enqueue(fresh, sources[:1], out)
    assert rig.work(fresh, restore=Failing(AssertionError("not again"))).done == 1
    assert job_of(fresh, 1).output_sha256 == first.output_sha256
    assert job_of(fresh, 1).audio_s == first.audio_s


@pytest.mark.parametrize("change", ["", "size", "time", "another's sidecar"])
def test_an_output_whose_source_was_moved_since_is_adopted_only_for_the_same_name_size_and_time(
    db: Path, sources: list[Path], out: Path, change: str
) -> None:
    source = sources[0]
    if change == "size":
        source.write_bytes(source.read_bytes() + b"\0\0")
    if change == "time":
        os.utime(source, (1e9, 1e9))
    rig.enqueue(db, [source], out)
    if change in ("size", "time"):
        source.unlink()
        rig.record(source, 1.0)
    other = rig.enqueue(db.with_name("other.db"), [source], out)
    rig.work(db.with_name("other.db"))
    assert job_of(db.with_name("other.db"), other[0]).state is State.DONE
    if change == "another's sidecar":
        beside = out / "a_upsampled.wav.json"
        document = json.loads(beside.read_text())
        document["source"]["path"] += ".moved"
        beside.write_text(json.dumps(document))
    source.rename(source.with_suffix(".moved"))
    summary = rig.work(db, restore=Failing(InputMissing("not there")))
    assert (summary.done, summary.failed) == ((0, 1) if change else (1, 0))


@pytest.mark.parametrize("change", ["output", "settings", "weights", "sidecar"])
def test_an_output_that_is_not_this_very_restoration_is_neither_adopted_nor_lost(
    db: Path, sources: list[Path], out: Path, change: str
) -> None:
    rig.enqueue(db, sources[:1], out)
    rig.work(db)
    output = out / "a_upsampled.wav"
    if change == "output":
        output.write_bytes(output.read_bytes()[:-1] + b"x")
    if change == "sidecar":
        output.with_name("a_upsampled.wav.json").write_text("[]")
    kept = output.read_bytes()
    fresh = db.with_name("made-anew.db")
    rig.enqueue(fresh, sources[:1], out, settings={"seed": 1} if change == "settings" else {})
    model = rig.FastModel(identity=rig.Identity(weights_sha256=("1" if change == "weights" else "0") * 64))
    assert rig.work(fresh, model).failed == 1
    assert job_of(fresh, 1).error_code == "output.exists"
    assert output.read_bytes() == kept


def test_trouble_after_the_rename_still_ends_in_done(db: Path, sources: list[Path], out: Path) -> None:
    def published_then_broken(task: Task, model: Any, **callbacks: Any) -> Restored:
        restore(task, model, **callbacks)
        raise ResourceError("cannot sync the folder")

    rig.enqueue(db, sources[:1], out)
    summary = rig.work(db, restore=published_then_broken)
    assert (summary.done, job_of(db, 1).state) == (1, State.DONE)


def test_a_database_that_cannot_be_written_is_waited_for(db: Path, sources: list[Path], told: Told) -> None:
    rig.enqueue(db, sources[:1])
    refusals = iter([ResourceError("no space left for queue.db"), QueueBusy("in use"), ResourceError("still none")])

    def sometimes(claim: Any, *arguments: Any) -> Any:
        for error in refusals:
            raise error
        return claim(*arguments)

    assert rig.work(db, listener=told, instead={"claim": sometimes}).done == 1
    assert "waiting no space left for queue.db" in told.said


def test_letting_go_of_a_job_is_insisted_on(db: Path, sources: list[Path]) -> None:
    rig.enqueue(db, sources[:1])
    refusals = iter([ResourceError("no space left for queue.db")] * 3)

    def sometimes(fail: Any, *arguments: Any) -> Any:
        for error in refusals:
            raise error
        return fail(*arguments)

    assert rig.work(db, restore=Failing(InputFormat("no")), instead={"fail": sometimes}).failed == 1
    assert job_of(db, 1).state is State.FAILED


def test_what_the_worker_lost_meanwhile_is_left_to_its_new_owner(db: Path, sources: list[Path], told: Told) -> None:
    rig.enqueue(db, sources[:1])

    def taken(task: Task, model: Any, **callbacks: Any) -> Restored:
        with open_queue(db) as queue:
            queue.release(queue.get(1))
            queue.pause("so that it is not claimed again")
        raise TransientError("and now it fails, too late")

    summary = rig.work(db, restore=taken, listener=told)
    assert (summary.lost, summary.failed) == (1, 0)
    assert job_of(db, 1).state is State.QUEUED


def test_a_worker_that_was_taken_for_dead_joins_anew(db: Path, sources: list[Path], out: Path, told: Told) -> None:
    rig.enqueue(db, sources[:1], out)
    taken: list[int] = []

    def remove_the_locks(job: Any, done: int, total: int) -> None:
        if not taken:
            with open_queue(db) as queue:
                for path in queue.workers_folder.iterdir():
                    path.unlink()
                taken.extend(one.id for one in queue.reap())

    told.on_windows = remove_the_locks
    summary = rig.work(db, listener=told)
    assert (taken, summary.lost, summary.done) == ([1], 1, 1)
    with open_queue(db) as queue:
        assert queue.check() == []


def test_an_input_that_can_never_work_leaves_no_scratch_behind(db: Path, sources: list[Path]) -> None:
    rig.enqueue(db, sources[:1])

    def late(task: Task, model: Any, **callbacks: Any) -> Restored:
        task.scratch.parent.mkdir(exist_ok=True)
        task.scratch.write_bytes(b"x")
        raise InputFormat("broken in the middle")

    rig.work(db, restore=late)
    with open_queue(db) as queue:
        assert list(queue.scratch_folder.iterdir()) == []
    shutil.rmtree(db.parent / "in")
