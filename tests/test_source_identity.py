"""A source is one recording from the first look to the last; exchanged for another one, it is never mixed with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rig
import soundfile
from rig import serving

from batchsr import storage
from batchsr.errors import InputChanged, InputMissing
from batchsr.restoration.restore import restore
from batchsr.restoration.sidecar import sidecar_path
from batchsr.restoration.task import Restored, Task
from batchsr.settings.profile import Settings

SECONDS, RATE_HZ = 3.5, 48_000  # three blocks of the reader, 43 windows
SETTINGS = Settings(overlap=0.02, subtype="FLOAT")
KEPT_BAND = Settings(overlap=0.02, subtype="FLOAT", keep_band=True, lowpass="auto")


class Stop(Exception):
    pass


class Pair:
    """Two recordings of one length, and what becomes of each in peace. `source` is the name that leads to the first."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.first, self.second = (rig.record(folder / f"{n}.wav", SECONDS, rate_hz=RATE_HZ, seed=n) for n in (1, 2))
        self.source = folder / "source.wav"
        self.whole = {}
        for path in (self.first, self.second):
            self.put(path)
            self.whole[storage.sha256(path)] = self.run(Task(self.source, folder / "peace.wav", folder / "p", settings))
            (folder / "peace.wav").unlink()
        self.put(self.first)

    def put(self, recording: Path) -> None:
        shutil.copyfile(recording, self.source)
        os.utime(self.source, ns=(10**18, 10**18))

    def exchange_in_place(self) -> None:
        """The same name, inode, size and mtime; other samples."""
        with self.source.open("r+b") as file:
            file.write(self.second.read_bytes())
        os.utime(self.source, ns=(10**18, 10**18))

    def exchange_by_rename(self) -> None:
        """The same name, size and mtime; another inode."""
        other = self.folder / "other.wav"
        shutil.copyfile(self.second, other)
        os.utime(other, ns=(10**18, 10**18))
        other.replace(self.source)

    def restore_first_in_place(self) -> None:
        with self.source.open("r+b") as file:
            file.write(self.first.read_bytes())
        os.utime(self.source, ns=(10**18, 10**18))

    def run(self, task: Task, on_windows: Callable[[int, int], None] = lambda done, total: None) -> Restored:
        with serving(rig.FastModel()) as model:
            return restore(task, model, on_windows=on_windows, before_publish=lambda _: None)

    def task(self, tag: str = "1-1") -> Task:
        status = self.source.stat()
        return Task(
            self.source,
            self.folder / "out.wav",
            self.folder / "scratch",
            self.settings,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            tag=tag,
        )

    def judge(self, done: Restored) -> str:
        """The output is that of one recording, whole, and the sidecar names it. Returns the recording's hash."""
        assert done.output_sha256 == storage.sha256(self.folder / "out.wav")
        assert done.output_sha256 == self.whole[done.source_sha256].output_sha256, "a mixture, or another's hash"
        said = json.loads(sidecar_path(self.folder / "out.wav").read_text())
        assert said["source"]["sha256"] == done.source_sha256
        return done.source_sha256


@pytest.fixture(params=[SETTINGS, KEPT_BAND], ids=["plain", "kept band"])
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Pair:
    return Pair(tmp_path, request.param)


WAYS = [Pair.exchange_in_place, Pair.exchange_by_rename]


def stop_at(windows: int) -> Callable[[int, int], None]:
    def on_windows(done: int, total: int) -> None:
        if done >= windows:
            raise Stop

    return on_windows


def once(action: Callable[[], None], windows: int) -> Callable[[int, int], None]:
    """Act when so many windows are done, and never again."""
    acted: list[int] = []

    def on_windows(done: int, total: int) -> None:
        if done >= windows and not acted:
            acted.append(done)
            action()

    return on_windows


@pytest.mark.parametrize("exchange", WAYS)
@pytest.mark.parametrize("windows", [1, 11, 30, 43])
def test_a_source_exchanged_between_two_attempts_is_restored_as_it_is_now(
    pair: Pair, exchange: Callable[[Pair], None], windows: int
) -> None:
    with pytest.raises(Stop):
        pair.run(pair.task(), stop_at(windows))
    exchange(pair)
    done = pair.run(pair.task("1-2"))
    assert pair.judge(done) == storage.sha256(pair.second)
    assert done.windows_resumed == 0


@pytest.mark.parametrize("exchange", WAYS)
@pytest.mark.parametrize("windows", [1, 11, 30, 43])
def test_a_source_exchanged_while_it_is_restored_is_refused_and_the_next_try_is_whole(
    pair: Pair, exchange: Callable[[Pair], None], windows: int
) -> None:
    try:
        done = pair.run(pair.task(), once(lambda: exchange(pair), windows))
    except InputChanged:
        assert not (pair.folder / "out.wav").exists()
        assert pair.judge(pair.run(pair.task("1-2"))) == storage.sha256(pair.second)
    else:  # it had been read to its end before: so it is whole, and its record names what was read
        assert pair.judge(done) == storage.sha256(pair.first)


def test_a_source_that_was_another_one_in_between_gives_no_window_of_that(pair: Pair) -> None:
    """Exchanged in mid-attempt, that attempt killed, and put back: its windows of the other one are not believed."""

    def on_windows(done: int, total: int) -> None:
        if done == 3:
            pair.exchange_in_place()
        if done >= 38:
            raise Stop

    with pytest.raises(Stop):
        pair.run(pair.task(), on_windows)
    pair.restore_first_in_place()
    assert pair.judge(pair.run(pair.task("1-2"))) == storage.sha256(pair.first)


@pytest.mark.parametrize("touch", ["chmod", "link", "rename", "copy of itself"])
@pytest.mark.parametrize("windows", [1, 43])
def test_a_source_that_is_touched_and_not_changed_is_restored(pair: Pair, touch: str, windows: int) -> None:
    def act() -> None:
        match touch:
            case "chmod":
                pair.source.chmod(0o600)
            case "link":
                (pair.folder / "second name.wav").hardlink_to(pair.source)
            case "rename":
                pair.source.rename(pair.folder / "away.wav")
                (pair.folder / "away.wav").rename(pair.source)
            case _:
                pair.restore_first_in_place()

    before = pair.source.stat().st_ctime_ns
    done = pair.run(pair.task(), once(act, windows))
    assert pair.source.stat().st_ctime_ns != before
    assert pair.judge(done) == storage.sha256(pair.first)
    assert done.windows_resumed == 0


def test_a_touched_source_whose_own_words_changed_is_refused(tmp_path: Path) -> None:
    """Tags exchanged in place for others as long: the samples are the same, and the hash would not be."""
    source = tmp_path / "a.flac"
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(source, "w", 8000, 1, format="FLAC") as file:
        file.title = "Alpha"
        file.write(rng.uniform(-0.4, 0.4, 8000))
    os.utime(source, ns=(10**18, 10**18))

    def act() -> None:
        source.write_bytes(source.read_bytes().replace(b"Alpha", b"Gamma"))
        os.utime(source, ns=(10**18, 10**18))

    with serving(rig.FastModel()) as model, pytest.raises(InputChanged):
        restore(
            Task(source, tmp_path / "b.wav", tmp_path / "s", SETTINGS),
            model,
            on_windows=once(act, 2),
            before_publish=lambda _: None,
        )


def test_a_source_that_goes_away_after_it_was_read_is_missing(pair: Pair) -> None:
    with pytest.raises((InputMissing, InputChanged)):
        pair.run(pair.task(), once(pair.source.unlink, 43))
    assert not (pair.folder / "out.wav").exists()


def test_a_resumed_file_of_an_unchanged_source_keeps_its_windows(pair: Pair) -> None:
    with pytest.raises(Stop):
        pair.run(pair.task(), stop_at(6))
    pair.source.chmod(0o600)
    done = pair.run(pair.task("1-2"))
    assert pair.judge(done) == storage.sha256(pair.first)
    assert done.windows_resumed >= 6
