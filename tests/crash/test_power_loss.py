"""Power cuts: what was not fsynced is gone, or half there; and databases that are older or newer than the files."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import rig

from batchsr import storage
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.queue.sqlite.store import Store
from batchsr.restoration import sidecar_reading
from batchsr.restoration.sidecar import sidecar_path
from batchsr.worker import maintenance


class Disk:
    """Remembers, in `shadow`, what of the folders under `root` would survive a power cut.

    A file's bytes survive as of its last fsync; names survive as of the last fsync of their folder. What was
    done since may or may not have reached the medium, each part for itself.
    """

    def __init__(self, root: Path, shadow: Path) -> None:
        self._root = root
        self._shadow = shadow
        shadow.mkdir()

    def attach(self, die_at: int) -> None:
        """In the process that will die: keep the shadow, and die at the fsync of that number."""
        fsync = os.fsync
        count = 0

        def shadowed(fd: int) -> None:
            nonlocal count
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(fd)
            self._keep(fd)

        os.fsync = shadowed

    def _keep(self, fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            names = {entry.name: entry.inode() for entry in os.scandir(path) if entry.is_file()}
            self._replace(self._folder(path), json.dumps(names).encode())
        else:
            self._replace(self._shadow / str(os.fstat(fd).st_ino), path.read_bytes())

    def _replace(self, path: Path, data: bytes) -> None:
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").replace(path)

    def _folder(self, path: Path) -> Path:
        return self._shadow / (os.fsencode(path).hex() + ".folder")

    def cut(self, rng: random.Random) -> None:
        """After the death: make the files under `root` what a machine might find when it comes up again."""
        for folder in [path for path in (self._root, *self._root.rglob("*")) if path.is_dir()]:
            now = {path.name: path for path in folder.iterdir() if path.is_file()}
            bytes_now = {path.stat().st_ino: path.read_bytes() for path in now.values()}
            inodes_now = {name: path.stat().st_ino for name, path in now.items()}
            synced: dict[str, int] = {}
            with contextlib.suppress(FileNotFoundError):
                synced = json.loads(self._folder(folder).read_bytes())
            for path in now.values():
                path.unlink()
            for name in now.keys() | synced.keys():
                inode = rng.choice([synced.get(name), *3 * [inodes_now.get(name)]])
                if inode is not None:
                    (folder / name).write_bytes(self._survivor(inode, bytes_now.get(inode, b""), rng))

    def _survivor(self, inode: int, newest: bytes, rng: random.Random) -> bytes:
        """Blocks of the synced content, or of what was written since."""
        synced = b""
        with contextlib.suppress(FileNotFoundError):
            synced = (self._shadow / str(inode)).read_bytes()
            if synced == newest or not newest:
                return synced
        length = rng.choice([len(synced), *3 * [len(newest)], rng.randint(0, max(len(newest), len(synced)))])
        length = max(length, min(len(synced), len(newest)))
        survives = rng.choice([0.5, 0.97])
        survivor = bytearray(synced.ljust(length, b"\0")[:length])
        for start in range(0, length, 512):
            if rng.random() < survives:
                part = newest[start : start + 512]
                survivor[start : start + len(part)] = part
        return bytes(survivor[:length])


class Archive:
    """Two short recordings, their queue, and their outputs' right hashes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db, self.out = folder / "queue.db", folder / "work" / "out"
        self.scratch = folder / "queue.db.scratch"
        self.sources = [rig.record(folder / "in" / f"{name}.wav", 0.4, seed=seed) for seed, name in enumerate("ab")]
        rig.enqueue(folder / "peace.db", self.sources, folder / "peace")
        assert rig.work(folder / "peace.db").done == 2
        self.expected = {path.name: storage.sha256(path) for path in (folder / "peace").glob("*.wav")}

    def visible(self) -> dict[str, str]:
        """Hashes of what stands under the outputs' names."""
        return {path.name: storage.sha256(path) for path in self.out.glob("*.wav") if not path.name.startswith(".")}

    def resume_and_judge(self, *, files_are_behind: bool = False) -> None:
        """A worker on what is there now; then everything must be right."""
        rig.enqueue(self.db, self.sources, self.out)
        summary = rig.work(self.db)
        with open_queue(self.db) as queue:
            errors = [(job.error_code, job.error) for job in queue.jobs() if job.error]
            assert summary.failed == 0, errors
            bad = [verdict.job.id for verdict in maintenance.verify(queue) if verdict.verdict != "ok"]
            assert files_are_behind or not bad, "a row says done and the output is not safe"
            if bad:  # what the row believes and the disk has not is found, and made again when a person says so
                for job in queue.jobs(ids=bad):
                    Path(job.output).unlink(missing_ok=True)
                assert queue.retry(bad, redo=True) == bad
        if bad:
            assert rig.work(self.db).done == len(bad)
        assert self.visible() == self.expected
        for name, expected in self.expected.items():
            record = sidecar_reading.read(sidecar_path(self.out / name))
            assert record is not None, "an output was left without its sidecar"
            assert record.said.output.sha256 == expected
        with open_queue(self.db) as queue:
            assert {job.state for job in queue.jobs()} == {State.DONE}
            assert {verdict.verdict for verdict in maintenance.verify(queue)} == {"ok"}
            assert queue.check() == []


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the shim asks /proc for a descriptor's path")
@pytest.mark.parametrize("seed", range(2))
def test_after_a_power_cut_at_any_fsync_names_are_whole_and_work_goes_on(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    cuts = 0
    for die_at in range(1 + seed, 200, 2):
        folder = tmp_path / str(die_at)
        archive = Archive(folder)
        rig.enqueue(archive.db, archive.sources, archive.out)
        archive.out.mkdir(parents=True)
        archive.scratch.mkdir()
        disks = [Disk(archive.out, folder / "shadow-out"), Disk(archive.scratch, folder / "shadow-scratch")]

        def doomed(archive: Archive = archive, disks: list[Disk] = disks, die_at: int = die_at) -> None:
            Both(disks).attach(die_at)
            rig.work(archive.db)

        code = rig.wait(rig.fork(doomed))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        cuts += 1
        for disk in disks:
            disk.cut(rng)
        for name, found in archive.visible().items():
            assert found == archive.expected[name], f"cut {die_at}: {name} is there and not whole"
        archive.resume_and_judge()
        shutil.rmtree(folder)
    assert cuts >= 5


class Both(Disk):
    """Several disks of one process."""

    def __init__(self, disks: list[Disk]) -> None:
        self._disks = disks

    def _keep(self, fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        for disk in self._disks:
            if path.is_relative_to(disk._root):
                disk._keep(fd)


@pytest.fixture
def history(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Every state that the database and the files were in, one folder a commit, while two files were restored."""
    states: list[Path] = []
    commit = Store._commit

    def remembered(self: Store) -> None:
        commit(self)
        state = archive.folder / "history" / f"{len(states):03}"
        state.mkdir(parents=True)
        states.append(state)
        self.backup(state / "queue.db")
        for folder in (archive.out, archive.scratch):
            if folder.exists():
                shutil.copytree(
                    folder, state / folder.name, ignore=lambda _, names: [n for n in names if n.endswith(".part")]
                )

    with monkeypatch.context() as patched:
        patched.setattr(Store, "_commit", remembered)
        rig.enqueue(archive.db, archive.sources, archive.out)
        rig.work(archive.db)
    yield states
    shutil.rmtree(archive.folder / "history")


def roll(archive: Archive, *, database: Path, files: Path) -> None:
    """Put the database and the files back to these moments."""
    for path in archive.folder.glob("queue.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(archive.folder / "work", ignore_errors=True)
    shutil.copy(database / "queue.db", archive.db)
    for folder in (archive.out, archive.scratch):
        if (files / folder.name).exists():
            shutil.copytree(files / folder.name, folder)


def test_a_database_rolled_back_to_any_commit_meets_files_that_are_ahead(archive: Archive, history: list[Path]) -> None:
    assert len(history) > 12
    for number, state in list(enumerate(history))[::2]:
        for files in {history[-1], history[min(number + 3, len(history) - 1)]}:
            roll(archive, database=state, files=files)
            archive.resume_and_judge()


def test_files_rolled_back_to_any_moment_meet_a_database_that_is_ahead(archive: Archive, history: list[Path]) -> None:
    for number, state in list(enumerate(history))[::2]:
        for database in {history[-1], history[min(number + 3, len(history) - 1)]}:
            roll(archive, database=database, files=state)
            archive.resume_and_judge(files_are_behind=True)
