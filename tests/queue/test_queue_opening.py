"""Opening the database: first starts, versions, old libraries, and everything that can be wrong with the file."""

from __future__ import annotations

import sqlite3 as python_sqlite
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rig
from sqlite_utils import Database

from batchsr.errors import QueueBusy, QueueDamaged, QueueError, QueueVersion, ResourceError
from batchsr.queue import Queue, State
from batchsr.queue.clock import Clock
from batchsr.queue.job import State as JobState
from batchsr.queue.opening import open_queue, preview_of
from batchsr.queue.sqlite import schema, store, versions
from batchsr.queue.sqlite.api import SqliteQueue


def pragma(queue: Queue, name: str) -> object:
    return queue._store.db.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_new_database_is_durable_and_in_wal_mode(tmp_path: Path) -> None:
    with open_queue(tmp_path / "new folder" / "queue.db") as queue:
        assert pragma(queue, "journal_mode") == "wal"
        assert pragma(queue, "synchronous") == 2  # FULL
        assert pragma(queue, "foreign_keys") == 1
        assert pragma(queue, "busy_timeout") == 60_000
        assert pragma(queue, "application_id") == versions.APPLICATION_ID
        assert queue._store.db.table("jobs").strict
        assert set(queue.counts()) == set(State)


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 4), True),
    ],
)
def test_wal_is_trusted_only_from_the_versions_that_keep_commits(version: tuple[int, ...], safe: bool) -> None:
    assert store.keeps_commits_in_wal(version) is safe


def test_an_old_sqlite_takes_the_truncate_path(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    open_queue(path).close()
    opened = store.Store.connect(path, Clock(), library=(3, 45, 1))
    assert opened.db.execute("PRAGMA journal_mode").fetchone()[0] == "truncate"
    queue = SqliteQueue(opened)
    list(queue.enqueue([rig.new_job()]))
    assert queue.check() == []
    queue.close()
    assert not (tmp_path / "queue.db-wal").exists()


def test_an_old_sqlite_does_not_share_a_wal_database_that_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with open_queue(path), pytest.raises(QueueBusy, match="open in another program"):
        store.Store.connect(path, Clock(), library=(3, 45, 1), timeout_s=0.2)


def test_pythons_own_sqlite_will_do_where_there_is_no_wheel_of_a_newer_one(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pysqlite3'] = None; sys.path[:0] = [sys.argv[2], sys.argv[3]]\n"
        "from pathlib import Path; import rig, sqlite3\n"
        "from batchsr.queue.opening import describe\n"
        "assert describe()['module'] == 'sqlite3'\n"
        "db = Path(sys.argv[1])\n"
        "sources = [rig.record(db.parent / f'{n}.wav', 0.3, seed=n) for n in range(2)]\n"
        "rig.enqueue(db, sources)\n"
        "assert rig.work(db).done == 2\n"
        "print(describe()['journal'])\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "queue.db"), str(root), str(root / "tests")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    safe = store.keeps_commits_in_wal(python_sqlite.sqlite_version_info)
    assert done.stdout.strip() == ("wal" if safe else "truncate")


def test_the_number_of_migrations_is_the_schemas_version() -> None:
    assert len(schema.migrations.pending(Database(memory=True, execute_plugins=False))) == versions.VERSION


def test_a_database_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with open_queue(path) as queue:
        queue._store.db.execute(f"PRAGMA user_version = {versions.VERSION + 1}")
    with pytest.raises(QueueVersion, match="newer batchsr"):
        open_queue(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["queue.db", "queue.db.generation"]


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "music.db"
    other = Database(path, execute_plugins=False)
    other.table("songs").insert({"name": "x"})
    other.close()
    with pytest.raises(QueueError, match="another program"):
        open_queue(path)
    other = Database(path, execute_plugins=False)
    assert other.table_names() == ["songs"]
    other.close()


def test_each_migration_of_a_used_database_is_preceded_by_a_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue.db"
    with open_queue(path) as queue:
        list(queue.enqueue([rig.new_job()]))
    assert list(tmp_path.glob("*backup*")) == [], "a new database holds nothing to back up"

    later = type(schema.migrations)("batchsr")
    later._migrations = [*schema.migrations._migrations]

    @later()
    def add_colour(db: Database) -> None:
        db.table("jobs").add_column("colour", str)

    monkeypatch.setattr(schema, "migrations", later)
    monkeypatch.setattr(versions, "VERSION", versions.VERSION + 1)
    with open_queue(path) as queue:
        assert "colour" in queue._store.db.table("jobs").columns_dict
        assert queue.get(1).state is JobState.QUEUED
    (backup,) = tmp_path.glob("*backup*")
    copy = Database(backup, execute_plugins=False)
    assert "colour" not in copy.table("jobs").columns_dict
    assert copy.table("jobs").count == 1
    copy.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "queue.db"
    open_queue(path).close()
    later = type(schema.migrations)("batchsr")
    later._migrations = [*schema.migrations._migrations]

    @later()
    def half(db: Database) -> None:
        db.table("jobs").add_column("half", str)
        raise RuntimeError("power cut")

    monkeypatch.setattr(schema, "migrations", later)
    monkeypatch.setattr(versions, "VERSION", versions.VERSION + 1)
    with pytest.raises(RuntimeError):
        open_queue(path)
    monkeypatch.undo()
    with open_queue(path) as queue:
        assert "half" not in queue._store.db.table("jobs").columns_dict
        assert queue.check() == []


def test_eight_first_time_starters_all_succeed(tmp_path: Path) -> None:
    for attempt in range(5):
        path = tmp_path / str(attempt) / "queue.db"
        start = tmp_path / f"start{attempt}"

        def starter(number: int, path: Path = path, start: Path = start) -> None:
            rig.until(start.exists)
            with open_queue(path) as queue:
                list(queue.enqueue([rig.new_job(str(number))]))

        pids = [rig.fork(lambda number=number: starter(number)) for number in range(8)]
        start.touch()
        assert [rig.wait(pid) for pid in pids] == [0] * 8
        with open_queue(path) as queue:
            assert queue.counts()["queued"] == 8
            assert queue.check() == []


def test_a_file_that_is_no_database_is_named_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and longer than a header " * 10)
    with pytest.raises(QueueError, match=r"notes.txt is not a database.*--db"):
        open_queue(path)
    assert path.read_text().startswith("not a database")


def test_a_damaged_database_is_named_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with open_queue(path) as queue:
        list(queue.enqueue(rig.new_job(str(number)) for number in range(300)))
    raw = bytearray(path.read_bytes())
    raw[8192:-4096] = b"\xa5" * (len(raw) - 8192 - 4096)
    path.write_bytes(raw)
    with pytest.raises(QueueError, match=r"damaged.*db restore"), open_queue(path) as queue:
        list(queue.jobs())


def test_a_folder_where_the_database_should_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QueueError, match="is a folder, no database"):
        open_queue(tmp_path)


def test_a_file_where_the_databases_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError):
        open_queue(tmp_path / "file" / "queue.db")


def test_a_database_held_for_too_long_is_busy_not_locked(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with open_queue(path) as queue:
        impatient = store.Store.connect(path, Clock(), timeout_s=0.05)
        with (
            queue._store.writing(),
            pytest.raises(QueueBusy, match="in use by another process") as caught,
            impatient.writing(),
        ):
            pass
        assert "locked" not in str(caught.value)
        assert caught.value.exit_code == 75
        impatient.close()


def test_a_backup_is_one_whole_file_even_while_others_write(tmp_path: Path) -> None:
    with open_queue(tmp_path / "queue.db") as queue:
        list(queue.enqueue(rig.new_job(str(number)) for number in range(10)))
        queue.backup(tmp_path / "copy.db")
        list(queue.enqueue([rig.new_job("later")]))
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy.db"]
    with open_queue(tmp_path / "copy.db") as copy:
        assert copy.counts()["queued"] == 10
        assert copy.check() == []


def test_a_backup_to_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    with open_queue(tmp_path / "queue.db") as queue, pytest.raises((ResourceError, QueueError), match=r"nowhere"):
        queue.backup(tmp_path / "nowhere" / "copy.db")


def test_the_checks_find_what_must_not_be(tmp_path: Path) -> None:
    with open_queue(tmp_path / "queue.db") as queue:
        list(queue.enqueue([rig.new_job("a"), rig.new_job("b")]))
        db = queue._store.db
        with queue.join() as worker:
            queue.release(queue.claim(worker, rig.BACKEND))
        db.execute("DELETE FROM attempts WHERE job = 1")
        db.execute("INSERT INTO events (job, at, new, claim_seq) VALUES (2, 0, 'done', 1), (2, 0, 'done', 2)")
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("INSERT INTO events (job, at, new, claim_seq) VALUES (77, 0, 'queued', 0)")
        said = queue.check()
    assert any("foreign key: events" in sentence for sentence in said)
    assert "job 1 has claims that do not rise one by one" in said
    assert "job 2 was done more than once without being redone" in said
    assert "job 2 is in another state than its last event says" in said


LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
print(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])
connection.close()
"""


def seen_by_another_program(path: Path) -> int:
    """How many jobs a program sees that opens the database with Python's own SQLite and closes it."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


def opened_and_closed(queue: Queue) -> None:
    open_queue(queue.path).close()


def opened_again(queue: Queue) -> None:
    queue.again().close()


def opened_and_refused(queue: Queue) -> None:
    execute = queue._store.db.execute
    execute(f"PRAGMA user_version = {versions.VERSION + 1}")
    with pytest.raises(QueueVersion):
        open_queue(queue.path)
    execute(f"PRAGMA user_version = {versions.VERSION}")


def previewed(queue: Queue) -> None:
    preview_of(queue.path).close()
    list(queue.preview([rig.new_job("preview")]))


def backed_up(queue: Queue) -> None:
    queue.backup(queue.path.with_name("backup.db"))


@pytest.mark.parametrize("meanwhile", [opened_and_closed, opened_again, opened_and_refused, previewed, backed_up])
def test_a_second_opening_in_one_process_costs_the_first_no_commit(
    tmp_path: Path, meanwhile: Callable[[Queue], None]
) -> None:
    path = tmp_path / "queue.db"
    with open_queue(path) as queue:
        list(queue.enqueue(rig.new_job(f"{number}") for number in range(3)))
        log = (tmp_path / "queue.db-wal").stat().st_ino
        meanwhile(queue)
        assert seen_by_another_program(path) == 3
        assert (tmp_path / "queue.db-wal").stat().st_ino == log, "the log that we write to was removed under us"
        list(queue.enqueue(rig.new_job(f"{number}") for number in range(3, 13)))
        assert seen_by_another_program(path) == 13
    with open_queue(path) as queue:
        assert sum(queue.counts().values()) == 13
        assert queue.check() == []


def test_a_database_that_was_closed_is_looked_at_again(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with open_queue(path) as queue, queue.again():
        pass
    path.write_bytes(b"")
    with pytest.raises(QueueDamaged):
        open_queue(path)
