"""Outputs in a store: each key is taken once, by a write that the store refuses where something is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import rig
from object_store import Store
from person import called
from program import FAST_MODEL, Program

from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.remote import fetch, publish

OUTPUT = "out/tape_upsampled.wav"


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let outputs count as large that go as parts."""
    monkeypatch.setattr(publish, "WHOLE_BYTES", 1000)


@pytest.fixture
def queued(store: Store, tape: bytes, db: Path) -> Path:
    """A queue with one object whose output goes into the store as well."""
    store.put("in/tape.wav", tape)
    called("--db", db, "enqueue", "s3://tapes/in/tape.wav", "--out", "s3://tapes/out", "--batch", "b")
    return db


def check_whole(store: Store, db: Path) -> None:
    """Output, sidecar and row agree, and nothing else is left anywhere."""
    job = rig.job_of(db, 1)
    data = store.data(OUTPUT)
    assert (job.state, job.output) == (State.DONE, f"s3://tapes/{OUTPUT}")
    assert job.output_sha256 == hashlib.sha256(data).hexdigest()
    said = json.loads(store.data(OUTPUT + ".json"))
    assert said["output"]["sha256"] == job.output_sha256
    assert (said["source"]["path"], said["output"]["path"]) == (job.source, job.output)
    assert store.names() == ["in/tape.wav", OUTPUT, OUTPUT + ".json"]
    assert list((db.parent / "queue.db.scratch").iterdir()) == []


@pytest.mark.parametrize("size", ["small", "large"])
def test_an_output_goes_into_the_store_with_its_sidecar(
    store: Store, queued: Path, size: str, request: pytest.FixtureRequest
) -> None:
    if size == "large":
        request.getfixturevalue("large")
    assert rig.work(queued).done == 1
    check_whole(store, queued)
    verified = called("--db", queued, "verify", "--json")
    assert [row["verdict"] for row in verified.documents[:1]] == ["ok"]
    for words in (("show", "1"), ("list",), ("report",), ("status",)):
        assert "s3:/tapes" not in called("--db", queued, *words).out.replace("s3://", "")
    assert f"s3://tapes/{OUTPUT}" in called("--db", queued, "show", "1").out
    store.put(OUTPUT, store.data(OUTPUT)[:-1] + b"!")
    assert "changed" in called("--db", queued, "verify", code=3).out
    del store.objects["tapes", OUTPUT]
    assert "missing" in called("--db", queued, "verify", code=3).out


def test_a_local_source_goes_into_the_store_and_the_tree_is_mirrored(store: Store, db: Path, tmp_path: Path) -> None:
    rig.record(tmp_path / "in" / "new\nline" / "a.wav", 0.3)
    rig.record(tmp_path / "in" / "b.wav", 0.3)
    called("--db", db, "enqueue", "-r", tmp_path / "in", "--out", "s3://tapes/out/")
    assert rig.work(db).done == 2
    assert [key for key in store.names() if not key.endswith(".json")] == [
        "out/b_upsampled.wav",
        "out/new%0Aline/a_upsampled.wav",
    ]


def test_outputs_stand_beside_their_sources_where_no_folder_is_named(store: Store, tape: bytes, db: Path) -> None:
    store.put("in/tape.wav", tape)
    called("--db", db, "enqueue", "s3://tapes/in/tape.wav")
    assert rig.work(db).done == 1
    assert "in/tape_upsampled.wav" in store.names()
    again = called("--db", db, "enqueue", "-r", "s3://tapes/in", "--json")
    assert [row["outcome"] for row in again.documents[:-1]] == ["already done", "is our own output"]


@pytest.mark.parametrize("size", ["small", "large"])
def test_what_stands_under_the_key_is_never_lost(
    store: Store, queued: Path, size: str, request: pytest.FixtureRequest
) -> None:
    if size == "large":
        request.getfixturevalue("large")
    store.put(OUTPUT, b"of somebody")
    rig.work(queued)
    job = rig.job_of(queued, 1)
    assert (job.state, job.error_code) == (State.FAILED, "output.exists")
    assert store.data(OUTPUT) == b"of somebody"
    assert not any(key == "in/tape.wav" for method, key in store.asked[-3:] if method == "GET")
    # ... and where it comes while the file is restored
    del store.objects["tapes", OUTPUT]
    called("--db", queued, "retry", "1")
    told = rig.Told()
    told.on_windows = lambda job, done, total: store.put(OUTPUT, b"of somebody")
    rig.work(queued, listener=told)
    assert rig.job_of(queued, 1).error_code == "output.exists"
    assert store.names() == ["in/tape.wav", OUTPUT]
    assert store.data(OUTPUT) == b"of somebody"


@pytest.mark.parametrize("size", ["small", "large"])
def test_overwrite_replaces_the_very_object_that_was_seen(
    store: Store, tape: bytes, db: Path, size: str, request: pytest.FixtureRequest
) -> None:
    if size == "large":
        request.getfixturevalue("large")
    store.put("in/tape.wav", tape)
    store.put(OUTPUT, b"old")
    called("--db", db, "enqueue", "--overwrite", "s3://tapes/in/tape.wav", "--out", "s3://tapes/out")
    told = rig.Told()
    told.on_windows = lambda job, done, total: store.put(OUTPUT, b"newer")
    rig.work(db, listener=told)
    assert rig.job_of(db, 1).error_code == "output.exists"
    assert store.data(OUTPUT) == b"newer"
    called("--db", db, "retry", "1")
    assert rig.work(db).done == 1
    check_whole(store, db)


def test_a_sidecar_s_key_that_something_else_has_is_told_before_any_work(store: Store, queued: Path) -> None:
    store.put(OUTPUT + ".json", b"{}")
    rig.work(queued)
    job = rig.job_of(queued, 1)
    assert (job.state, job.error_code) == (State.FAILED, "output.sidecar")
    assert store.names() == ["in/tape.wav", OUTPUT + ".json"]


def test_a_store_that_writes_over_objects_in_spite_of_the_condition_is_refused(store: Store, queued: Path) -> None:
    store.conditional = False
    rig.work(queued)
    job = rig.job_of(queued, 1)
    assert (job.state, job.error_code) == (State.FAILED, "output.path")
    assert "writes over objects" in str(job.error)
    assert store.names() == ["in/tape.wav"]


@pytest.mark.parametrize("fault", [500, 503, 403, "reset"])
def test_jobs_wait_for_a_store_that_takes_nothing_and_are_not_computed_again(
    store: Store, queued: Path, fault: int | str
) -> None:
    told, computed = rig.Told(), []
    model = rig.FastModel(calls=computed.append)
    store.faults.append(lambda method, key: fault if method == "PUT" and computed else None)
    told.on_paused = store.faults.clear
    assert rig.work(queued, model, listener=told).done == 1
    windows = rig.job_of(queued, 1).windows_total or 0
    assert sum(map(len, computed)) == windows
    check_whole(store, queued)
    assert any("s3://tapes" in line for line in told.said if line.startswith("held"))


def test_an_answer_that_was_lost_is_no_foreign_output(store: Store, queued: Path) -> None:
    """The store has written it, and says so to nobody: made again, the request is refused."""
    lost: list[str] = []

    def after(method: str, key: str) -> str | None:
        if method == "PUT" and key == OUTPUT and not lost:
            lost.append(key)
            (staged,) = (queued.parent / "queue.db.scratch").glob("*.output.wav")
            store.put(OUTPUT, staged.read_bytes())
            return "reset"
        return None

    store.faults.append(after)
    assert rig.work(queued).done == 1
    assert lost
    check_whole(store, queued)


def test_a_lost_database_finds_its_outputs_by_their_sidecars(store: Store, queued: Path, tmp_path: Path) -> None:
    rig.work(queued)
    other = tmp_path / "other.db"
    called("--db", other, "enqueue", "s3://tapes/in/tape.wav", "--out", "s3://tapes/out")
    computed: list[object] = []
    assert rig.work(other, rig.FastModel(calls=computed.append)).done == 1
    assert computed == []
    assert rig.job_of(other, 1).output_sha256 == rig.job_of(queued, 1).output_sha256


Moment = Callable[[str, str], bool]
MOMENTS: dict[str, Moment] = {
    "third piece": lambda method, key: method == "GET" and key == "in/tape.wav",
    "put": lambda method, key: method == "PUT" and key == OUTPUT,
    "part": lambda method, key: method == "PUT" and key.endswith(".tmp"),
    "copy": lambda method, key: method == "POST" and key == OUTPUT,
    "delete": lambda method, key: method == "DELETE" and key.endswith(".tmp"),
    "sidecar": lambda method, key: method == "PUT" and key.endswith(".json"),
}


@pytest.mark.parametrize(("moment", "count"), [("third piece", 3), *((name, 1) for name in list(MOMENTS)[1:])])
def test_a_kill_at_any_request_loses_nothing_and_leaves_nothing(
    store: Store, queued: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, count: int
) -> None:
    at_once = "1000" if moment in ("part", "copy", "delete") else "1000000"
    environment = FAST_MODEL | {"BATCHSR_PARTS": at_once}
    process = Program(tmp_path).start("work", "--variant", "fast", "--min-free", "0", **environment)
    seen: list[str] = []

    def kill(method: str, key: str) -> str | None:
        if MOMENTS[moment](method, key):
            seen.append(key)
            if len(seen) == count:
                os.kill(process.pid, signal.SIGKILL)
                return "reset"
        return None

    store.faults.append(kill)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, seen
    store.faults.clear()
    starts: list[int] = []
    piece = fetch._piece
    monkeypatch.setattr(fetch, "_piece", lambda *arguments: (starts.append(arguments[2]), piece(*arguments))[1])
    computed: list[object] = []
    model = rig.FastModel(calls=computed.append)
    assert rig.work(queued, model).done == 1
    check_whole(store, queued)
    assert bool(starts) == (moment == "third piece")
    assert bool(computed) == (moment == "third piece")
    assert rig.job_of(queued, 1).claim_seq == 2


def test_gc_deletes_temporaries_of_claims_that_are_over_and_no_others(store: Store, queued: Path) -> None:
    rig.work(queued)
    mine = [f"{OUTPUT}.1-1.tmp", f"{OUTPUT}.1-7.tmp", "out/.batchsr-probe-0123456789abcdef"]
    others = [f"{OUTPUT}.2-1.tmp", "out/other.wav.1-1.tmp", "out/x.tmp", "out/deep/y.wav.1-1.tmp"]
    for key in (*mine, *others):
        store.put(key, b"left")
    said = called("--db", queued, "gc", "--dry-run", "--json").documents[0]
    assert sorted(said["removed"]) == sorted(f"s3://tapes/{key}" for key in mine)
    called("--db", queued, "gc")
    assert set(store.names()) == {"in/tape.wav", OUTPUT, OUTPUT + ".json", *others}


def test_outputs_of_a_kind_that_a_store_does_not_take_are_refused(store: Store, db: Path, tmp_path: Path) -> None:
    source = rig.record(tmp_path / "a.wav", 0.3)
    said = called("--db", db, "enqueue", source, "--out", "https://host/out", code=2)
    assert "outputs cannot be written there" in said.out + said.err
    said = called("--db", db, "enqueue", source, "--out", "s3://u:p@tapes/out", code=2)
    assert "u:p" not in said.out + said.err
    said = called("--db", db, "enqueue", source, "--out", "s3://tapes/out", "--also", "mp3", code=2)
    assert "to folders alone" in said.out + said.err
    said = called("--db", db, "enqueue", source, "--out", "s3://tapes/" + "k" * 1020, code=3)
    assert "1024 are the most" in said.out + said.err
    with open_queue(db) as queue:
        assert list(queue.jobs()) == []


def test_commands_that_take_files_away_or_pack_them_say_that_an_output_is_in_a_store(
    store: Store, queued: Path, tmp_path: Path
) -> None:
    rig.work(queued)
    before = dict(store.objects)
    for words in (("undo", "1", "--yes"), ("export", tmp_path / "bag", "--batch", "b"), ("listen", "1")):
        said = called("--db", queued, *words, code=None)  # type: ignore[arg-type]
        assert "store" in said.out + said.err, (words, said)
    assert store.objects == before


def test_edit_moves_an_output_that_is_queued_into_a_store_and_out_of_it(
    store: Store, queued: Path, tmp_path: Path
) -> None:
    called("--db", queued, "edit", "1", "--out", "s3://tapes/elsewhere")
    assert rig.job_of(queued, 1).output == "s3://tapes/elsewhere/tape_upsampled.wav"
    called("--db", queued, "edit", "1", "--profile", "archive")
    assert rig.job_of(queued, 1).output.startswith("s3://tapes/elsewhere/tape_upsampled.")
    called("--db", queued, "edit", "1", "--out", tmp_path / "here")
    assert rig.job_of(queued, 1).output.startswith(str(tmp_path / "here" / "tape_upsampled."))
    assert rig.work(queued, options=dataclasses.replace(rig.OPTIONS)).done == 1
