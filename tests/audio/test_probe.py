"""Every kind of file gets the verdict that its facts demand, without decoding it and without blocking."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from batchsr.audio.decoders import ffmpeg
from batchsr.audio.files import Source, fits_header, probe, shown
from batchsr.errors import (
    InputEmpty,
    InputError,
    InputFormat,
    InputLimits,
    InputMissing,
    InputNotFinite,
    InputNotRegular,
    InputTruncated,
    InputUnreadable,
)
from tests.audio.conftest import Make, true_frames

# Every file of bad.tar: what is wrong with it (None: it looks odd and is whole), and words its message must have.
VERDICTS: dict[str, tuple[type[InputError] | None, str]] = {
    "truncated_header_20_bytes.wav": (InputTruncated, "194,406 bytes, 20 are there"),
    "truncated_header_no_data_chunk.wav": (InputTruncated, "none of them audio"),
    "truncated_data_odd_byte.wav": (InputTruncated, "194,362 bytes of audio, 64,759 are there"),
    "truncated.flac": (InputTruncated, "last frame"),
    "truncated.ogg": (InputTruncated, "middle of a page"),
    "ogg_headers_only.ogg": (InputTruncated, "cut short"),
    "zero_bytes.flac": (InputEmpty, "0 bytes"),
    "text.wav": (InputFormat, "not audio"),
    "float_nan.wav": (InputNotFinite, "NaN"),
    "float_inf.wav": (InputNotFinite, "Inf"),
    "float_huge.wav": (InputNotFinite, "too large"),
    "float_denormal.wav": (None, ""),
    "claims_2GB.wav": (InputTruncated, "2,147,483,392 bytes"),
    "data_size_zero_streamed.wav": (None, ""),
    "zero_rate.wav": (InputLimits, "0 samples a second"),
    "channels_1024.wav": (InputLimits, "1,024 channels"),
    "channels_65535.wav": (InputLimits, "65,535 channels"),
    "rate_1Hz.wav": (InputLimits, "1 samples a second"),
    "rate_655350.wav": (None, ""),
    "rate_100Hz.wav": (InputLimits, "100 samples a second"),
    "unknown_codec_0x1234.wav": (InputFormat, "0x1234"),
    "genuine_vorbis_in_riff.ogg": (InputFormat, "0x674F"),
    "unsupported_headerless.gsm": (InputFormat, "-f gsm"),
    "unsupported_headerless.g722": (InputFormat, "-f g722"),
    "unsupported_headerless.raw": (InputFormat, "-f s16le"),
    "unsupported_opus.mkv": (InputFormat, "install ffmpeg"),
    "directory.wav": (InputNotRegular, "a folder"),
    "dangling_symlink.wav": (InputMissing, "symbolic link to no-such-file"),
    "loop_b.wav": (InputMissing, "symbolic link"),
    "unreadable_chmod000.wav": (InputUnreadable, "may not be read"),
}


def read_whole(path: Path) -> int:
    with Source.open(path) as source:
        return sum(len(block) for block in source.blocks())


def test_the_table_names_every_broken_file(recordings: Path) -> None:
    assert set(VERDICTS) == {path.name for path in (recordings / "bad").iterdir()}


@pytest.mark.parametrize("name", VERDICTS)
def test_a_broken_file_gets_its_verdict(recordings: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ffmpeg.VARIABLE, "off")
    error, words = VERDICTS[name]
    path = recordings / "bad" / name
    if error is InputUnreadable and os.access(path, os.R_OK):
        error = None  # root reads it anyway
    if error is None:
        assert read_whole(path) == probe(path).frames
        return
    with pytest.raises(error) as caught:
        read_whole(path)
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert name in caught.value.message
    assert "\n" not in str(caught.value)


def test_every_shared_recording_is_what_its_manifest_says(inputs: list[tuple[Path, dict[str, str]]]) -> None:
    assert len(inputs) == 60
    for path, row in inputs:
        info = probe(path)
        assert (info.sample_rate, info.channels) == (int(row["rate"]), int(row["channels"]))
        assert info.frames == true_frames(path, row)
        assert info.remarks == ()
        assert f"{info.format}/{info.subtype}" == row["format"]
        assert read_whole(path) == info.frames
        assert fits_header(path)


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder"])
def test_what_is_no_regular_file_is_refused_without_blocking(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.wav"
    listener = socket.socket(socket.AF_UNIX)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        listener.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputNotRegular, match=rf"x\.wav is a {kind.replace('fifo', 'pipe')}"):
        probe(path)
    listener.close()


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda p: None, "is not there"),
        (lambda p: p.symlink_to(p), "leads in a circle"),
        (lambda p: p.symlink_to("gone.wav"), "symbolic link to gone.wav"),
    ],
)
def test_a_missing_file_is_called_missing(tmp_path: Path, prepare: Callable[[Path], None], words: str) -> None:
    prepare(tmp_path / "x.wav")
    with pytest.raises(InputMissing, match=words):
        probe(tmp_path / "x.wav")


@pytest.mark.parametrize("name", ["a" * 300 + ".wav", "nul\0.wav", "file/under.wav"])
def test_an_impossible_name_is_called_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputMissing):
        probe(tmp_path / name)


def test_a_file_that_may_not_be_read_says_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make()

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    with pytest.raises(InputUnreadable, match=r"chmod u\+r"):
        probe(path)


NAMES = [
    b"caf\xe9.wav",
    b"a\nb.wav",
    b"-dash.wav",
    "日本語 🎧.wav".encode(),
    b'quote\'s "x".wav',
    b"no_extension",
    b"x.gsm",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_read_and_shown(make: Make, tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    make("plain.wav").rename(path)
    assert read_whole(path) == 8000
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputTruncated) as caught:
        probe(path)
    caught.value.message.encode("utf-8")  # a database takes it
    assert "\n" not in caught.value.message


def test_a_shown_name_can_be_pasted_into_a_shell() -> None:
    assert shown("-x.wav") == "./-x.wav"
    assert shown("a b.wav") == "'a b.wav'"
    assert shown(os.fsdecode(b"caf\xe9.wav")) == r"'caf\xe9.wav'"


CUTTABLE = [
    ("in.wav", "PCM_16", {}),
    ("in.wav", "FLOAT", {}),
    ("in.wav", "PCM_24", {"endian": "BIG"}),
    ("in.wav", "PCM_24", {"format": "RF64"}),
    ("in.wav", "PCM_16", {"format": "WAVEX"}),
    ("in.w64", "PCM_16", {}),
    ("in.aiff", "PCM_24", {}),
    ("in.aiff", "ULAW", {}),
    ("in.au", "PCM_16", {}),
    ("in.caf", "PCM_16", {}),
    ("in.wav", "PCM_16", {"format": "NIST"}),
    ("in.wav", "ULAW", {"format": "NIST"}),
    ("in.voc", "PCM_16", {}),
    ("in.flac", "PCM_16", {}),
    ("in.ogg", "VORBIS", {}),
    ("in.ogg", "OPUS", {}),
]


@pytest.mark.parametrize(("name", "subtype", "options"), CUTTABLE)
def test_a_cut_anywhere_is_noticed(make: Make, name: str, subtype: str, options: dict[str, str]) -> None:
    path = make(name, subtype=subtype, **options)
    whole = path.read_bytes()
    assert read_whole(path) == 8000
    assert fits_header(path)
    for part in (0.03, 0.4, 0.9, 0.999):
        path.write_bytes(whole[: int(part * len(whole)) | 1])
        with pytest.raises(InputError) as caught:
            read_whole(path)
        assert isinstance(caught.value, InputTruncated | InputFormat)
        assert part < 0.4 or isinstance(caught.value, InputTruncated)
        assert part < 0.4 or not fits_header(path)


@pytest.mark.parametrize(
    ("name", "at", "claim"),
    [
        ("in.wav", 40, struct.pack("<I", 0)),
        ("in.wav", 40, struct.pack("<I", 0xFFFFFFFF)),
        ("in.au", 8, struct.pack(">I", 0)),
    ],
)
def test_a_length_that_was_never_filled_in_is_no_loss_and_is_said(make: Make, name: str, at: int, claim: bytes) -> None:
    path = make(name)
    whole = bytearray(path.read_bytes())
    whole[at : at + 4] = claim
    path.write_bytes(whole)
    info = probe(path)
    assert info.frames == read_whole(path) == 8000
    assert [remark.code for remark in info.remarks] == ["input.longer_than_header"]
    assert "never filled in" in info.remarks[0].message
    assert not fits_header(path)  # whoever wrote it may still be at it


def test_a_flac_that_does_not_know_its_length_is_told_from_an_empty_one(make: Make) -> None:
    path = make("in.flac")
    whole = bytearray(path.read_bytes())
    whole[8 + 13] &= 0xF0
    whole[8 + 14 : 8 + 18] = bytes(4)
    path.write_bytes(whole)
    assert probe(path).frames == 8000


def test_an_au_of_unknown_length_is_whole(make: Make) -> None:
    path = make("in.au")
    whole = bytearray(path.read_bytes())
    whole[8:12] = b"\xff\xff\xff\xff"
    path.write_bytes(whole)
    assert read_whole(path) == 8000


@pytest.mark.parametrize("name", ["in.wav", "in.aiff", "in.w64", "in.flac"])
def test_a_file_of_no_frames_is_empty(make: Make, name: str) -> None:
    with pytest.raises(InputEmpty):
        probe(make(name, np.zeros((0, 1))))


def test_chunks_behind_an_empty_data_chunk_do_not_make_it_unpatched(make: Make) -> None:
    path = make("in.wav", np.zeros((0, 1)))
    path.write_bytes(path.read_bytes() + b"LIST\x04\0\0\0INFO")
    with pytest.raises(InputEmpty):
        probe(path)


def test_audio_that_ends_within_a_frame_is_cut(make: Make) -> None:
    path = make("in.wav", np.zeros((100, 2)))
    whole = bytearray(path.read_bytes()[:-3])
    whole[40:44] = struct.pack("<I", 397)
    path.write_bytes(whole)
    with pytest.raises(InputTruncated, match="middle of a frame"):
        probe(path)


def test_junk_behind_the_audio_is_no_cut(make: Make) -> None:
    for name, subtype in (("in.wav", "PCM_16"), ("in.ogg", "VORBIS"), ("in.flac", "PCM_16")):
        path = make(name, subtype=subtype)
        path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
        assert read_whole(path) == 8000


@pytest.mark.parametrize(("rate_hz", "channels"), [(999, 1), (768_001, 1), (8000, 65)])
def test_limits_are_refused_just_outside(make: Make, rate_hz: int, channels: int) -> None:
    with pytest.raises(InputLimits):
        probe(make(signal=np.zeros((10, channels)), rate_hz=rate_hz))


@pytest.mark.parametrize(("rate_hz", "channels"), [(1000, 1), (768_000, 1), (8000, 64)])
def test_limits_themselves_are_fine(make: Make, rate_hz: int, channels: int) -> None:
    info = probe(make(signal=np.zeros((10, channels)), rate_hz=rate_hz))
    assert (info.frames, info.sample_rate, info.channels) == (10, rate_hz, channels)


def test_hostile_bytes_never_raise_anything_but_an_input_error(make: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name, subtype in (("in.wav", "PCM_16"), ("in.aiff", "PCM_16"), ("in.caf", "PCM_16"), ("in.w64", "PCM_16")):
        whole = make(name, subtype=subtype).read_bytes()
        for _ in range(40):
            broken = bytearray(whole)
            for at in rng.integers(0, 80, 4):
                broken[at] = rng.integers(256)
            path = tmp_path / "broken"
            path.write_bytes(broken)
            try:
                info = probe(path)
            except InputError:
                continue
            assert info.frames > 0


def test_a_file_that_grows_fits_its_header_only_when_it_is_whole(make: Make, tmp_path: Path) -> None:
    whole = make().read_bytes()
    path = tmp_path / "growing.wav"
    verdicts = []
    for size in (0, 20, 44, 1000, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:size])
        verdicts.append(fits_header(path))
    assert verdicts == [False, False, False, False, False, True]


def test_output_length_rounds_up(make: Make) -> None:
    info = probe(make(signal=np.zeros((3, 1)), rate_hz=44_100))
    assert info.samples_at() == 4
    assert info.duration_s == 3 / 44_100
    assert soundfile.info(info.path).frames == 3


@pytest.mark.parametrize("form", sorted(set(soundfile.available_formats()) - {"RAW", "SD2"}))
def test_every_container_that_libsndfile_reads_is_read(make: Make, form: str) -> None:
    for subtype in soundfile.available_subtypes(form):
        if subtype.startswith(("DWVW", "MPEG_LAYER_I")) and subtype != "MPEG_LAYER_III":
            continue  # which libsndfile itself cannot read or write
        if (form, subtype) == ("WAV", "MPEG_LAYER_III"):
            continue
        path = make("in", subtype=subtype, format=form)
        assert 8000 <= read_whole(path) < 9000, subtype  # some codecs fill up their last block
