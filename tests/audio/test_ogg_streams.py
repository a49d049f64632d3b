"""All the sound of Ogg files: chained, side by side, damaged, cut, joined late."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from batchsr.audio.containers.ogg_pages import checksum
from batchsr.audio.files import Source
from batchsr.audio.probe import SourceInfo
from batchsr.errors import InputError, InputTruncated

CODECS = ["VORBIS", "OPUS"]
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg writes FLAC in Ogg")


def sound(seconds: float, rate_hz: int = 16_000, channels: int = 1, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((round(seconds * rate_hz), channels))
    return (0.1 * (x + np.roll(x, 1, 0) + np.roll(x, 2, 0))).astype(np.float32)


def ogg(path: Path, x: np.ndarray, codec: str = "VORBIS", rate_hz: int = 16_000) -> bytes:
    with soundfile.SoundFile(path, "w", rate_hz, x.shape[1], codec, format="OGG") as file:
        for start in range(0, len(x), 2048):
            file.write(x[start : start + 2048])
    return path.read_bytes()


def pages_of(whole: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(whole):
        body = at + 27 + whole[at + 26]
        end = body + sum(whole[at + 27 : body])
        found.append(whole[at:end])
        at = end
    return found


def changed(page: bytes, *, serial: int | None = None, time: int | None = None, flags: int | None = None) -> bytes:
    made = bytearray(page)
    if serial is not None:
        struct.pack_into("<I", made, 14, serial)
    if time is not None:
        struct.pack_into("<Q", made, 6, time)
    if flags is not None:
        made[5] = flags
    made[22:26] = bytes(4)
    struct.pack_into("<I", made, 22, checksum(bytes(made)))
    return bytes(made)


def numbered(whole: bytes, serial: int) -> list[bytes]:
    return [changed(page, serial=serial) for page in pages_of(whole)]


def read(path: Path, content: Iterable[bytes] = ()) -> tuple[np.ndarray, SourceInfo]:
    if joined := b"".join(content):
        path.write_bytes(joined)
    with Source.open(path) as source:
        blocks = np.concatenate(list(source.blocks(5000)))
        assert len(blocks) == source.info.frames
        return blocks, source.info


def codes(info: SourceInfo) -> list[str]:
    return [remark.code for remark in info.remarks]


def test_the_checksum_is_that_of_other_writers(tmp_path: Path) -> None:
    for page in pages_of(ogg(tmp_path / "x.ogg", sound(2))):
        assert changed(page) == page


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("between", [b"", b"TAG" + bytes(125), bytes(100_000)])
def test_streams_behind_one_another_are_one_recording(tmp_path: Path, codec: str, between: bytes) -> None:
    path = tmp_path / "x.ogg"
    files = [ogg(path, sound(s, seed=i), codec) for i, s in enumerate((1.0, 2.5, 0.3))]
    expected = [read(path, [content])[0] for content in files]
    got, info = read(path, [between.join(files)])
    assert np.array_equal(got, np.concatenate(expected))
    assert codes(info) == ["input.joined"]


def test_streams_of_other_codecs_rates_and_channels_keep_their_pitch(tmp_path: Path) -> None:
    path = tmp_path / "x.ogg"
    a, b, c = sound(1.0, 8000), sound(1.0, 44_100, 2), sound(1.0, 16_000)
    got, info = read(path, [ogg(path, a, "VORBIS", 8000), ogg(path, b, "VORBIS", 44_100), ogg(path, c, "OPUS")])
    assert (info.sample_rate, info.channels, len(got)) == (44_100, 2, 3 * 44_100)


@pytest.mark.parametrize("codec", CODECS)
def test_streams_side_by_side_become_channels(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "x.ogg"
    a, b = ogg(path, sound(1.5, seed=1), codec), ogg(path, sound(2.0, channels=2, seed=2), codec)
    alone = [read(path, [content])[0] for content in (a, b)]
    first, second = numbered(a, 1), numbered(b, 2)
    mixed = [first[0], second[0]]
    rest = [first[1:], second[1:]]
    while any(rest):
        mixed += [queue.pop(0) for queue in rest if queue]
    got, info = read(path, mixed)
    assert (info.channels, len(got), codes(info)) == (3, len(alone[1]), ["input.side_by_side"])
    assert np.array_equal(got[: len(alone[0]), :1], alone[0])
    assert not got[len(alone[0]) :, 0].any()
    assert np.array_equal(got[:, 1:], alone[1])


def test_what_is_no_sound_beside_it_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.ogv"
    whole = ogg(path, sound(1.0))
    alone = read(path, [whole])[0]
    pages = numbered(whole, 7)
    video = bytearray(pages[0])
    body = 27 + video[26]
    video[body : body + 8] = b"fishead\0"
    picture = changed(bytes(video), serial=9)
    got, _ = read(path, [picture, pages[0], *pages[1:]])
    assert np.array_equal(got, alone)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("how", ["lost", "two lost", "a byte wrong", "its header wrong", "overwritten"])
@pytest.mark.parametrize("which", [3, -4])
def test_a_page_that_is_lost_is_silence_at_its_place(tmp_path: Path, codec: str, how: str, which: int) -> None:
    path = tmp_path / "x.ogg"
    pages = pages_of(ogg(path, sound(8.0), codec))
    good, _ = read(path)
    at = range(len(pages))[which]
    damaged = bytearray(pages[at])
    if how == "a byte wrong":
        damaged[200] ^= 1
    elif how == "its header wrong":
        damaged[2] = 0
    elif how == "overwritten":
        damaged[:] = bytes(len(damaged))
    else:
        damaged.clear()
    behind = at + (2 if how == "two lost" else 1)
    got, info = read(path, [*pages[:at], bytes(damaged), *pages[behind:]])
    assert codes(info) == ["input.gap"]
    assert len(got) == len(good)
    begin, end = (struct.unpack_from("<Q", pages[i], 6)[0] for i in (at - 1, behind - 1))
    begin, end = (int(t) * (1 if codec == "VORBIS" else 16_000 / 48_000) for t in (begin, end))
    assert np.abs(got[: int(begin) - 2048] - good[: int(begin) - 2048]).max() < 1e-4
    settled = int(end) + (2048 if codec == "VORBIS" else 4000)
    assert np.abs(got[settled:] - good[settled:]).max() < (1e-4 if codec == "VORBIS" else 0.05)
    assert not got[int(begin) + 2048 : int(end) - 2048].any()


@pytest.mark.parametrize("codec", CODECS)
def test_a_stream_without_its_last_mark_is_whole_and_a_cut_one_is_cut(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "x.ogg"
    pages = pages_of(ogg(path, sound(3.0), codec))
    good, info = read(path)
    assert info.remarks == ()
    got, info = read(path, [*pages[:-1], changed(pages[-1], flags=pages[-1][5] & ~4)])
    assert abs(len(got) - len(good)) < 2048
    assert codes(info) == ["input.no_end"]
    for cut in (1, 100, len(pages[-1]) - 5):
        with pytest.raises(InputTruncated, match="page"):
            read(path, [b"".join(pages)[:-cut]])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("begin_s", [1, 600, 90_000])
def test_a_stream_that_was_joined_late_begins_with_its_sound(tmp_path: Path, codec: str, begin_s: int) -> None:
    path = tmp_path / "x.ogg"
    pages = pages_of(ogg(path, sound(3.0), codec))
    good, _ = read(path)
    rate = 48_000 if codec == "OPUS" else 16_000
    late = [
        changed(p, time=struct.unpack_from("<Q", p, 6)[0] + begin_s * rate) if i > 1 else p for i, p in enumerate(pages)
    ]
    got, _ = read(path, late)
    assert abs(len(got) - len(good)) <= 0.03 * 16_000
    assert np.abs(got[:8000] - good[:8000]).max() < 1e-4


@pytest.mark.parametrize("gain_db", [-12, 6])
def test_the_gain_of_an_opus_header_is_applied(tmp_path: Path, gain_db: int) -> None:
    path = tmp_path / "x.opus"
    pages = pages_of(ogg(path, sound(1.0), "OPUS"))
    good, _ = read(path)
    head = bytearray(pages[0])
    body = 27 + head[26]
    struct.pack_into("<h", head, body + 16, gain_db * 256)
    got, _ = read(path, [changed(bytes(head)), *pages[1:]])
    assert np.abs(got - good * 10 ** (gain_db / 20)).max() < 1e-3


@needs_ffmpeg
@pytest.mark.parametrize("channels", [1, 2])
def test_flac_in_ogg_is_read_like_flac(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "x.wav", sound(3.0, channels=channels), 16_000)
    expected, _ = read(tmp_path / "x.wav")
    path = tmp_path / "x.oga"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "x.wav", "-c:a", "flac", path], check=True)
    got, info = read(path)
    assert np.array_equal(got, expected)
    assert (info.format, info.remarks) == ("FLAC", ())
    pages = pages_of(path.read_bytes())
    twice, info = read(path, [*pages, *(changed(page, serial=77) for page in pages)])
    assert np.array_equal(twice, np.concatenate([expected, expected]))
    damaged, info = read(path, [*pages[:3], *pages[4:]]) if len(pages) > 5 else (expected, info)
    assert len(damaged) <= len(expected)


def test_hostile_files_cost_little_time(tmp_path: Path) -> None:
    path = tmp_path / "x.ogg"
    pages = pages_of(ogg(path, sound(1.0)))
    head = b"OggS\0\0" + bytes(20) + b"\xff"
    for body in (
        head * 37_000,
        (head + b"\xff" * 255) * 3_500,
        b"OggS\0" * 200_000,
        b"".join(pages[:2]) * 200,
        pages[0] * 17_000,
        b"".join(changed(pages[0], serial=n) for n in range(10_000)),
        b"".join(changed(pages[-1], serial=n) for n in range(400)),
    ):
        for start in (b"", pages[0], b"".join(pages)):
            path.write_bytes(start + body)
            started = time.monotonic()
            with contextlib.suppress(InputError):
                read(path)
            assert time.monotonic() - started < 5


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("which", [2, 4, -2])
def test_a_page_that_stands_twice_is_heard_once(tmp_path: Path, codec: str, which: int) -> None:
    path = tmp_path / "x.ogg"
    pages = pages_of(ogg(path, sound(8.0), codec))
    good, _ = read(path)
    at = range(len(pages))[which]
    got, info = read(path, [*pages[: at + 1], pages[at], *pages[at + 1 :]])
    assert codes(info) == ["input.pages_repeated"]
    assert len(got) == len(good)
    assert np.abs(got - good).max() < 1e-4


@pytest.mark.parametrize("codec", CODECS)
def test_pages_that_changed_places_are_put_in_order(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "x.ogg"
    pages = pages_of(ogg(path, sound(8.0), codec))
    good, _ = read(path)
    got, info = read(path, [*pages[:4], pages[5], pages[4], *pages[6:]])
    assert codes(info) == ["input.pages_disordered"]
    assert len(got) == len(good)
    assert np.abs(got - good).max() < 1e-4


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("lost", [1, 2])
def test_pages_that_are_lost_before_the_first_sound_are_silence_there(tmp_path: Path, codec: str, lost: int) -> None:
    path = tmp_path / "x.ogg"
    pages = pages_of(ogg(path, sound(8.0), codec))
    good, _ = read(path)
    got, info = read(path, [*pages[:2], *pages[2 + lost :]])
    assert codes(info) == ["input.gap"]
    assert len(got) == len(good)
    end = struct.unpack_from("<Q", pages[1 + lost], 6)[0] * (1 if codec == "VORBIS" else 16_000 / 48_000)
    assert not got[: int(end) - 2048].any()
    settled = int(end) + (2048 if codec == "VORBIS" else 4000)
    assert np.abs(got[settled:] - good[settled:]).max() < (1e-4 if codec == "VORBIS" else 0.05)


def test_a_broadcast_that_was_joined_late_by_the_numbers_of_its_pages_begins_with_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "x.ogg"
    pages = pages_of(ogg(path, sound(3.0)))
    good, _ = read(path)
    late = []
    for i, page in enumerate(pages):
        if i > 1:
            time, serial, number = struct.unpack_from("<QII", page, 6)
            page = page[:6] + struct.pack("<QII", time + 16_000 * 600, serial, number + 900) + page[22:]
        late.append(changed(page))
    got, info = read(path, late)
    assert codes(info) == ["input.gap"]
    assert "joined late" in info.remarks[0].message
    assert abs(len(got) - len(good)) <= 0.03 * 16_000
