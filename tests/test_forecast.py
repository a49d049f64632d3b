"""A dry run tells what a batch will take: hours by what was measured, disk against what is free."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import rig
from person import Person

from batchsr.queue.opening import open_queue
from batchsr.settings.profile import Settings
from batchsr.worker import forecast


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def test_hours_come_from_the_last_runs_and_say_so(person: Person) -> None:
    a, b = person.record("a.wav", "b.wav", seconds=2)
    said = person.run("enqueue", a, b, "--dry-run")
    assert "work: unknown" in said.err
    assert "--calibrate" in said.err
    person.run("enqueue", a)
    person.work()
    with open_queue(person.db) as queue:
        speed = queue.recent_speed()
        assert queue.recent_speed("int8") is None
    assert speed is not None
    assert (speed.files, speed.variant) == (1, "fast")
    assert 0 < speed.channel_s <= 2
    (_, summary) = person.run("enqueue", b, "--dry-run", "--json").documents
    told = summary["summary"]["forecast"]
    assert told["work_s"] == pytest.approx(2 * speed.busy_s / speed.channel_s, abs=0.06)
    assert "the last file here, with fast on cpu" in told["basis"]


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(stems="mix"), Settings(channels="mono", stems="files")], ids=str
)
def test_work_at_the_same_time_counts_once_and_stems_as_the_rows_they_are(tmp_path: Path, settings: Settings) -> None:
    clock = rig.HandClock()
    sound = {"channels": 2, "frames": 16_000, "sample_rate": 8000, "settings": settings.to_json()}
    jobs = [rig.new_job(name, **sound) for name in ("a", "b")]
    with open_queue(tmp_path / "q.db", clock=clock) as queue, queue.join() as worker:
        list(queue.enqueue(jobs))
        hands = [queue.claim(worker, rig.BACKEND) for _ in jobs]
        for job in hands:
            assert job is not None
            queue.progress(job, 0, 4)
        clock.pass_s(10)
        for job in hands:
            assert job is not None
            queue.progress(job, 2, 4)
            queue.release(job)
        speed = queue.recent_speed()
    assert speed is not None
    assert speed.busy_s == 10
    assert speed.channel_s == 2 * settings.rows_of(2), "half of two seconds, twice"
    needs = forecast.Forecast(tmp_path)
    for job in jobs:
        needs.add(job, job.output)
    assert needs.channel_s == 2 * speed.channel_s, "the same work, whole"


def test_calibration_measures_passes_after_one_that_warms_up() -> None:
    now = iter([0.0, 1.0, 6.0, 6.0])
    calls: list[int] = []
    model = rig.FastModel(frame_samples=48_000, calls=lambda indices: calls.append(len(indices)))
    pace = forecast.calibrated(lambda: model, "fast", 0.5, clock_s=lambda: next(now))
    assert calls == [2, 2, 2]
    assert pace.work_s == pytest.approx(6.0 / 4 / 0.5)
    assert "4 windows in 6.0 s with fast" in pace.basis


def test_disk_is_compared_with_what_is_free_for_outputs_copies_and_scratch(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a,) = person.record("a.wav", seconds=10)
    (_, summary) = person.run("enqueue", a, "--dry-run", "--json", "--also", "flac").documents
    (place,) = summary["summary"]["forecast"]["places"]
    assert place["output_bytes"] == 2 * 10 * 48_000 * 3
    assert place["scratch_bytes"] > 10 * 48_000 * 4
    assert place["enough"]
    assert place["free_bytes"] == pytest.approx(shutil.disk_usage(person.folder).free, rel=0.2)
    monkeypatch.setattr(forecast.storage, "free_bytes", lambda path: 1_000_000)
    assert "TOO LITTLE" in person.run("enqueue", a, "--dry-run").err


def test_what_will_fail_needs_no_room_and_calibrate_wants_a_dry_run(person: Person) -> None:
    (bad,) = person.record("a.wav")
    bad.write_bytes(b"no sound")
    (_, summary) = person.run("enqueue", bad, "--dry-run", "--json").documents
    assert summary["summary"]["forecast"]["places"] == []
    assert "add --dry-run" in person.run("enqueue", bad, "--calibrate", code=2).err
