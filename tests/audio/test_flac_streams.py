"""All the sound of FLAC files whose headers and bytes are not what they should be."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from batchsr.audio.files import Source, fits_header, probe
from batchsr.audio.probe import SourceInfo
from batchsr.audio.remarks import Remark
from batchsr.errors import InputEmpty, InputError, InputFormat, InputTruncated


def sound(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


def flac(path: Path, x: np.ndarray, rate_hz: int = 16_000, subtype: str = "PCM_16") -> bytes:
    soundfile.write(path, x, rate_hz, subtype, format="FLAC")
    return path.read_bytes()


def told(whole: bytes, samples: int, md5: bytes | None = None) -> bytes:
    """The file with another length in its header."""
    packed = int.from_bytes(whole[18:26], "big") >> 36 << 36 | samples
    return whole[:18] + packed.to_bytes(8, "big") + (whole[26:42] if md5 is None else md5) + whole[42:]


def read(path: Path, block: int = 5000) -> tuple[np.ndarray, SourceInfo, tuple[Remark, ...]]:
    with Source.open(path) as source:
        blocks = np.concatenate(list(source.blocks(block)))
        assert len(blocks) == source.info.frames
        return blocks, source.info, source.remarks


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("block", [1000, 65_536])
def test_a_good_file_is_read_without_a_word(tmp_path: Path, subtype: str, channels: int, block: int) -> None:
    path = tmp_path / "x.flac"
    flac(path, sound(30_001, channels), subtype=subtype)
    got, info, remarks = read(path, block)
    assert (len(got), info.format, info.subtype, remarks) == (30_001, "FLAC", subtype, ())
    assert np.array_equal(got, soundfile.read(path, dtype="float32", always_2d=True)[0])


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_a_wrong_md5_is_said_when_all_was_read(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(told(flac(path, sound(9000, 2), subtype=subtype), 9000, bytes(range(16))))
    got, info, remarks = read(path)
    assert (len(got), info.remarks) == (9000, ())
    assert [r.code for r in remarks] == ["input.md5"]
    path.write_bytes(told(path.read_bytes(), 9000, bytes(16)))
    assert read(path)[2] == ()


@pytest.mark.parametrize("samples", [1, 100, 4096, 4097, 60_000])
def test_an_unknown_length_is_found(tmp_path: Path, samples: int) -> None:
    path = tmp_path / "x.flac"
    whole = flac(path, sound(samples, 2))
    expected = read(path)[0]
    for behind in (b"", b"TAG" + bytes(125), bytes(3000)):
        for md5 in (None, bytes(16)):
            path.write_bytes(told(whole, 0, md5) + behind)
            got, _, remarks = read(path)
            assert np.array_equal(got, expected)
            assert remarks == ()
            assert fits_header(path)


def test_a_cut_file_of_unknown_length_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(told(flac(path, sound(60_000)), 0)[:-500])
    with pytest.raises(InputTruncated, match="last frame"):
        probe(path)
    assert not fits_header(path)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_file_says_how_much_is_missing(tmp_path: Path, share: float) -> None:
    path = tmp_path / "x.flac"
    whole = flac(path, sound(60_000))
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputTruncated, match="are missing") as refused:
        probe(path)
    accepted = probe(path, accept_truncated=True)
    missing_s = (60_000 - accepted.frames) / accepted.sample_rate
    for said in (str(refused.value), accepted.remarks[0].message):
        assert f"{missing_s:.2f} of {60_000 / accepted.sample_rate:.2f} s are missing" in said


@pytest.mark.parametrize("count", [1, 2000, 59_999])
def test_a_header_that_says_less_loses_nothing(tmp_path: Path, count: int) -> None:
    path = tmp_path / "x.flac"
    whole = flac(path, sound(60_000))
    expected = read(path)[0]
    path.write_bytes(told(whole, count))
    got, _, remarks = read(path)
    assert np.array_equal(got, expected)
    assert [r.code for r in remarks] == ["input.longer_than_header"]


@pytest.mark.parametrize("lengths", [(8000, 8000), (8000, 500, 8000), (100_000, 100_000, 100_000), (50_000, 1)])
@pytest.mark.parametrize("between", [b"", b"TAG" + bytes(125), b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)])
@pytest.mark.parametrize("known", [True, False])
def test_joined_files_are_one_recording(tmp_path: Path, lengths: tuple[int, ...], between: bytes, known: bool) -> None:
    path = tmp_path / "x.flac"
    files = [flac(path, sound(n, seed=n + i)) for i, n in enumerate(lengths)]
    expected = []
    for content in files:
        path.write_bytes(content)
        expected.append(read(path)[0])
    path.write_bytes(between.join(content if known else told(content, 0) for content in files))
    got, _, remarks = read(path)
    assert np.array_equal(got, np.concatenate(expected))
    assert [r.code for r in remarks] == ["input.joined"]


def test_joined_files_of_other_rates_and_channels_keep_their_pitch(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(flac(path, sound(8000), 8000) + flac(path, sound(16_000, 2), 16_000))
    got, info, _ = read(path)
    assert (len(got), info.sample_rate, info.channels) == (32_000, 16_000, 2)


def test_a_tag_in_front_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    whole = flac(path, sound(20_000))
    expected = read(path)[0]
    path.write_bytes(b"ID3\x04\0\0\0\0\x02\x2c" + bytes(300) + whole)
    got, info, remarks = read(path)
    assert np.array_equal(got, expected)
    assert (info.format, remarks) == ("FLAC", ())


def test_damaged_frames_are_silence_at_their_place_and_said(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    whole = flac(path, sound(100_000))
    expected = read(path)[0]
    for block in (1000, 5000, 65_536):
        damaged = bytearray(whole)
        for part in (0.3, 0.7):
            damaged[int(part * len(whole))] ^= 1
        path.write_bytes(damaged)
        got, _, remarks = read(path, block)
        wrong = np.flatnonzero((got != expected).any(1))
        assert 0 < len(wrong) <= 4 * 4096
        assert not got[wrong].any()
        assert [r.code for r in remarks] == ["input.gap"]
        assert "damaged frames" in remarks[0].message


def test_a_file_that_is_mostly_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    damaged = bytearray(flac(path, sound(400_000)))
    damaged[2000:-20_000:997] = bytes(len(range(2000, len(damaged) - 20_000, 997)))
    path.write_bytes(damaged)
    with pytest.raises(InputFormat, match="damaged"):
        read(path)


def test_what_is_no_flac_for_us_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    whole = bytearray(flac(path, sound(1000)))
    packed = int.from_bytes(whole[18:26], "big")
    whole[18:26] = (packed & ~(31 << 36) | 31 << 36).to_bytes(8, "big")
    path.write_bytes(whole)
    with pytest.raises(InputFormat, match="32 bits"):
        probe(path)
    path.write_bytes(flac(path, sound(0)))
    with pytest.raises(InputEmpty):
        probe(path)


def test_hostile_files_cost_little_time(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    head = flac(path, sound(100))[:42]
    for body in (b"\xff\xf8" * 500_000, b"fLaC\0\0\0\x22" * 120_000, head * 24_000, b"\x81\0\0\0" * 250_000):
        for start in (head, told(head, 0)):
            path.write_bytes(start + body)
            started = time.monotonic()
            with pytest.raises(InputError):
                read(path)
            assert time.monotonic() - started < 5


def test_a_file_without_a_whole_frame_is_offered_no_command_that_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(flac(path, sound(48_000))[:6000])
    with pytest.raises(InputTruncated, match="no frame is whole before it") as caught:
        probe(path)
    assert "ffmpeg" not in str(caught.value.remedy)
