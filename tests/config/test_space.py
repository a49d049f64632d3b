"""Room is reserved for a file, and for those in flight, before it is begun."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path

import pytest
import rig

from batchsr import storage
from batchsr.audio import formats
from batchsr.queue import Job, State, Trouble
from batchsr.queue.opening import open_queue
from batchsr.worker import space

GB = 10**9


@pytest.fixture(autouse=True)
def large_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of these tests is larger than a whole disk."""
    monkeypatch.setattr(storage, "total_bytes", lambda path: 10**15)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """An hour of stereo at 8 kHz, on one file system with its scratch."""
    source = rig.record(tmp_path / "in" / "a.wav", 0.1)
    rig.enqueue(tmp_path / "queue.db", [source], tmp_path / "out" / "not yet there")
    with open_queue(tmp_path / "queue.db") as queue:
        (found,) = queue.jobs()
    return dataclasses.replace(found, frames=3600 * 8000, sample_rate=8000, channels=2)


def bytes_of(need: space.Need) -> int:
    return need.scratch_bytes + need.output_bytes


def test_an_hour_of_stereo_needs_its_windows_and_its_output(job: Job) -> None:
    need = space.need_of(job)
    assert need.output_bytes == 3600 * 48_000 * 2 * 3
    hop_s = 5.12 - 0.5
    assert need.scratch_bytes == pytest.approx(3600 / hop_s * 5.12 * 48_000 * 2 * 4, rel=0.01)


def test_mono_and_subtype_and_finished_windows_count(job: Job) -> None:
    whole = space.need_of(job)
    settings = job.settings.replace('"all"', '"mono"').replace("PCM_24", "FLOAT")
    mono = space.need_of(dataclasses.replace(job, settings=settings))
    assert mono.output_bytes == 3600 * 48_000 * 4
    assert mono.scratch_bytes == pytest.approx(whole.scratch_bytes / 2, rel=0.01)
    half = space.need_of(dataclasses.replace(job, windows_done=390))
    assert half.scratch_bytes == pytest.approx(whole.scratch_bytes / 2, rel=0.01)


@pytest.mark.parametrize("key", formats.WRITTEN)
def test_room_is_known_for_every_format_that_is_written(job: Job, key: str) -> None:
    for subtype in formats.SUBTYPES[key]:
        settings = job.settings.replace('"format":"wav"', f'"format":"{key}"').replace("PCM_24", subtype)
        need = space.need_of(dataclasses.replace(job, settings=settings))
        assert need.output_bytes == 3600 * 48_000 * 2 * formats.SAMPLE_BYTES.get(subtype, 1)
        if formats.WRITTEN[key].packing == "lossy":
            assert need.output_bytes >= 3600 * 2 * formats.WRITTEN[key].copy_bytes_a_second


def test_what_will_fail_or_is_written_needs_nothing(job: Job) -> None:
    assert space.need_of(dataclasses.replace(job, frames=None)) == space.Need()
    assert space.need_of(dataclasses.replace(job, state=State.COMMITTING)) == space.Need()


def test_a_shortage_is_told_with_its_figures_and_ends_where_the_room_does(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = bytes_of(space.need_of(job))
    monkeypatch.setattr(storage, "free_bytes", lambda path: need + 2 * GB)
    assert space.shortage(job, [], tmp_path, 2 * GB) is None
    short = space.shortage(job, [], tmp_path, 2 * GB + 1)
    assert short is not None
    assert "--min-free 2.00 GB" in str(short)
    assert f"{need / GB:.2f} GB for {job.source}" in str(short)
    assert not short.for_all, "a smaller file would fit"


def test_files_in_flight_keep_their_reservation(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need = bytes_of(space.need_of(job))
    monkeypatch.setattr(storage, "free_bytes", lambda path: 2 * need)
    assert space.shortage(job, [job], tmp_path, 0) is None
    short = space.shortage(job, [job, job], tmp_path, 0)
    assert short is not None
    assert "for the files in flight" in str(short)


def test_what_is_larger_than_a_whole_disk_is_not_waited_for(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "free_bytes", lambda path: 10 * GB)
    monkeypatch.setattr(storage, "total_bytes", lambda path: 100 * GB)
    lying = dataclasses.replace(job, frames=10**13)
    assert space.shortage(lying, [], tmp_path, 2 * GB) is None, "the restoration refuses it at once"
    assert space.shortage(job, [lying], tmp_path, 2 * GB) is None, "nor does it keep others waiting"


def test_each_file_system_is_looked_at_by_itself(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at hand (/dev/shm)")
    need = space.need_of(job)
    free = {str(shm): need.scratch_bytes, str(Path(job.output).parent): need.output_bytes}
    monkeypatch.setattr(storage, "free_bytes", lambda path: free[str(path)])
    assert space.shortage(job, [], shm, 0) is None
    free[str(shm)] -= 1
    short = space.shortage(job, [], shm, 0)
    assert short is not None
    assert (short.folder, short.side) == (shm, "scratch")


def test_a_worker_waits_for_the_room_that_the_next_file_needs_and_tells_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, free, said, resumed = tmp_path / "queue.db", [0], list[str](), list[int]()
    rig.enqueue(db, [rig.record(tmp_path / "a.wav", 20.0)], tmp_path / "out")
    with open_queue(db) as queue:
        (job,) = queue.jobs()
    need = bytes_of(space.need_of(job, frame_samples=4800))
    free[0] = need - 1
    monkeypatch.setattr(storage, "free_bytes", lambda path: free[0])

    class Listens(rig.NullListener):
        def freed(self, trouble: Trouble) -> None:
            resumed.append(free[0])

        def held(self, trouble: Trouble) -> None:
            said.append(trouble.reason)
            if len(said) > 1:
                return
            with open_queue(db) as queue:
                assert queue.counts()["queued"] == 1

            def free_some() -> None:
                free[0] = need

            threading.Timer(0.3, free_some).start()

    assert rig.work(db, listener=Listens()).done == 1
    assert resumed == [need], "the hold does not flap while the room is short"
    assert "a.wav" in said[0]


def test_a_share_that_tells_no_size_is_neither_full_nor_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the size of disks is asked again
    usage = type(shutil.disk_usage(tmp_path))(0, 0, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    source = rig.record(tmp_path / "in" / "a.wav", 0.1)
    rig.enqueue(tmp_path / "queue.db", [source], tmp_path / "out")
    with open_queue(tmp_path / "queue.db") as queue:
        (found,) = queue.jobs()
        assert space.shortage(found, [], queue.scratch_folder, 10**12) is None
    rig.work(tmp_path / "queue.db")
    assert rig.job_of(tmp_path / "queue.db", 1).state is State.DONE
