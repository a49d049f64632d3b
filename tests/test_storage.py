"""Outputs appear whole or not at all, and nothing that exists is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from batchsr import storage
from batchsr.errors import OutputExists, ResourceError


def test_publishing_gives_the_name_and_removes_the_temporary(tmp_path: Path) -> None:
    final = tmp_path / "out.wav"
    temporary = storage.temporary_for(final, "7-1")
    temporary.write_bytes(b"whole")
    storage.publish(temporary, final, overwrite=False)
    assert final.read_bytes() == b"whole"
    assert [p.name for p in tmp_path.iterdir()] == ["out.wav"]


def test_an_existing_file_is_never_lost(tmp_path: Path) -> None:
    final = tmp_path / "out.wav"
    final.write_bytes(b"old")
    temporary = storage.temporary_for(final, "7-1")
    temporary.write_bytes(b"new")
    with pytest.raises(OutputExists, match=r"out\.wav exists already"):
        storage.publish(temporary, final, overwrite=False)
    assert final.read_bytes() == b"old"
    storage.publish(temporary, final, overwrite=True)
    assert final.read_bytes() == b"new"


def test_without_hard_links_an_existing_file_still_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    final = tmp_path / "out.wav"
    temporary = storage.temporary_for(final, "7-1")
    temporary.write_bytes(b"new")
    storage.publish(temporary, final, overwrite=False)
    assert final.read_bytes() == b"new"
    temporary.write_bytes(b"newer")
    with pytest.raises(OutputExists):
        storage.publish(temporary, final, overwrite=False)
    assert final.read_bytes() == b"new"


def test_publishing_orders_file_name_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(fd: int) -> None:
        steps.append("fsync " + ("folder" if Path(f"/proc/self/fd/{fd}").resolve() == tmp_path else "file"))
        real_fsync(fd)

    def link(src: Path, dst: Path) -> None:
        steps.append("name")
        real_link(src, dst)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    final = tmp_path / "out.wav"
    temporary = storage.temporary_for(final, "7-1")
    temporary.write_bytes(b"x")
    storage.publish(temporary, final, overwrite=False)
    assert steps == ["fsync file", "name", "fsync folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_refusing_disk_is_a_resource_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    final = tmp_path / "out.wav"
    temporary = storage.temporary_for(final, "7-1")
    temporary.write_bytes(b"x")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ResourceError, match=os.strerror(code)) as caught:
        storage.publish(temporary, final, overwrite=False)
    assert caught.value.remedy
    assert not final.exists()


def test_a_failed_atomic_write_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    storage.write_atomic(path, b"old", tag="1-1")

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ResourceError, match="full"):
        storage.write_atomic(path, b"new", tag="1-2")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_jobs_own_temporaries_are_removed(tmp_path: Path) -> None:
    final = tmp_path / "out.wav"
    mine = [storage.temporary_for(final, f"7-{claim}") for claim in (1, 2)]
    others = [
        storage.temporary_for(final, "71-1"),
        storage.temporary_for(tmp_path / "other.wav", "7-1"),
        tmp_path / "x.part",
    ]
    for path in mine + others:
        path.write_bytes(b"")
    assert storage.remove_temporaries(final, "7") == 2
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_a_temporary_fits_where_the_longest_name_fits(tmp_path: Path) -> None:
    final = tmp_path / ("x" * 251 + ".wav")
    temporary = storage.temporary_for(final, "123456-99")
    temporary.write_bytes(b"long")
    storage.publish(temporary, final, overwrite=False)
    assert final.read_bytes() == b"long"


def test_free_space_is_told_for_a_folder_that_is_yet_to_be(tmp_path: Path) -> None:
    assert storage.free_bytes(tmp_path / "not" / "yet") == pytest.approx(storage.free_bytes(tmp_path), rel=0.05)


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert storage.sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
