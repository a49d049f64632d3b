"""Files of ours: their names fit, what others put under them is not opened, and their bytes are what they are."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from batchsr import storage
from batchsr.errors import OutputPathError, OutputTooLarge, ResourceError


def test_free_space_is_told_for_a_folder_that_is_yet_to_be(tmp_path: Path) -> None:
    assert storage.free_bytes(tmp_path / "not" / "yet") == pytest.approx(storage.free_bytes(tmp_path), rel=0.05)
    assert storage.free_bytes(tmp_path / ("x" * 300)) > 0
    assert storage.total_bytes(tmp_path / "not") >= storage.free_bytes(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a file system allows")
def test_a_size_that_a_file_can_never_have_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "small"
    with path.open("w+b") as file:
        file.write(b"four")
        file.flush()
        storage.refuse_too_large(file.fileno(), path, 10**9)
        with pytest.raises(OutputTooLarge, match="larger than a file may be there"):
            storage.refuse_too_large(file.fileno(), path, 2**64)
        assert (file.tell(), path.stat().st_size) == (4, 4)


def test_a_file_system_that_ends_at_four_gigabytes_refuses_what_is_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seek = os.lseek

    def as_fat(fd: int, place: int, whence: int) -> int:
        if place > 0xFFFFFFFF:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return seek(fd, place, whence)

    monkeypatch.setattr(os, "lseek", as_fat)
    with (tmp_path / "a").open("wb") as file:
        storage.refuse_too_large(file.fileno(), tmp_path / "a", 0xFFFFFFFF)
        with pytest.raises(OutputTooLarge):
            storage.refuse_too_large(file.fileno(), tmp_path / "a", 0x100000000)


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert storage.sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_sha256_shows_signs_of_life_and_never_waits_for_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(200 << 20)
    told: list[int] = []
    storage.sha256(path, tick=lambda: told.append(1))
    assert len(told) == 3
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no file"):
        storage.sha256(tmp_path / "pipe")


@pytest.mark.parametrize("length", [1, 240, 241, 245, 250, 251, 255])
@pytest.mark.parametrize("letter", ["x", "é", "\udcff", "漢"])
def test_any_stem_gives_a_name_that_fits_and_is_always_the_same(tmp_path: Path, length: int, letter: str) -> None:
    stem = letter * (length // len(os.fsencode(letter)))
    name = storage.fitted_name(stem, "_upsampled.wav")
    assert name == storage.fitted_name(stem, "_upsampled.wav")
    assert name.endswith("_upsampled.wav")
    assert len(os.fsencode(name)) <= 255
    (tmp_path / name).write_bytes(b"")
    if letter != "\udcff":
        name.encode()  # not cut in the middle of a character
    if length <= 240:
        assert name == stem + "_upsampled.wav"


def test_long_stems_that_differ_only_at_their_ends_keep_names_of_their_own() -> None:
    names = {storage.fitted_name("x" * 250 + str(number), "_upsampled.wav") for number in range(100)}
    assert len(names) == 100


@pytest.mark.parametrize("planted", ["link", "hard link", "pipe", "folder"])
def test_a_file_of_ours_is_not_opened_through_what_others_put_under_its_name(tmp_path: Path, planted: str) -> None:
    master, path = tmp_path / "master.wav", tmp_path / "done.txt"
    master.write_bytes(b"precious")
    match planted:
        case "link":
            path.symlink_to(master)
        case "hard link":
            path.hardlink_to(master)
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()
    with pytest.raises(ResourceError, match=r"done\.txt"):
        os.write(storage.open_own(path, os.O_WRONLY | os.O_APPEND), b"line\n")
    assert master.read_bytes() == b"precious"


def test_small_files_are_read_within_limits_and_without_blocking(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"12345")
    assert storage.read_small(path, 5) == b"12345"
    with pytest.raises(OSError, match="longer than 4"):
        storage.read_small(path, 4)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "nothing", "."):
        with pytest.raises(OSError):  # noqa: PT011 - each has its own words
            storage.read_small(tmp_path / name, 5)
    with pytest.raises(OSError, match="no file"):
        storage.read_small(Path("/dev/zero"), 5)


def test_a_file_where_an_output_folder_belongs_is_that_paths_own_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(OutputPathError):
            storage.make_output_folder(folder)
        with pytest.raises(ResourceError):
            storage.make_folder(folder)
