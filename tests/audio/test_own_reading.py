"""Samples read from where the walk found them are libsndfile's own, to the bit."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from batchsr.audio.containers import headers
from batchsr.audio.decoders.libsndfile import LibsndfileDecoder
from batchsr.audio.decoders.opening import open_pieces

PLAIN = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "VOC", "SVX")
KINDS = [
    (form, subtype, endian)
    for form in FORMATS
    for subtype in PLAIN
    for endian in ("FILE", "LITTLE", "BIG")
    if soundfile.check_format(form, subtype, endian)
]


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize(("form", "subtype", "endian"), KINDS)
def test_the_walk_reads_what_libsndfile_reads(
    tmp_path: Path, form: str, subtype: str, endian: str, channels: int
) -> None:
    samples = np.random.default_rng(3).uniform(-1, 1, (1001, channels))
    path = tmp_path / "x"
    try:
        with path.open("wb") as file:
            soundfile.write(file, samples, 11_025, subtype=subtype, format=form, endian=endian)
    except soundfile.LibsndfileError:
        pytest.skip("libsndfile does not write it")
    fd = os.open(path, os.O_RDONLY)
    try:
        header = headers.inspect(fd, path.stat().st_size)
        assert header.pieces == ()  # it is as it should be
        assert header.own, "the walk knows these samples"
        with (
            contextlib.closing(LibsndfileDecoder(fd)) as native,
            contextlib.closing(open_pieces(fd, header.own)) as own,
        ):
            assert (own.frames, own.channels, own.sample_rate) == (native.frames, native.channels, native.sample_rate)
            assert (own.frames, own.subtype, own.format) == (header.frames, native.subtype, native.format)
            expected = native.read(2000)
            assert np.array_equal(own.read(2000), expected)
            own.seek(700)
            assert np.array_equal(own.read(100), expected[700:800])
    finally:
        os.close(fd)


def test_the_kinds_are_many() -> None:
    assert len(KINDS) > 90
    assert {form for form, _, _ in KINDS} == set(FORMATS)
    assert dataclasses.is_dataclass(headers.Header)
