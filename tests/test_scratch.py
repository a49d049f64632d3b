"""A slot is believed only when it proves itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsr.errors import TransientError
from batchsr.restoration.scratch import Scratch, fingerprint

KEY = bytes(range(32))
MADE_FROM = fingerprint(np.zeros((2, 50), np.float32))


def open_scratch(path: Path, key: bytes = KEY, count: int = 4) -> Scratch:
    return Scratch(path, key=key, channels=2, frame_samples=50, count=count)


def window(index: int) -> np.ndarray:
    return np.random.default_rng(index).standard_normal((2, 50), dtype=np.float32)


def test_what_was_written_is_read_back_after_reopening(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s") as scratch:
        for index in (0, 2):
            scratch.write(index, window(index), made_from=MADE_FROM)
        scratch.sync()
    with open_scratch(tmp_path / "s") as scratch:
        assert scratch.finished() == {0, 2}
        np.testing.assert_array_equal(scratch.read(2), window(2))


@given(position=st.integers(min_value=0), flip=st.integers(1, 255))
def test_one_wrong_byte_anywhere_is_noticed(tmp_path_factory: pytest.TempPathFactory, position: int, flip: int) -> None:
    path = tmp_path_factory.mktemp("slots") / "s"
    with open_scratch(path) as scratch:
        for index in range(4):
            scratch.write(index, window(index), made_from=MADE_FROM)
        slot_bytes = scratch.slot_bytes
    data = bytearray(path.read_bytes())
    position %= len(data)
    data[position] ^= flip
    path.write_bytes(data)
    with open_scratch(path) as scratch:
        assert scratch.finished() == set(range(4)) - {position // slot_bytes}


def test_a_slot_cut_short_is_not_believed(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s") as scratch:
        scratch.write(0, window(0), made_from=MADE_FROM)
        scratch.write(1, window(1), made_from=MADE_FROM)
        size = 2 * scratch.slot_bytes
    with (tmp_path / "s").open("r+b") as file:
        file.truncate(size - 1)
    with open_scratch(tmp_path / "s") as scratch:
        assert scratch.finished() == {0}
        with pytest.raises(TransientError, match="slot 1"):
            scratch.read(1)


def test_slots_of_another_model_or_setting_are_not_believed(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s") as scratch:
        scratch.write(0, window(0), made_from=MADE_FROM)
    with open_scratch(tmp_path / "s", key=bytes(32)) as scratch:
        assert scratch.finished() == set()


def test_a_slot_copied_to_another_place_is_not_believed(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s") as scratch:
        scratch.write(0, window(0), made_from=MADE_FROM)
    data = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(data * 2)
    with open_scratch(tmp_path / "s") as scratch:
        assert scratch.finished() == {0}


def test_leftovers_past_the_last_window_are_ignored(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s") as scratch:
        for index in range(4):
            scratch.write(index, window(index), made_from=MADE_FROM)
    with open_scratch(tmp_path / "s", count=2) as scratch:
        assert scratch.finished() == {0, 1}


def test_a_slot_knows_what_it_was_made_from(tmp_path: Path) -> None:
    given = np.random.default_rng(5).standard_normal((2, 50), dtype=np.float32)
    with open_scratch(tmp_path / "s") as scratch:
        scratch.write(1, window(1), made_from=fingerprint(given))
        assert scratch.was_made_from(1, fingerprint(given.copy()))
        given[1, 49] = np.nextafter(given[1, 49], np.float32(9))
        assert not scratch.was_made_from(1, fingerprint(given))
        assert not scratch.was_made_from(3, fingerprint(given))


@pytest.mark.parametrize("planted", ["link", "hard link", "fifo"])
def test_what_somebody_put_under_a_scratch_files_name_is_replaced_and_not_written_through(
    tmp_path: Path, planted: str
) -> None:
    master = tmp_path / "master.wav"
    master.write_bytes(b"precious")
    path = tmp_path / "1-0123456789abcdef.slots"
    if planted == "link":
        path.symlink_to(master)
    elif planted == "hard link":
        path.hardlink_to(master)
    else:
        os.mkfifo(path)
    with open_scratch(path) as scratch:
        scratch.write(0, window(0), made_from=MADE_FROM)
        np.testing.assert_array_equal(scratch.read(0), window(0))
    assert master.read_bytes() == b"precious"
    assert path.lstat().st_nlink == 1
