"""What a queue of many hosts promises beyond the contract that every queue keeps (the other tests of this folder)."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import re
import threading
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgres
import psycopg
import pytest
import rig

from batchsr.errors import ClaimLost, QueueAway, QueueError, QueueVersion, UsageError
from batchsr.queue import Job, NewJob, Result, State
from batchsr.queue.postgres import alive, api, dialect, functions, schema
from batchsr.queue.postgres import place as places
from batchsr.queue.postgres.api import PostgresQueue
from batchsr.queue.postgres.place import FleetPlace
from batchsr.queue.postgres.store import PgStore
from batchsr.queue.sqlite import reaper
from batchsr.queue.sqlite.api import SqliteQueue


def new(name: str, **more: object) -> NewJob:
    return dataclasses.replace(
        NewJob(f"/a/{name}.wav", f"/a/{name}_up.wav", f"/a/{name}_up2.wav", name, "{}"),
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def place(tmp_path: Path) -> FleetPlace:
    return postgres.made(tmp_path / "one")


@pytest.fixture
def one(place: FleetPlace) -> Iterator[PostgresQueue]:
    with PostgresQueue.connect(place, beat_s=0.0) as queue:
        yield queue


@pytest.fixture
def other(place: FleetPlace, tmp_path: Path) -> Iterator[PostgresQueue]:
    """The same queue from a host with a disk of its own."""
    with PostgresQueue.connect(dataclasses.replace(place, folder=tmp_path / "two"), beat_s=0.0) as queue:
        yield queue


def silence(queue: PostgresQueue, worker: str, seconds: float) -> None:
    """Let a worker's last sign of life be so old."""
    queue._pg.rows("UPDATE workers SET seen_at = seen_at - ? WHERE id = ? RETURNING 1", (seconds, worker))


def due(queue: PostgresQueue) -> None:
    """Let the next sweep be due, and this host be heard and the server up for longer than a lease."""
    queue._swept_s -= 1e6
    for worker in queue._workers.values():
        worker.heartbeat._healthy_since_s = -1e6


@pytest.fixture
def up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has been up for long."""
    is_up_for(monkeypatch, 1e6)


@pytest.fixture
def just_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has come up a moment ago."""
    is_up_for(monkeypatch, 5.0)


def is_up_for(monkeypatch: pytest.MonkeyPatch, up_s: float) -> None:
    whole = PgStore.rows

    def rows(store: PgStore, sql: str, parameters: object = ()) -> list[dict[str, object]]:
        found = whole(store, sql, parameters)  # type: ignore[arg-type]
        return [row | {"up_s": up_s} if "up_s" in row else row for row in found]

    monkeypatch.setattr(PgStore, "rows", rows)


@pytest.mark.usefixtures("up")
def test_the_files_of_a_silent_host_go_to_another_and_its_late_writes_count_for_nothing(
    one: PostgresQueue, other: PostgresQueue
) -> None:
    list(one.enqueue([new("x")]))
    lost, finder = one.join(), other.join()
    job = one.claim(lost, rig.BACKEND)
    assert job is not None
    due(other)
    assert other.reap() == []  # it is silent for less than a lease
    silence(other, lost.name, 301)
    due(other)
    assert [taken.state for taken in other.reap()] == [State.QUEUED]
    again = other.claim(finder, rig.BACKEND)
    assert again is not None
    assert (again.id, again.claim_seq) == (job.id, job.claim_seq + 1)
    for late in (
        lambda: one.progress(job, 1, 2),
        lambda: one.committing(job, Result("0" * 64, 1)),
        lambda: one.fail(job, "x", "y"),
        lambda: one.release(job),
    ):
        with pytest.raises(ClaimLost):
            late()
    with pytest.raises(ClaimLost):
        one.claim(lost, rig.BACKEND)
    assert other.check() == []
    lost.leave()
    finder.leave()


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize("unheard", ["no worker here", "not heard for a lease"])
def test_nobody_takes_from_a_silent_host_who_was_not_heard_himself(
    one: PostgresQueue, other: PostgresQueue, unheard: str
) -> None:
    list(one.enqueue([new("x")]))
    lost = one.join()
    assert one.claim(lost, rig.BACKEND) is not None
    silence(other, lost.name, 10_000)
    if unheard == "not heard for a lease":
        other.join()
    other._swept_s -= 1e6
    assert other.reap() == []
    due(other)
    if other._workers:
        assert len(other.reap()) == 1


@pytest.mark.usefixtures("just_up")
def test_a_server_that_has_just_come_up_makes_nobody_dead(one: PostgresQueue, other: PostgresQueue) -> None:
    list(one.enqueue([new("x")]))
    lost = one.join()
    assert one.claim(lost, rig.BACKEND) is not None
    other.join()
    silence(other, lost.name, 10_000)
    due(other)
    assert other.reap() == []


@pytest.mark.usefixtures("up")
def test_where_most_hosts_look_dead_a_second_lease_must_pass(place: FleetPlace, tmp_path: Path) -> None:
    hosts = [PostgresQueue.connect(dataclasses.replace(place, folder=tmp_path / str(n)), beat_s=0.0) for n in range(4)]
    workers = [host.join() for host in hosts]
    for worker in workers[1:]:
        silence(hosts[0], worker.name, 301)
    home = alive.home_of(hosts[0].workers_folder)
    assert alive.silent(hosts[0]._pg, home, 300.0, 1e6) == []
    for worker in workers[1:]:
        silence(hosts[0], worker.name, 300)
    assert len(alive.silent(hosts[0]._pg, home, 300.0, 1e6)) == 3
    for host, worker in zip(hosts, workers, strict=True):
        worker.leave()
        host.close()


def test_a_sign_of_life_finds_what_was_lost_and_the_next_window_stops(one: PostgresQueue) -> None:
    list(one.enqueue([new("x"), new("y")]))
    worker = one.join()
    x, y = one.claim(worker, rig.BACKEND), one.claim(worker, rig.BACKEND)
    assert x is not None
    assert y is not None
    one.windows.beat_s = 1e6  # from now on nothing is written for a window
    for job in (x, y):
        one.progress(job, 0, 9)
        one.progress(job, 1, 9)
    one.cancel([x.id])
    one.progress(x, 2, 9)
    worker.heartbeat.beat()
    with pytest.raises(ClaimLost):
        one.progress(x, 3, 9)
    one.progress(y, 3, 9)
    worker.leave()


def test_windows_are_written_with_the_signs_of_life_those_of_all_files_in_one_message(one: PostgresQueue) -> None:
    list(one.enqueue([new("x"), new("y"), new("z")]))
    worker = one.join()
    x, y, z = (one.claim(worker, rig.BACKEND) for _ in range(3))
    assert x is not None
    assert y is not None
    assert z is not None
    one.windows.beat_s = 1e6
    for done in range(6):
        one.progress(x, done, 5)
        one.progress(y, 1 + done, 8)
    assert [job.windows_done for job in one.jobs()] == [0, 0, 0]
    worker.heartbeat.beat()
    assert [job.windows_done for job in one.jobs()] == [5, 6, 0]
    assert [(a["windows_start"], a["windows_done"]) for n in (1, 2) for a in one.attempts(n)] == [(0, 5), (1, 6)]
    one.progress(y, 7, 8)
    one.committing(y, Result("0" * 64, 1, windows_total=8))  # what no sign of life has told yet is told now
    assert one.attempts(2)[0]["windows_done"] == 7
    one.windows.beat_s = 1e-6  # the first windows of a file do not wait for the next sign of life
    one.progress(z, 3, 9)
    one.progress(z, 4, 9)
    now = one.get(3)
    assert now is not None
    assert now.windows_done == 4
    worker.leave()


def test_whose_a_file_is_can_be_told_by_its_hash_whatever_became_of_the_claim(one: PostgresQueue) -> None:
    list(one.enqueue([new("x")]))
    worker = one.join()
    first = one.claim(worker, rig.BACKEND)
    assert first is not None
    mine = Result("a" * 64, 7, report={"a": [1]})
    one.committing(first, mine)
    one.release(first)
    second = one.claim(worker, rig.BACKEND)
    assert second is not None
    one.committing(second, Result("b" * 64, 8))
    assert one.standing(second, lambda: "a" * 64) == mine
    assert one.standing(second, lambda: "c" * 64) is None
    one.finish(second)
    assert one._pg.rows("SELECT 1 FROM intents") == []
    worker.leave()


class Drops:
    """Breaks the connection of a queue at a statement, before or after the server has done it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: PgStore, at: str, *, after: bool) -> None:
        whole = psycopg.Connection.execute
        self.left = 1

        def execute(connection: psycopg.Connection[object], query: object, *rest: object, **more: object) -> object:
            if self.left and connection is store._connection and re.search(at, str(query)):
                self.left -= 1
                if after:
                    whole(connection, query, *rest, **more)  # type: ignore[arg-type]
                connection.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            return whole(connection, query, *rest, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(psycopg.Connection, "execute", execute)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("verb", ["committing", "finish", "fail", "release"])
def test_a_commit_whose_answer_is_lost_is_done_once_and_told_so(
    one: PostgresQueue, monkeypatch: pytest.MonkeyPatch, verb: str, after: bool
) -> None:
    list(one.enqueue([new("x")]))
    worker = one.join()
    job = one.claim(worker, rig.BACKEND)
    assert job is not None
    if verb == "finish":
        one.committing(job, Result("a" * 64, 7))
    drops = Drops(monkeypatch, one._pg, r"COMMIT|_job\(", after=after)
    if verb == "committing":
        one.committing(job, Result("a" * 64, 7))
    else:
        arguments = ("x", "y") if verb == "fail" else ()
        getattr(one, verb)(job, *arguments)
    assert drops.left == 0
    now = one.get(job.id)
    assert now is not None
    wanted = {"committing": "committing", "finish": "done", "fail": "failed", "release": "queued"}
    assert now.state == wanted[verb]
    assert [event["new"] for event in one.events(job.id)].count(wanted[verb]) == (2 if verb == "release" else 1)
    one.release(job) if verb == "committing" else None
    assert one.check() == []
    worker.leave()


def test_a_claim_whose_answer_is_lost_is_found_again(one: PostgresQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    list(one.enqueue([new("x"), new("y")]))
    worker = one.join()
    Drops(monkeypatch, one._pg, r"claim_job\(", after=True)
    with pytest.raises(QueueAway) as found:
        one.claim(worker, rig.BACKEND)
    assert found.value.in_doubt
    first, second = one.claim(worker, rig.BACKEND), one.claim(worker, rig.BACKEND)
    assert first is not None
    assert second is not None
    assert [first.id, second.id] == [1, 2]
    assert one.claim(worker, rig.BACKEND) is None
    worker.leave()


def test_a_connection_that_the_server_closed_while_it_was_idle_is_opened_anew(one: PostgresQueue) -> None:
    assert one.counts()["queued"] == 0
    with psycopg.connect(one._pg.place.url, autocommit=True) as killer:
        killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'batchsr' AND pid <> %s",
            (killer.info.backend_pid,),
        )
    list(one.enqueue([new("x")]))
    assert one.counts()["queued"] == 1
    one._pg.close_if_idle(-1.0)
    assert one._pg._connection is None
    assert one.counts()["queued"] == 1


def test_two_hosts_never_claim_one_job(one: PostgresQueue, other: PostgresQueue) -> None:
    list(one.enqueue(new(str(number)) for number in range(40)))
    got: list[int] = []

    def drain(queue: PostgresQueue) -> None:
        with queue.join() as worker:
            while (job := queue.claim(worker, rig.BACKEND)) is not None:
                got.append(job.id)
                queue.fail(job, "x", "y")

    threads = [threading.Thread(target=drain, args=(queue,)) for queue in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(1, 41))
    assert one.check() == []


def test_init_is_done_once_and_older_and_newer_tables_are_told_apart(place: FleetPlace, tmp_path: Path) -> None:
    assert not api.initialise(place)
    assert api.migrate(place) == (schema.VERSION, schema.VERSION)
    with PostgresQueue.connect(place) as queue:
        identity = queue.own_id
        queue._pg.rows("UPDATE meta SET version = version + 1 RETURNING 1")
    with pytest.raises(QueueVersion, match="newer batchsr"):
        PostgresQueue.connect(place)
    with pytest.raises(QueueVersion, match="newer batchsr"):
        api.migrate(place)
    with pytest.raises(QueueError, match="fleet init"):
        PostgresQueue.connect(postgres.place(tmp_path))
    assert len(identity) == 36


@pytest.mark.parametrize("table", ["meta (x int)", "jobs (x int)"])
def test_a_schema_of_others_is_left_as_it_is_and_told(tmp_path: Path, table: str) -> None:
    theirs = postgres.place(tmp_path)
    with psycopg.connect(theirs.url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{theirs.schema}"')
        connection.execute(f'CREATE TABLE "{theirs.schema}".{table}')
    with pytest.raises(QueueError, match="tables that are no fleet's"):
        api.initialise(theirs)


def test_who_may_not_look_is_told_so_and_not_to_make_a_queue(place: FleetPlace) -> None:
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute("DO $$ BEGIN CREATE ROLE batchsr_nobody LOGIN; EXCEPTION WHEN others THEN NULL; END $$")
    url = re.sub(r"//([^@/]*@)?", "//batchsr_nobody@", place.url, count=1)
    with pytest.raises(QueueError, match="may not use the schema"):
        PostgresQueue.connect(dataclasses.replace(place, url=url))


def test_a_word_of_the_url_that_the_library_refuses_is_no_server_that_is_away(tmp_path: Path) -> None:
    for wrong in ("127.0.0.1:99999/x", "127.0.0.1:1/x?sslmode=quux"):
        with pytest.raises(QueueError, match="invalid") as caught:
            PostgresQueue.connect(FleetPlace(f"postgresql://me@{wrong}", tmp_path))
        assert caught.value.code == "queue"


def test_after_a_backup_was_restored_no_claim_of_before_counts(one: PostgresQueue) -> None:
    list(one.enqueue([new("x")]))
    worker = one.join()
    job = one.claim(worker, rig.BACKEND)
    assert job is not None
    assert one.raise_claims() == 1
    with pytest.raises(ClaimLost):
        one.committing(job, Result("a" * 64, 7))
    second = one.join()
    again = one.claim(second, rig.BACKEND)
    assert again is not None
    assert again.claim_seq > job.claim_seq + 1_000_000 - 1
    assert one.check() == []
    second.leave()
    worker.leave()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s%40cret@db.example.org:5432/fleet?sslmode=require",
        "postgresql://me@db.example.org:5432/fleet?sslmode=require&password=s%40cret",
    ],
)
def test_a_password_is_shown_to_nobody(url: str, tmp_path: Path) -> None:
    place = FleetPlace(url, tmp_path)
    assert "cret" not in place.shown
    assert "cret" not in repr(place)
    assert "db.example.org:5432/fleet" in place.shown
    assert "cret" not in place.cleaned("it said s%40cret and s@cret")
    with pytest.raises(UsageError) as found:
        places.checked(url.replace("postgresql", "mysql"))
    assert "cret" not in str(found.value)


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    place = FleetPlace("postgresql://me:secret@127.0.0.1:1/fleet", tmp_path)
    with pytest.raises(QueueAway) as found:
        PostgresQueue.connect(place)
    assert "127.0.0.1:1" in str(found.value)
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    ("sqlite", "postgresql"),
    [
        ("SELECT max(a) FROM jobs INDEXED BY jobs_ready WHERE 1", "SELECT max(a) FROM jobs  WHERE true"),
        (
            "a IS :a AND b IS NOT ? AND c IS NOT NULL",
            "a IS NOT DISTINCT FROM %(a)s AND b IS DISTINCT FROM %s AND c IS NOT NULL",
        ),
        ("iif(instr(a, '?:x%'), 1, 2)", "CASE WHEN (strpos(a, '?:x%%') > 0) THEN 1 ELSE 2 END"),
        (
            "state IN (SELECT value FROM json_each(?))",
            "state = ANY(ARRAY(SELECT jsonb_array_elements_text(%s::jsonb)))",
        ),
    ],
)
def test_a_statement_is_said_in_the_other_dialect(sqlite: str, postgresql: str) -> None:
    assert dialect.translated(sqlite) == postgresql


def test_an_identity_of_several_parts_comes_back_as_it_was(one: PostgresQueue) -> None:
    job_wanted = new("x", identity="/a/x.wav\x001\x002", overwrite=True)
    (first,) = one.enqueue([job_wanted])
    (again,) = one.enqueue([dataclasses.replace(job_wanted, settings='{"seed": 1}')])
    job = one.get(1)
    assert job is not None
    assert job.identity == job_wanted.identity
    assert (str(first.outcome), str(again.outcome)) == ("queued", "other settings")


def test_the_hash_of_a_file_is_asked_for_only_where_something_was_about_to_be_published(one: PostgresQueue) -> None:
    list(one.enqueue([new("x")]))
    job = one.get(1)
    assert job is not None

    def hashed() -> str:
        raise AssertionError(hashlib.sha256.__name__)

    assert one.standing(job, hashed) is None


def test_many_hosts_at_once_do_each_file_once_in_about_the_order_of_priorities(
    place: FleetPlace, tmp_path: Path
) -> None:
    with PostgresQueue.connect(place, beat_s=0.0) as queue:
        variants = (rig.BACKEND.variant, None)
        list(queue.enqueue(new(str(n), priority=n % 3, variant=variants[n % 2]) for n in range(90)))
    claimed: list[Job] = []
    start = threading.Barrier(9)

    def host(number: int) -> None:
        own = dataclasses.replace(place, folder=tmp_path / f"host{number}")
        with PostgresQueue.connect(own, beat_s=0.0) as queue, queue.join() as worker:
            start.wait(60)
            while (job := queue.claim(worker, rig.BACKEND)) is not None:
                claimed.append(job)
                if job.id % 10 == 0 and job.claim_seq == 1:
                    queue.release(job)
                    continue
                if job.id % 10 == 1 and job.claim_seq == 1:
                    queue.fail(job, "x", "y", lambda failures: 0.0)
                    continue
                queue.progress(job, 0, 2)
                queue.committing(job, Result("0" * 64, 1, windows_total=2))
                with pytest.raises(ClaimLost):
                    queue.finish(dataclasses.replace(job, claim_seq=job.claim_seq - 1))
                queue.finish(job)

    def person() -> None:
        """New files and wide changes in the middle of it."""
        own = dataclasses.replace(place, folder=tmp_path / "person")
        with PostgresQueue.connect(own, beat_s=0.0) as queue:
            start.wait(60)
            for number in range(91, 101):
                list(queue.enqueue([new(str(number))]))
                queue.retry()
                queue.edit([number], priority=0)
                with queue.keep_still():
                    assert queue.in_flight() == queue.in_flight()

    with concurrent.futures.ThreadPoolExecutor(9) as threads:
        for future in [*(threads.submit(host, number) for number in range(8)), threads.submit(person)]:
            future.result(120)
    with PostgresQueue.connect(place, beat_s=0.0) as queue, queue.join() as worker:
        while (job := queue.claim(worker, rig.BACKEND)) is not None:  # taken in after the last host had left
            queue.committing(job, Result("0" * 64, 1))
            queue.finish(job)
        assert queue.counts()["done"] == 100
        assert queue.check() == []
    assert len({(job.id, job.claim_seq) for job in claimed}) == len(claimed)
    firsts = [job.priority for job in claimed if job.claim_seq == 1 and job.id <= 90]
    assert sum(firsts[:30]) > 50, "the thirty that are claimed first are the most urgent, nearly"
    assert sum(firsts[60:]) < 10, "the thirty that are claimed last are the least urgent, nearly"


def test_a_claim_goes_by_its_index_however_long_the_queue_is(one: PostgresQueue) -> None:
    list(one.enqueue(new(str(n), variant="other" if n < 300 else None) for n in range(600)))
    one._pg.rows("ANALYZE jobs")
    for which in ("variant IS NULL", f"variant = '{rig.BACKEND.variant}'"):
        (plan,) = one._pg.rows(
            "EXPLAIN (ANALYZE, FORMAT JSON) SELECT id FROM jobs WHERE state = 'queued' AND held IS NULL AND "
            f"{which} ORDER BY variant, -priority, id LIMIT 1 FOR UPDATE SKIP LOCKED"
        )
        said = str(plan["QUERY PLAN"])
        assert "ORDER BY variant, -priority, id LIMIT 1 FOR UPDATE SKIP LOCKED" in functions.FUNCTIONS
        assert "jobs_ready_variant" in said
        assert "Sort" not in said
        assert not re.search(r"Rows Removed by Filter': [1-9]", said)
    worker = one.join()
    job = one.claim(worker, rig.BACKEND)
    assert job is not None
    assert job.id == 301  # those of another variant before it were passed by without being looked at
    worker.leave()


@pytest.mark.usefixtures("up")
def test_a_worker_that_wakes_while_it_is_ended_claims_before_or_not_at_all(
    one: PostgresQueue, other: PostgresQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(one.enqueue([new("x"), new("y")]))
    lost, finder = one.join(), other.join()
    assert one.claim(lost, rig.BACKEND) is not None
    silence(other, lost.name, 301)
    due(other)
    whole, woken = reaper._requeue, []

    def requeue(*arguments: Any, **more: Any) -> Any:
        taken = whole(*arguments, **more)
        if not woken:
            woken.append(one.claim(lost, rig.BACKEND))  # between what is taken from it and its end
        return taken

    monkeypatch.setattr(reaper, "_requeue", requeue)
    taken = other.reap()
    assert len(taken) == 2
    assert woken[0] is not None
    assert other.in_flight() == []
    with pytest.raises(ClaimLost):
        one.claim(lost, rig.BACKEND)
    lost.leave()
    finder.leave()
    assert other.check() == []


def test_a_host_of_the_version_before_works_beside_one_of_this(one: PostgresQueue, other: PostgresQueue) -> None:
    """What the last release did with the tables of this one: its statements, each write alone in the fleet."""
    list(one.enqueue(new(str(number)) for number in range(20)))
    one._pg.writing_one = one._pg.taking_in = one._pg.writing  # type: ignore[method-assign]
    done: list[int] = []

    def older() -> None:
        with one.join() as worker:
            while (job := SqliteQueue.claim(one, worker, rig.BACKEND)) is not None:
                SqliteQueue.progress(one, job, 1, 2)
                SqliteQueue.committing(one, job, Result("0" * 64, 1))
                SqliteQueue.finish(one, job)
                done.append(job.id)

    def newer() -> None:
        with other.join() as worker:
            while (job := other.claim(worker, rig.BACKEND)) is not None:
                other.progress(job, 1, 2)
                other.committing(job, Result("0" * 64, 1))
                other.finish(job)
                done.append(job.id)

    threads = [threading.Thread(target=act) for act in (older, newer)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(1, 21))
    assert one.check() == []


def test_tables_of_the_first_version_are_brought_to_this_one_with_what_they_hold(tmp_path: Path) -> None:
    with (
        unittest.mock.patch.object(schema, "VERSIONS", schema.VERSIONS[:1]),
        unittest.mock.patch.object(schema, "VERSION", 1),
    ):
        old = postgres.made(tmp_path)
        with PostgresQueue.connect(old, beat_s=0.0) as queue:
            list(queue.enqueue([new("x"), new("y")]))
            in_hand = SqliteQueue.claim(queue, queue.join(), rig.BACKEND)
            assert in_hand is not None
    with pytest.raises(QueueVersion, match="fleet migrate"):
        PostgresQueue.connect(old)
    assert api.migrate(old) == (1, schema.VERSION)
    with PostgresQueue.connect(old, beat_s=0.0) as queue:
        assert [str(job.state) for job in queue.jobs()] == ["running", "queued"]
        queue.committing(in_hand, Result("0" * 64, 1))
        queue.finish(in_hand)
        with queue.join() as worker:
            job = queue.claim(worker, rig.BACKEND)
            assert job is not None
            queue.release(job)
        assert queue.check() == []


@pytest.mark.parametrize("checked", [False, True])
def test_a_claim_that_a_restored_backup_gives_again_lets_only_the_one_through_that_has_it_now(
    one: PostgresQueue, other: PostgresQueue, checked: bool
) -> None:
    list(one.enqueue([new("x"), new("y")]))
    finder = other.join()
    backup = postgres.Backup(one)
    lost = one.join()
    job, second = one.claim(lost, rig.BACKEND), one.claim(lost, rig.BACKEND)
    assert job is not None
    assert second is not None
    one.committing(second, Result("a" * 64, 7))
    backup.restore()  # while both are at work
    if checked:
        assert one.raise_claims() == 0
        finder = other.join()
    again = other.claim(finder, rig.BACKEND)
    assert again is not None
    assert (again.id, again.claim_seq == job.claim_seq) == (job.id, not checked)
    lost.heartbeat.beat()
    for late in (
        lambda: one.progress(job, 1, 2),
        lambda: one.committing(job, Result("0" * 64, 1)),
        lambda: one.finish(second),
        lambda: one.fail(job, "x", "y"),
        lambda: one.release(job),
        lambda: one.claim(lost, rig.BACKEND),
    ):
        with pytest.raises(ClaimLost):
            late()
    with one.join() as anew:  # as a worker does that is told so
        found = one.claim(anew, rig.BACKEND)
        assert found is not None
        assert found.id == second.id
        one.release(found)
    other.progress(again, 1, 2)
    other.committing(again, Result("b" * 64, 8))
    assert other.finish(again).output_sha256 == "b" * 64
    assert other.check() == []
