"""A sidecar that comes back from the disk may be anybody's: read with limits, never believed blindly."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rig
from rig import Told, job_of

from batchsr import storage
from batchsr.errors import SidecarForeign
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.restoration import sidecar_reading

MASTER = b"a master that is no business of ours"


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def changed(document: dict[str, Any], path: str, value: object) -> bytes:
    """The document with one value exchanged, by a dotted path."""
    document = copy.deepcopy(document)
    *parents, last = path.split(".")
    inner = document
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return json.dumps(document).encode()


TWISTED: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "negative length": lambda d: changed(d, "output.size_bytes", -1),
    "negative windows": lambda d: changed(d, "windows.total", -7),
    "negative time": lambda d: changed(d, "source.duration_s", -1.0),
    "length as text": lambda d: changed(d, "output.size_bytes", "12"),
    "length as list": lambda d: changed(d, "source.frames", [1]),
    "fractional frames": lambda d: changed(d, "source.frames", 1.5),
    "truth as number": lambda d: changed(d, "source.channels", True),
    "no channels": lambda d: changed(d, "source.channels", 0),
    "beyond 64 bits": lambda d: changed(d, "windows.total", 2**64),
    "beyond SQLite": lambda d: changed(d, "output.clipped_samples", 2**63 - 1),
    "a thousand digits": lambda d: changed(d, "windows.total", 10**1000),
    "hash of another length": lambda d: changed(d, "output.sha256", "ab"),
    "hash as null": lambda d: changed(d, "source.sha256", None),
    "windows as list": lambda d: changed(d, "windows", []),
    "source as text": lambda d: changed(d, "source", "a.wav"),
    "model missing": lambda d: json.dumps({k: v for k, v in d.items() if k != "model"}).encode(),
    "100 levels deep": lambda d: changed(d, "metadata", deep(100)),
    "100,000 levels deep": lambda d: json.dumps(d).encode()[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "another schema": lambda d: changed(d, "schema", "batchsr.sidecar/99"),
    "a number that is none": lambda d: json.dumps(d | {"wall_s": float("nan")}).encode(),
}
PLAIN: dict[str, bytes] = {
    "a list": b"[1, 2, 3]",
    "a number": b"-12",
    "null": b"null",
    "empty": b"",
    "cut": b'{"schema": "batchsr.sidecar/1", "output": {"sha',
    "no UTF-8": b'{"schema": "\xff\xfe"}',
    "UTF-16": '{"schema": "batchsr.sidecar/1"}'.encode("utf-16"),
    "NUL bytes": bytes(5000),
    "another program's": b'{"mine": true}',
    "schema as list": b'{"schema": ["batchsr.sidecar/1"]}',
}
KINDS = ["fifo", "folder", "link to a sidecar", "link to a device", "loop", "1 GB"]


def plant(path: Path, what: str, sound: bytes) -> None:
    """Put it under the sidecar's name."""
    path.unlink(missing_ok=True)
    match what:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link to a sidecar":
            other = path.with_name("elsewhere.txt")
            other.write_bytes(sound)
            path.symlink_to(other)
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "1 GB":
            with path.open("wb") as file:
                file.write(b'{"schema": "batchsr.sidecar/1", "x": "')
                file.truncate(10**9)
        case _ if what in PLAIN:
            path.write_bytes(PLAIN[what])
        case _:
            path.write_bytes(TWISTED[what](json.loads(sound)))


@pytest.fixture
def finished(db: Path, out: Path, sources: list[Path]) -> tuple[Path, Path, bytes]:
    """An output and its sidecar, made by a queue that is no more; and the sidecar's bytes."""
    rig.enqueue(db, sources[:1], out)
    assert rig.work(db).done == 1
    output = Path(job_of(db, 1).output)
    for path in db.parent.glob(db.name + "*"):
        if path.is_file():
            path.unlink()
    sidecar = output.with_name(output.name + ".json")
    return output, sidecar, sidecar.read_bytes()


def took_s(began: float) -> float:
    return time.monotonic() - began


@pytest.mark.parametrize("what", [*TWISTED, *PLAIN, *KINDS])
def test_an_output_whose_sidecar_cannot_be_believed_is_not_taken_for_ours(
    db: Path, out: Path, sources: list[Path], finished: tuple[Path, Path, bytes], what: str
) -> None:
    output, sidecar, sound = finished
    plant(sidecar, what, sound)
    before = storage.sha256(output)
    (number,) = rig.enqueue(db, sources[:1], out)
    told, began = Told(), time.monotonic()
    summary = rig.work(db, listener=told)
    assert took_s(began) < 5
    job = job_of(db, number)
    assert (summary.failed, job.state, job.error_code) == (1, State.FAILED, "output.exists"), told.said
    assert "json" in (job.error or ""), "the sentence says what is wrong with the sidecar"
    assert len(job.error or "") < 2000
    assert not any(said.startswith(("paused", "waiting", "retrying")) for said in told.said)
    assert storage.sha256(output) == before


@pytest.mark.parametrize("what", [*PLAIN, *KINDS])
def test_what_is_not_ours_under_a_sidecars_name_stays_and_fails_the_file_with_a_code(
    db: Path, out: Path, sources: list[Path], finished: tuple[Path, Path, bytes], what: str
) -> None:
    output, sidecar, sound = finished
    output.unlink()
    plant(sidecar, what, sound)
    before = os.lstat(sidecar)
    (number,) = rig.enqueue(db, sources[:1], out)
    calls: list[object] = []
    assert rig.work(db, rig.FastModel(calls=calls.append)).failed == 1
    job = job_of(db, number)
    assert (job.state, job.error_code) == (State.FAILED, "output.sidecar")
    assert "--no-sidecar" in (job.error or "")
    assert calls == [], "refused before a second of work"
    assert not output.exists()
    after = os.lstat(sidecar)
    assert (after.st_ino, after.st_size, after.st_mode) == (before.st_ino, before.st_size, before.st_mode)


@pytest.mark.parametrize("what", [*TWISTED])
def test_a_twisted_sidecar_of_ours_is_replaced_by_the_next_one(
    db: Path, out: Path, sources: list[Path], finished: tuple[Path, Path, bytes], what: str
) -> None:
    output, sidecar, sound = finished
    output.unlink()
    plant(sidecar, what, sound)
    rig.enqueue(db, sources[:1], out)
    summary = rig.work(db)
    if summary.done:
        record = sidecar_reading.read(sidecar)
        assert record is not None
        assert record.said.output.sha256 == storage.sha256(output)
    else:  # so odd that it does not even say whose it is
        assert job_of(db, 1).error_code == "output.sidecar"


def test_a_sound_sidecar_proves_its_output(
    db: Path, out: Path, sources: list[Path], finished: tuple[Path, Path, bytes]
) -> None:
    (number,) = rig.enqueue(db, sources[:1], out)
    model = rig.FastModel(calls=lambda indices: pytest.fail("it was there"))
    assert rig.work(db, model).done == 1
    assert job_of(db, number).output_sha256 == storage.sha256(finished[0])


def test_what_is_more_in_a_sidecar_than_we_know_does_not_matter(finished: tuple[Path, Path, bytes]) -> None:
    document = json.loads(finished[2])
    document["from_the_future"] = {"a": [1, {"b": None}]}
    record = sidecar_reading.parse(finished[1], json.dumps(document).encode())
    assert record.document == document


def test_the_longest_texts_that_a_recording_may_carry_make_no_sidecar_unbelievable(
    finished: tuple[Path, Path, bytes],
) -> None:
    document = json.loads(finished[2])
    document["metadata"]["texts"] = {"comment": "\U0001f399" * 1_000_000}
    finished[1].write_text(json.dumps(document, indent=2) + "\n")
    assert sidecar_reading.is_ours(finished[1])
    record = sidecar_reading.read(finished[1])
    assert record is not None
    assert record.document == document


def test_no_sidecar_is_no_trouble(tmp_path: Path) -> None:
    assert sidecar_reading.read(tmp_path / "a.wav.json") is None
    with pytest.raises(SidecarForeign):
        sidecar_reading.read(tmp_path)


@pytest.mark.parametrize("name", ["a_upsampled.wav", "a_upsampled.wav.json"])
@pytest.mark.parametrize("kind", ["link", "hard link"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_links_planted_under_the_names_that_are_written_reach_no_master(
    db: Path, out: Path, tmp_path: Path, name: str, kind: str, overwrite: bool
) -> None:
    source = rig.record(tmp_path / "in" / "a.wav", 0.2)
    master = tmp_path / "master.wav"
    master.write_bytes(MASTER)
    out.mkdir(exist_ok=True)
    if kind == "link":
        (out / name).symlink_to(master)
    else:
        (out / name).hardlink_to(master)
    rig.enqueue(db, [source], out, overwrite=overwrite)
    rig.work(db)
    assert master.read_bytes() == MASTER
    with open_queue(db) as queue:
        (job,) = queue.jobs()
        if overwrite and not name.endswith(".json"):
            assert job.state is State.DONE
            assert storage.sha256(out / name) == job.output_sha256
        else:
            assert (job.state, (job.error_code or "")[:7]) == (State.FAILED, "output.")
