"""A batch becomes a package that other programs accept, whole or not at all, whatever its files are called."""

from __future__ import annotations

import datetime
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import premis_schema
import pytest
import rig
import soundfile
from click.testing import CliRunner, Result
from lxml import etree

from batchsr.archive import checksums, exchange, records
from batchsr.cli import cli
from batchsr.queue.opening import open_queue

NAMES = ("tape-1", "sub/tape 2", "-dash", "two\nlines", "carriage\rreturn", "back\\slash", "50%", "Tonbänd", " blank")
P = "{http://www.loc.gov/premis/v3}"


def fill(folder: Path, names: tuple[str, ...] = NAMES, **more: Any) -> Path:
    """A queue of a batch that is done. Returns its database."""
    sources = []
    for i, name in enumerate(names):
        plain = rig.record(folder / "in" / f"{i}.wav", 0.15, seed=i)
        source = folder / "in" / (name + ".wav")
        source.parent.mkdir(exist_ok=True)
        sources.append(plain.rename(source))
    db = folder / "queue.db"
    for source in sources:
        out = folder / "out" / os.path.relpath(source.parent, folder / "in")
        rig.enqueue(db, [source], out, batch="tapes", provenance='{"notes": "A loan.\\nTwo lines."}', **more)
    assert rig.work(db).done == len(names)
    return db


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A queue that tests look at, and leave as it is."""
    return fill(tmp_path_factory.mktemp("filled"), settings={"also": "flac"})


def run(db: Path, *arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["--db", str(db), *map(str, arguments)])
    assert done.exit_code == code, f"{done.output}{done.exception!r}"
    return done


def export(db: Path, target: Path, *options: str) -> Result:
    return run(db, "export", "--batch", "tapes", target, *options)


def failed(db: Path, target: Path, *options: str) -> str:
    done = CliRunner().invoke(cli, ["--db", str(db), "export", "--batch", "tapes", str(target), *options])
    assert done.exit_code != 0
    return str(getattr(done.exception, "message", done.exception)) + done.output


def accepted(bag: Path, *algorithms: str) -> None:
    """By bagit.py and by coreutils."""
    done = subprocess.run([sys.executable, "-m", "bagit", "--validate", bag], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for algorithm in algorithms or ("sha256",):
        command = [f"{algorithm}sum", "--check", "--strict", "--quiet", f"{algorithm.upper()}SUMS"]
        summed = subprocess.run(command, cwd=bag, capture_output=True)
        assert summed.returncode == 0, summed.stdout + summed.stderr


def inside(folder: Path) -> dict[str, bytes]:
    return {os.path.relpath(path, folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bag_of_hostile_names_is_accepted_by_bagit_and_coreutils(db: Path, tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    export(db, bag, "--bag", "--premis", "--checksums", "sha256,md5")
    accepted(bag, "sha256", "md5")
    found = inside(bag)
    with open_queue(db) as queue:
        jobs = list(queue.jobs())
    for job in jobs:
        path = os.path.join("data", os.path.relpath(job.output, db.parent / "out"))
        assert found[path] == Path(job.output).read_bytes()
        assert f"{path}.json" in found
        assert str(Path(path).with_suffix(".flac")) in found
    info = (bag / "bag-info.txt").read_text()
    assert "External-Description: A loan. Two lines.\n" in info
    assert "External-Identifier: tapes\n" in info
    assert f"Payload-Oxum: {sum(len(v) for k, v in found.items() if k.startswith('data/'))}.27\n" in info
    assert (bag / "metadata" / "report.csv").read_bytes().count(b"done") >= len(NAMES)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_without_bag_it_is_a_plain_folder_with_its_sums(db: Path, tmp_path: Path) -> None:
    export(db, tmp_path / "folder")
    found = inside(tmp_path / "folder")
    assert "tape-1_upsampled.wav" in found
    assert "bagit.txt" not in found
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path / "folder")
    assert done.returncode == 0


def test_what_is_in_a_package_is_explained_from_it_alone(db: Path, tmp_path: Path) -> None:
    export(db, tmp_path / "bag", "--bag")
    out = db.parent / "out"
    out.rename(db.parent / "away")
    try:
        beside, document, _ = records.record_of(tmp_path / "bag" / "data" / "sub" / "tape 2_upsampled.flac")
        assert beside.name == "tape 2_upsampled.wav.json"
        assert "is synthetic" in document["note"]
        new = tmp_path / "new.db"
        run(new, "import-sidecars", tmp_path / "bag")
        run(new, "verify")
    finally:
        (db.parent / "away").rename(out)


def test_premis_follows_the_published_schema_and_names_what_happened(db: Path, tmp_path: Path) -> None:
    export(db, tmp_path / "bag", "--bag", "--premis", "--checksums", "sha256,sha512,sha1,md5")
    document = etree.parse(tmp_path / "bag" / "metadata" / "premis.xml")
    etree.XMLSchema(etree.parse(premis_schema.write(tmp_path))).assertValid(document)
    root = document.getroot()
    assert len(root.findall(f"{P}object")) == 3 * len(NAMES)
    kinds = [event.findtext(f"{P}eventType") for event in root.iter(f"{P}event")]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "migration": len(NAMES),
        "validation": len(NAMES),
        "fixity check": len(NAMES),
    }
    details = [one.text or "" for one in root.iter(f"{P}eventDetail")]
    assert sum("is synthetic" in text for text in details) == len(NAMES)
    agents = {agent.findtext(f"{P}agentName"): agent.findtext(f"{P}agentVersion") for agent in root.iter(f"{P}agent")}
    assert agents["model fast"] == "r1"
    assert agents["batchsr"]
    own = [value.text for tag in ("object", "event", "agent") for value in root.iter(f"{P}{tag}IdentifierValue")]
    assert len(set(own)) == len(own), "each identifier once"
    linked = {
        value.text
        for tag in ("linkingObject", "linkingAgent", "relatedObject", "relatedEvent")
        for value in root.iter(f"{P}{tag}IdentifierValue")
    }
    assert linked <= set(own), "every link leads to something"
    sizes = {one.findtext(f"{P}originalName"): one.findtext(f".//{P}size") for one in root.iter(f"{P}object")}
    assert sizes["tape-1_upsampled.wav"] == str((db.parent / "out" / "tape-1_upsampled.wav").stat().st_size)


@pytest.mark.parametrize("name", [b"no \xff utf", b"looks %0a encoded", b"looks %25 encoded", b"three\n\n\nlines"])
def test_a_name_that_a_bag_cannot_hold_is_named_and_nothing_is_made(tmp_path: Path, name: bytes) -> None:
    db = fill(tmp_path, ("good", os.fsdecode(name)))
    said = failed(db, tmp_path / "bag", "--bag")
    assert "its name" in said
    assert not (tmp_path / "bag").exists()
    export(db, tmp_path / "folder")
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path / "folder")
    assert done.returncode == 0


def test_a_killed_export_goes_on_and_what_stood_there_stays_until_the_end(tmp_path: Path) -> None:
    db = fill(tmp_path, ("a", "b", "c"))
    target = tmp_path / "bag"

    def child() -> None:
        CliRunner().invoke(cli, ["--db", str(db), "export", "--batch", "tapes", str(target), "--bag", "--premis"])

    for fault in ("assemble.during:4", "rename.before:1"):
        assert rig.wait(rig.fork(child, fault=fault)) == -signal.SIGKILL
        assert not target.exists()
    building = tmp_path / ".bag.batchsr-export"
    kept = {path: path.stat().st_ino for path in building.rglob("*.wav")}
    assert len(kept) == 3
    export(db, target, "--bag", "--premis")
    accepted(target)
    inodes = {path.stat().st_ino for path in target.rglob("*.wav")}
    assert inodes == set(kept.values()), "what was brought before is not brought again"
    before = inside(target)
    (more,) = rig.enqueue(db, [rig.record(tmp_path / "in" / "d.wav", 0.15, seed=9)], tmp_path / "out", batch="tapes")
    assert rig.work(db).done == 1
    for fault in ("assemble.during:8", "export.step:3"):
        assert rig.wait(rig.fork(child, fault=fault)) == -signal.SIGKILL
        if fault.startswith("assemble"):
            assert inside(target) == before, "the package of before stands until the new one is whole"
    export(db, target, "--bag", "--premis")
    accepted(target)
    assert len(list(target.rglob("*.wav"))) == 4
    assert rig.job_of(db, more).state == "done"
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_batch_that_grows_is_packed_anew_without_copying_what_is_there(tmp_path: Path) -> None:
    db = fill(tmp_path, ("a", "b"))
    target = tmp_path / "bag"
    export(db, target, "--bag")
    inodes = {path.name: path.stat().st_ino for path in target.rglob("*.wav")}
    rig.enqueue(db, [rig.record(tmp_path / "in" / "c.wav", 0.15, seed=9)], tmp_path / "out", batch="tapes")
    assert "1 job of the batch is not done" in export(db, target, "--bag").output
    rig.work(db)
    export(db, target, "--bag", "--checksums", "sha512")
    accepted(target, "sha256", "sha512")
    now = {path.name: path.stat().st_ino for path in target.rglob("*.wav")}
    assert len(now) == 3
    assert inodes.items() <= now.items()


def test_linked_files_are_the_outputs_themselves_and_moved_ones_are_known_to_the_queue(tmp_path: Path) -> None:
    db = fill(tmp_path, ("a", "sub/b"), settings={"also": "flac"})
    export(db, tmp_path / "linked", "--link")
    assert (tmp_path / "linked" / "a_upsampled.wav").samefile(tmp_path / "out" / "a_upsampled.wav")
    export(db, tmp_path / "moved", "--bag", "--move")
    accepted(tmp_path / "moved")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    run(db, "verify")
    with open_queue(db) as queue:
        assert queue.check() == []
        assert all(job.output.startswith(str(tmp_path / "moved" / "data")) for job in queue.jobs())
    rig.enqueue(db, [tmp_path / "in" / "a.wav"], tmp_path / "out", batch="tapes", settings={"also": "flac"})
    rig.enqueue(db, [rig.record(tmp_path / "in" / "c.wav", 0.15, seed=9)], tmp_path / "out", batch="tapes")
    assert rig.work(db).done == 1, "the recording that was moved is known as done"
    export(db, tmp_path / "moved", "--bag", "--move")
    accepted(tmp_path / "moved")
    run(db, "verify")
    assert len(list((tmp_path / "moved").rglob("*.wav"))) == 3


def test_a_file_that_is_not_as_it_was_made_is_named_and_no_package_appears(tmp_path: Path) -> None:
    db = fill(tmp_path, ("a", "b"))
    output = tmp_path / "out" / "b_upsampled.wav"
    whole = output.read_bytes()
    output.write_bytes(whole[:-1] + b"x")
    assert "b_upsampled.wav" in failed(db, tmp_path / "bag", "--bag")
    output.unlink()
    assert "b_upsampled.wav" in failed(db, tmp_path / "bag", "--bag")
    assert not (tmp_path / "bag").exists()
    output.write_bytes(whole)
    export(db, tmp_path / "bag", "--bag")
    accepted(tmp_path / "bag")


def test_what_is_no_package_of_the_batch_is_never_replaced(tmp_path: Path) -> None:
    db = fill(tmp_path, ("a",))
    target = tmp_path / "mine"
    target.mkdir()
    (target / "letter.txt").write_text("dear")
    for place in (target, tmp_path / "in" / "a.wav"):
        assert "is no package of this batch" in failed(db, place, "--bag")
    assert (target / "letter.txt").read_text() == "dear"
    export(db, tmp_path / "empty")
    assert "is no package of this batch and form" in failed(db, tmp_path / "empty", "--bag")


def test_an_output_without_a_sidecar_brings_what_the_queue_keeps_of_it(tmp_path: Path) -> None:
    db = fill(tmp_path, ("a",), settings={"sidecar": False})
    export(db, tmp_path / "bag", "--bag")
    accepted(tmp_path / "bag")
    document = json.loads((tmp_path / "bag" / "data" / "a_upsampled.wav.json").read_text())
    assert document["output"]["sha256"] == checksums.of_file(tmp_path / "out" / "a_upsampled.wav", ["sha256"])["sha256"]


def test_checksums_and_batches_that_are_not_there_are_named(db: Path, tmp_path: Path) -> None:
    assert "crc32" in failed(db, tmp_path / "bag", "--checksums", "crc32")
    done = CliRunner().invoke(cli, ["--db", str(db), "export", "--batch", "none", str(tmp_path / "x")])
    assert "no batch 'none'" in str(done.exception)


def test_the_report_and_the_events_are_of_this_moment(tmp_path: Path) -> None:
    db = fill(tmp_path, ("a",))
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    export(db, tmp_path / "bag", "--bag", "--premis")
    root = etree.parse(tmp_path / "bag" / "metadata" / "premis.xml").getroot()
    times = [datetime.datetime.fromisoformat(str(one.text)) for one in root.iter(f"{P}eventDateTime")]
    assert len(times) == 3
    assert all(at >= before - datetime.timedelta(minutes=5) for at in times)
    assert soundfile.info(tmp_path / "bag" / "data" / "a_upsampled.wav").samplerate == 48_000


def test_a_full_disk_is_told_with_the_package_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = fill(tmp_path, ("a", "b"))
    copy, left = shutil.copy2, [1]

    def full(origin: Path, place: Path, **more: Any) -> Any:
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(origin))
        left.pop()
        return copy(origin, place, **more)

    monkeypatch.setattr(shutil, "copy2", full)
    said = failed(db, tmp_path / "bag", "--bag")
    assert f"{tmp_path}/bag: No space left on device" in said
    assert not (tmp_path / "bag").exists()
    monkeypatch.undo()
    export(db, tmp_path / "bag", "--bag")
    accepted(tmp_path / "bag")


def test_two_exports_to_one_place_do_not_mix(tmp_path: Path) -> None:
    db = fill(tmp_path, ("a",))
    with exchange.alone(tmp_path / "bag"):
        assert "another process" in failed(db, tmp_path / "bag", "--bag")
    export(db, tmp_path / "bag", "--bag")
    accepted(tmp_path / "bag")


def test_an_export_that_could_bring_nothing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = fill(tmp_path, ("a",))

    def elsewhere(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", elsewhere)
    assert "cannot be linked" in failed(db, tmp_path / "bag", "--link")
    assert [path.name for path in tmp_path.glob(".*")] == []
    export(db, tmp_path / "moved", "--move")
    run(db, "verify")
