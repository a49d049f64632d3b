"""After the work a source stays, moves or is listed; no crash between the row and the move loses or doubles it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rig
from conftest import Hot

from batchsr import storage
from batchsr.errors import NonFiniteOutput, ResourceError
from batchsr.intake import hotfolder, moving, settle
from batchsr.intake.hotfolder import After
from batchsr.intake.settle import FileStat
from batchsr.queue import Job


def seen(path: Path) -> FileStat:
    found = settle.look(str(path))
    assert found is not None
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return rig.record(tmp_path / "in" / "sub" / "a.wav", 0.1)


def test_a_move_keeps_the_place_in_the_tree_and_the_file(source: Path, tmp_path: Path) -> None:
    before, inode = source.read_bytes(), source.stat().st_ino
    to = moving.move(source, tmp_path / "done", "sub/a.wav", seen(source))
    assert to == tmp_path / "done" / "sub" / "a.wav"
    assert (to.read_bytes(), to.stat().st_ino) == (before, inode)
    assert not source.exists()


def test_a_move_never_replaces_another_file(source: Path, tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "a.wav").write_text("an older one")
    (tmp_path / "done" / "a_2.wav").symlink_to(tmp_path / "nowhere")
    to = moving.move(source, tmp_path / "done", "a.wav", seen(source))
    assert to == tmp_path / "done" / "a_3.wav"
    assert (tmp_path / "done" / "a.wav").read_text() == "an older one"


def test_a_file_that_changed_or_went_is_not_moved(source: Path, tmp_path: Path) -> None:
    expected = seen(source)
    source.write_bytes(b"another recording")
    assert moving.move(source, tmp_path / "done", "a.wav", expected) is None
    assert source.read_bytes() == b"another recording"
    source.unlink()
    assert moving.move(source, tmp_path / "done", "a.wav", expected) is None
    assert not (tmp_path / "done").exists()


def test_a_file_replaced_at_the_last_moment_is_put_back(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, rename = seen(source), Path.rename

    def replace_first(self: Path, target: Path) -> Path:
        self.write_bytes(b"another recording")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", replace_first)
    assert moving.move(source, tmp_path / "done", "a.wav", expected) is None
    assert source.read_bytes() == b"another recording"
    assert list((tmp_path / "done").iterdir()) == []


def test_a_crash_after_the_name_was_reserved_leaves_nothing_in_the_way(source: Path, tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "a.wav").touch()
    assert moving.move(source, tmp_path / "done", "a.wav", seen(source)) == tmp_path / "done" / "a.wav"


def elsewhere(tmp_path: Path) -> Path:
    """A folder on another file system than tmp_path's."""
    shm = Path("/dev/shm")
    if not (os.access(shm, os.W_OK) and shm.stat().st_dev != tmp_path.stat().st_dev):
        pytest.skip("there is no second file system at hand (/dev/shm)")
    folder = shm / f"batchsr-test-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    return folder


def remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def test_a_move_to_another_file_system_copies_whole_and_then_removes(source: Path, tmp_path: Path) -> None:
    folder, before, mtime_ns = elsewhere(tmp_path), source.read_bytes(), source.stat().st_mtime_ns
    try:
        to = moving.move(source, folder, "sub/a.wav", seen(source))
        assert to == folder / "sub" / "a.wav"
        assert (to.read_bytes(), to.stat().st_mtime_ns) == (before, mtime_ns)
        assert not source.exists()
        assert [path.name for path in folder.rglob("*")] == ["sub", "a.wav"]
    finally:
        remove(folder)


def test_a_crash_between_copy_and_removal_is_finished_by_the_next_move(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = elsewhere(tmp_path), source.read_bytes()
    try:
        with monkeypatch.context() as crash:
            crash.setattr(moving, "_finish", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                moving.move(source, folder, "a.wav", seen(source))
        assert source.exists()
        assert moving.move(source, folder, "a.wav", seen(source)) == folder / "a.wav"
        assert not source.exists()
        assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("a.wav", before)]
    finally:
        remove(folder)


def test_a_full_disk_while_moving_leaves_the_source_and_nothing_else(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = source.read_bytes()
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ResourceError, match="No space"):
        moving.move(source, tmp_path / "done", "a.wav", seen(source))
    assert source.read_bytes() == before
    assert list((tmp_path / "done").iterdir()) == []


# The hot folder's part: when to move.


def good_and_bad(hot: Hot, recording: bytes) -> None:
    hot.patience_s = 0.1
    hot.file("sub/good.wav")
    (hot.root / "sub" / "bad.wav").write_bytes(recording[:9000])


def test_sources_stay_unless_it_is_asked_for(hot: Hot, recording: bytes) -> None:
    good_and_bad(hot, recording)
    with hot.watching():
        hot.pump(lambda: len(hot.jobs()) == 2)
        hot.work()
        hot.settle()
        assert hot.states() == {"sub/good.wav": "done", "sub/bad.wav": "failed"}
        assert (hot.root / "sub" / "good.wav").exists()
        assert (hot.root / "sub" / "bad.wav").exists()


def test_sources_move_when_their_job_is_over_and_are_not_taken_there(hot: Hot, recording: bytes) -> None:
    done, failed = hot.root / "done", hot.root / "failed"
    hot.after = {"done": After(str(done)), "failed": After(str(failed))}
    hot.scope = {"skip": (str(done), str(failed))}
    good_and_bad(hot, recording)
    with hot.watching():
        hot.pump(lambda: len(hot.jobs()) == 2)
        hot.settle()
        assert not done.exists()
        assert not failed.exists()
        hot.work()
        hot.pump(lambda: (done / "sub" / "good.wav").exists() and (failed / "sub" / "bad.wav").exists())
        hot.settle()
        assert hot.states() == {"sub/good.wav": "done", "sub/bad.wav": "failed"}
        assert sorted(path.name for path in (hot.root / "sub").iterdir()) == [
            "good_upsampled.wav",
            "good_upsampled.wav.json",
        ]
        # The name is free again: another recording under it is another job.
        hot.file("sub/good.wav", seconds=0.2)
        hot.pump(lambda: len(hot.jobs()) == 3)
        hot.work()
        hot.pump(lambda: (done / "sub" / "good_2.wav").exists())
        assert (hot.root / "sub" / "good.wav_upsampled.wav").exists()


def test_a_crash_between_the_row_and_the_move_is_made_good_by_the_next_start(hot: Hot) -> None:
    source = hot.file("a.wav")
    with hot.watching():
        hot.pump(lambda: hot.jobs())
    hot.work()  # the watcher is dead: the row says done, the file has not moved
    assert source.exists()
    hot.after = {"done": After(str(hot.root.with_name("done")))}
    with hot.watching():
        hot.pump(lambda: not source.exists())
        assert hot.states() == {"a.wav": "done"}
        assert (hot.root.with_name("done") / "a.wav").exists()


def test_a_source_replaced_after_its_job_was_done_is_not_moved_but_restored(hot: Hot) -> None:
    done = hot.root.with_name("done")
    with hot.watching():
        source = hot.file("a.wav")
        hot.pump(lambda: hot.jobs())
    hot.work()
    os.replace(rig.record(hot.root.with_name("new.wav"), 0.3), source)
    hot.after = {"done": After(str(done))}
    with hot.watching():
        hot.pump(lambda: len(hot.jobs()) == 2)
        assert source.exists()
        assert not done.exists()
        hot.work()
        hot.pump(lambda: not source.exists())
        assert [path.stat().st_size for path in done.iterdir()] == [4844]


def test_listing_names_each_source_once_whatever_crashes(hot: Hot, recording: bytes) -> None:
    listing = hot.root.with_name("done.txt")
    hot.after = {"done": After(listing=str(listing)), "failed": After(listing=str(listing.with_name("failed.txt")))}
    good_and_bad(hot, recording)
    for _ in range(3):  # each start asks anew
        with hot.watching():
            hot.pump(lambda: len(hot.jobs()) == 2)
            hot.work()
            hot.pump(listing.exists)
            hot.settle()
    assert listing.read_text().splitlines() == [str(hot.root / "sub" / "good.wav")]
    assert listing.with_name("failed.txt").read_text().splitlines() == [str(hot.root / "sub" / "bad.wav")]
    assert (hot.root / "sub" / "good.wav").exists()
    # A line that a crash cut short stands alone, and the source is listed whole.
    listing.write_text(str(hot.root)[:-2])
    with hot.watching():
        hot.pump(lambda: listing.read_text().count("\n") == 2)
    assert listing.read_text().splitlines()[1] == str(hot.root / "sub" / "good.wav")


def test_a_queue_that_cannot_be_used_for_a_while_loses_nothing(hot: Hot, monkeypatch: pytest.MonkeyPatch) -> None:
    from batchsr.errors import QueueBusy
    from batchsr.queue.sqlite.api import SqliteQueue

    enqueue, left = SqliteQueue.enqueue, [3]

    def busy(self: SqliteQueue, jobs: object) -> object:
        if left[0]:
            left[0] -= 1
            raise QueueBusy("the database is held by another process")
        return enqueue(self, jobs)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteQueue, "enqueue", busy)
    with hot.watching():
        hot.file("a.wav")
        hot.pump(lambda: hot.jobs())
        assert left == [0]
        assert len([text for text in hot.said if "held by another process" in text]) == 1


def test_a_failed_source_that_is_put_back_is_tried_again(hot: Hot) -> None:
    failed = hot.root.with_name("failed")
    hot.after = {"failed": After(str(failed))}

    def broken(*_: object, **__: object) -> None:
        raise NonFiniteOutput("the model is broken")

    with hot.watching():
        source = hot.file("a.wav")
        hot.pump(lambda: hot.jobs())
        assert hot.work(restore=broken).failed == 1
        hot.pump(lambda: (failed / "a.wav").exists())
        (failed / "a.wav").rename(source)
        hot.pump(lambda: hot.states() == {"a.wav": "queued"})
        assert hot.work().done == 1
        hot.settle()
        assert hot.states() == {"a.wav": "done"}
        assert source.exists()


def test_a_source_whose_folder_is_away_when_its_job_ends_moves_when_it_is_back(
    hot: Hot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotfolder, "_TROUBLE_S", 0.05)
    hot.rescan_s = 0.05
    hot.after = {"done": After(str(hot.root / "done"))}
    hot.scope = {"skip": (str(hot.root / "done"),)}
    away = hot.root.with_name("away")
    with hot.watching():
        source = hot.file("sub/a.wav")
        hot.pump(lambda: hot.jobs())
        hot.work()
        hot.root.rename(away)
        hot.pump(lambda: any("cannot be searched" in text for text in hot.said))
        hot.settle()
        assert not hot.root.exists(), "nothing is made where the share was"
        away.rename(hot.root)
        hot.pump(lambda: not source.exists())
        assert (hot.root / "done" / "sub" / "a.wav").exists()


def test_a_source_that_failed_and_was_retried_moves_when_it_is_done(hot: Hot) -> None:
    hot.after = {"done": After(str(hot.root.with_name("done")))}

    def broken(*_: object, **__: object) -> None:
        raise NonFiniteOutput("the model is broken")

    with hot.watching():
        source = hot.file("a.wav")
        hot.pump(lambda: hot.jobs())
        assert hot.work(restore=broken).failed == 1
        hot.settle()
        assert source.exists()
        hot.queue.retry()
        assert hot.work().done == 1
        hot.pump(lambda: not source.exists())


def test_one_source_that_cannot_be_moved_does_not_hold_up_the_others(hot: Hot, monkeypatch: pytest.MonkeyPatch) -> None:
    done = hot.root.with_name("done")
    hot.after = {"done": After(str(done))}
    move = moving.move

    def stuck(source: Path, folder: Path, relative: str, expected: FileStat) -> Path | None:
        if source.name == "a.wav":
            raise ResourceError(f"cannot move {source}: Permission denied")
        return move(source, folder, relative, expected)

    monkeypatch.setattr(moving, "move", stuck)
    with hot.watching():
        hot.file("a.wav")
        hot.file("b.wav")
        hot.pump(lambda: len(hot.jobs()) == 2)
        hot.work()
        hot.pump(lambda: (done / "b.wav").exists())
        assert len([text for text in hot.said if "Permission denied" in text]) == 1


def test_a_full_disk_under_the_done_folder_is_said_once_and_tried_again(
    hot: Hot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotfolder, "_TROUBLE_S", 0.05)
    hot.after = {"done": After(str(hot.root.with_name("done")))}
    make_folder, broken = storage.make_folder, [True]

    def full(folder: Path) -> None:
        if broken[0]:
            raise ResourceError(f"cannot create the folder {folder}: No space left on device")
        make_folder(folder)

    with hot.watching():
        source = hot.file("a.wav")
        hot.pump(lambda: hot.jobs())
        hot.work()
        monkeypatch.setattr(moving.storage, "make_folder", full)
        hot.pump(lambda: any("No space left" in text for text in hot.said))
        hot.settle()
        assert source.exists()
        assert len([text for text in hot.said if "No space left" in text]) == 1
        broken[0] = False
        hot.pump(lambda: not source.exists())


def test_failed_files_that_stay_are_not_read_again_at_each_look_and_a_retry_still_moves_them(
    hot: Hot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot.after = {"done": After(folder=str(tmp_path / "done"))}
    hot.patience_s = 0.1
    for number in range(8):
        (hot.root / f"{number}.wav").write_text("no sound")
    read = 0
    with hot.watching():
        hot.pump(lambda: len(hot.states()) == 8)
        hot.work()
        jobs = hot.queue.jobs

        def counting(**asked: Any) -> Iterator[Job]:
            nonlocal read
            for job in jobs(**asked):
                read += "ids" in asked
                yield job

        monkeypatch.setattr(hot.queue, "jobs", counting)
        for number in range(3):  # each makes the counts change, which is when states are asked for
            hot.file(f"good{number}.wav", seed=number)
            hot.pump(lambda number=number: f"good{number}.wav" in hot.states())  # type: ignore[misc]
            hot.work()
            hot.pump(lambda number=number: (tmp_path / "done" / f"good{number}.wav").exists())  # type: ignore[misc]
        assert read == 3, "those that are done"
        rig.record(hot.root / "5.wav", 0.1)
        hot.pump(lambda: "superseded" in hot.states()["5.wav"] or "queued" in hot.states()["5.wav"])
        hot.work()
        hot.pump((tmp_path / "done" / "5.wav").exists)
