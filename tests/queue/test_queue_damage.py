"""A database that is damaged, gone or another one: a sentence and a way on, no traceback, and no false "sound"."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import rig
from program import Program

from batchsr.cli import cli
from batchsr.cli.app import App
from batchsr.errors import BatchsrError, QueueBusy, QueueDamaged, QueueError, QueueReplaced, ResourceError, UsageError
from batchsr.queue import Queue, State
from batchsr.queue.clock import Clock
from batchsr.queue.opening import open_queue, restore_backup
from batchsr.queue.sqlite import versions
from batchsr.queue.sqlite.store import Store, converted
from batchsr.temporary import Temporary


def filled(path: Path, jobs: int = 300) -> Path:
    with open_queue(path) as queue:
        list(queue.enqueue(rig.new_job(f"{number:04}") for number in range(jobs)))
        with queue.join() as worker:
            for _ in range(20):
                job = queue.claim(worker, rig.BACKEND)
                queue.fail(job, "input.format", "not audio")
    return path


def truncated(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        os.truncate(path, int(path.stat().st_size * share))

    return damage


def garbage(seed: int, pages: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        rng = random.Random(seed)
        with path.open("r+b") as file:
            for _ in range(pages):
                file.seek(4096 * rng.randrange(1, path.stat().st_size // 4096))
                file.write(rng.randbytes(4096))

    return damage


def bits(seed: int) -> Callable[[Path], None]:
    """Single bytes changed all over the rows."""

    def damage(path: Path) -> None:
        rng = random.Random(seed)
        with path.open("r+b") as file:
            for _ in range(4000):
                file.seek(rng.randrange(4096, path.stat().st_size))
                file.write(rng.randbytes(1))

    return damage


def beginning(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * 4096)


DAMAGES = {
    "empty": truncated(0),
    "one byte": lambda path: path.write_bytes(b"S"),
    "half": truncated(0.5),
    "a page short": truncated(0.97),
    "all zero": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "beginning": beginning,
    "text": lambda path: path.write_text("not a database\n" * 500),
    **{f"garbage {seed}": garbage(seed, 3 + 10 * seed) for seed in range(4)},
    **{f"bits {seed}": bits(seed) for seed in range(4)},
}


def look_everywhere(queue: Queue) -> None:
    """Everything that a command may ask of a queue."""
    queue.status()
    for job in queue.jobs():
        job.to_dict()
        queue.events(job.id)
        queue.attempts(job.id)
    queue.queued_for()
    queue.bound_variants()
    queue.peek("fast")
    with queue.join() as worker:
        for _ in range(5):
            if (job := queue.claim(worker, rig.BACKEND)) is not None:
                queue.release(job)
    queue.reap()
    list(queue.enqueue([rig.new_job("one more")]))


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_database_is_a_sentence_with_a_way_on(tmp_path: Path, what: str) -> None:
    path = filled(tmp_path / "queue.db")
    DAMAGES[what](path)
    said: BatchsrError | None = None
    problems: list[str] = []
    try:
        with open_queue(path) as queue:
            look_everywhere(queue)
            problems = queue.check()
    except QueueError as e:
        said = e
    if said is not None:
        assert said.exit_code == 74
        assert str(path) in str(said)
        assert said.remedy
    else:
        assert problems, "what is damaged is not called sound"
        assert "can still be read" in problems[-1] or "nothing of it can be read" in problems[-1]


def test_what_can_still_be_read_is_said(tmp_path: Path) -> None:
    path = filled(tmp_path / "queue.db")
    with sqlite3.connect(path) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs_batch'").fetchone()
    with path.open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(b"\xff" * 4096)
    with open_queue(path) as queue:
        problems = queue.check()
    assert "300 of its jobs can still be read (20 failed, 280 queued)" in problems[-1]
    assert "db restore" in problems[-1]
    assert "sidecars" in problems[-1]


@pytest.mark.parametrize("command", [["db", "check"], ["status"], ["list"], ["work"], ["enqueue", "x.wav"], ["gc"]])
def test_every_command_ends_with_74_on_an_empty_database(program: Program, command: list[str]) -> None:
    program.db.touch()
    (program.folder / "x.wav").touch()
    said = program.run(*command, code=74).stderr
    assert "is empty: what it held is lost" in said
    assert "db restore" in said


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE jobs (id)")
        db.execute("PRAGMA user_version = 2")
    before = path.read_bytes()
    with pytest.raises(QueueError, match="another program"):
        open_queue(path)
    assert path.read_bytes() == before


def test_a_log_without_its_database_is_not_laid_under_a_new_one(tmp_path: Path) -> None:
    path = _crashed(tmp_path / "queue.db")
    path.unlink()
    with pytest.raises(QueueDamaged, match="is not there, but what was written to it last still is"):
        open_queue(path)
    assert not path.exists()


def _crashed(path: Path) -> Path:
    """A database whose last user was killed, so that its log is left over."""
    filled(path)

    def child() -> None:
        queue = open_queue(path)
        list(queue.enqueue(rig.new_job(f"late {number}") for number in range(50)))
        os._exit(0)

    rig.wait(rig.fork(child))
    assert path.with_name("queue.db-wal").stat().st_size > 0
    return path


def test_a_backup_copied_over_a_leftover_log_is_noticed_and_restored(tmp_path: Path) -> None:
    path, backup = tmp_path / "queue.db", tmp_path / "backup.db"
    filled(path)
    with open_queue(path) as queue:
        queue.backup(backup)
    _crashed_again(path)
    shutil.copyfile(backup, path)
    with pytest.raises(QueueDamaged, match=r"is not the database that .*-wal belongs to"):
        open_queue(path)
    restored = restore_backup(path, path)
    assert restored.jobs == 300
    with open_queue(path) as queue:
        assert queue.check() == []
        assert queue.counts()["queued"] == 280


def _crashed_again(path: Path) -> None:
    def child() -> None:
        queue = open_queue(path)
        list(queue.enqueue(rig.new_job(f"late {number}") for number in range(50)))
        os._exit(0)

    rig.wait(rig.fork(child))


def test_a_crash_alone_is_no_damage(tmp_path: Path) -> None:
    path = _crashed(tmp_path / "queue.db")
    with open_queue(path) as queue:
        assert queue.counts()["queued"] == 330
        assert queue.check() == []


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_database_that_is_taken_from_under_a_worker_ends_it(tmp_path: Path, how: str) -> None:
    path, other = tmp_path / "queue.db", filled(tmp_path / "other.db")
    sources = [rig.record(tmp_path / "in" / f"{n}.wav", 0.3, seed=n) for n in range(3)]
    rig.enqueue(path, sources, tmp_path / "out")
    told = rig.Told()

    def take(job: object, done: int, total: int) -> None:
        if path.exists() and done:
            path.unlink() if how == "removed" else os.replace(other, path)

    told.on_windows = take
    with pytest.raises(QueueReplaced, match="removed" if how == "removed" else "another file") as raised:
        rig.work(path, listener=told)
    assert raised.value.exit_code == 74


def test_a_restored_backup_refuses_living_workers_and_keeps_what_was(tmp_path: Path) -> None:
    path, backup = filled(tmp_path / "queue.db"), tmp_path / "backup.db"
    with open_queue(path) as queue:
        with queue.join() as worker:
            job = queue.claim(worker, rig.BACKEND)
            queue.backup(backup)
            with pytest.raises(QueueBusy, match="is at work with"):
                restore_backup(path, backup)
            queue.release(job)
        list(queue.enqueue([rig.new_job("after the backup")]))
    restored = restore_backup(path, backup)
    assert (restored.jobs, restored.taken_back) == (300, 1)
    with open_queue(path) as queue:
        job = queue.get(job.id)
        assert job.state is State.QUEUED
        assert (job.attempts, job.crashes) == (0, 0), "a backup is no crash"
        assert queue.check() == []
    with open_queue(restored.kept) as queue:
        assert len(list(queue.jobs())) == 301


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_restoration_that_is_killed_leaves_the_old_database_or_the_new_one(
    tmp_path: Path, moment: str, suffix: str
) -> None:
    path, backup = filled(tmp_path / "queue.db"), tmp_path / "backup.db"
    with open_queue(path) as queue:
        queue.backup(backup)
        list(queue.enqueue(rig.new_job(f"since {number}") for number in range(5)))
    if suffix == "-wal":
        _crashed_again(path)
    publish = Temporary.publish

    def child() -> None:
        def killed(self: Temporary, *, overwrite: bool) -> None:
            if self.path.parent == path.parent and overwrite and not self.path.name.count("generation"):
                if moment == "after":
                    publish(self, overwrite=True)
                os._exit(0)

        Temporary.publish = killed
        restore_backup(path, backup)

    if suffix == "-journal":
        path.with_name("queue.db-journal").write_bytes(_hot_journal(path))
    rig.wait(rig.fork(child))
    if moment == "before":
        with open_queue(path) as queue:
            assert queue.counts()["queued"] == (335 if suffix == "-wal" else 285), "nothing of the old one is lost"
            assert queue.check() == []
    else:
        with pytest.raises(QueueDamaged, match="or a restoration killed"):
            open_queue(path)
    restored = restore_backup(path, backup if moment == "before" else path)
    with open_queue(path) as queue:
        assert queue.counts()["queued"] == 280
        assert queue.check() == []
    assert restored.jobs == 300
    every = list(tmp_path.glob("*.before-restore-*"))
    assert len({one.stat().st_ino for one in every}) == len(every), "no file has two names"
    kept = [one for one in every if not one.name.endswith(("-wal", "-journal"))]

    def jobs_in(one: Path) -> int:
        with contextlib.closing(sqlite3.connect(one)) as db:
            return int(db.execute("SELECT count(*) FROM jobs").fetchone()[0])

    before = max(kept, key=jobs_in)
    with contextlib.closing(sqlite3.connect(before)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (355 if suffix == "-wal" else 305,)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_backup_is_restored_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path, backup = filled(tmp_path / "queue.db"), tmp_path / "backup.db"
    with open_queue(path) as queue:
        queue.backup(backup)
        list(queue.enqueue([rig.new_job("since")]))
    _crashed_again(path)
    log = path.with_name("queue.db-wal").read_bytes()

    def no_links(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", no_links)
    restored = restore_backup(path, backup)
    assert restored.kept.with_name(f"{restored.kept.name}-wal").read_bytes() == log
    with open_queue(path) as queue:
        assert (len(list(queue.jobs())), queue.check()) == (300, [])
    with contextlib.closing(sqlite3.connect(restored.kept)) as db:
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (351,)
    assert not list(tmp_path.glob(".batchsr-*"))


def test_a_database_that_this_user_may_not_read_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "queue.db")
    with pytest.raises(sqlite3.OperationalError) as raised:
        sqlite3.connect(tmp_path / "nowhere" / "queue.db")
    assert "check that its folder exists" in converted(raised.value, path).remedy
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    told = converted(raised.value, path)
    assert (told.exit_code, told.message) == (74, f"{path} may not be read by this user")


def test_a_backup_is_restored_into_a_folder_that_is_gone_too(tmp_path: Path) -> None:
    path, backup = filled(tmp_path / "lost" / "queue.db"), tmp_path / "backup.db"
    with open_queue(path) as queue:
        queue.backup(backup)
    shutil.rmtree(path.parent)
    assert restore_backup(path, backup).kept is None
    with open_queue(path) as queue:
        assert (len(list(queue.jobs())), queue.check()) == (300, [])


def _hot_journal(path: Path) -> bytes:
    """Return a rollback journal of one page, the first as it is: one that SQLite plays back."""
    page = path.read_bytes()[:4096]
    pages = path.stat().st_size // 4096
    nonce = 7
    header = bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", 1, nonce, pages, 512, 4096)
    checksum = nonce + sum(page[at] for at in range(4096 - 200, 0, -200))
    return header.ljust(512, b"\0") + struct.pack(">I", 1) + page + struct.pack(">I", checksum & 0xFFFFFFFF)


def test_a_plain_copy_of_a_database_at_rest_is_as_good_as_a_backup(tmp_path: Path) -> None:
    path, copy = filled(tmp_path / "queue.db"), tmp_path / "copy.db"
    shutil.copyfile(path, copy)
    before = copy.read_bytes()
    truncated(0)(path)
    assert restore_backup(path, copy).jobs == 300
    with open_queue(path) as queue:
        assert queue.check() == []
        assert queue.counts()["queued"] == 280
    assert copy.read_bytes() == before
    assert not list(tmp_path.glob(".batchsr-*"))


def parts() -> list[tuple[str, str]]:
    """Return the kind and name of every table, index and trigger of a queue that can be dropped."""
    store = Store.in_memory(None, Clock())
    versions.migrate(store)
    rows = store.rows("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'")
    return [(row["type"], row["name"]) for row in rows]


@pytest.mark.parametrize(("kind", "name"), parts())
def test_no_database_is_sound_that_lacks_a_part(tmp_path: Path, kind: str, name: str) -> None:
    path = filled(tmp_path / "queue.db", jobs=20)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute(f"DROP {kind} {name}")
    try:
        with open_queue(path) as queue:
            said = "; ".join(queue.check())
    except QueueDamaged as e:
        said = f"{e} {e.remedy}"
    assert name in said
    assert "db restore" in said


def test_a_database_without_a_column_or_its_one_row_is_not_sound(tmp_path: Path) -> None:
    path = filled(tmp_path / "queue.db", jobs=20)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE control RENAME COLUMN last_id TO last")
    with open_queue(path) as queue:
        assert "column last_id of table control is missing" in queue.check()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE control RENAME COLUMN last TO last_id")
        db.execute("DELETE FROM control")
        db.commit()
    with open_queue(path) as queue:
        assert "the one row of table control is missing" in queue.check()


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device", "a link that leads in a circle"])
@pytest.mark.parametrize("command", [["status"], ["db", "check"], ["enqueue", "x.wav"], ["db", "path"]])
def test_what_is_no_file_is_said_to_be_none(
    tmp_path: Path, kind: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue"
    match kind:
        case "a folder":
            path.mkdir()
            monkeypatch.chdir(path)
            path = Path(".")
        case "a pipe":
            os.mkfifo(path)
        case "a device":
            path = Path(os.devnull)
        case _:
            path.symlink_to(path)
    with pytest.raises((UsageError, QueueError), match=kind):
        cli.main(["--db", str(path), *command], standalone_mode=False, obj=App())
    with pytest.raises(QueueError, match=kind):
        open_queue(path)


@pytest.mark.parametrize("command", [["status"], ["db", "check"], ["work"], ["list"]])
def test_a_name_that_none_can_look_at_is_a_sentence(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / ("n" * 300)  # as a folder that is closed to this user
    with pytest.raises(ResourceError, match=r"cannot look at .*name too long") as raised:
        cli.main(["--db", str(path), *command], standalone_mode=False, obj=App())
    assert raised.value.exit_code == 74
    with pytest.raises(ResourceError, match="cannot look at"):
        open_queue(path)


@pytest.mark.parametrize("what", ["damaged", "missing", "of another program", "folder"])
def test_a_backup_that_is_none_changes_nothing(tmp_path: Path, what: str) -> None:
    path, backup = filled(tmp_path / "queue.db"), tmp_path / "backup.db"
    if what == "damaged":
        garbage(1, 40)(filled(backup))
    if what == "of another program":
        with sqlite3.connect(backup) as db:
            db.execute("CREATE TABLE other (id)")
    if what == "folder":
        backup.mkdir()
    before = path.read_bytes()
    with pytest.raises(BatchsrError):
        restore_backup(path, backup)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*before-restore*"))
    assert not list(tmp_path.glob(".batchsr-*"))


def test_restoring_says_what_will_be_adopted_and_work_makes_none_of_it_again(program: Program) -> None:
    from program import FAST_MODEL

    folder, backup = program.folder, program.folder / "backup.db"
    sources = [rig.record(folder / "in" / f"{n}.wav", 0.3, seed=n) for n in range(2)]
    program.run("enqueue", *sources, "--out", folder / "out")
    program.run("db", "backup", backup)
    program.run("work", "--variant", "fast", "--min-free", "0", environment=FAST_MODEL)
    outputs = {path: path.stat().st_ino for path in (folder / "out").glob("*.wav")}
    program.db.write_bytes(b"broken" * 1000)
    assert "not a database" in program.run("status", code=74).stderr
    said = program.run("db", "restore", backup).stdout
    assert "2 outputs were finished since" in said
    assert all(str(path) in said for path in outputs)
    program.run("work", "--variant", "fast", "--min-free", "0", environment=FAST_MODEL)
    assert {path: path.stat().st_ino for path in (folder / "out").glob("*.wav")} == outputs
    assert program.status()["jobs"]["done"] == 2
