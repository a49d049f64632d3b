"""What a hot folder must hold, on a real file system, with events and by polling: each file once, and whole."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import rig
from conftest import Hot

from batchsr import storage
from batchsr.intake.events import Hint
from batchsr.queue.opening import open_queue
from batchsr.restoration import restore
from batchsr.worker.listener import NullListener


def test_a_file_copied_slowly_is_taken_once_and_whole(hot: Hot, recording: bytes) -> None:
    target = hot.root / "slow.wav"

    def copy() -> None:  # closes after each part, so that even a close means nothing
        for start in range(0, len(recording), 16_000):
            time.sleep(1.1 if start else 0)
            with target.open("ab") as file:
                file.write(recording[start : start + 16_000])

    with hot.watching():
        copier = threading.Thread(target=copy)
        copier.start()
        hot.pump(lambda: hot.jobs())
        copier.join()
        hot.settle()
        (job,) = hot.jobs()
        assert job.size_bytes == len(recording)
        assert job.frames == 16_000
        assert hot.states() == {"slow.wav": "queued"}


def test_a_file_moved_in_is_taken_once(hot: Hot, tmp_path: Path) -> None:
    outside = rig.record(tmp_path / "outside.wav", 0.1)
    with hot.watching():
        hot.pump_for(0.1)
        outside.rename(hot.root / "moved.wav")
        hot.pump(lambda: hot.jobs())
        hot.settle()
        assert hot.states() == {"moved.wav": "queued"}


def test_a_name_that_becomes_a_recordings_when_the_copy_is_whole_is_taken_then(hot: Hot, recording: bytes) -> None:
    with hot.watching():
        (hot.root / "a.wav.part").write_bytes(recording)
        (hot.root / ".b.wav.Xy12").write_bytes(recording)
        hot.settle()
        assert hot.jobs() == []
        (hot.root / "a.wav.part").rename(hot.root / "a.wav")
        (hot.root / ".b.wav.Xy12").rename(hot.root / "b.wav")
        hot.pump(lambda: len(hot.jobs()) == 2)
        assert hot.states() == {"a.wav": "queued", "b.wav": "queued"}


def test_a_file_replaced_while_it_waits_is_restored_as_it_is_now(hot: Hot) -> None:
    with hot.watching():
        source = hot.file("a.wav", 0.1)
        hot.pump(lambda: hot.states() == {"a.wav": "queued"})
        os.replace(rig.record(hot.db.parent / "new.wav", 0.3), source)
        hot.pump(lambda: len(hot.jobs()) == 2)
        assert hot.states() == {"a.wav": "superseded, queued"}
        assert hot.work().done == 1
        hot.settle()
        assert hot.states() == {"a.wav": "superseded, done"}
        assert hot.jobs()[-1].frames == 2400


def test_a_file_renamed_while_it_waits_is_restored_once_under_its_new_name(hot: Hot) -> None:
    with hot.watching():
        source = hot.file("old.wav")
        hot.pump(lambda: hot.jobs())
        source.rename(hot.root / "new.wav")
        hot.pump(lambda: len(hot.jobs()) == 2)
        assert hot.states() == {"old.wav": "cancelled", "new.wav": "queued"}
        assert hot.work().done == 1
        hot.settle()
        assert hot.states() == {"old.wav": "cancelled", "new.wav": "done"}
        assert (hot.root / "new_upsampled.wav").exists()
        assert not (hot.root / "old_upsampled.wav").exists()


def test_a_file_renamed_while_it_settles_is_taken_once(hot: Hot) -> None:
    hot.settle_s = 0.3
    with hot.watching():
        source = hot.file("old.wav")
        hot.pump_for(0.15)
        source.rename(hot.root / "new.wav")
        hot.pump(lambda: hot.jobs())
        hot.pump_for(0.4)
        assert hot.states() == {"new.wav": "queued"}


def test_a_file_renamed_while_it_is_hashed_is_restored_once_under_its_new_name(
    hot: Hot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hot.watching():
        source = hot.file("old.wav")
        hot.pump(lambda: hot.jobs())

        def rename_meanwhile(path: Path, **more: object) -> str:
            if path == source and source.exists():
                source.rename(hot.root / "new.wav")
            return real(path, **more)

        real = storage.sha256
        monkeypatch.setattr(restore.storage, "sha256", rename_meanwhile)
        hot.work()
        hot.pump(lambda: len(hot.jobs()) == 2)
        hot.work()
        hot.settle()
        states = hot.states()
        assert states["new.wav"] == "done"
        assert states["old.wav"] in ("failed", "cancelled")
        assert sorted(path.name for path in hot.root.glob("*_upsampled.wav")) == ["new_upsampled.wav"]


def test_a_change_of_case_alone_is_a_rename(hot: Hot) -> None:
    with hot.watching():
        source = hot.file("Tape.wav")
        hot.pump(lambda: hot.jobs())
        source.rename(hot.root / "tape.wav")
        hot.pump(lambda: len(hot.jobs()) == 2)
        hot.work()
        hot.settle()
        assert hot.states() == {"Tape.wav": "cancelled", "tape.wav": "done"}
        assert len(list(hot.root.glob("*_upsampled.wav"))) == 1


def test_a_file_removed_before_its_turn_takes_nothing_with_it(hot: Hot) -> None:
    hot.rescan_s = 0.05  # no event tells of it that would be waited for
    with hot.watching():
        gone, stays = hot.file("gone.wav"), hot.file("stays.wav")
        hot.file("folder/gone.wav")
        hot.pump(lambda: len(hot.jobs()) == 3)
        gone.unlink()
        (hot.root / "folder" / "gone.wav").unlink()
        (hot.root / "folder").rmdir()
        hot.pump(lambda: "queued" not in {state for name, state in hot.states().items() if "gone" in name})
        hot.work()
        assert hot.states() == {"gone.wav": "cancelled", "folder/gone.wav": "cancelled", "stays.wav": "done"}
        assert stays.exists()


def test_a_folder_removed_under_the_workers_hands_does_not_stop_the_queue(hot: Hot) -> None:
    """A worker takes a source whose folder is gone for one on a lost share, and holds it; the watcher knows better."""
    hot.rescan_s = 3600.0
    with hot.watching():
        hot.file("folder/gone.wav")
        hot.file("stays.wav")
        hot.pump(lambda: len(hot.jobs()) == 2)
        (hot.root / "folder" / "gone.wav").unlink()
        (hot.root / "folder").rmdir()
        worker = threading.Thread(target=hot.work)
        worker.start()
        hot.pump(lambda: not worker.is_alive())
        hot.pump(lambda: hot.states() == {"folder/gone.wav": "cancelled", "stays.wav": "done"})
        assert hot.queue.paused() is None
        assert hot.queue.status()["held"] == 0


def test_what_was_there_before_the_start_is_taken(hot: Hot) -> None:
    hot.file("deep/down/here.wav")
    with hot.watching():
        hot.pump(lambda: hot.jobs())
        assert hot.states() == {"deep/down/here.wav": "queued"}


def test_what_arrives_while_the_watcher_starts_is_taken_once(hot: Hot) -> None:
    def deliver() -> None:
        for number in range(60):
            hot.file(f"{number}.wav")
            time.sleep(0.002)

    courier = threading.Thread(target=deliver)
    courier.start()
    with hot.watching():
        hot.pump(lambda: len(hot.jobs()) == 60)
        courier.join()
        hot.settle()
        assert hot.states() == {f"{number}.wav": "queued" for number in range(60)}


def test_folders_made_after_the_start_are_watched(hot: Hot, tmp_path: Path) -> None:
    with hot.watching():
        hot.pump_for(0.1)
        hot.file("a/b/c/one.wav")
        rig.record(tmp_path / "elsewhere" / "x" / "two.wav", 0.1)
        (tmp_path / "elsewhere").rename(hot.root / "moved in")
        hot.pump(lambda: len(hot.jobs()) == 2)
        hot.file("a/b/c/three.wav")
        hot.file("moved in/x/four.wav")
        hot.pump(lambda: len(hot.jobs()) == 4)
        assert set(hot.states()) == {"a/b/c/one.wav", "moved in/x/two.wav", "a/b/c/three.wav", "moved in/x/four.wav"}


def test_links_that_loop_or_lead_nowhere_are_no_trap(hot: Hot) -> None:
    hot.rescan_s = 0.05  # nothing tells of a link whose target appears
    source = hot.file("real.wav")
    (hot.root / "loop").symlink_to(hot.root, target_is_directory=True)
    (hot.root / "self.wav").symlink_to(hot.root / "self.wav")
    (hot.root / "nowhere.wav").symlink_to(hot.root / "not there.wav")
    with hot.watching():
        hot.pump(lambda: hot.jobs())
        (hot.root / "again").symlink_to(hot.root, target_is_directory=True)
        (hot.root / "other name.wav").symlink_to(source)
        hot.pump(lambda: len(hot.jobs()) == 2)
        hot.settle()
        assert hot.states() == {"real.wav": "queued", "other name.wav": "queued"}
        hot.file("not there.wav")
        hot.pump(lambda: len(hot.jobs()) == 4)
        assert hot.work().done == 4


def test_pipes_and_devices_are_not_waited_for(hot: Hot) -> None:
    os.mkfifo(hot.root / "pipe.wav")
    (hot.root / "zero.wav").symlink_to("/dev/zero")
    hot.file("real.wav")
    with hot.watching():
        hot.pump(lambda: hot.jobs())
        hot.settle()
        assert hot.states() == {"real.wav": "queued"}


def test_nothing_of_ours_is_taken_even_where_outputs_and_sources_share_a_folder(hot: Hot) -> None:
    hot.rescan_s = 0.05
    with hot.watching():
        for name in ("a.wav", "b.flac", "sub/a.wav"):
            hot.file(name)
        hot.pump(lambda: len(hot.jobs()) == 3)
        assert hot.work().done == 3
        hot.settle()
        assert hot.states() == {"a.wav": "done", "b.flac": "done", "sub/a.wav": "done"}
    outputs = sorted(str(path.relative_to(hot.root)) for path in hot.root.rglob("*_upsampled*"))
    assert outputs == [f"{stem}_upsampled.wav{sidecar}" for stem in ("a", "b", "sub/a") for sidecar in ("", ".json")]

    # The same with a queue that remembers nothing, and with everything included: the names and sidecars tell.
    (hot.root / ".batchsr-0123-1-1.part").write_bytes(b"RIFF")
    for sidecars in (True, False):
        if not sidecars:
            for path in hot.root.rglob("*.json"):
                path.unlink()
        fresh = Hot(hot.root, hot.db.with_name(f"fresh-{sidecars}.db"), hot.polling, scope={"include": ("*",)})
        with fresh.watching():
            fresh.pump(lambda fresh=fresh: len(fresh.jobs()) >= 3)
            fresh.settle()
            assert set(fresh.states()) == {"a.wav", "b.flac", "sub/a.wav"}


def test_foreign_files_are_left_alone(hot: Hot) -> None:
    for name in (".hidden.wav", "._resource.wav", ".Trashes/a.wav", "@eaDir/a.wav", "#recycle/a.wav"):
        hot.file(name)
    (hot.root / "notes.txt").write_text("no audio")
    hot.file("take.wav")
    (hot.root / "bare").write_bytes((hot.root / "take.wav").read_bytes())  # audio without a suffix, by its first bytes
    with hot.watching():
        hot.pump(lambda: len(hot.jobs()) == 2)
        for name in (".late.wav", ".Trashes/late.wav"):
            hot.file(name)
        hot.settle()
        assert set(hot.states()) == {"take.wav", "bare"}


def test_any_name_that_a_file_can_have_is_taken(hot: Hot) -> None:
    names = [os.fsdecode(b"caf\xe9.wav"), "new\nline.wav", " blank .WAV", "-r.wav", "*?[a].wav", "ü" * 100 + ".wav"]
    source = hot.file("plain.wav")
    for name in names:
        (hot.root / name).write_bytes(source.read_bytes())
    with hot.watching():
        hot.pump(lambda: len(hot.jobs()) == 7)
        assert hot.work().done == 7
        assert set(hot.states()) == {"plain.wav", *names}


def test_include_and_exclude_are_globs_on_names_and_paths(hot: Hot) -> None:
    hot.scope = {"include": ("*.dat", "band/*"), "exclude": ("*draft*", "band/old/*")}
    source = hot.file("x.wav")
    wanted = ("a.dat", "deep/b.dat", "band/c.wav")
    for name in (*wanted, "a draft.dat", "band/old/d.wav", "e.wav"):
        (hot.root / name).parent.mkdir(parents=True, exist_ok=True)
        (hot.root / name).write_bytes(source.read_bytes())
    with hot.watching():
        hot.pump(lambda: len(hot.jobs()) == len(wanted))
        hot.settle()
        assert set(hot.states()) == set(wanted)


def test_a_file_that_never_becomes_whole_is_reported_once_by_a_row_that_fails(hot: Hot, recording: bytes) -> None:
    hot.patience_s = 0.5
    hot.rescan_s = 0.05
    cut = hot.root / "cut.wav"
    with hot.watching():
        cut.write_bytes(recording[:9000])
        hot.settle()
        assert hot.jobs() == []  # it may still grow
        hot.pump(lambda: hot.jobs())
        hot.work()
        hot.settle()
        (job,) = hot.jobs()
        assert (job.state, job.error_code) == ("failed", "input.truncated")
        assert len([text for text in hot.said if "cut.wav" in text]) == 1
        cut.write_bytes(recording)  # mended after all
        hot.pump(lambda: len(hot.jobs()) == 2)
        assert hot.work().done == 1


def test_a_share_that_drops_and_comes_back_neither_fails_nor_redoes_anything(hot: Hot) -> None:
    hot.rescan_s = 0.05
    away = hot.root.with_name("away")
    with hot.watching():
        hot.file("sub/done.wav")
        hot.pump(lambda: hot.jobs())
        hot.work()
        hot.file("sub/waiting.wav")
        hot.pump(lambda: len(hot.jobs()) == 2)
        hot.root.rename(away)
        hot.pump(lambda: any("cannot be searched" in text for text in hot.said))
        worker = threading.Thread(target=hot.work)
        worker.start()
        hot.pump(lambda: hot.queue.status()["held"] == 1)
        hot.settle()
        assert hot.states() == {"sub/done.wav": "done", "sub/waiting.wav": "queued"}
        assert len([text for text in hot.said if "cannot be searched" in text]) == 1
        away.rename(hot.root)
        hot.pump(lambda: not worker.is_alive())
        hot.file("sub/after.wav")
        hot.pump(lambda: len(hot.jobs()) == 3)
        hot.settle()
        assert hot.states() == {"sub/done.wav": "done", "sub/waiting.wav": "done", "sub/after.wav": "queued"}
        assert any("is there again" in text for text in hot.said)


def test_a_folder_that_is_not_there_yet_is_waited_for(hot: Hot) -> None:
    hot.rescan_s = 0.05
    hot.root.rmdir()
    with hot.watching():
        hot.settle()
        hot.file("late.wav")
        hot.pump(lambda: hot.jobs())
        hot.rescan_s = 3600.0
        hot.file("later.wav")
        hot.pump(lambda: len(hot.jobs()) == 2)


class Deaf:
    """Events of a kernel whose queue is always full: nothing comes through."""

    def watch(self, folders: Iterable[str]) -> dict[str, str]:
        return {}

    def wait(self, timeout_s: float) -> list[Hint]:
        time.sleep(min(timeout_s, 0.05))
        return []

    def wake(self) -> None: ...

    def is_listening(self) -> bool:
        return True

    def close(self) -> None: ...


def test_when_every_event_is_lost_the_next_scan_finds_all(tmp_path: Path) -> None:
    hot = Hot(tmp_path / "in", tmp_path / "queue.db", polling=False, rescan_s=0.3, events=Deaf())
    with hot.watching():
        hot.pump_for(0.1)
        for number in range(20):
            hot.file(f"{number}.wav")
        hot.pump(lambda: len(hot.jobs()) == 20)
        assert set(hot.states().values()) == {"queued"}


FILES_AT_ONCE = int(os.environ.get("BATCHSR_FILES_AT_ONCE", "10000"))  # 50000 takes most of a minute
QUEUE_LENGTH = Path("/proc/sys/fs/inotify/max_queued_events")


def test_thousands_of_files_at_once_with_a_tiny_event_queue_are_each_taken_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not os.access(QUEUE_LENGTH, os.W_OK):
        pytest.skip(f"{QUEUE_LENGTH} cannot be written to: the queue of events has its usual length")
    count = FILES_AT_ONCE
    before = QUEUE_LENGTH.read_text()
    small = rig.record(tmp_path / "small.wav", 0.001).read_bytes()
    hot = Hot(tmp_path / "in", tmp_path / "queue.db", polling=False, rescan_s=1.0)
    for folder in range(10):
        (hot.root / str(folder)).mkdir()

    def deliver() -> None:
        for number in range(count):
            (hot.root / str(number % 10) / f"{number}.wav").write_bytes(small)

    try:
        QUEUE_LENGTH.write_text("16")
        with hot.watching():
            hot.pump_for(0.05)
            courier = rig.fork(deliver)
            hot.pump(lambda: len(hot.told) >= count, timeout_s=120)
            assert rig.wait(courier) == 0
            hot.settle()
            assert hot.queue.counts()["queued"] == count
            assert sum(hot.queue.counts().values()) == count
            assert len({taken.job.source for taken in hot.told}) == len(hot.told) == count
    finally:
        QUEUE_LENGTH.write_text(before)
    assert any("overflowed" in record.message for record in caplog.records)


def test_a_watched_folder_may_be_a_link(hot: Hot) -> None:
    real, link = hot.root, hot.root.with_name("link")
    link.symlink_to(real, target_is_directory=True)
    hot.root, hot.scope = link, {"folders": (str(link),)}
    with hot.watching():
        hot.pump_for(0.1)
        rig.record(real / "sub" / "a.wav", 0.1)
        hot.pump(lambda: hot.jobs())
        assert hot.states() == {"sub/a.wav": "queued"}


def test_two_watchers_on_one_folder_take_each_file_once(hot: Hot) -> None:
    twin = Hot(hot.root, hot.db, hot.polling)
    with hot.watching(), twin.watching():
        for number in range(20):
            hot.file(f"{number}.wav")
        hot.pump(lambda: (twin.pump(lambda: True), len(hot.jobs()) == 20)[1])
        for _ in range(5):
            hot.pump_for(0.05)
            twin.pump_for(0.05)
        assert len(hot.jobs()) == len(hot.told) + len(twin.told) == 20


def test_a_worker_hears_of_files_that_arrive_while_it_works(hot: Hot) -> None:
    class Deliver(NullListener):
        left = 3

        def claimed(self, job: object) -> None:
            if self.left:
                self.left -= 1
                hot.file(f"late {self.left}.wav")
                hot.pump(lambda: f"late {self.left}.wav" in hot.states())

    with hot.watching():
        hot.file("first.wav")
        hot.pump(lambda: hot.jobs())
        assert hot.work(listener=Deliver()).done == 4
        with open_queue(hot.db) as queue:
            assert queue.check() == []
