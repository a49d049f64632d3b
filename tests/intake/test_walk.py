"""Searching: whatever stands in the way, the rest is taken, and nothing is passed by without a word."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import forked
import pytest
import rig
from program import FAST_MODEL, Program

from batchsr.intake import gather, leftovers, walk
from batchsr.intake.walk import LeftOut, Refused


@pytest.fixture
def program(program: Program) -> Program:
    program.environment |= FAST_MODEL
    return program


def recordings(folder: Path, *names: str | bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(folder), name if isinstance(name, bytes) else name.encode())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(rig.record(folder.parent / "one.wav", 0.05), path)


def as_nobody(program: Program, *arguments: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run it as a user whom permissions hold back, also where the tests run as root."""
    first = None
    if os.geteuid() == 0:
        if not sys.platform.startswith("linux"):
            pytest.skip("nothing holds root back on this system")
        first = forked.First(without=forked.PERMISSIONS)
    return program.run(*arguments, code=code, preexec_fn=first)


@pytest.fixture
def closing() -> Iterator[Callable[[Path, int], None]]:
    closed: list[Path] = []

    def close(path: Path, mode: int) -> None:
        path.chmod(mode)
        closed.append(path)

    yield close
    for path in closed:
        path.chmod(0o755)


def found(*arguments: Path | str, left: LeftOut | None = None) -> list[str]:
    return [
        os.path.basename(one.path)
        for one in gather.gather(map(str, arguments), recursive=True, left=left)
        if isinstance(one, gather.Found)
    ]


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111], ids=["closed", "only listed", "only entered"])
@pytest.mark.parametrize("how", ["tree", "argument", "manifest", "list", "glob", "deep glob", "watch"])
def test_a_closed_folder_is_told_and_the_rest_is_taken(
    program: Program, closing: Callable[[Path, int], None], mode: int, how: str
) -> None:
    archive = program.folder / "archive"
    recordings(archive, "1.wav", "2/2.wav", "2/deep/closed/lost.wav", "3/3.wav", "9.wav")
    closing(closed := archive / "2" / "deep" / "closed", mode)
    (program.folder / "job.toml").write_text('sources.folders = ["archive"]')
    (program.folder / "list.txt").write_text("".join(f"{archive / name}\n" for name in ("1.wav", "2", "3", "9.wav")))
    arguments = {
        "tree": ("enqueue", "-r", archive),
        "argument": ("enqueue", "-r", archive / "1.wav", closed, archive / "2/2.wav", archive / "3", archive / "9.wav"),
        "manifest": ("enqueue", "--job", "job.toml"),
        "list": ("enqueue", "-r", "--from-file", "list.txt"),
        "glob": ("enqueue", archive / "*.wav", archive / "[23]/*.wav", closed / "*.wav"),
        "deep glob": ("enqueue", f"{archive}/**/*.wav"),
        "watch": ("watch", archive, "--once", "--settle", "0.1"),
    }[how]
    result = as_nobody(program, *arguments, code=0 if how == "watch" else 3)
    told = result.stdout + result.stderr
    assert str(closed) in told
    assert "may not be read" in told or "not entered" in told
    assert sorted(Path(job["source"]).name for job in program.jobs()) == ["1.wav", "2.wav", "3.wav", "9.wav"]


def test_a_recording_in_a_closed_folder_that_is_named_is_not_said_to_be_missing(
    program: Program, closing: Callable[[Path, int], None]
) -> None:
    recordings(program.folder, "good.wav", "closed/a.wav")
    closing(program.folder / "closed", 0o000)
    result = as_nobody(program, "enqueue", "closed/a.wav", "good.wav", code=3)
    assert "Permission denied" in result.stdout
    assert "no such file" not in result.stdout
    assert len(program.jobs()) == 1


def test_lost_and_found_is_passed_by_and_said_to_be_where_it_is_closed(
    program: Program, closing: Callable[[Path, int], None]
) -> None:
    recordings(program.folder / "in", "1.wav", "2.wav", "lost+found/3.wav")
    open_one = program.run("enqueue", "-r", "--dry-run", "in")
    assert "1 file or folder of other programs" in open_one.stderr
    closing(program.folder / "in" / "lost+found", 0o000)
    result = as_nobody(program, "enqueue", "-r", "in", code=3)
    assert "lost+found" in result.stdout
    assert len(program.jobs()) == 2


def test_links_in_a_circle_and_deep_trees_end(tmp_path: Path) -> None:
    tree = tmp_path / "in"
    recordings(tree, "a.wav", "sub/b.wav")
    (tree / "sub" / "up").symlink_to(tree)
    (tree / "self.wav").symlink_to(tree / "self.wav")
    (tree / "self").symlink_to(tree / "self")
    (tree / "one").symlink_to(tree / "two")
    (tree / "two").symlink_to(tree / "one")
    left = LeftOut()
    assert found(tree, left=left) == ["a.wav", "self.wav", "b.wav"]
    assert "1 link to a folder" in left.told()
    assert found(f"{tree}/**/*.wav") == ["a.wav", "self.wav", "b.wav"]
    deep, fd = tree, os.open(tree, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, deep = inner, deep / "d"
    os.close(fd)
    try:
        assert found(tree) == ["a.wav", "self.wav", "b.wav"]
        assert found(f"{tree}/**/*.wav") == ["a.wav", "self.wav", "b.wav"]
    finally:
        subprocess.run(["rm", "-rf", tree / "d"], check=True)


@pytest.mark.parametrize("by", ["folder", "glob"])
def test_a_folder_that_goes_away_on_the_way_costs_nothing_else(tmp_path: Path, by: str) -> None:
    recordings(tmp_path / "in", "a/1.wav", "b/2.wav", "c/3.wav", "d/4.wav")
    steps = walk.below(str(tmp_path / "in"), LeftOut())
    if by == "glob":
        steps = walk.matches(f"{tmp_path}/in/**/*.wav", LeftOut())
    names = [next(steps)]
    shutil.rmtree(tmp_path / "in" / "b")
    (tmp_path / "in" / "c").rename(tmp_path / "in" / "e")
    names += list(steps)
    assert [Path(one).name for one in names if isinstance(one, str)] == ["1.wav", "4.wav"]
    gone = [one for one in names if isinstance(one, Refused)]
    assert [Path(one.path).name for one in gone] == ["b", "c"]
    assert all("went away" in one.message and not one.is_named for one in gone)


def test_a_file_that_goes_away_before_it_is_looked_at_is_a_line_and_exit_3(tmp_path: Path) -> None:
    from batchsr.queue.opening import open_queue
    from batchsr.settings.profile import Settings

    recordings(tmp_path / "in", "1.wav", "2.wav", "sub/3.wav")
    told: list[Refused] = []

    def some() -> Iterator[gather.Found]:
        for one in gather.gather([str(tmp_path / "in")], recursive=True):
            assert isinstance(one, gather.Found)
            if one.path.endswith("2.wav"):
                os.unlink(one.path)
            if one.path.endswith("3.wav"):
                shutil.rmtree(tmp_path / "in" / "sub")
                (tmp_path / "in" / "sub").write_text("now a file")
            yield one

    with open_queue(tmp_path / "q.db") as queue:
        taken = list(gather.enqueue(queue, some(), gather.Request(Settings()), lost=told.append))
    assert [Path(one.job.source).name for one in taken] == ["1.wav"]
    assert [Path(one.path).name for one in told] == ["2.wav", "3.wav"]


def test_a_tree_that_changes_all_the_time_is_searched_to_its_end(program: Program) -> None:
    tree = program.folder / "in"
    recordings(tree, *(f"{letter}/{number}.wav" for letter in "abcdefgh" for number in range(5)))
    recordings(tree, "stays/1.wav", "stays/2.wav")
    over = threading.Event()

    def stir() -> None:
        number = 0
        while not over.wait(0.001):
            number += 1
            for letter in "abcdefgh":
                path = tree / letter
                path.rename(tree / f"{letter}{number}")
                (tree / f"{letter}{number}").rename(path)

    thread = threading.Thread(target=stir)
    thread.start()
    try:
        result = program.run("enqueue", "-r", tree, code=None)
    finally:
        over.set()
        thread.join()
    assert result.returncode in (0, 3)
    assert {"1.wav", "2.wav"} <= {Path(job["source"]).name for job in program.jobs() if "stays" in job["source"]}


LEFT = [
    ("@eaDir", "a.wav"),
    (".AppleDouble", "a.wav"),
    ("", "._a.wav"),
    (".Trashes", "a.wav"),
    (".Trash-1000", "a.wav"),
    ("#recycle", "a.wav"),
    ("@Recycle", "a.wav"),
    (".snapshot", "a.wav"),
    (".stversions", "a~20200101-120000.wav"),
    (".sync", "a.wav"),
    (".rsync-partial", "a.wav"),
    (".~tmp~", "a.wav"),
    ("", ".~a.wav"),
    ("", "~$a.wav"),
    ("", ".nfs000000000012ab34"),
    ("", ".fuse_hidden0000001a00000002"),
    (".dropbox.cache", "a.wav"),
    ("System Volume Information", "a.wav"),
    (".@__thumb", "a.wav"),
    ("__MACOSX", "a.wav"),
    ("$RECYCLE.BIN", "a.wav"),
    ("#snapshot", "a.wav"),
    (".zfs", "a.wav"),
    ("FOUND.000", "a.wav"),
    ("", ".a.wav.Xy12Ab"),
    ("", ".a.wav.~1a2b3c4d"),
    ("", ".syncthing.a.wav.tmp"),
    ("", "a.wav.part"),
    ("", "a.wav.crdownload"),
    ("", "a.wav~"),
    ("", ".#a.wav"),
    ("Network Trash Folder", "a.wav"),
    ("", ".smbdelete01a.wav"),
]


@pytest.mark.parametrize(("folder", "name"), LEFT, ids=["/".join(one) for one in LEFT])
def test_what_programs_leave_is_left_out_by_every_search_and_said_to_be(tmp_path: Path, folder: str, name: str) -> None:
    from batchsr.intake.watcher import Scope

    root = tmp_path / "in"
    recordings(root, "sub/good.wav", os.path.join("sub", folder, name))
    for arguments in ([root], [f"{root}/**/*"], [f"{root}/**"], [f"{root}/sub/**/*.wav*"], [f"{root}/*/*"]):
        left = LeftOut()
        assert found(*arguments, left=left) == ["good.wav"], arguments
        if arguments != [f"{root}/sub/**/*.wav*"] and arguments != [f"{root}/*/*"]:
            assert "1 file or folder of other programs" in left.told()
    scope = Scope((str(root),))
    path = str(root / "sub" / folder / name)
    assert not (scope.enters(os.path.dirname(path)) and scope.wants(path, str(root)))


@pytest.mark.parametrize(
    "name", ["a.wav", ".hidden.wav", "part.wav", "tmp.wav", "~a.wav", "a (conflicted copy).wav", "#1.wav", "a.b.wav"]
)
def test_what_people_name_like_that_is_taken(tmp_path: Path, name: str) -> None:
    recordings(tmp_path / "in", name)
    assert found(tmp_path / "in") == [name]
    assert not leftovers.is_left_file(name)


def test_a_pattern_that_names_a_folder_of_a_program_means_it(tmp_path: Path) -> None:
    recordings(tmp_path / "in", "#recycle/a.wav")
    assert found(f"{tmp_path}/in/#recycle/*.wav") == ["a.wav"]
    assert found(tmp_path / "in" / "#recycle" / "a.wav") == ["a.wav"]


ODD = [
    "a.wav.",
    "b.wav ",
    "c.wav\u00a0",
    "SONG.WAV;1",
    "d.flac;12",
    "e.wav. .",
    "f.wav\u3000",
    "g.wav\t",
    "h.wav\u200b",
    "i.wav\r",
    " j.wav",
    "take.wav.wav",
    "x (1).wav",
    "-.wav",
    "\U0001f399 talk.wav",
    "no extension",
    "k ",
    "l.",
]


def test_names_with_odd_ends_are_audio_and_each_is_restored(program: Program) -> None:
    recordings(program.folder / "in", *ODD)
    recordings(program.folder / "in", b"stray\xff.wav", b"m.wav\xa0"[:5])
    (program.folder / "in" / "notes.").write_text("no sound")
    (program.folder / "in" / "readme ;1").write_text("no sound")
    program.run("enqueue", "-r", "in")
    program.run("work", "--variant", "fast", "--min-free", "0")
    jobs = program.jobs()
    assert {job["state"] for job in jobs} == {"done"}
    assert len(jobs) == len(ODD) + 2
    assert len({job["output"] for job in jobs}) == len(jobs)


def test_what_was_left_out_is_counted_by_kind_at_the_end(program: Program) -> None:
    recordings(program.folder / "in", "a.wav")
    for name in ("1.txt", "2.txt", "3.TXT", "cover.jpg", "README", "a.wav.json"):
        (program.folder / "in" / name).write_text("no sound")
    for arguments in (("enqueue", "-r", "--dry-run", "in"), ("enqueue", "-r", "in"), ("enqueue", "-r", "in")):
        assert "left out: 3 .txt, 1 .jpg, 1 without extension: not read here" in program.run(*arguments).stderr
    assert "left out" not in program.run("enqueue", "in/a.wav").stderr
    watched = program.run("watch", "in", "--once", "--settle", "0.1").stderr
    assert "left out: 3 .txt, 1 .jpg, 1 without extension: not read here" in watched


@pytest.mark.parametrize("year", [1600, 1969, 2262, 2263, 2300, 2446])
def test_a_file_of_any_time_is_queued_done_and_moved(program: Program, year: int) -> None:
    recordings(program.folder / "in", "1.wav", "2.wav", "3.wav")
    seconds = (year - 1970) * 31_556_952
    os.utime(program.folder / "in" / "2.wav", ns=(0, seconds * 10**9))
    if abs((program.folder / "in" / "2.wav").stat().st_mtime - seconds) > 1:
        pytest.skip("this file system does not hold such a time")
    program.run("enqueue", "-r", "in")
    program.run("work", "--variant", "fast", "--min-free", "0")
    assert [job["state"] for job in program.jobs()] == ["done"] * 3
    assert "3 already done" in program.run("enqueue", "-r", "in").stderr
    program.run("watch", "in", "--once", "--settle", "0.1", "--done", "done")
    assert sorted(path.name for path in (program.folder / "done").iterdir()) == ["1.wav", "2.wav", "3.wav"]


def test_a_dry_run_numbers_nothing_and_tells_apart_what_will_fail(program: Program) -> None:
    recordings(program.folder, "good.wav")
    (program.folder / "bad.wav").write_text("no sound")
    result = program.run("enqueue", "--dry-run", "good.wav", "bad.wav")
    good, bad = result.stdout.splitlines()
    assert "#" not in result.stdout
    assert "input.format" in bad
    assert "(" not in good
    assert "1 will fail" in result.stderr
    assert [
        json.loads(line)["id"] for line in program.run("--json", "enqueue", "--dry-run", "good.wav").stdout.splitlines()
    ] == [None, None]


def test_a_done_job_whose_output_is_gone_is_done_again(program: Program) -> None:
    recordings(program.folder, "good.wav")
    program.run("enqueue", "good.wav")
    program.run("work", "--variant", "fast", "--min-free", "0")
    (program.folder / "good_upsampled.wav").unlink()
    assert "done again" in program.run("enqueue", "good.wav").stdout
    program.run("work")
    assert (program.folder / "good_upsampled.wav").is_file()
