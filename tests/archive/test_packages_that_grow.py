"""A package that is made anew loses nothing: no master, no file of somebody else's, no package of another queue."""

from __future__ import annotations

import collections
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rig
from click.testing import CliRunner, Result
from lxml import etree

from batchsr import faults, storage
from batchsr.archive import checksums, exchange, mark
from batchsr.cli import cli
from batchsr.queue.opening import open_queue

WAYS = ("--copy", "--link", "--move")


class Killed(BaseException):
    """In place of SIGKILL: nothing of the program's catches it."""


def run(db: Path, *arguments: object) -> Result:
    done = CliRunner().invoke(cli, ["--db", str(db), *map(str, arguments)])
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return done


def failed(db: Path, *arguments: object) -> str:
    done = CliRunner().invoke(cli, ["--db", str(db), *map(str, arguments)])
    assert done.exit_code != 0, done.output
    return str(done.exception) + done.output


def add(folder: Path, *names: str, db: str = "queue.db", batch: str = "tapes", seed: int = 0, **more: Any) -> Path:
    """Restore recordings into `out`, and return the queue."""
    for i, name in enumerate(names):
        plain = rig.record(folder / "in" / f"{i}.plain.wav", 0.12, seed=seed + i)
        (folder / "in" / name).parent.mkdir(exist_ok=True)
        source = plain.rename(folder / "in" / f"{name}.wav")
        out = folder / "out" / os.path.dirname(name)
        rig.enqueue(folder / db, [source], out, batch=batch, **more)
    assert rig.work(folder / db).done == len(names)
    return folder / db


def forget(db: Path, number: int) -> None:
    run(db, "forget", number, "--yes")


def bytes_below(*folders: Path) -> collections.Counter[bytes]:
    """The content of all WAVs."""
    return collections.Counter(path.read_bytes() for folder in folders for path in folder.rglob("*.wav"))


def inside(folder: Path) -> dict[str, bytes]:
    return {os.path.relpath(path, folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def valid(bag: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "bagit", "--validate", bag], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sums(bag)


def sums(package: Path) -> None:
    """Each line of SHA256SUMS is true."""
    for path, sha256 in checksums.read_sums((package / "SHA256SUMS").read_bytes()).items():
        assert checksums.of_file(package / path, ["sha256"])["sha256"] == sha256, path


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Dies at the Nth fault point from now (0: never), and tells the points that were passed."""
    passed: list[str] = []
    left = [0]

    def point(name: str) -> None:
        assert name in faults.POINTS
        passed.append(name)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    def arm(number: int) -> list[str]:
        passed.clear()
        left[0] = number
        return passed

    monkeypatch.setattr(faults, "point", point)
    monkeypatch.setattr(storage, "fsync", lambda fd: None)  # the process dies here, and not the machine
    return arm


@pytest.mark.parametrize("way", [*WAYS, "--move without a swap"])
def test_a_kill_at_any_step_of_a_growing_package_loses_nothing_and_is_gone_on_from(
    tmp_path: Path, steps: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    live, start = tmp_path / "live", tmp_path / "start"
    few = way != "--move"  # the steps of bringing files are tried there
    if "swap" in way:
        monkeypatch.setattr(exchange, "swap", lambda one, other: False)
    way = way.split()[0]
    db = add(live, "a")
    run(db, "export", "--batch", "tapes", live / "package", way)
    (live / "package" / "letter.txt").write_text("dear")
    add(live, "sub/b", seed=5)
    masters = set(bytes_below(live / "out", live / "package"))
    assert len(masters) == 2
    shutil.copytree(live, start)

    def export() -> None:
        CliRunner().invoke(cli, ["--db", str(db), "export", "--batch", "tapes", str(live / "package"), way])

    passed = steps(0)
    export()
    numbers = [number for number, name in enumerate(passed, 1) if name == "export.step" or not few]
    assert len(numbers) >= 5
    for number in numbers[:: 2 if way in ("--copy", "--link") else 1]:
        shutil.rmtree(live)
        shutil.copytree(start, live)
        steps(number)
        with pytest.raises(Killed):
            export()
        there = set(bytes_below(live / "out", *live.glob("package"), *live.glob(".package*")))
        assert there == masters, f"a master is lost at step {number}"
        steps(0)
        run(db, "export", "--batch", "tapes", live / "package", way)
        found = inside(live / "package")
        assert found["letter.txt"] == b"dear"
        assert {path for path in found if path.endswith(".wav")} == {"a_upsampled.wav", "sub/b_upsampled.wav"}
        sums(live / "package")
        assert [path.name for path in live.iterdir() if path.name.startswith((".", "package."))] == []
        assert len(bytes_below(live / "out")) == (0 if way == "--move" else 2), f"originals after step {number}"
        run(db, "verify")


@pytest.mark.parametrize("way", WAYS)
def test_the_master_of_a_job_that_was_forgotten_or_tried_again_stays_where_it_is_the_only_one(
    tmp_path: Path, way: str
) -> None:
    db = add(tmp_path, "a", "b", "c")
    bag = tmp_path / "bag"
    run(db, "export", "--batch", "tapes", bag, "--bag", way)
    masters = bytes_below(bag)
    forget(db, 1)
    run(db, "retry", "2", "--redo")
    done = run(db, "export", "--batch", "tapes", bag, "--bag", way)
    valid(bag)
    if way == "--move":
        assert bytes_below(bag) == masters
        assert "kept in the package" in done.output
        run(db, "export", "--batch", "tapes", bag, "--bag", way)
        assert bytes_below(bag) == masters, "also the next time"
        run(db, "import-sidecars", bag)
        assert "kept" not in run(db, "export", "--batch", "tapes", bag, "--bag", way).output.splitlines()[-1]
    else:
        assert len(bytes_below(bag)) == 1
        assert len(bytes_below(tmp_path / "out")) == 3, "they are where they were made"
    (tmp_path / "out" / "b_upsampled.wav").unlink(missing_ok=True)
    valid(bag)


def test_a_master_without_its_original_stays_in_a_package_of_copies(tmp_path: Path) -> None:
    db = add(tmp_path, "a", "b")
    run(db, "export", "--batch", "tapes", tmp_path / "package")
    forget(db, 1)
    (tmp_path / "out" / "a_upsampled.wav").unlink()
    run(db, "export", "--batch", "tapes", tmp_path / "package")
    assert (tmp_path / "package" / "a_upsampled.wav").is_file()
    sums(tmp_path / "package")


def put_by_another_name(folder: Path, db: Path, how: str) -> Path:
    """Pack the first job so that where its copy came from leads into the package; return the package's name."""
    other = folder / "other"
    if how == "the package":
        other.symlink_to(folder, target_is_directory=True)
        run(db, "export", "--batch", "tapes", folder / "bag", "--bag", "--move")
        run(db, "export", "--batch", "tapes", other / "bag", "--bag", "--copy")
        return other / "bag"
    if how == "the folder of the package":
        (folder / "real").mkdir()
        other.symlink_to("real", target_is_directory=True)
        run(db, "export", "--batch", "tapes", other / "bag", "--bag", "--copy")
        shutil.rmtree(folder / "out")
        (folder / "out").symlink_to(folder / "real" / "bag" / "data", target_is_directory=True)
        return other / "bag"
    run(db, "export", "--batch", "tapes", folder / "bag", "--bag", "--copy")
    for path in (folder / "out").iterdir():
        path.unlink()
        path.symlink_to(folder / "bag" / "data" / path.name)
    return folder / "bag"


@pytest.mark.parametrize("how", ["the package", "the folder of the package", "each file"])
def test_a_master_that_two_names_lead_to_is_one_and_stays(tmp_path: Path, how: str) -> None:
    db = add(tmp_path, "one")
    (master,) = (tmp_path / "out").glob("*.wav")
    bag, first = put_by_another_name(tmp_path, db, how), master.name
    master_bytes = (bag / "data" / first).read_bytes()
    forget(db, 1)
    later = rig.enqueue(db, [rig.record(tmp_path / "in" / "two.wav", 0.12, seed=7)], tmp_path / "late", batch="tapes")
    assert later
    assert rig.work(db).done == 1
    run(db, "export", "--batch", "tapes", bag, "--bag", "--copy")
    assert (bag / "data" / first).read_bytes() == master_bytes
    sums(bag)


def test_a_sidecar_that_is_a_link_is_said_to_be_one(tmp_path: Path) -> None:
    db = add(tmp_path, "one")
    sidecar = (tmp_path / "out" / "one_upsampled.wav.json").rename(tmp_path / "elsewhere.json")
    (tmp_path / "out" / "one_upsampled.wav.json").symlink_to(sidecar)
    assert "is a link, and links are not followed" in failed(db, "export", "--batch", "tapes", tmp_path / "bag")


def test_outputs_are_known_to_be_in_a_package_by_any_name_of_it(tmp_path: Path) -> None:
    db = add(tmp_path, "one")
    (tmp_path / "other").symlink_to(tmp_path, target_is_directory=True)
    run(db, "export", "--batch", "tapes", tmp_path / "bag", "--bag", "--move")
    add(tmp_path, "two", seed=5)
    run(db, "export", "--batch", "tapes", tmp_path / "other" / "bag", "--bag", "--move")
    assert {path.name for path in (tmp_path / "bag" / "data").glob("*.wav")} == {
        "one_upsampled.wav",
        "two_upsampled.wav",
    }
    run(db, "verify")
    sums(tmp_path / "bag")


def test_a_moved_master_stays_where_another_batch_knows_it_though_the_same_bytes_are_there_twice(
    tmp_path: Path,
) -> None:
    add(tmp_path, "one")
    db = add(tmp_path, "two")  # the same sound
    bag = tmp_path / "bag"
    run(db, "export", "--batch", "tapes", bag, "--bag", "--move")
    forget(db, 1)
    run(db, "import-sidecars", bag / "data", "--batch", "others")
    run(db, "export", "--batch", "tapes", bag, "--bag", "--move")
    run(db, "verify")
    sums(bag)


def test_what_an_archivist_put_into_a_bag_stays_in_it_and_the_bag_is_sound(tmp_path: Path) -> None:
    db = add(tmp_path, "a")
    bag = tmp_path / "bag"
    run(db, "export", "--batch", "tapes", bag, "--bag", "--move")
    (bag / "data" / "photographs").mkdir()
    (bag / "data" / "photographs" / "reel.jpg").write_bytes(b"\xff\xd8")
    (bag / "deed.pdf").write_bytes(b"%PDF")
    (bag / "data" / "empty").mkdir()
    info = (bag / "bag-info.txt").read_text()
    (bag / "bag-info.txt").write_text(info + "Contact-Name: A. Archivist\nContact-Note: over\n  two lines\n")
    for _ in range(2):  # as what is not ours, and as what was kept once already
        add(tmp_path, f"b{_}", seed=7 + _)
        said = run(db, "export", "--batch", "tapes", bag, "--bag", "--move").output
        assert "reel.jpg" in said or "deed.pdf" in said
        valid(bag)
        found = inside(bag)
        assert found["data/photographs/reel.jpg"] == b"\xff\xd8"
        assert found["deed.pdf"] == b"%PDF"
        assert (bag / "data" / "empty").is_dir()
        assert b"photographs/reel.jpg" in found["manifest-sha256.txt"]
        assert "Contact-Name: A. Archivist\nContact-Note: over\n  two lines\n" in found["bag-info.txt"].decode()
    with open_queue(db) as queue:
        assert queue.check() == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("data/b_upsampled.wav", "is not of an export"),
        ("data/a_upsampled.wav", "was changed since"),
        ("metadata/premis.xml", "is not of an export"),
        ("metadata/report.csv", "was changed since"),
    ],
)
def test_work_that_would_be_written_over_is_named_and_the_package_stays(tmp_path: Path, path: str, words: str) -> None:
    db = add(tmp_path, "a")
    bag = tmp_path / "bag"
    run(db, "export", "--batch", "tapes", bag, "--bag")
    (bag / path).write_bytes(b"mine")
    before = inside(bag)
    add(tmp_path, "b", seed=5)
    said = failed(db, "export", "--batch", "tapes", bag, "--bag", "--premis")
    assert words in said
    assert path in said
    assert inside(bag) == before
    (bag / path).rename(bag / f"{path}.mine")
    run(db, "export", "--batch", "tapes", bag, "--bag", "--premis")
    valid(bag)
    assert (bag / f"{path}.mine").read_bytes() == b"mine"


def test_a_file_whose_name_a_bag_cannot_hold_is_named(tmp_path: Path) -> None:
    db = add(tmp_path, "a")
    run(db, "export", "--batch", "tapes", tmp_path / "bag", "--bag")
    (tmp_path / "bag" / "data" / "reel\u2028 1.jpg").write_bytes(b"")
    assert "programs end a line" in failed(db, "export", "--batch", "tapes", tmp_path / "bag", "--bag")


def test_a_moved_output_that_is_restored_again_is_new_in_the_bag(tmp_path: Path) -> None:
    db = add(tmp_path, "a", "b")
    bag = tmp_path / "bag"
    run(db, "export", "--batch", "tapes", bag, "--bag", "--move")
    run(db, "retry", "1", "--redo")
    assert rig.work(db).done == 1
    run(db, "export", "--batch", "tapes", bag, "--bag", "--move")
    valid(bag)
    run(db, "verify")
    assert len(bytes_below(bag)) == 2


def test_what_was_taken_back_from_a_bag_stays_in_it(tmp_path: Path) -> None:
    db = add(tmp_path, "a", "b")
    bag = tmp_path / "bag"
    run(db, "export", "--batch", "tapes", bag, "--bag", "--move")
    masters = bytes_below(bag)
    run(db, "undo", "1", "--yes")
    run(db, "export", "--batch", "tapes", bag, "--bag", "--move")
    valid(bag)
    assert bytes_below(bag) == masters


def test_a_link_in_a_package_is_named_and_not_followed(tmp_path: Path) -> None:
    db = add(tmp_path, "a")
    run(db, "export", "--batch", "tapes", tmp_path / "package")
    (tmp_path / "package" / "elsewhere").symlink_to(tmp_path / "in")
    assert "is a link" in failed(db, "export", "--batch", "tapes", tmp_path / "package")
    assert (tmp_path / "in" / "a.wav").is_file()


@pytest.mark.parametrize("way", WAYS)
def test_a_package_of_another_queue_is_refused_until_its_outputs_are_known(tmp_path: Path, way: str) -> None:
    db = add(tmp_path / "one", "a")
    other = add(tmp_path / "two", "b", seed=5)
    package = tmp_path / "package"
    run(db, "export", "--batch", "tapes", package, way)
    before = inside(package)
    said = failed(other, "export", "--batch", "tapes", package, way)
    assert "another queue" in said
    assert "import-sidecars" in said
    assert inside(package) == before
    assert len(bytes_below(tmp_path / "two" / "out")) == 1
    run(other, "import-sidecars", package)
    run(other, "export", "--batch", "tapes", package, way)
    assert len(bytes_below(package)) == 2
    sums(package)


def test_a_queue_that_was_lost_goes_on_with_its_package(tmp_path: Path) -> None:
    db = add(tmp_path, "a")
    run(db, "export", "--batch", "tapes", tmp_path / "package", "--move")
    new = tmp_path / "new.db"
    run(new, "import-sidecars", tmp_path / "package")
    add(tmp_path, "b", db="new.db", seed=5)
    run(new, "export", "--batch", "tapes", tmp_path / "package", "--move")
    assert len(bytes_below(tmp_path / "package")) == 2
    run(new, "verify")


def test_a_copied_database_is_the_same_queue_and_another_one_is_not(tmp_path: Path) -> None:
    rig.enqueue(tmp_path / "a.db", [])
    rig.enqueue(tmp_path / "b.db", [])
    with sqlite3.connect(tmp_path / "a.db") as one, sqlite3.connect(tmp_path / "copy.db") as other:
        one.backup(other)
    with (
        open_queue(tmp_path / "a.db") as first,
        open_queue(tmp_path / "b.db") as second,
        open_queue(tmp_path / "copy.db") as copy,
    ):
        assert first.own_id == copy.own_id != second.own_id


def test_what_comes_later_has_its_name_in_the_tree_that_the_package_has(tmp_path: Path) -> None:
    db = add(tmp_path, "box 1/a", "box 2/a")
    package = tmp_path / "package"
    run(db, "export", "--batch", "tapes", package, "--move")
    add(tmp_path, "box 2/b", "box 2/\udcff", seed=5)
    run(db, "export", "--batch", "tapes", package, "--move")
    names = {f"box {name}_upsampled.wav" for name in ("1/a", "2/a", "2/b", "2/\udcff")}
    assert {path for path in inside(package) if path.endswith(".wav")} == names
    add(tmp_path, "c", seed=8)
    run(db, "export", "--batch", "tapes", package, "--move")
    assert {path for path in inside(package) if path.endswith(".wav")} == {*names, "c_upsampled.wav"}
    run(db, "verify")


@pytest.mark.parametrize(("first", "then"), [("--copy", "--link"), ("--link", "--copy")])
def test_links_and_copies_do_not_mix_when_a_package_is_made_anew(tmp_path: Path, first: str, then: str) -> None:
    db = add(tmp_path, "a")
    package = tmp_path / "package"
    for way in (first, then, first):
        run(db, "export", "--batch", "tapes", package, way)
        is_link = (package / "a_upsampled.wav").samefile(tmp_path / "out" / "a_upsampled.wav")
        assert is_link == (way == "--link")


def test_nothing_is_moved_out_of_another_package(tmp_path: Path) -> None:
    db = add(tmp_path, "a")
    run(db, "export", "--batch", "tapes", tmp_path / "first", "--bag", "--move")
    assert "would lose it" in failed(db, "export", "--batch", "tapes", tmp_path / "second", "--move")
    run(db, "export", "--batch", "tapes", tmp_path / "second", "--link")
    valid(tmp_path / "first")


def test_an_output_that_was_restored_anew_is_new_in_the_package_of_copies(tmp_path: Path) -> None:
    db = add(tmp_path, "a")
    run(db, "export", "--batch", "tapes", tmp_path / "package")
    run(db, "forget", "1", "--yes")
    (tmp_path / "out" / "a_upsampled.wav").unlink()
    rig.enqueue(db, [tmp_path / "in" / "a.wav"], tmp_path / "out", batch="tapes", settings={"seed": 3})
    assert rig.work(db).done == 1
    run(db, "export", "--batch", "tapes", tmp_path / "package")
    assert set(bytes_below(tmp_path / "package")) == set(bytes_below(tmp_path / "out"))


def test_a_package_of_an_earlier_version_is_gone_on_with(tmp_path: Path) -> None:
    db = add(tmp_path, "a", "b")
    bag = tmp_path / "bag"
    run(db, "export", "--batch", "tapes", bag, "--bag", "--move", "--checksums", "md5")
    (bag / mark.NAME).write_text(json.dumps({"schema": 1, "program": "batchsr 0.1.0", "batch": "tapes", "bag": True}))
    forget(db, 1)
    said = failed(db, "export", "--batch", "tapes", bag, "--bag", "--move")
    assert "import-sidecars" in said
    run(db, "import-sidecars", bag)
    add(tmp_path, "c", seed=5)
    run(db, "export", "--batch", "tapes", bag, "--bag", "--move")
    valid(bag)
    assert len(bytes_below(bag)) == 3


def test_what_is_put_into_a_package_while_it_is_made_anew_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = add(tmp_path, "a")
    package = tmp_path / "package"
    run(db, "export", "--batch", "tapes", package)

    def point(name: str) -> None:
        if name == "rename.before":
            (package / "late.txt").write_text("late")

    monkeypatch.setattr(faults, "point", point)
    said = run(db, "export", "--batch", "tapes", package).output
    assert "package.left-1" in said
    assert inside(tmp_path / "package.left-1") == {"late.txt": b"late"}
    assert "a_upsampled.wav" in inside(package)


def events(package: Path) -> dict[str, dict[str, str]]:
    """Of a package: kind of event -> identifier -> when."""
    found: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for event in etree.parse(package / "metadata" / "premis.xml").getroot().iter("{*}event"):
        identifier, kind, at = (
            event.findtext(f".//{{*}}{tag}") for tag in ("eventIdentifierValue", "eventType", "eventDateTime")
        )
        assert None not in (identifier, kind, at)
        assert identifier not in found[str(kind)]
        found[str(kind)][str(identifier)] = str(at)
    return found


def test_an_event_has_one_identifier_for_ever_and_no_other_queues_event_has_it(tmp_path: Path) -> None:
    first, other = add(tmp_path / "one", "a"), add(tmp_path / "two", "a")
    run(first, "import-sidecars", tmp_path / "one" / "out")
    made = []
    for db, name in ((first, "package"), (first, "package"), (first, "again"), (other, "other")):
        run(db, "export", "--batch", "tapes", tmp_path / name, "--premis")
        made.append(events(tmp_path / name))
    package, renewed, again, others = (set(one["migration"]) for one in made)
    assert package == renewed == again
    assert not package & others
    for kind in ("validation", "fixity check"):
        assert len({identifier for one in made for identifier in one[kind]}) == len(made), "each was another check"


def test_a_recording_of_two_jobs_is_one_object(tmp_path: Path) -> None:
    db = add(tmp_path, "a")
    rig.enqueue(db, [tmp_path / "in" / "a.wav"], tmp_path / "more", batch="tapes", settings={"seed": 3})
    assert rig.work(db).done == 1
    run(db, "export", "--batch", "tapes", tmp_path / "package", "--premis")
    root = etree.parse(tmp_path / "package" / "metadata" / "premis.xml").getroot()
    own = [one.text for one in root.iter("{*}objectIdentifierValue")]
    assert len(own) == len(set(own)) == 3


def test_a_fixity_check_is_dated_when_the_files_were_read(tmp_path: Path, steps: Callable[[int], list[str]]) -> None:
    db = add(tmp_path, "a")
    steps(3)
    with pytest.raises(Killed):
        CliRunner().invoke(cli, ["--db", str(db), "export", "--batch", "tapes", str(tmp_path / "package"), "--premis"])
    progress = tmp_path / ".package.batchsr-export.progress"
    lines = [json.loads(line) | {"read_at": "2020-01-02T03:04:05+00:00"} for line in progress.read_text().splitlines()]
    assert lines
    progress.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    steps(0)
    run(db, "export", "--batch", "tapes", tmp_path / "package", "--premis")
    found = events(tmp_path / "package")
    assert list(found["fixity check"].values()) == ["2020-01-02T03:04:05+00:00"]
    assert not next(iter(found["validation"].values())).startswith("2020"), "the header was read now"
