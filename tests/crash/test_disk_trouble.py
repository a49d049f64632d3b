"""Full disks, quotas, I/O errors, file systems gone read-only: the queue waits, nothing breaks, no file fails."""

from __future__ import annotations

import dataclasses
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rig
from rig import Told

from batchsr import storage, temporary
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.queue.sqlite.store import Store, sqlite3
from batchsr.worker import maintenance

NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
NAMES = {errno.ENOSPC: "SQLITE_FULL", errno.EIO: "SQLITE_IOERR_WRITE", errno.EROFS: "SQLITE_READONLY_DBMOVED"}
LASTS = 2  # calls that fail in a row, before the trouble is over


class Injected:
    """Lets a function fail `LASTS` times from its Nth call on."""

    def __init__(self, function: Callable[..., Any], error: Callable[[], Exception]) -> None:
        self._function = function
        self._error = error
        self.calls = 0
        self.nth = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        if self.nth and self.nth <= self.calls < self.nth + LASTS:
            raise self._error()
        return self._function(*arguments, **named)


class Trial:
    """The same recording again and again, each time with the trouble one call later."""

    def __init__(self, folder: Path) -> None:
        self.db, self.out = folder / "queue.db", folder / "out"
        self.source = rig.record(folder / "in" / "a.wav", 0.25)
        rig.enqueue(folder / "peace.db", [self.source], folder / "peace")
        assert rig.work(folder / "peace.db").done == 1
        self.expected = storage.sha256(folder / "peace" / "a_upsampled.wav")

    def run(self, injected: Injected, every: int = 1, **request: Any) -> int:
        """Go through all calls that a restoration makes; returns in how many of them the trouble showed."""
        shown = 0
        nth = 1
        while True:
            out = self.out / str(nth)
            (number,) = rig.enqueue(self.db, [self.source], out, **request)
            told = Told()
            injected.calls, injected.nth = 0, nth
            summary = rig.work(self.db, listener=told)
            reached, injected.nth = injected.calls >= nth, 0
            with open_queue(self.db) as queue:
                job = queue.get(number)
                assert (summary.done, summary.failed) == (1, 0), (nth, told.said)
                assert (job.state, job.output_sha256) == (State.DONE, self.expected)
                assert queue.paused() is None
                assert queue.check() == []
            assert storage.sha256(out / "a_upsampled.wav") == self.expected
            assert not list(out.glob(temporary.TEMPORARY_PREFIX + "*"))
            if not reached:
                break
            shown += any(said.startswith(("paused", "waiting")) for said in told.said)
            nth += every
        with open_queue(self.db) as queue:
            assert {verdict.verdict for verdict in maintenance.verify(queue)} == {"ok"}
            maintenance.collect_garbage(queue)
            assert list(queue.scratch_folder.iterdir()) == []
        return shown


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["pwrite", "fsync", "link", "replace"])
def test_trouble_at_any_call_is_waited_out(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    injected = Injected(getattr(os, call), lambda: OSError(number, os.strerror(number)))
    monkeypatch.setattr(os, call, injected)
    shown = trial.run(injected, every={"pwrite": 4, "fsync": 3}.get(call, 1), overwrite=call == "replace")
    assert shown >= 1


@pytest.mark.parametrize("number", NAMES, ids=errno.errorcode.get)
def test_trouble_at_any_commit_of_the_database_is_waited_out(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def error() -> Exception:
        raised = sqlite3.OperationalError("as SQLite says it")
        raised.sqlite_errorname = NAMES[number]
        return raised

    commit = Store._commit
    injected = Injected(commit, error)
    monkeypatch.setattr(
        Store, "_commit", lambda self: injected(self) if ".db" in str(self.path) and injected.nth else commit(self)
    )
    assert trial.run(injected) >= 1


@pytest.mark.parametrize("what", ["output", "scratch and database"])
def test_a_disk_that_is_really_full_is_waited_for(small_disk: Path, tmp_path: Path, what: str) -> None:
    sources = [rig.record(tmp_path / "in" / f"{name}.wav", 2.0, seed=seed) for seed, name in enumerate("ab")]
    out = small_disk / "out" if what == "output" else tmp_path / "out"
    db = tmp_path / "queue.db" if what == "output" else small_disk / "queue.db"
    rig.enqueue(db, sources, out)
    ballast = small_disk / "ballast"
    left_bytes = storage.free_bytes(small_disk) - 200_000
    ballast.write_bytes(bytes(left_bytes))
    blind = dataclasses.replace(rig.OPTIONS, min_free_bytes=-1e12)  # it finds out by running into it
    with rig.ended(rig.fork(lambda: rig.work(db, options=blind).exit_code)) as pid:
        with open_queue(db) as queue:
            # The worker waits and probes.
            if what == "output":
                status = rig.until(lambda: (status := queue.status())["places"] and status["workers"] and status)
                assert not status["paused"], "the database has another disk"
                assert status["places"][0]["reason"] == f"no space left on {small_disk}"
            else:
                status = rig.until(lambda: (status := queue.status())["paused"] and status["workers"] and status)
                assert "no space left" in status["paused_reason"].lower()
            assert status["jobs"]["failed"] == 0
            time.sleep(0.3)
            assert queue.counts()["done"] == 0
        ballast.unlink()
        assert rig.wait(pid) == 0
    with open_queue(db) as queue:
        assert queue.counts()["done"] == 2
        assert not queue.status()["paused"]
        assert {verdict.verdict for verdict in maintenance.verify(queue)} == {"ok"}
        assert queue.check() == []


def test_what_a_small_file_survives_may_still_fail_a_large_one_but_not_in_a_tight_loop(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]
    write = os.pwrite

    def full(fd: int, data: Any, offset: int) -> int:
        calls[0] += 1
        if calls[0] < 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)  # the probe's own write goes another way, and works
    rig.enqueue(trial.db, [trial.source], trial.out)
    began_s = time.monotonic()
    summary = rig.work(trial.db, options=dataclasses.replace(rig.OPTIONS, poll_s=0.05))
    assert (summary.done, summary.failed) == (1, 0)
    assert summary.released >= 2
    assert time.monotonic() - began_s >= sum(0.05 * 2**n for n in range(summary.released)), "each wait twice as long"
