"""All the sound of MPEG files whose headers, tags and bytes are not what they should be."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from batchsr.audio.containers.mp3_frames import frame_header
from batchsr.audio.files import Source, fits_header
from batchsr.audio.probe import SourceInfo
from batchsr.errors import InputError, InputFormat, InputTruncated

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg encodes Layer II")
PICTURE = b"\xff\xd8\xff\xe0" + np.random.default_rng(5).bytes(150_000)


def tone(seconds: float, rate_hz: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise below a quarter of the rate, which every encoder keeps, so that a place in it can be found again."""
    x = np.random.default_rng(seed).standard_normal((round(seconds * rate_hz), channels))
    b = scipy.signal.firwin(101, 0.25)
    return (scipy.signal.lfilter(b, 1, x, axis=0) * 0.3).astype(np.float32)


def mp3(path: Path, x: np.ndarray, rate_hz: int, mode: str = "CONSTANT") -> bytes:
    with soundfile.SoundFile(
        path, "w", rate_hz, x.shape[1], "MPEG_LAYER_III", format="MP3", bitrate_mode=mode, compression_level=0.5
    ) as file:
        file.write(x)
    return path.read_bytes()


def frames_of(whole: bytes) -> list[bytes]:
    """The frames of a file that is nothing else."""
    found, at = [], 0
    while (frame := frame_header(whole[at : at + 4])) is not None:
        found.append(whole[at : at + frame.length_bytes])
        at += frame.length_bytes
    return found


def untagged(whole: bytes) -> bytes:
    """The file without its Info frame."""
    return b"".join(frames_of(whole)[1:])


def with_count(whole: bytes, count: int) -> bytes:
    at = max(whole.find(b"Xing"), whole.find(b"Info"))
    return whole[: at + 8] + struct.pack(">I", count) + whole[at + 12 :]


def id3v2(body: bytes) -> bytes:
    n = len(body)
    return b"ID3\x03\0\0" + bytes([n >> 21 & 127, n >> 14 & 127, n >> 7 & 127, n & 127]) + body


def ape(body: bytes = b"x" * 90) -> bytes:
    fields = struct.pack("<III8x", len(body) + 32, 1, 0xA0000000)
    return (
        b"APETAGEX"
        + struct.pack("<I", 2000)
        + fields
        + body
        + b"APETAGEX"
        + struct.pack("<I", 2000)
        + struct.pack("<III8x", len(body) + 32, 1, 0x80000000)
    )


ID3V1 = b"TAG" + b"A title".ljust(30, b"\0") + bytes(94) + b"\x0c"
LYRICS = b"LYRICSBEGININD0000200" + b"LYR00010la la la la"
LYRICS += str(len(LYRICS)).zfill(6).encode() + b"LYRICS200"


def read(path: Path) -> tuple[np.ndarray, SourceInfo]:
    with Source.open(path) as source:
        blocks = np.concatenate(list(source.blocks(5000)))
        assert len(blocks) == source.info.frames
        return blocks, source.info


def codes(info: SourceInfo) -> list[str]:
    return [remark.code for remark in info.remarks]


def place_of(needle: np.ndarray, hay: np.ndarray) -> int:
    return int(np.argmax(scipy.signal.correlate(hay, needle, "valid", "fft")))


@pytest.mark.parametrize("claim", [0, 1, 0.5, 0.9, "out"])
@pytest.mark.parametrize(("rate_hz", "channels", "mode"), [(44_100, 2, "VARIABLE"), (16_000, 1, "CONSTANT")])
def test_a_tag_that_counts_too_few_frames_loses_nothing(
    tmp_path: Path, claim: float | str, rate_hz: int, channels: int, mode: str
) -> None:
    path = tmp_path / "x.mp3"
    whole = mp3(path, tone(2.0, rate_hz, channels), rate_hz, mode)
    expected, info = read(path)
    assert (len(expected), info.remarks) == (2 * rate_hz, ())
    count = len(frames_of(whole)) - 1
    said = whole if claim == "out" else with_count(whole, int(float(claim) * count) if claim != 1 else 1)
    path.write_bytes(said.replace(b"Info", b"Infx").replace(b"Xing", b"Xinx") if claim == "out" else said)
    got, info = read(path)
    assert abs(len(got) - len(expected)) <= (0 if claim != "out" else 4 * 1152)
    if claim != "out":
        assert np.array_equal(got, expected)
        assert codes(info) == ["input.longer_than_header"]


def test_a_tag_that_counts_too_many_frames_is_a_cut_file_unless_it_is_right_about_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    whole = mp3(path, tone(1.0, 44_100), 44_100)
    expected, _ = read(path)
    count = len(frames_of(whole)) - 1
    path.write_bytes(with_count(whole, 3 * count))
    got, info = read(path)
    assert np.array_equal(got, expected)
    assert codes(info) == ["input.length_wrong"]
    path.write_bytes(b"".join(frames_of(whole)[: count // 2]))
    with pytest.raises(InputTruncated, match="promises"):
        read(path)


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize(
    "between", [b"", ID3V1, id3v2(PICTURE), ape(), ID3V1 + id3v2(bytes(4000)), bytes(100_000), PICTURE]
)
def test_joined_files_are_one_recording(tmp_path: Path, tagged: bool, between: bytes) -> None:
    path = tmp_path / "x.mp3"
    parts = [tone(s, 22_050, 1, seed) for seed, s in enumerate((1.0, 1.5, 0.7))]
    files = [mp3(path, x, 22_050, "VARIABLE") for x in parts]
    path.write_bytes(between.join(files if tagged else [untagged(f) for f in files]))
    got, info = read(path)
    extra = 3 * 3 * 576 if not tagged else 0
    assert sum(map(len, parts)) <= len(got) <= sum(map(len, parts)) + extra
    at = [place_of(x[4000:10_000, 0], got[:, 0]) for x in parts]
    assert at == sorted(at)
    assert at[2] - at[1] >= 22_050 * 1.5 - 3000
    if tagged:
        assert "input.joined" in codes(info)
        assert at == [4000, 4000 + 22_050, 4000 + 22_050 + 33_075]


@pytest.mark.parametrize("tagged", [True, False])
def test_parts_of_other_rates_and_channels_keep_their_pitch_and_their_sides(tmp_path: Path, tagged: bool) -> None:
    path = tmp_path / "x.mp3"
    kinds = [(44_100, 2), (48_000, 1), (16_000, 2), (8000, 1)]
    parts = [tone(1.0, rate_hz, channels, rate_hz) for rate_hz, channels in kinds]
    files = [mp3(path, x, rate_hz) for x, (rate_hz, _) in zip(parts, kinds, strict=True)]
    path.write_bytes(b"".join(files if tagged else [untagged(f) for f in files]))
    got, info = read(path)
    assert (info.sample_rate, info.channels, codes(info)) == (48_000, 2, ["input.joined"])
    assert 4 * 48_000 <= len(got) <= 4 * 48_000 * (1 if tagged else 1.2)
    for number, (x, (rate_hz, channels)) in enumerate(zip(parts, kinds, strict=True)):
        there = scipy.signal.resample_poly(x[:, -1], 48_000, rate_hz)[9600:38_400]
        at = place_of(there, got[:, 1])
        piece = got[at : at + len(there), 1]
        assert np.corrcoef(piece, there)[0, 1] > 0.97
        if tagged:
            assert at == pytest.approx(number * 48_000 + 9600, abs=8)
        assert channels == 2 or np.array_equal(got[at : at + 9000, 0], got[at : at + 9000, 1])


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("hole", [1, 700, 70_000])
def test_a_hole_is_silence_at_its_place(tmp_path: Path, tagged: bool, hole: int) -> None:
    path = tmp_path / "x.mp3"
    x = tone(6.0, 44_100)
    whole = mp3(path, x, 44_100)
    whole = whole if tagged else untagged(whole)
    path.write_bytes(whole)
    good, _ = read(path)
    frames = frames_of(whole)
    begin = len(b"".join(frames[:50])) - (0 if hole < 1000 else 100)  # a large one begins where it likes
    path.write_bytes(whole[:begin] + bytes(hole) + whole[begin + hole :])
    got, info = read(path)
    assert len(got) == pytest.approx(len(good), abs=1152)
    assert "input.gap" in codes(info)
    behind = min(begin + hole + 2000, len(whole) - 9000) * len(good) // len(whole) + 9000
    needle = good[behind : behind + 8000, 0]
    at = place_of(needle, got[:, 0])
    assert at == pytest.approx(behind, abs=1152)
    assert np.abs(got[at : at + 8000, 0] - needle).max() < 1e-4
    assert np.abs(got).max() < 1.5 * np.abs(good).max()  # a decoder that is led astray clicks


def test_lost_frames_do_not_make_the_next_ones_click(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    rng = np.random.default_rng(9)
    x = tone(4.0, 44_100) * (rng.uniform(0.01, 1, 40).repeat(4410)[:, None])  # busy bit reservoir
    whole = mp3(path, x, 44_100, "CONSTANT")
    good, _ = read(path)
    frames = frames_of(whole)
    for first in range(20, 120, 7):
        damaged = [bytes(len(f)) if first <= n < first + 2 else f for n, f in enumerate(frames)]
        path.write_bytes(b"".join(damaged))
        got, _ = read(path)
        assert len(got) == len(good)
        assert np.abs(got).max() <= 1.2 * np.abs(good).max()
        far = (first + 12) * 1152
        assert np.abs(got[far:] - good[far:]).max() < 1e-4


@pytest.mark.parametrize("size", [1, 700, 70_000, 3_000_000])
@pytest.mark.parametrize("what", ["zeros", "noise", "text", "ape", "id3 that is too short"])
def test_what_stands_before_the_frames_is_passed_over(tmp_path: Path, size: int, what: str) -> None:
    path = tmp_path / "x.mp3"
    whole = untagged(mp3(path, tone(1.5, 44_100, 2), 44_100))
    path.write_bytes(whole)
    good, _ = read(path)
    before = {
        "zeros": bytes(size),
        "noise": np.random.default_rng(1).bytes(size),
        "text": (b"HTTP/1.0 200 OK\r\nicy-name: x\r\n" * (size // 30 + 1))[:size],
        "ape": ape(bytes(size)),
        "id3 that is too short": id3v2(b"TIT2")[:-1] + bytes(size),
    }[what]
    path.write_bytes(before + whole)
    got, info = read(path)
    assert np.array_equal(got, good), what
    assert info.format == "MP3"


@pytest.mark.parametrize("tagged", [True, False])
def test_tags_behind_the_frames_are_no_sound(tmp_path: Path, tagged: bool) -> None:
    path = tmp_path / "x.mp3"
    whole = mp3(path, tone(1.0, 44_100), 44_100)
    whole = whole if tagged else untagged(whole)
    path.write_bytes(whole)
    good, _ = read(path)
    for behind in (ID3V1, b"TAG+" + bytes(223) + ID3V1, ape() + ID3V1, LYRICS + ID3V1, ape(), bytes(5000), id3v2(b"x")):
        path.write_bytes(whole + behind)
        got, info = read(path)
        assert np.array_equal(got, good), behind[:8]
        assert info.remarks == ()
        assert fits_header(path)
    path.write_bytes(whole[:-30] + ID3V1)  # a ripper that stopped early, and tagged it all the same
    got, info = read(path)
    assert codes(info) == ["input.bytes_left_out"]
    assert len(good) - len(got) in (1152, 1151, 0)


@pytest.mark.parametrize("rate_hz", [48_000, 22_050])
def test_free_format_is_read_whole(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "x.mp3"
    frames = frames_of(untagged(mp3(path, tone(2.0, rate_hz, 2), rate_hz)))
    path.write_bytes(b"".join(frames))
    good, _ = read(path)
    free = [f[:2] + bytes([f[2] & 0x0F]) + f[3:] for f in frames]
    path.write_bytes(b"".join(free))
    got, _ = read(path)
    assert np.array_equal(got, good)
    path.write_bytes(b"".join(free)[:-10])
    with pytest.raises(InputTruncated):
        read(path)


@pytest.mark.parametrize("mpeg_tag", [0x55, 0x50])
def test_frames_in_a_wav_are_read_like_those_in_a_file(tmp_path: Path, mpeg_tag: int) -> None:
    path = tmp_path / "x.wav"
    whole = untagged(mp3(path, tone(1.5, 44_100, 2), 44_100))
    path.write_bytes(whole)
    good, _ = read(path)
    fmt = struct.pack("<HHIIHH", mpeg_tag, 2, 44_100, 16_000, 1, 0) + struct.pack("<HHIHHH", 12, 1, 2, 417, 1, 1393)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(whole)) + whole
    body += bytes(len(whole) & 1) + b"LIST\x04\0\0\0INFO"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    got, _ = read(path)
    assert np.array_equal(got, good)


@pytest.mark.parametrize("tag", [b"", id3v2(b"TIT2\0\0\0\x06\0\0\0Reel7")])
@pytest.mark.parametrize("claims", [0.5, 1, 11], ids=["half", "all", "what it decodes to"])
@pytest.mark.parametrize("head", ["wav", "au"])
def test_frames_behind_a_header_of_plain_samples_are_read(tmp_path: Path, head: str, claims: float, tag: bytes) -> None:
    path = tmp_path / "x.wav"
    whole = mp3(path, tone(1.5, 44_100, 2), 44_100)
    good, _ = read(path)
    length = int(claims * len(tag + whole))
    if head == "wav":
        before = b"RIFF" + struct.pack("<I", 36 + length) + b"WAVEfmt \x10\0\0\0"
        before += struct.pack("<HHIIHH", 1, 2, 44_100, 176_400, 4, 16) + b"data" + struct.pack("<I", length)
    else:
        before = b".snd" + struct.pack(">5I", 24, length, 3, 44_100, 2)
    path.write_bytes(before + tag + whole)
    got, info = read(path)
    assert np.array_equal(got, good)
    assert "MPEG audio" in info.remarks[0].message
    path.write_bytes(before + tag + whole[:-50])
    with pytest.raises(InputTruncated):
        read(path)


def test_samples_that_repeat_a_frame_s_header_stay_samples(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.tile(np.frombuffer(b"\xff\xfb\x94\x00", "<i2"), 9_600).reshape(-1, 2), 48_000)
    got, info = read(path)
    assert len(got) == 9_600
    assert not info.remarks


@needs_ffmpeg
@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 1), (48_000, 2), (24_000, 1), (32_000, 2), (22_050, 2)])
@pytest.mark.parametrize("kilobits", [(64,), (192, 64), (64, 160, 64), (32, 160)])
def test_layer_2_is_read_to_its_last_frame(
    tmp_path: Path, rate_hz: int, channels: int, kilobits: tuple[int, ...]
) -> None:
    if rate_hz < 32_000:
        kilobits = tuple(min(k, 144) for k in kilobits)
    elif channels == 2:
        kilobits = tuple(max(k, 64) for k in kilobits)
    x = tone(2.0, rate_hz, channels)
    whole, count = b"", 0
    for rate in kilobits:
        soundfile.write(tmp_path / "x.wav", x, rate_hz)
        command = ["ffmpeg", "-v", "error", "-y", "-i", tmp_path / "x.wav", "-b:a", f"{rate}k", tmp_path / "x.mp2"]
        subprocess.run(command, check=True)
        whole += (tmp_path / "x.mp2").read_bytes()
    count = len(frames_of(whole))
    path = tmp_path / "y.mp2"
    path.write_bytes(whole + ID3V1)
    got, info = read(path)
    assert len(got) == count * 1152
    assert info.subtype == "MPEG_LAYER_II"
    decoded = subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-f", "f32le", "-"], capture_output=True, check=True)
    other = np.frombuffer(decoded.stdout, "<f4").reshape(-1, channels)
    assert len(other) == len(got)
    assert np.sqrt(np.mean((other - got) ** 2)) < 1e-4
    path.write_bytes(whole[:-20])
    with pytest.raises(InputTruncated):
        read(path)


def hostile() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    stereo, mono = (head + bytes(32) for head in (b"\xff\xf3\x18\x00", b"\xff\xf3\x18\xc0"))  # 36 bytes each
    return {
        "sync after sync": b"\xff\xfb\x90\x00" * 250_000,
        "all ones": b"\xff" * 1_000_000,
        "free format everywhere": b"\xff\xfb\x00\x00" * 250_000,
        "empty id3 tags": id3v2(b"") * 100_000,
        "id3 that overruns": b"ID3\x03\0\0\x7f\x7f\x7f\x7f" * 100_000,
        "noise": rng.bytes(1_000_000),
        "two kinds by turns": (stereo + mono) * 14_000,
        "four of a kind by turns": (4 * stereo + 4 * mono) * 3_500,
        "frames and junk by turns": (2 * stereo + b"\0") * 13_000,
        "lyrics": b"LYRICSBEGIN" * 90_000,
        "ape": b"APETAGEX" * 120_000,
    }


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", hostile())
def test_hostile_files_cost_little_time_and_say_nothing(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.mp3"
    path.write_bytes(hostile()[name])
    started = time.process_time()
    with contextlib.suppress(InputError):
        read(path)
    assert time.process_time() - started < 5
    assert capfd.readouterr().err == ""


def test_changes_without_end_are_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    path.write_bytes(hostile()["four of a kind by turns"])
    with pytest.raises(InputFormat, match="more than 500 times"):
        read(path)
