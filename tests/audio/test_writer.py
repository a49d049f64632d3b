"""Files come out right in every format, the same bytes for the same samples, and a failing disk is noticed."""

from __future__ import annotations

import errno
import functools
import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from batchsr.audio.containers import riff
from batchsr.audio.dither import quantise, triangular
from batchsr.audio.files import SUBTYPES, Embedded, Source, Writer, check_format, fits_header, probe
from batchsr.audio.formats import WRITTEN
from batchsr.errors import ConfigError, OutputError, ResourceError

COMBINATIONS = [(form, subtype) for form, subtypes in SUBTYPES.items() for subtype in subtypes]
STEP = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "PCM_32": 2.0**-31, "FLOAT": 0.0}


def noise(samples: int, channels: int = 1, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(samples).standard_normal((samples, channels))).astype(np.float32)


def write(path: Path, signal: np.ndarray, form: str, subtype: str, parts: int = 1, frames: int | None = -1) -> Writer:
    frames = len(signal) if frames == -1 else frames
    with Writer(path, signal.shape[1], form, subtype, frames=frames) as writer:
        for block in np.array_split(signal, parts):
            writer.write(block)
    return writer


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(("form", "subtype"), COMBINATIONS)
def test_every_format_reads_back(tmp_path: Path, form: str, subtype: str, channels: int) -> None:
    if channels > WRITTEN[form].channels:
        pytest.skip(f"{form} takes no {channels} channels")
    signal = noise(10_001, channels)
    path = tmp_path / ".odd-name.part"
    write(path, signal, form, subtype, parts=3)
    info = probe(path)
    assert info.format.replace("WAVEX", "WAV") == form.upper().replace("OPUS", "OGG")
    assert (info.subtype, info.frames, info.sample_rate, info.channels) == (subtype, 10_001, 48_000, channels)
    assert fits_header(path)
    back = soundfile.read(path, dtype="float64", always_2d=True)[0]
    if subtype in ("VORBIS", "OPUS", "MPEG_LAYER_III"):
        assert np.abs(back).std() == pytest.approx(np.abs(signal).std(), rel=0.3)
    else:
        assert np.abs(back - signal).max() <= 1.5 * STEP[subtype]


def test_the_same_samples_give_the_same_bytes_a_second_later(tmp_path: Path) -> None:
    signal = noise(5000, 2)
    names = [f"{form}.{subtype}" for form, subtype in COMBINATIONS]
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        for name in names:
            write(tmp_path / run / name, signal, *name.split("."), parts=1 if run == "a" else 7)
        if run == "a":
            time.sleep(1.1)  # libsndfile dates some files, to the second
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_full_scale_fits_and_one_step_more_is_counted_and_clamped(tmp_path: Path) -> None:
    signal = np.float32([[-1.0], [32767 / 32768], [1.0], [3.0], [-1.01], [0.0]])
    writer = write(tmp_path / "x.wav", signal, "wav", "PCM_16")
    assert (writer.clipped_samples, writer.peak) == (3, 3.0)
    whole = soundfile.read(tmp_path / "x.wav", dtype="int16")[0]
    assert whole[2:].tolist() == [32767, 32767, -32768, 0]
    assert whole[0] <= -32767
    assert whole[1] >= 32766


def test_float_carries_what_is_over_full_scale(tmp_path: Path) -> None:
    signal = noise(1000, level=60.0)
    writer = write(tmp_path / "x.wav", signal, "wav", "FLOAT")
    assert writer.clipped_samples == 0
    assert np.array_equal(soundfile.read(tmp_path / "x.wav", dtype="float32", always_2d=True)[0], signal)


def test_dither_is_triangular_and_makes_the_error_independent_of_the_signal() -> None:
    dither = triangular(0, 200_000)
    assert np.abs(dither).max() < 1
    assert dither.mean() == pytest.approx(0, abs=0.005)
    assert dither.var() == pytest.approx(1 / 6, rel=0.02)
    for level in (0.1, 0.25, 0.5):  # of a step: without dither all of these would be rounded away
        whole, _ = quantise(np.full((200_000, 1), level / 32768, np.float32), 16, 0)
        assert whole.mean() == pytest.approx(level, abs=0.01)
        assert whole.var() == pytest.approx(0.25, rel=0.02)


def test_dither_depends_on_the_position_alone() -> None:
    whole = triangular(0, 1000)
    for start, stop in ((0, 1), (1, 4), (3, 9), (250, 1000)):
        assert np.array_equal(triangular(start, stop - start), whole[start:stop])
    assert not np.array_equal(triangular(1000, 1000), whole)


def test_silence_and_equal_channels_stay_what_they_are(tmp_path: Path) -> None:
    signal = np.repeat(noise(3000), 3, axis=1)
    signal[:, 2] = 0
    write(tmp_path / "x.wav", signal, "wav", "PCM_16")
    whole = soundfile.read(tmp_path / "x.wav", dtype="int16")[0]
    assert np.array_equal(whole[:, 0], whole[:, 1])
    assert not whole[:, 2].any()


@pytest.mark.parametrize("frames", [None, 2**31])
def test_four_gigabytes_make_an_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int | None) -> None:
    if frames is None:
        monkeypatch.setattr(riff, "RIFF_LIMIT_BYTES", 20_000)
    signal = noise(5000, 2)
    write(tmp_path / "x.wav", signal, "wav", "PCM_24", parts=2, frames=frames)
    info = probe(tmp_path / "x.wav")
    assert (info.format, info.frames) == ("RF64", 5000)
    back = soundfile.read(tmp_path / "x.wav", dtype="float32", always_2d=True)[0]
    assert np.abs(back - signal).max() < 2e-7


def test_just_under_four_gigabytes_is_a_plain_wav() -> None:
    frames = (2**32 - 1 - 100) // 3
    assert not riff.RiffLayout(1, "PCM_24", frames=frames).long
    assert riff.RiffLayout(1, "PCM_24", frames=frames + 100).long


def test_a_length_that_was_not_promised_is_put_right(tmp_path: Path) -> None:
    for frames in (None, 10, 2000):
        path = tmp_path / f"{frames}.wav"
        write(path, noise(1001), "wav", "PCM_24", frames=frames)
        assert probe(path).frames == 1001


def test_loudspeakers_are_named(tmp_path: Path) -> None:
    for mask, expected in ((None, 0x3F), (0x60F, 0x60F)):
        with Writer(tmp_path / "x.wav", 6, embedded=Embedded(channel_mask=mask), frames=0) as writer:
            writer.write(np.zeros((0, 6), np.float32))
        head = (tmp_path / "x.wav").read_bytes()
        assert int.from_bytes(head[40:44], "little") == expected


@pytest.mark.parametrize(
    ("form", "subtype"), [("wav", "PCM_24"), ("flac", "PCM_24"), ("aiff", "PCM_16"), ("ogg", "VORBIS")]
)
def test_a_full_disk_is_noticed(tmp_path: Path, form: str, subtype: str) -> None:
    with Path("/dev/full").open("r+b", buffering=0) as full:
        writer = functools.partial(Writer, tmp_path / "out", 2, form, subtype, fd=full.fileno())
        with pytest.raises(ResourceError, match="No space left") as caught, writer() as writing:
            writing.write(noise(100_000, 2))
    assert not list(tmp_path.iterdir()), "with a descriptor, no name is touched"
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC


@pytest.mark.parametrize("form", ["wav", "flac", "aiff", "w64", "caf"])
def test_a_disk_that_fills_up_half_way_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    real, left = os.pwrite, [50_000]

    def pwrite(fd: int, data: bytes, at: int) -> int:
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(ResourceError, match="Input/output error"):
        write(tmp_path / "x", noise(200_000), form, "PCM_16", parts=20)


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_a_disk_that_fills_up_at_the_very_end_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    writer = Writer(tmp_path / "x", 1, form)
    writer.write(noise(100))

    def pwrite(*_: object) -> int:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(ResourceError, match="quota"):
        writer.close()


def test_short_writes_of_the_system_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.wav", noise(5000), "wav", "PCM_16")
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:100], at))
    write(tmp_path / "b.wav", noise(5000), "wav", "PCM_16")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_a_folder_that_is_not_there_is_a_resource_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="No such file"):
        Writer(tmp_path / "gone" / "x.wav", 1)


@pytest.mark.parametrize(
    ("form", "subtype", "channels", "error"),
    [("mp3", "PCM_16", 1, ConfigError), ("flac", "FLOAT", 1, ConfigError), ("flac", "PCM_24", 9, OutputError)],
)
def test_what_cannot_be_written_is_refused_before_the_file_is_made(
    tmp_path: Path, form: str, subtype: str, channels: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        check_format(form, subtype, channels)
    with pytest.raises(error):
        Writer(tmp_path / "x", channels, form, subtype)
    assert not list(tmp_path.iterdir())


def test_aiff_is_refused_beyond_its_four_gigabytes(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="4 GB"):
        Writer(tmp_path / "x.aiff", 1, "aiff", frames=2**31)


@pytest.mark.parametrize("block", [np.float32([[np.nan]]), np.float32([[np.inf]]), np.zeros((3, 2), np.float32)])
def test_samples_that_no_file_can_hold_are_a_programming_error(tmp_path: Path, block: np.ndarray) -> None:
    with Writer(tmp_path / "x.wav", 1) as writer, pytest.raises(ValueError, match=r"NaN|is not"):
        writer.write(block)


def test_an_exception_inside_gives_the_file_up(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))

    def interrupted() -> None:
        with Writer(tmp_path / "x.flac", 1, "flac") as writer:
            writer.write(noise(10))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("form", ["flac", "ogg", "aiff", "caf", "opus", "mp3"])
def test_texts_are_written(tmp_path: Path, form: str) -> None:
    subtype = SUBTYPES[form][0]
    with Writer(tmp_path / "x", 1, form, subtype, embedded=Embedded(tags={"title": "Tape 3"})) as writer:
        writer.write(noise(100))
    with soundfile.SoundFile(tmp_path / "x") as file:
        assert file.title == "Tape 3"


@pytest.mark.parametrize("form", ["ogg", "opus"])
@pytest.mark.parametrize("channels", [3, 5, 6, 7, 8])
def test_surround_goes_into_ogg_and_comes_back_in_place(tmp_path: Path, channels: int, form: str) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 60 * np.arange(48_000, dtype=np.float32) / 48_000)[:, None]
    signal = tone * (2.0 ** -np.arange(channels, dtype=np.float32))
    write(tmp_path / "x.ogg", signal, form, WRITTEN[form].natural)
    with Source.open(tmp_path / "x.ogg") as source:
        levels = 20 * np.log10(np.concatenate(list(source.blocks()))[5000:-5000].std(axis=0))
    assert np.diff(levels) == pytest.approx(-6.02, abs=2.5)
