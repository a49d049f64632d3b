"""The seconds spent on a file are one figure: the sidecar's, the row's and the report's."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import rig

from batchsr.queue.opening import open_queue
from batchsr.worker import worker


def figures(db: Path) -> list[tuple[float, float]]:
    """For each job, what the queue says and what its sidecar says: seconds, seconds for one of audio."""
    found = []
    with open_queue(db) as queue:
        for job in queue.jobs():
            said = json.loads(Path(job.output + ".json").read_text())
            row = job.to_dict()
            assert row["wall_s"] == pytest.approx(said["wall_s"], abs=0.001)
            assert row["rtf"] == pytest.approx(said["rtf"], abs=0.02)  # of a clip of 0.05 s, to the ms
            assert sum(one["wall_s"] for one in queue.attempts(job.id)) == pytest.approx(job.wall_s)
            found.append((job.wall_s, said["wall_s"]))
    return found


@pytest.mark.parametrize("seconds", [0.05, 1.0])
def test_sidecar_and_report_agree_also_with_several_files_in_flight(
    db: Path, out: Path, tmp_path: Path, seconds: float
) -> None:
    sources = [rig.record(tmp_path / "in" / f"{n}.wav", seconds, seed=n) for n in range(8)]
    rig.enqueue(db, sources, out)
    began = time.monotonic()
    rig.work(db, rig.FastModel(pace_s=0.02))
    took_s = time.monotonic() - began
    spent = figures(db)
    assert len(spent) == 8
    assert 0 < sum(wall_s for wall_s, _ in spent) <= took_s, "shares of the worker's time, never more"


def test_loading_and_compiling_are_charged_to_the_start_and_shown_there(
    db: Path, out: Path, sources: list[Path], told: rig.Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loops are compiled while the model is loaded: this one is not ready before they are."""
    rig.enqueue(db, sources, out)
    monkeypatch.setattr("batchsr.worker.worker._LONG_START_S", 0.5)
    warmed: list[float] = []
    compiled = threading.Event()

    def warm_up() -> None:
        time.sleep(0.3)
        warmed.append(time.monotonic())
        compiled.set()

    monkeypatch.setattr("batchsr.worker.worker.warm_up", warm_up)

    def load() -> rig.FastModel:
        assert compiled.wait(60)
        time.sleep(0.3)
        return rig.FastModel()

    began = time.monotonic()
    with open_queue(db) as queue:
        assert worker.run(queue, load, rig.OPTIONS, told).done == len(sources)
    took_s = time.monotonic() - began
    assert len(warmed) == 1, "once a process"
    assert sum(wall_s for wall_s, _ in figures(db)) < took_s - 0.6
    assert any("which count for no file" in said for said in told.said)


def test_they_agree_after_interrupts_and_failures_too(db: Path, out: Path, tmp_path: Path) -> None:
    source = rig.record(tmp_path / "in" / "a.wav", 1.0)
    rig.enqueue(db, [source], out)
    for nth in (2, 4):
        rig.wait(rig.fork(lambda: rig.work(db, rig.FastModel(pace_s=0.02)), fault=f"slot.after_row:{nth}"))
    assert rig.work(db, rig.FastModel(pace_s=0.02)).done == 1
    ((wall_s, _),) = figures(db)
    with open_queue(db) as queue:
        attempts = queue.attempts(1)
    assert len(attempts) == 3
    assert wall_s > attempts[-1]["wall_s"] > 0, "the attempts that were cut short count as well"


def test_they_agree_where_an_output_was_found_and_not_made(db: Path, out: Path, sources: list[Path]) -> None:
    rig.enqueue(db, sources, out)
    rig.work(db, rig.FastModel(pace_s=0.02))
    before = figures(db)
    for path in db.parent.glob(db.name + "*"):
        if path.is_file():
            path.unlink()
    rig.enqueue(db, sources, out)
    assert rig.work(db).done == len(sources)
    assert [said for _, said in figures(db)] == [said for _, said in before]
