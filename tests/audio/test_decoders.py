"""Decoders: a file seen through other bytes, and parts that are joined."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from batchsr.audio.decoders.interface import DecodeError, Gap, Part
from batchsr.audio.decoders.opening import open_pieces
from batchsr.audio.decoders.virtual_file import Range, Segment, VirtualFile
from batchsr.audio.remarks import LONGEST_MESSAGE, MOST_REMARKS, Remark, bounded
from batchsr.audio.resample import convert_blocks

CONTENT = bytes(range(256)) * 8


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


segments = st.lists(
    st.one_of(st.binary(max_size=40), st.builds(Range, st.integers(0, 1900), st.integers(0, 60))), max_size=6
)


@given(
    made_of=segments, moves=st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(-50, 50), st.integers(0, 100)))
)
def test_a_virtual_file_reads_and_seeks_as_the_joined_bytes_do(
    made_of: list[Segment], moves: list[tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(CONTENT)
    joined = b"".join(s if isinstance(s, bytes) else CONTENT[s.start : s.start + s.length] for s in made_of)
    with opened(path) as fd:
        file = VirtualFile(fd, made_of)
        assert file.length == len(joined)
        assert file.read() == joined
        position = len(joined)
        for whence, offset, count in moves:
            base = (0, position, len(joined))[whence]
            position = max(base + offset, 0)
            assert file.seek(offset, whence) == position == file.tell()
            expected = joined[position : position + count]
            assert file.read(count) == expected
            position += len(expected)


def test_a_virtual_file_that_cannot_be_read_says_so_instead_of_ending() -> None:
    reading, writing = os.pipe()  # cannot be read at an offset
    file = VirtualFile(reading, [Range(0, 100)])
    assert file.read(10) == b""
    assert file.failure is not None
    with pytest.raises(DecodeError) as caught:
        open_pieces(reading, [Part((b"RIFF", Range(0, 100)))])
    assert caught.value.system
    os.close(reading)
    os.close(writing)


def wav(path: Path, x: np.ndarray, rate_hz: int) -> bytes:
    soundfile.write(path, x, rate_hz, subtype="FLOAT", format="WAV")
    return path.read_bytes()


def test_parts_of_other_rates_and_channels_and_gaps_are_one_recording(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(-0.5, 0.5, (1001, 1)).astype(np.float32)
    b = rng.uniform(-0.5, 0.5, (2500, 2)).astype(np.float32)
    path = tmp_path / "both"
    first, second = wav(tmp_path / "a.wav", a, 8000), wav(tmp_path / "b.wav", b, 16_000)
    path.write_bytes(first + b"between" + second)
    pieces = [
        Part((Range(0, len(first)),)),
        Gap(50),
        Part((Range(len(first) + 7, len(second)),), skip=100, frames=2000),
    ]
    with opened(path) as fd:
        decoder = open_pieces(fd, pieces)
        assert (decoder.sample_rate, decoder.channels, decoder.format) == (16_000, 2, "WAV")
        assert decoder.frames == 2002 + 100 + 2000
        whole = np.concatenate([decoder.read(n) for n in (1, 777, 5000)])
        assert len(decoder.read(10)) == 0
        decoder.seek(2050)
        assert np.array_equal(decoder.read(300), whole[2050:2350])
        decoder.close()
        decoder.close()
    assert len(whole) == decoder.frames
    converted = np.concatenate(list(convert_blocks([a], 8000, 16_000, 2002)))
    assert np.array_equal(whole[:2002], np.repeat(converted, 2, axis=1))
    assert not whole[2002:2102].any()
    assert np.array_equal(whole[2102:], b[100:2100])


def test_a_part_that_ends_early_is_an_error_and_no_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 20_000), 8000)
    size = path.stat().st_size
    with opened(path) as fd:
        decoder = open_pieces(fd, [Part((Range(0, size // 2),)), Part()])
        with pytest.raises(DecodeError):
            list(iter(lambda: len(decoder.read(4000)), 0))
        decoder.close()


def test_remarks_are_bounded() -> None:
    assert len(Remark("input.x", "y" * 10_000).message) == LONGEST_MESSAGE
    many = [Remark("input.x", str(i)) for i in range(1000)]
    assert bounded([*many[:5], *many[:5]]) == tuple(many[:5])
    kept = bounded(many)
    assert len(kept) == MOST_REMARKS
    assert "981 more" in kept[-1].message
