"""Outputs appear whole or not at all, nothing that exists is lost, and nothing that others put there is written to."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rig

from batchsr import temporary
from batchsr.errors import OutputExists, OutputPathError, OutputTooLarge, ResourceError, TransientError
from batchsr.temporary import Temporary


def written(final: Path, data: bytes) -> Temporary:
    one = Temporary.beside(final)
    one.write(data)
    return one


def left_by_the_dead(final: Path, data: bytes = b"half") -> Path:
    """What a process that was killed leaves beside an output."""
    with_lock = written(final, data)
    with_lock.close()
    return with_lock.path


def test_publishing_gives_the_name_and_removes_the_temporary(tmp_path: Path) -> None:
    final = tmp_path / "out.wav"
    with written(final, b"whole") as one:
        one.publish(overwrite=False)
        assert one.is_published()
    assert final.read_bytes() == b"whole"
    assert [p.name for p in tmp_path.iterdir()] == ["out.wav"]


def test_an_existing_file_is_never_lost(tmp_path: Path) -> None:
    final = tmp_path / "out.wav"
    final.write_bytes(b"old")
    with written(final, b"new") as one:
        with pytest.raises(OutputExists, match=r"out\.wav exists already"):
            one.publish(overwrite=False)
        assert final.read_bytes() == b"old"
        one.publish(overwrite=True)
    assert final.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["out.wav"]


def refuse_links(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(code, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_without_hard_links_an_existing_file_still_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse_links(monkeypatch, code)
    final = tmp_path / "out.wav"
    with written(final, b"new") as one:
        one.publish(overwrite=False)
    assert final.read_bytes() == b"new"
    with written(final, b"newer") as one, pytest.raises(OutputExists):
        one.publish(overwrite=False)
    assert final.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["out.wav"]


def test_publishing_orders_file_name_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(fd: int) -> None:
        steps.append("fsync " + ("folder" if Path(f"/proc/self/fd/{fd}").resolve() == tmp_path else "file"))
        real_fsync(fd)

    def link(*given: Any, **named: Any) -> None:
        steps.append("name")
        real_link(*given, **named)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    with written(tmp_path / "out.wav", b"x") as one:
        one.publish(overwrite=False)
    assert steps == ["fsync file", "name", "fsync folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_refusing_disk_is_a_resource_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    final = tmp_path / "out.wav"
    with written(final, b"x") as one:
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(ResourceError, match=os.strerror(code)) as caught:
            one.publish(overwrite=False)
    assert caught.value.remedy
    assert not final.exists()


def test_a_failed_atomic_write_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    temporary.write_atomic(path, b"old")

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ResourceError, match="full"):
        temporary.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_stream_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    with temporary.whole_file(path) as file:
        file.write(b"old")
    with contextlib.suppress(ZeroDivisionError), temporary.whole_file(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_living_owners_temporary_is_left_alone_and_a_dead_ones_goes(tmp_path: Path) -> None:
    final = tmp_path / "out.wav"
    others = [left_by_the_dead(tmp_path / "other.wav"), tmp_path / "x.part"]
    others[1].write_bytes(b"")
    dead = left_by_the_dead(final)
    with written(final, b"alive") as mine:
        assert temporary.remove_temporaries(final) == 1
        assert sorted(tmp_path.iterdir()) == sorted([*others, mine.path])
        mine.publish(overwrite=False)
    assert not dead.exists()
    assert final.read_bytes() == b"alive"


def test_another_process_cannot_take_a_living_owners_temporary(tmp_path: Path) -> None:
    final = tmp_path / "out.wav"
    with written(final, b"alive") as mine:
        assert rig.wait(rig.fork(lambda: temporary.remove_temporaries(final))) == 0
        assert mine.path.exists()


def test_the_temporary_of_a_process_that_was_killed_is_a_dead_ones(tmp_path: Path) -> None:
    final = tmp_path / "out.wav"

    def doomed() -> None:
        written(final, b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    assert rig.wait(rig.fork(doomed)) == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    assert temporary.remove_temporaries(final) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_reaper_between_the_making_and_the_locking_only_costs_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "out.wav"
    real_lock = temporary._lock
    reaped: list[int] = []

    def late(fd: int) -> bool | None:
        if not reaped:
            reaped.append(0)
            reaped.append(temporary.remove_temporaries(final))
        return real_lock(fd)

    monkeypatch.setattr(temporary, "_lock", late)
    with written(final, b"whole") as one:
        one.publish(overwrite=False)
    assert reaped == [0, 1]
    assert final.read_bytes() == b"whole"


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_published_is_what_was_written_even_if_the_temporary_was_exchanged(
    tmp_path: Path, overwrite: bool
) -> None:
    final = tmp_path / "out.wav"
    if overwrite:
        final.write_bytes(b"old")
    with written(final, b"ours") as one:
        planted = tmp_path / "planted"
        planted.write_bytes(b"theirs")
        planted.replace(one.path)
        try:
            one.publish(overwrite=overwrite)
        except TransientError as e:
            assert "exchanged" in str(e)  # noqa: PT017 - it may as well succeed, with the right bytes
    assert not final.exists() or final.read_bytes() in (b"ours", b"old")
    assert one.path.read_bytes() == b"theirs", "what is not ours is not removed"


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_without_proc_an_exchanged_temporary_never_keeps_the_outputs_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(Temporary, "_link_by_descriptor", lambda self: False)
    final = tmp_path / "out.wav"
    real_link = os.link
    with written(final, b"ours") as one:

        def exchange() -> None:
            planted = tmp_path / "planted"
            planted.write_bytes(b"theirs")
            planted.replace(one.path)

        def link(source: Path, target: Path) -> None:
            exchange()
            real_link(source, target)

        if moment == "before":
            exchange()
        else:
            monkeypatch.setattr(os, "link", link)
        with pytest.raises(TransientError, match="exchanged"):
            one.publish(overwrite=False)
    assert not final.exists()


@pytest.mark.parametrize("kind", ["link", "hard link", "dangling link"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_planted_under_an_outputs_name_is_never_written_through(
    tmp_path: Path, kind: str, overwrite: bool
) -> None:
    master, final = tmp_path / "master.wav", tmp_path / "out.wav"
    master.write_bytes(b"precious")
    match kind:
        case "link":
            final.symlink_to(master)
        case "hard link":
            final.hardlink_to(master)
        case _:
            final.symlink_to(tmp_path / "nothing")
    with written(final, b"new") as one:
        if overwrite:
            one.publish(overwrite=True)
            assert final.read_bytes() == b"new"
            assert not final.is_symlink()
        else:
            with pytest.raises(OutputExists):
                one.publish(overwrite=False)
    assert master.read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def empty_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [fifo, folder, empty_folder])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_file_is_not_even_overwritten(tmp_path: Path, make: Callable[[Path], None], overwrite: bool) -> None:
    final = tmp_path / "out.wav"
    make(final)
    before = final.lstat()
    with written(final, b"new") as one, pytest.raises(OutputExists, match=r"out\.wav"):
        one.publish(overwrite=overwrite)
    assert final.lstat().st_ino == before.st_ino


def test_trouble_of_one_path_is_that_files_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for final in (tmp_path / "file" / "out.wav", tmp_path / "loop" / "out.wav"):
        with pytest.raises(OutputPathError, match=r"out\.wav"):
            Temporary.beside(final)
    with written(tmp_path / ("x" * 256), b"long") as one, pytest.raises(OutputPathError, match="too long"):
        one.publish(overwrite=False)


def test_a_file_larger_than_files_may_be_is_that_files_own_trouble(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def child() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with Temporary.beside(tmp_path / "out.wav") as one:
            try:
                one.write(bytes(20_000))
            except OutputTooLarge as e:
                return 7 if "ulimit -f" in e.remedy else 8
        return 9

    assert rig.wait(rig.fork(child)) == 7


def test_a_temporary_fits_where_the_longest_name_fits(tmp_path: Path) -> None:
    final = tmp_path / ("x" * 251 + ".wav")
    with written(final, b"long") as one:
        one.publish(overwrite=False)
    assert final.read_bytes() == b"long"


@pytest.mark.parametrize(("mask", "mode"), [(0o002, 0o664), (0o077, 0o600), (0o022, 0o644)])
def test_what_is_made_keeps_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        temporary.write_atomic(tmp_path / "out.json", b"{}")
    finally:
        os.umask(before)
    assert (tmp_path / "out.json").stat().st_mode & 0o777 == mode


def test_two_who_publish_in_one_folder_take_turns_but_a_stopped_one_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "_FOLDER_LOCK_S", 0.05)
    with temporary.locked_folder(tmp_path), temporary.locked_folder(tmp_path), written(tmp_path / "o", b"x") as one:
        one.publish(overwrite=False)
    assert (tmp_path / "o").read_bytes() == b"x"
