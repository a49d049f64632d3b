"""A slot is believed only when it proves itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsr.errors import TransientError
from batchsr.restoration.scratch import HEADER, Scratch

KEY = bytes(range(32))


def open_scratch(path: Path, key: bytes = KEY, count: int = 4) -> Scratch:
    return Scratch(path, key=key, channels=2, frame_samples=50, count=count)


def window(index: int) -> np.ndarray:
    return np.random.default_rng(index).standard_normal((2, 50), dtype=np.float32)


def test_what_was_written_is_read_back_after_reopening(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s") as scratch:
        for index in (0, 2):
            scratch.write(index, window(index))
        scratch.sync()
    with open_scratch(tmp_path / "s") as scratch:
        assert scratch.finished() == {0, 2}
        np.testing.assert_array_equal(scratch.read(2), window(2))


@given(position=st.integers(min_value=0), flip=st.integers(1, 255))
def test_one_wrong_byte_anywhere_is_noticed(tmp_path_factory: pytest.TempPathFactory, position: int, flip: int) -> None:
    path = tmp_path_factory.mktemp("slots") / "s"
    with open_scratch(path) as scratch:
        for index in range(4):
            scratch.write(index, window(index))
        slot_bytes = scratch.slot_bytes
    data = bytearray(path.read_bytes())
    position %= len(data)
    data[position] ^= flip
    path.write_bytes(data)
    padding = HEADER.size - 12 <= position % slot_bytes < HEADER.size
    with open_scratch(path) as scratch:
        assert scratch.finished() == set(range(4)) - (set() if padding else {position // slot_bytes})


def test_a_slot_cut_short_is_not_believed(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s") as scratch:
        scratch.write(0, window(0))
        scratch.write(1, window(1))
        size = 2 * scratch.slot_bytes
    with (tmp_path / "s").open("r+b") as file:
        file.truncate(size - 1)
    with open_scratch(tmp_path / "s") as scratch:
        assert scratch.finished() == {0}
        with pytest.raises(TransientError, match="slot 1"):
            scratch.read(1)


def test_slots_of_another_model_or_setting_are_not_believed(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s") as scratch:
        scratch.write(0, window(0))
    with open_scratch(tmp_path / "s", key=bytes(32)) as scratch:
        assert scratch.finished() == set()


def test_a_slot_copied_to_another_place_is_not_believed(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s") as scratch:
        scratch.write(0, window(0))
    data = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(data * 2)
    with open_scratch(tmp_path / "s") as scratch:
        assert scratch.finished() == {0}


def test_leftovers_past_the_last_window_are_ignored(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s") as scratch:
        for index in range(4):
            scratch.write(index, window(index))
    with open_scratch(tmp_path / "s", count=2) as scratch:
        assert scratch.finished() == {0, 1}
