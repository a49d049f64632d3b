"""When a file is settled, by a clock and looks that the test makes up; and what a watcher makes of scripted hints."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import rig
from hypothesis import given
from hypothesis import strategies as st
from watchdog.events import DirCreatedEvent, FileClosedEvent, FileCreatedEvent, FileModifiedEvent

from batchsr.intake import events as fs_events
from batchsr.intake.events import Hint
from batchsr.intake.settle import FileStat, SettledFile, Settler
from batchsr.intake.watcher import Scope, Watcher

SMALL = FileStat(10, 1, 7, 1)
LARGE = FileStat(99, 2, 7, 1)


class Disk:
    """Files as the looks see them."""

    def __init__(self) -> None:
        self.files: dict[str, FileStat] = {}
        self.whole = True

    def settler(self, settle_s: float = 10.0, patience_s: float = 600.0) -> Settler:
        return Settler(settle_s=settle_s, patience_s=patience_s, look=self.files.get, whole=lambda path: self.whole)


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_a_file_is_settled_when_it_held_still_over_two_looks(disk: Disk) -> None:
    settler = disk.settler()
    disk.files["a"] = SMALL
    settler.notice("a", 0.0)
    assert settler.due_s == 10.0
    assert settler.settled(9.9) == []
    assert settler.settled(10.0) == [SettledFile("a", SMALL)]
    assert settler.due_s is None
    assert len(settler) == 0


@pytest.mark.parametrize("change", [{"size_bytes": 11}, {"mtime_ns": 3}, {"inode": 8}])
def test_a_change_of_size_mtime_or_inode_starts_the_wait_anew(disk: Disk, change: dict[str, int]) -> None:
    settler = disk.settler()
    disk.files["a"] = SMALL
    settler.notice("a", 0.0)
    disk.files["a"] = dataclasses.replace(SMALL, **change)
    assert settler.settled(10.0) == []
    assert settler.settled(19.9) == []
    assert settler.settled(20.0) == [SettledFile("a", disk.files["a"])]


def test_another_device_number_is_no_change(disk: Disk) -> None:
    settler = disk.settler()
    disk.files["a"] = SMALL
    settler.notice("a", 0.0)
    disk.files["a"] = dataclasses.replace(SMALL, device=2)
    assert [settled.path for settled in settler.settled(10.0)] == ["a"]


def test_a_close_shortens_the_wait_and_no_more(disk: Disk) -> None:
    settler = disk.settler()
    disk.files["a"] = SMALL
    settler.notice("a", 0.0)
    settler.notice("a", 1.0, closed=True)
    assert settler.settled(3.4) == []
    disk.files["a"] = LARGE  # opened again and written to
    assert settler.settled(3.5) == []
    assert settler.settled(13.4) == []
    assert settler.settled(13.5) == [SettledFile("a", LARGE)]


def test_a_close_after_a_change_counts_from_the_change(disk: Disk) -> None:
    settler = disk.settler()
    disk.files["a"] = SMALL
    settler.notice("a", 0.0)
    disk.files["a"] = LARGE
    settler.notice("a", 9.9, closed=True)
    assert settler.settled(10.0) == []
    assert settler.settled(12.4) == [SettledFile("a", LARGE)]


def test_a_storm_of_events_costs_no_look(disk: Disk) -> None:
    looks = 0

    def look(path: str) -> FileStat:
        nonlocal looks
        looks += 1
        return SMALL

    settler = Settler(settle_s=10, patience_s=600, look=look, whole=lambda path: True)
    for moment in range(1000):
        settler.notice("a", moment / 1000)
    assert len(settler.settled(11.0)) == 1
    assert looks == 2


def test_a_header_that_does_not_fit_is_looked_at_less_and_less_and_given_up_once(disk: Disk) -> None:
    disk.whole = False
    settler = disk.settler(patience_s=600)
    disk.files["a"] = SMALL
    settler.notice("a", 0.0)
    looks, found = [], []
    while (due_s := settler.due_s) is not None:
        looks.append(due_s)
        found += settler.settled(due_s)
    assert found == [SettledFile("a", SMALL, whole=False)]
    assert looks == [10, 30, 70, 150, 310, 470, 600]


def test_a_file_that_grows_for_hours_is_not_given_up(disk: Disk) -> None:
    disk.whole = False
    settler = disk.settler(patience_s=60)
    for moment in range(0, 7200, 10):
        disk.files["a"] = FileStat(moment + 1, moment, 7, 1)
        settler.notice("a", moment)
        assert settler.settled(moment) == []


def test_a_file_that_goes_is_forgotten(disk: Disk) -> None:
    settler = disk.settler()
    disk.files["a"] = SMALL
    settler.notice("a", 0.0)
    del disk.files["a"]
    assert settler.settled(10.0) == []
    assert settler.due_s is None
    settler.notice("a", 11.0)
    assert len(settler) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["notice", "closed", "change", "remove", "look"]),
            st.sampled_from("ab"),
            st.floats(0.1, 8.0),
        ),
        max_size=60,
    )
)
def test_whatever_happens_a_settled_file_has_held_still(steps: list[tuple[str, str, float]]) -> None:
    disk = Disk()
    settler = disk.settler(settle_s=4.0)
    now_s, changed_s = 0.0, dict[str, float]()
    for count, (what, path, wait_s) in enumerate(steps):
        now_s += wait_s
        if what == "change":
            disk.files[path], changed_s[path] = FileStat(count, count, 1, 1), now_s
        elif what == "remove":
            disk.files.pop(path, None)
        elif what == "look":
            for settled in settler.settled(now_s):
                assert disk.files[settled.path] == settled.look
                assert now_s - changed_s[settled.path] >= 1.0  # a quarter of the settling time, at the least
                assert settled.path not in settler
        else:
            settler.notice(path, now_s, closed=what == "closed")


# The watcher, with scripted events: each entry is what one wait gives, and may do something to the disk first.


class Script:
    """Events that a test wrote down, and a clock that moves as far as each wait lasts."""

    def __init__(self, *steps: object) -> None:
        self.now_s = 0.0
        self.steps = list(steps)
        self.watched: list[list[str]] = []
        self.on_watch: list[object] = []
        self.stop = threading.Event()

    def clock(self) -> float:
        return self.now_s

    def watch(self, folders: Iterable[str]) -> dict[str, str]:
        self.watched.append(list(folders))
        for action in self.on_watch:
            action()  # type: ignore[operator]
        return {}

    def wait(self, timeout_s: float) -> list[Hint]:
        if not self.steps:
            self.stop.set()
            return []
        step = self.steps.pop(0)
        if callable(step):
            step = step()
        if isinstance(step, list):
            self.now_s += 0.01
            return step
        self.now_s += timeout_s
        return []

    def wake(self) -> None: ...

    def is_listening(self) -> bool:
        return True

    def close(self) -> None: ...


def run(root: Path, script: Script, rescan_s: float = 60.0) -> list[tuple[float, str]]:
    """(when, which file) of all that becomes settled until the script ends."""
    watcher = Watcher(
        Scope((str(root),)),
        script,
        Settler(settle_s=10, patience_s=600),
        rescan_s=rescan_s,
        tick_s=rescan_s,
        clock=script.clock,
    )
    found = []
    for settled in watcher.run(script.stop):
        for one in settled:
            watcher.remember(one.path, one.look)
            found.append((round(script.now_s, 1), os.path.basename(one.path)))
    return found


def test_it_listens_first_and_scans_then(tmp_path: Path) -> None:
    """A file that arrives after the observer has started but before the scan makes no event that anybody waits for."""
    script = Script(None, None)
    script.on_watch.append(lambda: rig.record(tmp_path / "between.wav", 0.1))
    assert run(tmp_path, script) == [(10.0, "between.wav")]


def test_a_close_shortens_the_wait(tmp_path: Path) -> None:
    def deliver() -> list[Hint]:
        rig.record(tmp_path / "a.wav", 0.1)
        return [Hint("changed", str(tmp_path / "a.wav")), Hint("closed", str(tmp_path / "a.wav"))]

    assert run(tmp_path, Script(deliver, None, None)) == [(2.5, "a.wav")]


def test_lost_events_are_answered_by_a_scan_at_once(tmp_path: Path) -> None:
    def deliver() -> list[Hint]:
        rig.record(tmp_path / "a.wav", 0.1)
        return [Hint("lost", "")]

    assert run(tmp_path, Script(deliver, None, None)) == [(10.0, "a.wav")]


def test_a_missed_event_costs_one_rescan(tmp_path: Path) -> None:
    def deliver() -> None:
        rig.record(tmp_path / "a.wav", 0.1)

    assert run(tmp_path, Script([], deliver, None, None)) == [(70.0, "a.wav")]


def test_events_of_what_is_none_of_ours_are_ignored(tmp_path: Path) -> None:
    rig.record(tmp_path / "outside" / "a.wav", 0.1)
    rig.record(tmp_path / "in" / ".hidden" / "a.wav", 0.1)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    hints = [
        Hint("changed", str(tmp_path / name))
        for name in ("outside/a.wav", "in/.hidden/a.wav", "in/link/a.wav", "in/gone.wav", "in")
    ]
    hints += [Hint("folder", str(tmp_path / name)) for name in ("in/.hidden", "in/link", "in/gone", "outside")]
    assert run(tmp_path / "in", Script(hints, None, None)) == []


def test_a_watched_folder_that_is_replaced_is_listened_to_anew(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()

    def replace() -> None:
        root.rename(tmp_path / "old")
        root.mkdir()

    script = Script(replace, None, None)
    run(root, script)
    assert script.watched == [[str(root)], [str(root)]]


def test_a_change_of_case_is_a_rename_where_the_old_name_still_seems_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS: both names open the file, and the folder lists the new one."""
    source = rig.record(tmp_path / "Tape.wav", 0.1)

    def rename() -> list[Hint]:
        source.rename(tmp_path / "tape.wav")
        monkeypatch.setattr(os.path, "lexists", lambda path: True)
        return [Hint("changed", str(tmp_path / "tape.wav"))]

    script = Script(None, rename, None)
    watcher = Watcher(
        Scope((str(tmp_path),)),
        script,
        Settler(settle_s=10, patience_s=600),
        rescan_s=1e6,
        tick_s=1e6,
        clock=script.clock,
    )
    found = []
    for settled in watcher.run(script.stop):
        for one in settled:
            watcher.remember(one.path, one.look)
            found.append((os.path.basename(one.path), one.renamed_from and os.path.basename(one.renamed_from)))
    assert found == [("Tape.wav", None), ("tape.wav", "Tape.wav")]


def test_a_hard_link_is_a_recording_of_its_own(tmp_path: Path) -> None:
    source = rig.record(tmp_path / "a.wav", 0.1)

    def link() -> list[Hint]:
        (tmp_path / "b.wav").hardlink_to(source)
        return [Hint("changed", str(tmp_path / "b.wav"))]

    assert run(tmp_path, Script(None, link, None, None)) == [(10.0, "a.wav"), (20.0, "b.wav")]


def test_scanning_takes_at_most_a_tenth_of_the_time(tmp_path: Path) -> None:
    script = Script(None, None, None)
    watcher = Watcher(
        Scope((str(tmp_path),)),
        script,
        Settler(settle_s=10, patience_s=600),
        rescan_s=1.0,
        tick_s=1000.0,
        clock=script.clock,
    )

    def slow(folder: str, root: str, seen: set[str]) -> bool:
        scans.append(script.now_s)
        script.now_s += 5.0
        return True

    scans: list[float] = []
    watcher._scan = slow  # type: ignore[method-assign]
    for _ in watcher.run(script.stop):
        pass
    assert scans == [0.0, 55.0, 110.0, 165.0]


def test_once_takes_what_holds_still_and_says_what_it_leaves(tmp_path: Path) -> None:
    whole = rig.record(tmp_path / "whole.wav", 0.1)
    cut_bytes = whole.read_bytes()[:500]
    (tmp_path / "fresh and cut.wav").write_bytes(cut_bytes)
    (tmp_path / "old and cut.wav").write_bytes(cut_bytes)
    os.utime(tmp_path / "old and cut.wav", (1, 1))
    grows = rig.record(tmp_path / "grows.wav", 0.1)
    script, said = Script(), list[str]()
    watcher = Watcher(
        Scope((str(tmp_path),)), script, Settler(settle_s=10, patience_s=600), clock=script.clock, say=said.append
    )

    def sleep(seconds: float) -> None:
        script.now_s += seconds
        grows.write_bytes(b"\0" * (1 + grows.stat().st_size))

    found = {os.path.basename(one.path): one.whole for settled in watcher.once(sleep=sleep) for one in settled}
    assert found == {"whole.wav": True, "old and cut.wav": False}
    assert len(said) == 2
    assert any("fresh and cut.wav" in text for text in said)
    assert any("grows.wav" in text for text in said)


# File systems


MOUNTS = [
    ("/", "ext4"),
    ("/mnt/nas", "nfs4"),
    ("/mnt/nas/my files", "cifs"),
    ("/mnt/nas\\odd", "xfs"),
    ("/mnt/over", "nfs"),
    ("/mnt/over", "xfs"),
]


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home", "ext4"),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/a/b", "nfs4"),
        ("/mnt/nas/my files/in", "cifs"),
        ("/mnt/nasty", "ext4"),
        ("/mnt/nas\\odd/in", "xfs"),
        ("/mnt/over/in", "xfs"),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_the_last_nearest_mount(
    folder: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = [SimpleNamespace(mountpoint=point, fstype=name) for point, name in MOUNTS]
    monkeypatch.setattr(fs_events.psutil, "disk_partitions", lambda all: mounts)
    assert fs_events.file_system(folder) == kind


@pytest.mark.parametrize(
    ("kind", "polled"), [("ext4", False), ("tmpfs", False), ("nfs4", True), ("fuse.sshfs", True), ("", True)]
)
def test_shares_and_unknown_file_systems_are_polled(monkeypatch: pytest.MonkeyPatch, kind: str, polled: bool) -> None:
    monkeypatch.setattr(fs_events, "file_system", lambda folder: kind)
    assert fs_events.must_poll("/x", "auto") is polled
    assert fs_events.must_poll("/x", "always") is True
    assert fs_events.must_poll("/x", "never") is False


def test_this_machines_root_has_a_file_system() -> None:
    assert fs_events.file_system("/") != ""


def test_too_many_hints_become_one_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs_events, "_MAX_PENDING", 50)
    events = fs_events.ObserverEvents()
    for number in range(70):
        events._handler.dispatch(FileCreatedEvent(f"/in/{number}.wav"))
    hints = events.wait(0.0)
    assert hints[-1] == Hint("lost", "")
    assert len(hints) < 50
    assert events.wait(0.0) == []


def test_what_follows_a_close_does_not_undo_it() -> None:
    events = fs_events.ObserverEvents()
    for event in (
        FileModifiedEvent("/in/a"),
        FileClosedEvent("/in/a"),
        FileModifiedEvent("/in/a"),
        DirCreatedEvent("/in/b"),
    ):
        events._handler.dispatch(event)
    assert events.wait(0.0) == [Hint("closed", "/in/a"), Hint("folder", "/in/b")]


def test_a_folder_that_cannot_be_watched_is_named_with_the_reason(tmp_path: Path) -> None:
    events = fs_events.ObserverEvents()
    try:
        failed = events.watch([str(tmp_path), str(tmp_path / "gone")])
    finally:
        events.close()
    assert list(failed) == [str(tmp_path / "gone")]
    assert "No such file" in failed[str(tmp_path / "gone")]


def test_dead_threads_are_noticed(tmp_path: Path) -> None:
    events = fs_events.ObserverEvents()
    try:
        assert not events.is_listening()
        events.watch([str(tmp_path)])
        assert events.is_listening()
        reader = next(thread for thread in events._threads if type(thread).__name__ == "InotifyFD")
        reader.stop()
        reader.join(10)
        assert not events.is_listening()
        events.watch([str(tmp_path)])
        assert events.is_listening()
    finally:
        events.close()


def test_a_watcher_whose_events_died_listens_anew_at_the_next_scan(tmp_path: Path) -> None:
    script = Script(None, None)
    script.is_listening = lambda: len(script.watched) != 1  # type: ignore[method-assign]
    run(tmp_path, script)
    assert script.watched == [[str(tmp_path)]] * 2


def test_wake_ends_a_wait() -> None:
    for events in (fs_events.NoEvents(), fs_events.ObserverEvents()):
        threading.Timer(0.05, events.wake).start()
        assert events.wait(60.0) == []
        events.close()
