"""Kinds of stores: what is the same in all of them, and each one's own ways to credentials."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rig
from object_store import Store, point_at
from person import called

from batchsr.queue import State
from batchsr.remote import amazon, fetch, publish, stores


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Another S3 than ours, and a client of its maker's library for it."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    point_at(monkeypatch, "http://{}:{}".format(*server.get_host_and_port()))
    client = amazon._client()
    client.create_bucket(Bucket="tapes")
    yield client
    server.stop()
    stores.forget()


@pytest.mark.filterwarnings("ignore")  # of the emulator's own
def test_the_way_in_and_out_is_that_of_an_s3_which_others_wrote(
    moto: Any, tape: bytes, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["in/a.wav", "in/b//c.wav", "in/d/../e.wav", "in/café ?#+%20.wav"]
    for key in keys:
        moto.put_object(Bucket="tapes", Key=key, Body=tape)
    said = called("--db", db, "enqueue", "-r", "s3://tapes/in", "--out", "s3://tapes/out", code=3)
    assert said.out.count("refused") == 2
    assert rig.work(db).done == 2
    monkeypatch.setattr(publish, "WHOLE_BYTES", 1000)
    called("--db", db, "enqueue", "s3://tapes/in/a.wav", "--out", "s3://tapes/large")
    assert rig.work(db).done == 1
    moto.put_object(Bucket="tapes", Key="over/a_upsampled.wav", Body=b"old")
    called("--db", db, "enqueue", "s3://tapes/in/a.wav", "--out", "s3://tapes/over")
    rig.work(db)
    assert rig.job_of(db, 4).error_code == "output.exists"
    called("--db", db, "forget", "4", "--yes")
    called("--db", db, "enqueue", "s3://tapes/in/a.wav", "--out", "s3://tapes/over", "--overwrite")
    assert rig.work(db).done == 1
    assert [row["verdict"] for row in called("--db", db, "verify", "--json").documents[:4]] == ["ok"] * 4
    found = [one["Key"] for one in moto.list_objects_v2(Bucket="tapes")["Contents"]]
    made = ["large/a", "out/a", "out/café ?#+%20", "over/a"]
    assert found == [*sorted(keys), *(f"{one}_upsampled.wav{end}" for one in made for end in ("", ".json"))]


@pytest.mark.parametrize("parts", [True, False], ids=["with ranges", "without"])
def test_a_file_of_a_web_server_is_fetched(
    store: Store, tape: bytes, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: bool
) -> None:
    import os

    store.put("in/side a.wav", tape)
    store.ranges = parts
    base = os.environ["AWS_ENDPOINT_URL"]
    for wrong, words in (
        ("/tapes/none.wav", "no such file"),
        ("/*.wav", "lists nothing"),
    ):
        said = called("--db", db, "enqueue", base + wrong, "--out", tmp_path / "out", code=2)
        assert words in said.out + said.err
    said = called("--db", db, "enqueue", base + "/tapes/in/side%20a.wav", code=3)
    assert "cannot be written beside it" in said.out
    called("--db", db, "enqueue", base + "/tapes/in/side%20a.wav", "--out", tmp_path / "out")
    assert rig.work(db).done == 1
    assert (tmp_path / "out" / "side a_upsampled.wav").exists()
    assert rig.job_of(db, 1).source == base + "/tapes/in/side%20a.wav"


@pytest.mark.parametrize("parts", [True, False], ids=["with ranges", "without"])
def test_another_file_for_a_moment_is_noticed_of_a_web_server_that_knows_no_conditions(
    store: Store, tape: bytes, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: bool
) -> None:
    import os

    store.put("in/a.wav", tape)
    store.ranges = parts
    store.conditional_reads = False
    url = os.environ["AWS_ENDPOINT_URL"] + "/tapes/in/a.wav"
    called("--db", db, "enqueue", url, "--out", tmp_path / "out")
    seen = fetch.unchanged

    def then_replaced(*arguments: Any) -> Any:
        store.put("in/a.wav", tape)
        facts = seen(*arguments)
        store.put("in/a.wav", tape[:-2] + b"xy")
        return facts

    monkeypatch.setattr(fetch, "unchanged", then_replaced)
    assert rig.work(db).failed == 1
    assert rig.job_of(db, 1).error_code == "input.changed"


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_the_other_stores_go_the_same_way_through_their_client(
    tape: bytes, db: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    import obstore
    from obstore.store import MemoryStore

    memory = MemoryStore()
    monkeypatch.setattr(stores, "_opened", lambda scheme, bucket, timeout_s: memory)
    monkeypatch.setattr(publish, "_tried", set())
    for key in ("in/a.wav", "in/deep/b.wav", "in/notes.txt", "other.wav"):
        obstore.put(memory, key, tape)
    called("--db", db, "enqueue", "-r", f"{scheme}://tapes/in", "--out", f"{scheme}://tapes/out")
    assert rig.work(db).done == 2
    monkeypatch.setattr(publish, "WHOLE_BYTES", 1000)
    called("--db", db, "enqueue", f"{scheme}://tapes/*/a.wav", "--out", f"{scheme}://tapes/large")
    assert rig.work(db).done == 1
    found = sorted(meta["path"] for page in obstore.list(memory) for meta in page)
    made = ["large/in/a", "out/a", "out/deep/b"]
    outputs = [f"{one}_upsampled.wav{end}" for one in made for end in ("", ".json")]
    assert found == sorted(["in/a.wav", "in/deep/b.wav", "in/notes.txt", "other.wav", *outputs])


def test_credentials_come_from_a_profile_and_go_nowhere(
    store: Store, tape: bytes, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    store.put("in/tape.wav", tape)
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text("[tapes]\naws_access_key_id = me\naws_secret_access_key = hidden-too\n")
    (tmp_path / "config").write_text(f"[profile tapes]\nregion = eu-central-1\nendpoint_url = {endpoint}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "tapes")
    stores.forget()
    called("--db", db, "enqueue", "s3://tapes/in/tape.wav", "--out", "s3://tapes/out")
    assert rig.work(db).done == 1
    assert b"hidden-too" not in b"".join(path.read_bytes() for path in tmp_path.glob("queue.db*") if path.is_file())
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    stores.forget()
    said = called("--db", db, "enqueue", "s3://tapes/in/tape.wav", "--out", "s3://tapes/2", code=None)
    assert said.code == 3
    assert "nobody" in said.out
    assert "store.denied" in said.out + said.err


def test_a_missing_extra_is_refused_with_the_line_that_installs_it_and_fails_no_job(
    store: Store, tape: bytes, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("in/tape.wav", tape)
    called("--db", db, "enqueue", "s3://tapes/in/tape.wav", "--out", tmp_path / "out")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "obstore" else find(name, *more)
    )
    said = called("--db", db, "enqueue", "s3://tapes/in/tape.wav", "--out", tmp_path / "out", code=2)
    assert "pip install 'batchsr[remote]'" in said.err
    source = rig.record(tmp_path / "here.wav", 0.3)
    said = called("--db", db, "enqueue", source, "--out", "s3://tapes/out", code=2)
    assert "pip install 'batchsr[remote]'" in said.err
    rig.work(db, options=dataclasses.replace(rig.OPTIONS, wait_for_places_s=0.05))
    job = rig.job_of(db, 1)
    assert (job.state, job.error_code) == (State.QUEUED, None)
    assert "pip install 'batchsr[remote]'" in called("--db", db, "status").out
