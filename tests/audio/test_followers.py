"""Files of different kinds joined one behind the other are read to the last, or refused with what would be lost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from batchsr.audio.containers import beginnings, followers
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.decoders import ffmpeg
from batchsr.audio.files import Source, probe
from batchsr.errors import InputFormat, InputTruncated
from tests.audio import odd_files

PROGRAM = ffmpeg.program()
needs_ffmpeg = pytest.mark.skipif(PROGRAM is None, reason="there is no ffmpeg")
RATE_HZ = 48_000
FRAMES = 14_400
NATIVE = {"wav": "PCM_16", "aiff": "PCM_24", "caf": "PCM_16", "au": "ULAW", "w64": "PCM_16", "voc": "PCM_16"}
NATIVE |= {"flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
FOREIGN = {"aac": [], "ac3": [], "m4a": [], "wv": [], "tta": [], "mka": ["-c:a", "flac"], "ts": ["-c:a", "mp2"]}
FOREIGN |= {
    "mpg": ["-c:a", "mp2"],
    "avi": ["-c:a", "libmp3lame"],
    "wma": [],
    "flv": ["-c:a", "libmp3lame"],
    "sox": [],
    "nut": ["-c:a", "mp2"],
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("kinds")
    x = 0.2 * np.random.default_rng(1).standard_normal((FRAMES, 2)).clip(-3, 3)
    for extension, subtype in NATIVE.items():
        soundfile.write(folder / f"x.{extension}", x, RATE_HZ, subtype)
    outputs = [part for e, options in FOREIGN.items() for part in (*options, str(folder / f"x.{e}"))]
    if PROGRAM is not None:
        subprocess.run([PROGRAM, "-v", "error", "-i", folder / "x.wav", *outputs], check=True, capture_output=True)
    return {path.suffix[1:]: path.read_bytes() for path in folder.iterdir()}


def joined(folder: Path, *parts: bytes) -> Path:
    path = folder / "joined.bin"
    path.write_bytes(b"".join(parts))
    return path


LENGTHS: dict[bytes, int] = {}


def alone(folder: Path, data: bytes) -> int:
    if data not in LENGTHS:
        info = probe(joined(folder, data))
        assert info.sample_rate == RATE_HZ
        assert "input.joined" not in [remark.code for remark in info.remarks]
        LENGTHS[data] = info.frames
    return LENGTHS[data]


PAIRS = [
    "wav+flac",
    "flac+wav",
    "ogg+mp3",
    "mp3+ogg",
    "mp3+wav",
    "flac+mp3",
    "aiff+mp3",
    "au+wav",
    "voc+flac",
    "w64+ogg",
]
PAIRS_FFMPEG = [
    *("aac+mp3", "ac3+wav", "m4a+mp3", "wv+flac", "tta+wav", "mka+flac", "ts+wav", "mpg+mp3", "avi+wav", "wma+ogg"),
    *("flv+flac", "sox+au", "mp3+aac", "flac+ac3", "ogg+m4a", "caf+wv", "aiff+tta", "flac+mka", "ts+ac3"),
    *("nut+mp3", "nut+aac"),
    *("wav+m4a+aac+flac", "aac+aac+wav"),
]
"""Each kind is first once, and behind another once; of two kinds that ffmpeg reads there are few, for they cost."""


@pytest.mark.parametrize("names", [*PAIRS, *(pytest.param(pair, marks=needs_ffmpeg) for pair in PAIRS_FFMPEG)])
def test_all_kinds_of_files_that_were_joined_are_read(names: str, kinds: dict[str, bytes], tmp_path: Path) -> None:
    parts = [kinds[name] for name in names.split("+")]
    lengths = [alone(tmp_path, part) for part in parts]
    with Source.open(joined(tmp_path, *parts)) as source:
        x = np.concatenate(list(source.blocks()))
    assert abs(len(x) - sum(lengths)) <= 2, (names, lengths)
    assert "input.joined" in [remark.code for remark in source.info.remarks]
    for begin, length in zip(np.cumsum([0, *lengths]), lengths, strict=False):
        assert np.std(x[begin + length // 4 : begin + length // 2]) > 0.05


@needs_ffmpeg
def test_who_decodes_the_parts_is_told(kinds: dict[str, bytes], tmp_path: Path) -> None:
    decoder = probe(joined(tmp_path, kinds["wav"], kinds["aac"])).decoder
    assert decoder.startswith("libsndfile ")
    assert ", ffmpeg " in decoder


def test_a_joined_file_that_only_ffmpeg_reads_is_never_left_out_without_it(
    kinds: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = kinds.get("aac") or b"#!AMR\n" + (b"\x3c" + bytes(31)) * 50
    path = joined(tmp_path, kinds["wav"], behind)
    monkeypatch.setenv(ffmpeg.VARIABLE, "off")
    with pytest.raises(InputFormat, match=f"{len(behind):,} bytes of another file") as caught:
        probe(path)
    assert f"tail -c +{len(kinds['wav']) + 1} " in str(caught.value.remedy)


@pytest.mark.parametrize("first", ["wav", "mp3", "flac", "ogg"])
def test_a_joined_file_that_nothing_decodes_is_refused_with_its_bytes(
    first: str, kinds: dict[str, bytes], tmp_path: Path
) -> None:
    behind = kinds["wav"][:20] + b"\x55\x55" + kinds["wav"][22:]  # a codec that nobody has
    head = kinds[first if first != "wav" else "aiff"]
    with pytest.raises(InputFormat, match=f"{len(behind):,} bytes of another file"):
        probe(joined(tmp_path, head, behind))


def test_a_second_fault_does_not_hide_the_joined_file(kinds: dict[str, bytes], tmp_path: Path) -> None:
    x = odd_files.sound(8000)
    halved = bytearray(odd_files.wav(x))
    halved[40:44] = (8000).to_bytes(4, "little")
    info = probe(joined(tmp_path, bytes(halved), kinds["flac"]))
    assert abs(info.duration_s - 8000 / odd_files.RATE_HZ - FRAMES / RATE_HZ) < 0.01
    assert {"input.joined", "input.longer_than_header"} <= {remark.code for remark in info.remarks}


@needs_ffmpeg
@pytest.mark.parametrize("name", [*NATIVE, *FOREIGN])
def test_a_single_file_stays_one(name: str, kinds: dict[str, bytes], tmp_path: Path) -> None:
    tag = b"" if name == "m4a" else b"TAG" + bytes(125)
    assert abs(alone(tmp_path, kinds[name] + tag) - alone(tmp_path, kinds[name])) <= 1


@needs_ffmpeg
@pytest.mark.parametrize("hole", [1_001, 70_000])
@pytest.mark.parametrize("name", ["aac", "ac3"])
def test_behind_a_hole_the_stream_goes_on(name: str, hole: int, kinds: dict[str, bytes], tmp_path: Path) -> None:
    whole = kinds[name] * 4  # its frames go on as if it were one
    at = len(whole) // 2
    data = whole[:at] + np.random.default_rng(2).bytes(hole) + whole[at:]
    # Damaged frames may be lost or filled, and noise is now and then taken for a frame.
    assert abs(alone(tmp_path, data) - alone(tmp_path, whole)) <= 8 * 1536


@pytest.mark.parametrize("name", ["mp3", "flac", "ogg", "wav"])
def test_what_a_walk_has_seen_is_not_searched_once_more(
    name: str, kinds: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    words = beginnings.words
    monkeypatch.setattr(beginnings, "words", lambda f, a, b: searched.append(b - a) or words(f, a, b))
    soundfile.write(tmp_path / f"x.{name}", odd_files.sound(RATE_HZ * 5), RATE_HZ, NATIVE[name])
    info = probe(tmp_path / f"x.{name}")
    assert sum(searched) < min(info.size_bytes / 2, 1 << 15), info.size_bytes


@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "au", "voc"])
def test_a_joined_file_is_found_whose_beginning_a_cut_frame_took(
    name: str, kinds: dict[str, bytes], tmp_path: Path
) -> None:
    path = joined(tmp_path, kinds["mp3"][:-40], kinds[name])
    with pytest.raises(InputTruncated, match="of the files that are joined in it, the one at byte 0"):
        probe(path)
    info = probe(path, accept_truncated=True)
    assert abs(info.frames - alone(tmp_path, kinds["mp3"]) - alone(tmp_path, kinds[name])) <= 2 * 1152
    assert "input.joined" in [remark.code for remark in info.remarks]


@pytest.mark.parametrize("at", [0, 1, beginnings.BLOCK_BYTES - 1, beginnings.BLOCK_BYTES - 9, beginnings.BLOCK_BYTES])
@pytest.mark.parametrize("name", ["wav", "m4a"])
def test_a_beginning_is_found_wherever_it_stands(name: str, at: int, kinds: dict[str, bytes], tmp_path: Path) -> None:
    if name not in kinds:
        pytest.skip("there is no ffmpeg")
    path = joined(tmp_path, bytes(at), kinds[name])
    with path.open("rb") as file:
        assert followers._search(BytesAt(file.fileno(), path.stat().st_size), 0, ()) == at


@needs_ffmpeg
@pytest.mark.parametrize("name", ["sox", "tta", "wma", "m4a"])
def test_bytes_of_no_known_kind_behind_a_file_are_counted_and_not_heard(
    name: str, kinds: dict[str, bytes], tmp_path: Path
) -> None:
    info = probe(joined(tmp_path, kinds[name], np.random.default_rng(3).bytes(5000)))
    assert abs(info.frames - alone(tmp_path, kinds[name])) <= 1
    said = [r.message for r in info.remarks if r.code == "input.bytes_left_out"]
    assert said == ["5,000 bytes behind its end are of no known kind and were left out"]


JUNK = np.random.default_rng(4).bytes(1501)


@pytest.mark.parametrize("name", ["wav", "aiff", "caf", "w64", "voc", "flac", "mp3"])
def test_a_recording_behind_bytes_of_something_else_is_read(name: str, kinds: dict[str, bytes], tmp_path: Path) -> None:
    with Source.open(joined(tmp_path, kinds[name])) as source:
        whole = np.concatenate(list(source.blocks()))
    with Source.open(joined(tmp_path, JUNK, kinds[name])) as source:
        assert np.array_equal(np.concatenate(list(source.blocks())), whole)
        assert "1,501 bytes of something else stand before" in str(source.info.remarks)


def test_a_recording_that_ends_early_behind_bytes_of_something_else_is_refused(
    kinds: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(InputFormat, match="1,501 bytes of something else stand before"):
        probe(joined(tmp_path, JUNK, kinds["wav"][:-2000]))


@pytest.mark.parametrize("behind", ["mp3", pytest.param("aac", marks=needs_ffmpeg)])
@pytest.mark.parametrize("first", ["wav", "aiff"])
def test_frames_behind_what_may_be_samples_are_decoded_and_not_heard_as_noise(
    first: str, behind: str, kinds: dict[str, bytes], tmp_path: Path
) -> None:
    info = probe(joined(tmp_path, kinds[first], JUNK, kinds[behind]))
    lengths = alone(tmp_path, kinds[first]) + alone(tmp_path, kinds[behind])
    assert lengths <= info.frames <= lengths + len(JUNK)
    assert {"input.joined", "input.longer_than_header"} <= {remark.code for remark in info.remarks}


@needs_ffmpeg
def test_a_file_behind_an_mp4_and_other_bytes_is_read(kinds: dict[str, bytes], tmp_path: Path) -> None:
    info = probe(joined(tmp_path, kinds["m4a"], JUNK, kinds["wav"]))
    assert info.frames == alone(tmp_path, kinds["m4a"]) + alone(tmp_path, kinds["wav"])
    assert {"input.joined", "input.bytes_left_out"} <= {remark.code for remark in info.remarks}
