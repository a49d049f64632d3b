"""What libsndfile does not read is read by ffmpeg, where it is there, and refused with the remedy where it is not."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from batchsr.audio.decoders import ffmpeg
from batchsr.audio.files import Source, probe
from batchsr.audio.probe import SourceInfo
from batchsr.errors import InputError, InputFormat, InputTruncated

PROGRAM = ffmpeg.program()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no ffmpeg")
# Extension, what the encoder is told, what it may differ in: samples more or less, and how alike it sounds.
CASES = [
    ("m4a", ["-c:a", "aac"], 0, 0.9),
    ("mp4", ["-c:a", "aac"], 0, 0.9),
    ("mov", ["-c:a", "pcm_s16le"], 0, 0.9999),
    ("m4a", ["-c:a", "alac"], 0, 0.9999),
    ("aac", ["-c:a", "aac"], 3072, 0.9),
    ("wma", [], 4096, 0.9),
    ("webm", ["-c:a", "libopus"], 0, 0.9),
    ("mka", ["-c:a", "flac"], 0, 0.9999),
    ("mkv", ["-c:a", "pcm_s16le"], 0, 0.9999),
    ("ac3", [], 3072, 0.9),
    ("tta", [], 0, 0.9999),
    ("wv", [], 0, 0.9999),
    ("flv", ["-c:a", "libmp3lame"], 3500, 0.9),
    ("avi", ["-c:a", "libmp3lame"], 3500, 0.9),
    ("ts", ["-c:a", "mp2"], 3500, 0.9),
    ("spx", ["-c:a", "libspeex"], 2000, 0.5),
]


def sound(seconds: float, rate_hz: int = 48_000, channels: int = 2, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((round(seconds * rate_hz), channels))
    return (0.2 * scipy.signal.lfilter(scipy.signal.firwin(101, 0.2), 1, x, axis=0)).astype(np.float32)


@pytest.fixture
def encode(tmp_path: Path) -> Callable[..., Path]:
    def encode(extension: str, options: list[str], x: np.ndarray, rate_hz: int = 48_000) -> Path:
        soundfile.write(tmp_path / "in.wav", x, rate_hz, "PCM_16")
        path = tmp_path / f"x.{extension}"
        command = [str(PROGRAM), "-v", "error", "-y", "-i", tmp_path / "in.wav", *options, path]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip(f"this ffmpeg does not write {extension} {options}")
        return path

    return encode


def read(path: Path) -> tuple[np.ndarray, SourceInfo]:
    with Source.open(path) as source:
        blocks = np.concatenate(list(source.blocks(5000)))
        assert len(blocks) == source.info.frames
        return blocks, source.info


@pytest.mark.parametrize(("extension", "options", "samples", "alike"), CASES)
def test_a_foreign_format_is_read_whole(
    encode: Callable[..., Path], extension: str, options: list[str], samples: int, alike: float
) -> None:
    x = sound(2.0, 32_000 if extension == "spx" else 48_000, 1 if extension == "spx" else 2)
    got, info = read(encode(extension, options, x, 32_000 if extension == "spx" else 48_000))
    assert info.channels == x.shape[1]
    assert abs(len(got) - len(x)) <= samples
    assert info.decoder.startswith("ffmpeg ")
    assert info.remarks == ()
    cut = x[8000:40_000, 0]
    matches = scipy.signal.correlate(got[:, 0], cut, "valid", "fft")
    at = int(np.argmax(matches))
    assert abs(at - 8000) <= max(samples, 0)
    assert np.corrcoef(got[at : at + len(cut), 0], cut)[0, 1] > alike


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("samples", [1000, 1024, 30_001])
def test_the_first_and_last_samples_of_an_m4a_are_the_right_ones(
    encode: Callable[..., Path], rate_hz: int, samples: int
) -> None:
    x = sound(1, samples, 1)
    got, info = read(encode("m4a", ["-c:a", "aac"], x, rate_hz))
    assert info.sample_rate == rate_hz
    assert abs(len(got) - samples) <= -(-rate_hz // 1000)


def test_the_bytes_decide_and_not_the_name(encode: Callable[..., Path]) -> None:
    path = encode("m4a", ["-c:a", "alac"], sound(0.5))
    for name in ("x.wav", "x.mp3", "x", "x.dat", "x.flac"):
        other = path.with_name(name)
        other.write_bytes(path.read_bytes())
        assert probe(other).frames == 24_000
    wav = path.with_name("in.wav")
    other = path.with_name("y.m4a")
    other.write_bytes(wav.read_bytes())
    assert probe(other).decoder.startswith("libsndfile ")


@pytest.mark.parametrize("extension", ["m4a", "mka", "tta", "wv", "mov", "webm", "wma"])
def test_a_cut_is_noticed_and_what_is_there_is_read_on_request(encode: Callable[..., Path], extension: str) -> None:
    options = {"mka": ["-c:a", "flac"], "webm": ["-c:a", "libopus"]}.get(extension, [])
    fast = ["-movflags", "+faststart"] if extension in ("m4a", "mov") else []
    path = encode(extension, [*options, *fast], sound(4.0))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputTruncated, match="cut short"):
        probe(path)
    rest = probe(path, accept_truncated=True)
    assert 0.2 * 4 < rest.duration_s < 0.8 * 4
    assert "input.cut_short" in [remark.code for remark in rest.remarks]


def test_an_m4a_without_its_index_is_no_cut_file_unless_it_is_one(encode: Callable[..., Path]) -> None:
    path = encode("m4a", [], sound(2.0))
    whole = path.read_bytes()
    at = whole.find(b"moov") - 4
    path.write_bytes(whole[:at])
    with pytest.raises(InputFormat, match="moov"):
        probe(path)
    path.write_bytes(whole[: at - 100])
    with pytest.raises(InputTruncated):
        probe(path)


def test_without_ffmpeg_the_sentence_says_what_to_install(
    encode: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode("m4a", [], sound(0.5))
    monkeypatch.setenv(ffmpeg.VARIABLE, "off")
    with pytest.raises(InputFormat, match=r"MPEG-4.*install ffmpeg.*batchsr\[ffmpeg\]"):
        probe(path)
    path.with_name("x.aac").write_bytes(b"\xff\xf1" + bytes(3000))
    with pytest.raises(InputFormat, match="install ffmpeg"):
        probe(path.with_name("x.aac"))


def test_a_list_of_other_files_is_not_followed(encode: Callable[..., Path]) -> None:
    secret = encode("m4a", ["-c:a", "alac"], sound(0.5))
    lists = {
        "x.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "x.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
        "x.m4a": f"#EXTM3U\n#EXTINF:9,\n{secret}\n",
        "x.mka": f"ffconcat version 1.0\nfile '{secret}'\n",
        "x.wma": f"[playlist]\nFile1={secret}\n",
        "x.aac": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    }
    for name, text in lists.items():
        path = secret.with_name("list " + name)
        path.write_text(text)
        with pytest.raises(InputFormat):
            probe(path)


def test_two_audio_tracks_are_said(encode: Callable[..., Path]) -> None:
    path = encode("mka", ["-map", "0:a", "-map", "0:a", "-c:a", "flac"], sound(0.5))
    assert [remark.code for remark in probe(path).remarks] == ["input.more_tracks"]


def test_no_child_and_no_descriptor_is_left_behind(encode: Callable[..., Path]) -> None:
    path = encode("m4a", [], sound(20.0))
    for _ in range(2):
        before = len(os.listdir("/dev/fd"))
        with Source.open(path) as source:
            blocks = source.blocks(100)
            next(blocks)
        blocks.close()
        read(path)
        assert len(os.listdir("/dev/fd")) == before
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def test_several_files_at_once_are_read_like_one(encode: Callable[..., Path]) -> None:
    path = encode("m4a", [], sound(5.0))
    expected, _ = read(path)
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(np.array_equal(read(path)[0], expected))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_hostile_files_cost_little(encode: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for extension, options in (
        ("m4a", []),
        ("mka", ["-c:a", "flac"]),
        ("wma", []),
        ("aac", []),
        ("tta", []),
        ("wv", []),
    ):
        whole = encode(extension, options, sound(1.0)).read_bytes()
        for number in range(6):
            damaged = bytearray(whole)
            places = rng.integers(0, len(whole) if number % 2 else 400, 40)
            for at in places:
                damaged[at] = rng.integers(256)
            path = encode(extension, options, sound(0.1)).with_name(f"damaged.{extension}")
            path.write_bytes(damaged)
            started = time.monotonic()
            with contextlib.suppress(InputError):
                read(path)
            assert time.monotonic() - started < 5
    assert capfd.readouterr().err == ""


def test_sound_that_is_shorter_than_its_pictures_is_no_cut_file(encode: Callable[..., Path], tmp_path: Path) -> None:
    x = sound(1.0)
    encode("m4a", ["-c:a", "aac"], x)
    for extension in ("mp4", "mkv"):
        path = tmp_path / f"film.{extension}"
        command = [str(PROGRAM), "-v", "error", "-i", tmp_path / "x.m4a", "-f", "lavfi", "-i", "testsrc=d=3:s=64x64"]
        subprocess.run([*command, "-c:a", "copy", "-c:v", "mpeg4", path], check=True)
        got, info = read(path)
        assert abs(len(got) - len(x)) <= 2048
        assert [remark.code for remark in info.remarks] == ["input.shorter_sound"]


def test_pictures_without_sound_are_refused_for_that(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    command = [str(PROGRAM), "-v", "error", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64", "-c:v", "mpeg4", path]
    subprocess.run(command, check=True)
    with pytest.raises(InputFormat, match="no audio track"):
        probe(path)


@pytest.mark.parametrize("codec", ["alac", "adpcm_ima_qt", "libopus"])
def test_codecs_in_caf_that_libsndfile_does_not_decode_are_left_to_ffmpeg(
    encode: Callable[..., Path], codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = sound(1.0)
    path = encode("caf", ["-c:a", codec], x)
    got, info = read(path)
    assert abs(len(got) - len(x)) <= 1024
    assert info.channels == 2
    if info.decoder.startswith("ffmpeg"):
        monkeypatch.setenv(ffmpeg.VARIABLE, "off")
        with pytest.raises(InputFormat):
            probe(path)


@pytest.mark.parametrize(
    ("extension", "name"), [("ac3", "x.wav"), ("eac3", "y.mp3"), ("latm", "z.wav"), ("nut", "a.ogg")]
)
@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000])
def test_the_bytes_decide_whatever_the_name_says(
    encode: Callable[..., Path], extension: str, name: str, rate_hz: int
) -> None:
    x = sound(1.0, rate_hz)
    path = encode(extension, ["-c:a", "aac"] if extension == "latm" else [], x, rate_hz)
    got, info = read(path.rename(path.with_name(name)))
    assert abs(len(got) - len(x)) <= 4096
    assert info.decoder.startswith("ffmpeg ")


def test_a_wrong_checksum_is_never_without_a_word(encode: Callable[..., Path]) -> None:
    path = encode("wv", [], sound(2.0))
    content = path.read_bytes()
    said = set()
    for part in (5, 6, 7):
        changed = bytearray(content)
        changed[len(content) * part // 8] ^= 64
        path.write_bytes(changed)
        try:
            said |= {remark.code for remark in probe(path).remarks}
        except InputError:
            said.add("refused")
    assert said
    assert said <= {"input.faults", "refused"}


@pytest.mark.parametrize("between", [b"", b"TAG" + bytes(125)])
@pytest.mark.parametrize(
    ("extension", "options", "slack"),
    [
        ("wv", [], 0),
        ("tta", [], 0),
        ("m4a", ["-c:a", "alac"], 0),
        ("m4a", [], 48),
        ("aac", [], 4096),
        ("ac3", [], 4096),
    ],
)
def test_all_of_the_files_that_were_joined_are_read(
    encode: Callable[..., Path], extension: str, options: list[str], slack: int, between: bytes
) -> None:
    if between and extension == "m4a":
        pytest.skip("such files have no tags between them")
    x = [sound(0.5), sound(0.8, seed=1), sound(0.6, seed=2)]
    files = [encode(extension, options, each).read_bytes() for each in x]
    path = encode(extension, options, x[0])
    path.write_bytes(between.join(files))
    got, info = read(path)
    assert abs(len(got) - sum(map(len, x))) <= 3 * slack
    if not slack:
        np.testing.assert_allclose(got, np.concatenate(x), atol=2**-15)
    if extension not in ("aac", "ac3"):
        assert "input.joined" in [remark.code for remark in info.remarks]
    assert info.decoder.startswith("ffmpeg ")


def test_the_last_of_joined_files_is_cut_like_any_other(encode: Callable[..., Path]) -> None:
    path = encode("wv", [], sound(1.0))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) * 2 // 3])
    with pytest.raises(InputTruncated):
        probe(path)
    assert 1.2 < probe(path, accept_truncated=True).duration_s < 1.9


@pytest.mark.parametrize(("first", "second"), [("aac", "ac3"), ("ac3", "aac"), ("eac3", "aac"), ("dts", "ac3")])
@pytest.mark.parametrize("between", [b"", b"TAG" + bytes(125)])
def test_a_stream_of_another_codec_behind_the_first_is_read_too(
    encode: Callable[..., Path], first: str, second: str, between: bytes
) -> None:
    options = ["-strict", "-2"]
    path = encode(second, options, sound(0.8, seed=1))
    behind, alone = path.read_bytes(), len(read(path)[0])
    path = encode(first, options, sound(0.5))
    before = len(read(path)[0])
    path.write_bytes(path.read_bytes() + between + behind)
    got, info = read(path)
    assert len(got) == before + alone
    assert "input.joined" in [remark.code for remark in info.remarks]


@pytest.mark.parametrize("extension", ["aac", "ac3", "eac3", "latm", "dts"])
def test_a_stream_that_ends_inside_a_frame_is_cut(encode: Callable[..., Path], extension: str) -> None:
    options = {"latm": ["-c:a", "aac"], "dts": ["-strict", "-2"]}.get(extension, [])
    path = encode(extension, options, sound(2.0))
    whole = path.read_bytes()
    for end in (len(whole) * 2 // 3 + 101, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(InputTruncated, match=r"last frame has [\d,]+ of [\d,]+ bytes"):
            probe(path)
        assert "input.cut_short" in [remark.code for remark in probe(path, accept_truncated=True).remarks]
    path.write_bytes(whole + b"TAG" + bytes(125))
    assert "input.cut_short" not in [remark.code for remark in probe(path).remarks]


def test_joined_and_cut_files_of_amr_are_walked_by_their_frames(tmp_path: Path) -> None:
    one = b"#!AMR\n" + (b"\x3c" + bytes(31)) * 50
    path = tmp_path / "x.amr"
    path.write_bytes(one)
    assert (probe(path).frames, probe(path).remarks) == (8000, ())
    path.write_bytes(one * 3)
    assert probe(path).frames == 24_000
    assert [remark.code for remark in probe(path).remarks] == ["input.joined"]
    path.write_bytes(one[:-5])
    with pytest.raises(InputTruncated, match="last frame has 27 of 32 bytes"):
        probe(path)


@pytest.mark.parametrize("extension", ["m4a", "mov"])
def test_sound_that_begins_late_by_the_edit_list_is_said(
    encode: Callable[..., Path], tmp_path: Path, extension: str
) -> None:
    prompt = encode(extension, ["-c:a", "alac"], sound(0.5))
    assert probe(prompt).remarks == ()
    late = tmp_path / f"late.{extension}"
    command = [str(PROGRAM), "-v", "error", "-i", prompt, "-itsoffset", "0.75", "-i", prompt]
    subprocess.run([*command, "-map", "1:a", "-c", "copy", late], check=True)
    remarks = probe(late).remarks
    assert [remark.code for remark in remarks] == ["input.begins_late"]
    assert "0.750 s" in remarks[0].message
