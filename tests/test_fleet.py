"""A fleet from the command line, and two hosts at one output."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import postgres
import pytest
import rig
from person import Said, called

from batchsr import storage, temporary
from batchsr.cli import _run
from batchsr.cli.app import App
from batchsr.errors import ClaimLost
from batchsr.queue import State, roots
from batchsr.queue.opening import QueueAddress
from batchsr.queue.postgres.api import PostgresQueue
from batchsr.queue.postgres.place import FleetPlace
from batchsr.queue.sqlite import places as sqlite_places
from batchsr.queue.trouble import Trouble
from batchsr.restoration import publishing
from batchsr.restoration.sidecar import sidecar_path
from batchsr.settings.profile import Settings
from batchsr.signals import Stop
from batchsr.temporary import Temporary
from batchsr.worker import diagnosis, maintenance, shares
from batchsr.worker.options import WorkerOptions
from batchsr.worker.worker import run

SCHEMAS = Path(__file__).resolve().parent.parent / "docs" / "schema"


@pytest.fixture(autouse=True)
def _no_roots_left() -> Iterator[None]:
    yield
    roots.use({})


@pytest.fixture
def place(tmp_path: Path) -> FleetPlace:
    return postgres.place(tmp_path / "host")


class Host:
    """Somebody at a host of a fleet."""

    def __init__(self, place: FleetPlace) -> None:
        self.place = place
        schema = f"options=-csearch_path%3D{place.schema}"
        self.url = place.url + ("&" if "?" in place.url else "?") + schema

    def run(self, *words: object, code: int | None = 0, environment: dict[str, str] | None = None) -> Said:
        variables = {
            "BATCHSR_FLEET": self.url,
            "BATCHSR_FLEET_FOLDER": str(self.place.folder),
            "BATCHSR_DB": None,
            **(environment or {}),
        }
        return called(*words, code=code, environment=variables)


@pytest.fixture
def host(place: FleetPlace, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(
        "batchsr.queue.opening.FleetPlace", lambda url, folder: dataclasses.replace(place, folder=folder)
    )
    return Host(place)


def test_a_queue_is_made_once_filled_looked_at_and_steered_as_one_in_a_file(host: Host, tmp_path: Path) -> None:
    rig.record(tmp_path / "in" / "a.wav", 0.3)
    host.run("status", code=74)  # nothing was made yet
    assert "is ready" in host.run("fleet", "init").out
    assert "had a fleet's tables already" in host.run("fleet", "init").out
    assert "1 queued" in host.run("enqueue", "-r", tmp_path / "in").err
    assert "queued       1" in host.run("status").out
    host.run("edit", "1", "--priority", "3")
    host.run("pause", "night")
    (status,) = host.run("status", "--json").documents
    assert (status["paused_reason"], status["jobs"]["queued"]) == ("night", 1)
    host.run("resume")
    host.run("cancel", "1")
    host.run("retry", "1")
    (job,) = host.run("list", "--json").documents
    assert (job["state"], job["priority"]) == ("queued", 3)
    assert "a.wav" in host.run("show", "1").out
    host.run("report")
    assert "sound" in host.run("fleet", "check", "--out", tmp_path).out
    for name in ("init", "migrate", "check"):
        (answer,) = host.run("fleet", name, "--json").documents
        jsonschema.validate(answer, json.loads((SCHEMAS / f"fleet-{name}.schema.json").read_text()))


def test_shares_that_are_mounted_elsewhere_are_the_same_files(host: Host, tmp_path: Path) -> None:
    here, there = tmp_path / "mnt" / "archive", tmp_path / "Volumes" / "a"
    rig.record(here / "x" / "a.wav", 0.3)
    rig.record(here / "x" / "b.wav", 0.3, seed=1).rename(here / os.fsdecode(b"x/\xff.wav"))
    host.run("fleet", "init")
    assert "2 queued" in host.run("enqueue", "-r", here, "--named-root", f"archive={here}").err
    there.parent.mkdir()
    here.rename(there)
    variables = {"BATCHSR_ROOTS": f"archive={there}"}
    listed = host.run("list", "--json", environment=variables).documents
    assert sorted(one["source"] for one in listed) == sorted(str(path) for path in (there / "x").iterdir())
    assert "2 already queued" in host.run("enqueue", "-r", there, environment=variables).err
    roots.use({})
    said = host.run("list", code=2).err
    assert "a root named archive" in said
    assert "BATCHSR_ROOTS=archive=FOLDER" in said


def test_status_on_a_host_without_the_named_root_tells_files_and_places_by_that_name(
    host: Host, tmp_path: Path
) -> None:
    here = tmp_path / "archive"
    for name in ("x/a.wav", "x/b.wav", "y/c.wav"):
        rig.record(here / name, 0.3)
    (here / "x" / "b.wav").rename(here / "x" / os.fsdecode(b"\xff.wav"))
    host.run("fleet", "init")
    host.run("enqueue", "-r", here, "--named-root", f"archive={here}")
    with PostgresQueue.connect(host.place, beat_s=0.0) as queue:
        worker = queue.join()
        taken = [queue.claim(worker, rig.BACKEND) for _ in range(2)]
        (last,) = queue.jobs(states=[State.QUEUED])
        queue._pg.rows("UPDATE workers SET host = 'far', home = 'far' RETURNING 1")
        sqlite_places.hold_queued(
            queue._store,
            last,
            Trouble(str(here / "y"), "source", "gone", f"{here / 'y'} is gone", "mount it", False),
            alike=True,
        )
        roots.use({})
        said = host.run("status").out
        (status,) = host.run("status", "--json").documents
        worker.leave()
        roots.use({"archive": str(here)})
        for job in taken:
            assert job is not None
            queue.release(job)
    names = {one["source"] for one in status["workers"]}
    assert names == {"archive:x/a.wav", "archive:x/\udcff.wav"}
    assert "archive:x/a.wav" in said
    assert "archive:y is gone" in said
    assert status["places"][0]["path"] == "archive:y"


def test_status_of_a_fleet_says_nothing_of_the_disk_of_the_machine_that_looks(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.run("fleet", "init")
    monkeypatch.setattr(storage, "free_bytes", lambda path: 0)
    (status,) = host.run("status", "--json").documents
    assert (status["paused"], status["paused_reason"]) == (False, None)


HOSTILE_URLS = [
    ("postgresql://me:s3cret@[::1/x", 2),
    ("me:s3cret@127.0.0.1/x", 2),
    ("host=127.0.0.1 port=1 user=me password=s3cret", 2),
    ("postgresql://me:s3cret@127.0.0.1:1/x?unknown=1", 74),
    ("postgresql://me:s3%zzcret@127.0.0.1:1/x", 2),
    ("postgresql://me:s3%00cret@127.0.0.1:1/x", 2),
    ("postgresql://me:s3c@ret@127.0.0.1:1/x", 2),
    ("postgresql://me:s3c/ret@127.0.0.1:1/x", 2),
    ("postgresql://me:s3c?ret@127.0.0.1:1/x", 75),
    ("postgresql://me:s3c#ret@127.0.0.1:1/x", 2),
    ("postgresql://me:s3 cret@127.0.0.1:1/x", 2),
    ("postgresql://me:s3\udcffcret@127.0.0.1:1/x", 2),
    ("postgresql://me:s3cret@127.0.0.1:port/x", 2),
    ("postgresql://me:s3cret@127.0.0.1:1/x?s3cret", 2),
    ("postgresql://me:s3c%40ret@127.0.0.1:1/x", 75),
    ("postgresql://me:s3gr%C3%BC%C3%9Fe@127.0.0.1:1/x", 75),
    ("postgresql://me:s3grüße@127.0.0.1:1/x", 75),
    ("postgresql://me:s3cret@[::1]:1,127.0.0.1:1/x?target_session_attrs=read-write", 75),
    ("postgresql://me@127.0.0.1:1/x?password=s3cret", 75),
    ("postgresql://me@127.0.0.1:1/x?password=s3cr+et&password=s3t", 75),
    ("postgresql://me@127.0.0.1:1/x?p%61ssword=s3cret", 75),
    ("postgresql://me@127.0.0.1:1/x?sslpassword=s3cret&sslmode=require", 75),
    ("postgresql://me:s3cret@127.0.0.1:1/x?sslmode=wrong", 75),
    ("postgresql://me:s3cret@127.0.0.1:1/x?options=-cwork_mem%3D1MB", 75),
    ("postgresql://me:s3cret@127.0.0.1:1/x?service=nowhere", 75),
]


@pytest.mark.parametrize(("url", "code"), HOSTILE_URLS)
def test_no_message_about_a_url_holds_its_password(place: FleetPlace, url: str, code: int) -> None:
    called_by = Host(place)
    # What the system's library says of it differs between its versions.
    said = called_by.run("status", environment={"BATCHSR_FLEET": url}, code=None if code > 2 else code)
    assert said.code in ((74, 75) if code > 2 else (code,))
    assert "s3" not in said.err + said.out
    assert "s3" not in repr(FleetPlace(url, place.folder)) + repr(App(fleet=url))
    assert "s3" not in repr(QueueAddress(fleet=url)) + " ".join(QueueAddress(fleet=url).words())
    if code > 2:
        assert "s3" not in QueueAddress(fleet=url).shown


@pytest.mark.parametrize(
    "words",
    [
        ("status", "postgresql://me:s3cret@db/x"),
        ("enqueue", "postgresql://me:s3cret@db/x"),
        ("--db", "postgresql://me:s3cret@db/x", "status"),
        ("--db", "postgresql:///x?password=s3cret", "list"),
        ("status", "--fleet", "host=db password='s3 cret' user=me"),
        ("show", "postgresql://me:s3/c@ret@db/x"),
        ("work", "--procs", "postgresql://me:s3cret@db/x"),
    ],
)
def test_a_url_in_a_wrong_place_is_refused_without_its_password(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BATCHSR_DB", str(tmp_path / "queue.db"))
    monkeypatch.delenv("BATCHSR_FLEET", raising=False)
    monkeypatch.setattr("sys.argv", ["batchsr", *words])
    assert _run(App()) in (2, 3, 65, 66, 74)
    said = capsys.readouterr()
    assert "s3" not in said.err + said.out
    assert said.err


@pytest.mark.parametrize("word", ["archive", "=/a", "archive=a", "1=/a"])
def test_a_named_root_that_is_none_is_refused(host: Host, word: str) -> None:
    assert "names no root" in host.run("list", "--named-root", word, code=2).err


def test_several_roots_are_told_apart_however_they_are_written_and_none_is_half_taken(host: Host) -> None:
    both = {"a": "/mnt/a", "b": "/mnt/b"}
    for text in ("a=/mnt/a:b=/mnt/b", "a=/mnt/a,b=/mnt/b", "a=/mnt/a; b=/mnt/b/"):
        assert roots.listed(text) == both
    assert roots.listed("a=/mnt/a:1987,x") == {"a": "/mnt/a:1987,x"}  # as a child gets it of --named-root
    for wrong, words in (("a=/mnt/a,b=mnt/b", "names no root"), ("a=/mnt/a:a=/mnt/b", "in two places")):
        assert words in host.run("list", environment={"BATCHSR_ROOTS": wrong}, code=2).err


@pytest.mark.parametrize("side", ["source", "output"])
def test_a_host_without_the_share_of_one_side_fails_no_file_and_puts_none_beside_it(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """Sources lie at the very top of theirs, whose bare mount point is an empty folder; the other's is not there."""
    monkeypatch.setattr("batchsr.cli.work.load_model", lambda *_, **__: rig.FastModel())
    host.run("fleet", "init")
    rig.record(tmp_path / "in" / "a.wav", 0.4)
    (tmp_path / "out").mkdir()
    (tmp_path / "bare").mkdir()
    there = {"source": tmp_path / "in", "output": tmp_path / "out"}
    words = {name: f"{name}={folder}" for name, folder in there.items()}
    named = {"BATCHSR_ROOTS": ":".join(words.values())}
    host.run("enqueue", tmp_path / "in" / "a.wav", "--out", tmp_path / "out", environment=named)
    wrong = words | {side: f"{side}={tmp_path / {'source': 'bare', 'output': 'nowhere'}[side]}"}
    host.run("work", "--wait-for-places", "0.2", environment={"BATCHSR_ROOTS": ":".join(wrong.values())}, code=None)
    assert not (tmp_path / "nowhere").exists()
    (job,) = host.run("list", "--json", environment=named).documents
    assert job["state"] == "queued"
    host.run("work", environment=named)
    assert (tmp_path / "out" / "a_upsampled.wav").exists()


def test_a_host_that_lacks_a_root_of_the_fleet_is_told_by_its_check(host: Host, tmp_path: Path) -> None:
    host.run("fleet", "init")
    rig.record(tmp_path / "in" / "a.wav", 0.4)
    named = {"BATCHSR_ROOTS": f"archive={tmp_path}"}
    host.run("enqueue", tmp_path / "in" / "a.wav", environment=named)
    assert "sound" in host.run("fleet", "check", environment=named).out
    roots.use({})
    assert "a root named archive" in host.run("fleet", "check", code=74).out


def test_an_empty_fleet_that_was_typed_is_no_queue_in_a_file(host: Host) -> None:
    for words in (("--fleet", "", "status"), ("status", "--fleet", "")):
        assert "URL of a PostgreSQL database" in host.run(*words, code=2, environment={"BATCHSR_FLEET": None}).err


def test_a_lease_that_cannot_be_had_is_not_passed_over(host: Host) -> None:
    host.run("fleet", "init", "--lease", "7")
    host.run("fleet", "init", "--lease", "7")
    host.run("fleet", "init")
    assert "is 7 s and stays" in host.run("fleet", "init", "--lease", "9", code=2).err


def test_a_folder_named_as_half_a_url_is_made_by_nobody(host: Host, tmp_path: Path) -> None:
    rig.record(tmp_path / "a.wav", 0.4)
    said = host.run("--db", tmp_path / "q.db", "enqueue", tmp_path / "a.wav", "--out", "s3:/bucket/out", code=2)
    assert "s3://" in said.err


def test_a_password_is_not_taken_from_a_command_line(host: Host) -> None:
    for words in (("status", "--fleet"), ("fleet", "init")):
        said = host.run(*words, "postgresql://me:secret@127.0.0.1:1/x", code=2)
        assert "PGPASSFILE" in said.err
        assert "secret" not in said.err


def test_what_is_for_a_file_alone_says_so_and_a_typed_file_counts_before_the_environment(
    host: Host, tmp_path: Path
) -> None:
    assert "a fleet is named" in host.run("db", "path", code=2).err
    assert host.run("--db", tmp_path / "q.db", "db", "path").out.strip() == str(tmp_path / "q.db")
    assert "two queues" in host.run("--db", tmp_path / "q.db", "status", "--fleet", "postgresql://x/y", code=2).err
    assert "URL of a PostgreSQL database" in host.run("status", "--fleet", "mysql://x/y", code=2).err


def test_a_dry_run_tells_and_writes_nothing(host: Host, tmp_path: Path) -> None:
    rig.record(tmp_path / "in" / "a.wav", 0.3)
    host.run("fleet", "init")
    assert "1 queued" in host.run("enqueue", "-r", tmp_path / "in", "--dry-run").err
    assert host.run("list", "--json").documents == []


# Two hosts at one output


@pytest.fixture
def queues(tmp_path: Path) -> Iterator[tuple[PostgresQueue, PostgresQueue]]:
    made = postgres.made(tmp_path / "one")
    with (
        PostgresQueue.connect(made, beat_s=0.0) as one,
        PostgresQueue.connect(dataclasses.replace(made, folder=tmp_path / "two"), beat_s=0.0) as two,
    ):
        yield one, two
        assert one.check() == []


def take_away(queue: PostgresQueue) -> None:
    """Let the jobs in hand go back, as if their worker's lease were over."""
    with queue._pg.writing() as db:
        db.execute("UPDATE attempts SET ended_at = seen_at, outcome = 'crash' WHERE ended_at IS NULL")
        db.execute("UPDATE jobs SET state = 'queued', worker = NULL, changed_at = 1 WHERE worker IS NOT NULL")


def work(queue: PostgresQueue, model: rig.FastModel | None = None, options: WorkerOptions = rig.OPTIONS) -> rig.Told:
    told = rig.Told()
    run(queue, lambda: model or rig.FastModel(), options, told)
    return told


class Quieter(rig.FastModel):
    """Gives other bytes, as another kind of device may."""

    gain = np.float32(0.5)

    def windows(self, timestep: int, seed: int) -> Any:
        window = super().windows(timestep, seed)
        return lambda x, indices: window(self.gain * x, indices)


class Quietest(Quieter):
    gain = np.float32(0.25)


def paired(output: Path) -> bool:
    """Whether a sidecar speaks of the very output that it stands beside."""
    said = json.loads(sidecar_path(output).read_text())
    return bool(said["output"]["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    "wakes", ["before the other begins", "when the other has committed too", "after the other is done"]
)
def test_a_host_that_wakes_between_commit_and_name_leaves_one_output_with_its_own_record(
    queues: tuple[PostgresQueue, PostgresQueue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wakes: str
) -> None:
    slow, other = queues
    rig.record(tmp_path / "in" / "a.wav", 0.4)
    list(slow.enqueue(rig.jobs_for([tmp_path / "in" / "a.wav"], tmp_path / "out")))
    whole = publishing.publish
    published = []

    def asleep(output: Any, record: Any, **more: Any) -> None:
        """The slow host commits, and loses its claim; the other has it in the meantime."""
        monkeypatch.setattr(publishing, "publish", whole)
        take_away(slow)
        if wakes == "after the other is done":
            work(other, model=Quieter())
        published.append(wakes)
        if wakes == "when the other has committed too":

            def second(other_output: Any, other_record: Any, **others: Any) -> None:
                whole(output, record, **more)
                whole(other_output, other_record, **others)

            monkeypatch.setattr(publishing, "publish", second)
            work(other, model=Quieter())
            raise ClaimLost("it finds that out when it writes that it is done")
        whole(output, record, **more)

    monkeypatch.setattr(publishing, "publish", asleep)
    work(slow, options=dataclasses.replace(rig.OPTIONS, limit=1))  # it shall not claim the file again itself
    work(other, model=Quieter())
    (job,) = slow.jobs()
    output = Path(job.output)
    assert published == [wakes]
    assert job.state is State.DONE, (job.error_code, job.error)
    assert job.output_sha256 == hashlib.sha256(output.read_bytes()).hexdigest()
    assert paired(output)
    assert [event["new"] for event in slow.events(job.id)].count("done") == 1


def test_a_share_without_hard_links_is_refused_before_any_work(
    queues: tuple[PostgresQueue, PostgresQueue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = queues
    rig.record(tmp_path / "in" / "a.wav", 0.4)
    (tmp_path / "fat").mkdir()
    list(one.enqueue(rig.jobs_for([tmp_path / "in" / "a.wav"], tmp_path / "fat")))

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    work(one)
    (job,) = one.jobs()
    assert job.state is State.FAILED
    assert "without hard links" in str(job.error)
    assert list((tmp_path / "fat").iterdir()) == []


def test_a_whole_restoration_on_a_fleet_gives_the_bytes_that_one_in_a_file_gives(
    queues: tuple[PostgresQueue, PostgresQueue], tmp_path: Path
) -> None:
    one, _ = queues
    source = rig.record(tmp_path / "in" / "a.wav", 0.4)
    list(one.enqueue(rig.jobs_for([source], tmp_path / "out")))
    work(one)
    (job,) = one.jobs()
    db = tmp_path / "queue.db"
    rig.enqueue(db, [source], tmp_path / "alone")
    rig.work(db)
    alone = Path(rig.job_of(db, 1).output)
    assert Path(job.output).read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("lost", ["sidecar and record", "record"])
def test_outputs_of_after_a_backup_that_was_restored_are_adopted_and_not_made_again(
    queues: tuple[PostgresQueue, PostgresQueue], tmp_path: Path, lost: str
) -> None:
    queue, _ = queues
    sources = [rig.record(tmp_path / "in" / f"{n}.wav", 0.3, seed=n) for n in range(2)]
    list(queue.enqueue(rig.jobs_for(sources, tmp_path / "out")))
    backup = postgres.Backup(queue)
    work(queue)
    made = {job.output: (job.output_sha256, os.stat(job.output).st_mtime_ns) for job in queue.jobs()}
    backup.restore()
    assert queue.counts()["queued"] == 2
    assert queue.raise_claims() == 0
    if lost == "sidecar and record":
        first = next(iter(made))
        sidecar_path(Path(first)).unlink()

    class NoModel(rig.FastModel):
        def windows(self, timestep: int, seed: int) -> Any:
            raise AssertionError("a window was computed again")

    work(queue, model=NoModel())
    for job in queue.jobs():
        digest, mtime_ns = made[job.output]
        assert os.stat(job.output).st_mtime_ns == mtime_ns, "no output was touched"
        if lost == "sidecar and record" and job.output == first:
            assert (job.state, job.error_code) == ("failed", "output.exists")
        else:
            assert (job.state, job.output_sha256) == ("done", digest)
    assert queue.check() == []


OVER_EACH_OTHER = [
    "before it looks",
    "after it looked",
    "after it looked, and dies",
    "between its two names, the other adopts it",
    "between its two names, between which the other has both of its own",
    "between its two names, between which the other has both of its own, and dies",
    "after it looked, the job has other settings by now",
    "after it looked, the other is about to replace its output",
]


@pytest.mark.parametrize("sleeps", OVER_EACH_OTHER)
def test_two_hosts_that_overwrite_one_output_leave_it_with_its_own_record_and_sidecar(
    queues: tuple[PostgresQueue, PostgresQueue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeps: str
) -> None:
    slow, other = queues
    rig.record(tmp_path / "in" / "a.wav", 0.4)
    list(slow.enqueue(rig.jobs_for([tmp_path / "in" / "a.wav"], tmp_path / "out", overwrite=True)))
    work(slow, model=Quietest())
    slow.retry([1], redo=True)
    monkeypatch.setattr(temporary, "_FOLDER_LOCK_S", 0.01)  # the sleeping host may hold it
    publish, take_name = publishing.publish, Temporary.take_name
    slept: list[str] = []
    about_to: list[Callable[[], None]] = []

    def other_has_it() -> None:
        slept.append(sleeps)
        take_away(slow)
        if "other settings" in sleeps:
            slow._pg.rows("UPDATE jobs SET settings = ? RETURNING 1", (Settings(seed=7).to_json(),))
        work(other, model=Quieter())

    def first(output: Any, record: Any, **more: Any) -> None:
        if sleeps == "before it looks" and not slept:
            other_has_it()
        publish(output, record, **more)

    def named(self: Temporary, *, overwrite: bool) -> None:
        is_output = self.final.suffix != ".json"
        if about_to and is_output:
            about_to.pop()()  # the other's output is about to get its name: the slow one's gets it first
        elif not slept and is_output and ("the other is about" in sleeps or "between which" in sleeps):
            about_to.append(lambda: take_name(self, overwrite=True))
            other_has_it()
            if "between which" in sleeps:
                return
            raise ClaimLost("what was its output is replaced")
        elif not slept and sleeps.startswith("after it looked" if is_output else "between its two names"):
            other_has_it()
        take_name(self, overwrite=overwrite)

    monkeypatch.setattr(publishing, "publish", first)
    monkeypatch.setattr(Temporary, "take_name", named)
    if sleeps.endswith("dies"):
        monkeypatch.setattr("batchsr.worker.attempt.Attempt.agree", lambda self: None)
    work(slow, options=dataclasses.replace(rig.OPTIONS, limit=1))
    assert slept == [sleeps]
    (job,) = slow.jobs()
    if sleeps.endswith("dies"):
        assert not (job.output_sha256 == storage.sha256(Path(job.output)) and paired(Path(job.output)))
        assert [verdict.verdict for verdict in maintenance.verify(slow)] == ["ok"]
    elif "other settings" in sleeps:
        work(other)  # if it was not done anew by the first already
        assert [event["old"] for event in slow.events(job.id)].count("done") == 2, "as often as it was redone"
    (job,) = slow.jobs()
    output = Path(job.output)
    assert job.state is State.DONE, (job.error_code, job.error)
    assert job.output_sha256 == hashlib.sha256(output.read_bytes()).hexdigest()
    assert job.output_bytes == output.stat().st_size
    assert paired(output)
    said = json.loads(sidecar_path(output).read_text())
    assert said["settings_sha256"] == Settings.from_json(job.settings).digest()
    assert [(verdict.verdict, verdict.detail) for verdict in maintenance.verify(slow)] == [("ok", "")]
    assert [path for path in output.parent.iterdir() if path.name.startswith(".batchsr-")] == []


def test_verify_leaves_an_output_alone_that_no_host_made(
    queues: tuple[PostgresQueue, PostgresQueue], tmp_path: Path
) -> None:
    one, _ = queues
    list(one.enqueue(rig.jobs_for([rig.record(tmp_path / "in" / "a.wav", 0.4)], tmp_path / "out", overwrite=True)))
    work(one)
    (before,) = one.jobs()
    Path(before.output).write_bytes(b"somebody's")
    (verdict,) = maintenance.verify(one)
    assert verdict.verdict in ("changed", "truncated")
    (after,) = one.jobs()
    assert (after.state, after.output_sha256) == (State.DONE, before.output_sha256)
    assert Path(before.output).read_bytes() == b"somebody's"


# A share that is away on one host


@pytest.mark.parametrize("side", ["source", "output"])
def test_a_share_that_is_away_on_one_host_pauses_that_host_and_holds_no_file_until_it_is_back(
    queues: tuple[PostgresQueue, PostgresQueue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    poor, well = queues
    share, beside = tmp_path / "mnt" / "share", tmp_path / "local"
    sources = [rig.record((share if side == "source" else beside) / "in" / f"{n}.wav", 0.3, seed=n) for n in range(4)]
    out = (share if side == "output" else beside) / "out"
    out.mkdir(parents=True, exist_ok=True)
    roots.use({"restored": str(share)} if side == "output" else {})
    list(poor.enqueue(rig.jobs_for(sources, out)))
    monkeypatch.setattr("platform.node", lambda: "well")
    at_work = well.join()  # its other files take it a while
    monkeypatch.setattr("platform.node", lambda: "poor")
    away = share.rename(share.with_name("away"))
    told = rig.Told()
    held: list[int] = []
    waits: list[float] = []

    def looked(queue: PostgresQueue) -> None:
        held.append(len(queue.places("fast")))

    whole_wait = Stop.wait

    def wait(self: Stop, seconds: float) -> None:
        """After some looks in vain the share comes back."""
        looked(well)
        waits.append(seconds)
        if len(waits) == 4:
            assert {one["name"]: one["paused_kind"] for one in well.status()["hosts"]} == {
                "poor": "source" if side == "source" else "resource",
                "well": None,
            }
            assert well.paused() is not None, "both tests' hosts have this machine's name now"
            assert all(job.attempts == 0 for job in well.jobs())
            away.rename(share)
        whole_wait(self, min(seconds, 0.01))

    monkeypatch.setattr(Stop, "wait", wait)
    run(poor, lambda: rig.FastModel(), rig.OPTIONS, told)
    at_work.leave()
    assert set(held) == {0}, "no file was held for all hosts"
    assert [job.state for job in poor.jobs()] == [State.DONE] * 4
    assert well.paused() is None
    assert [line for line in told.said if line.startswith("paused")] == [
        line for line in told.said if "on this host alone" in line
    ]
    assert told.said.count("resumed") == 1


def test_a_place_that_every_host_lacks_is_held_and_they_go_on_with_other_files(
    queues: tuple[PostgresQueue, PostgresQueue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = queues
    share = tmp_path / "mnt" / "share"
    lost = [rig.record(share / "in" / f"{n}.wav", 0.3, seed=n) for n in range(3)]
    there = [rig.record(tmp_path / "local" / f"{n}.wav", 0.3, seed=n) for n in range(2)]
    list(one.enqueue(rig.jobs_for([*lost, *there], tmp_path / "out")))
    shutil.move(share, tmp_path / "away")
    trouble = diagnosis.source_trouble(next(iter(one.jobs())))
    assert trouble is not None
    workers = []
    for name, queue in zip(("first", "second"), queues, strict=True):
        monkeypatch.setattr("platform.node", lambda name=name: name)
        workers.append(queue.join())
    for name, queue, worker in zip(("first", "second"), queues, workers, strict=True):
        monkeypatch.setattr("platform.node", lambda name=name: name)
        job = queue.claim(worker, rig.BACKEND)
        assert job is not None
        queue.hold(job, trouble)
        assert (queue.paused() is not None, len(queue.places("fast"))) == ((True, 0) if name == "first" else (False, 1))
    assert {host["name"]: host["paused"] for host in one.status()["hosts"]} == {"first": False, "second": False}
    for worker in workers:
        worker.leave()
    options = dataclasses.replace(rig.OPTIONS, wait_for_places_s=0.05)
    work(one, options=options)
    assert [job.state for job in one.jobs()] == [State.QUEUED] * 3 + [State.DONE] * 2
    shutil.move(tmp_path / "away", share)
    work(two, options=options)
    assert [job.state for job in one.jobs()] == [State.DONE] * 5
    assert all(job.attempts == 1 for job in one.jobs())


def test_a_mount_point_on_which_nothing_is_mounted_is_away_and_a_folder_beside_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my share" / "in").mkdir(parents=True)
    table = tmp_path / "fstab"
    place = str(tmp_path / "my share").replace(" ", "\\040")
    table.write_text(f"# comment\nserver:/x {place} nfs hard 0 0\nproc /proc proc defaults\nnone none swap sw\n")
    monkeypatch.setattr(shares, "TABLE", table)
    below = str(tmp_path / "my share" / "in" / "a.wav")
    assert shares.away_above(below, empty_is_away=False) == str(tmp_path / "my share")
    assert shares.away_above(str(tmp_path / "other" / "a.wav"), empty_is_away=True) is None
    assert shares.away_above("/proc/self/status", empty_is_away=True) is None
