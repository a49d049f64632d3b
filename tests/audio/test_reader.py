"""A recording comes out as it went in, at 48 kHz to the exact sample, or with an error that says why not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsr.audio.files import Source, resample, resampled
from batchsr.audio.resample import reblock, resample_blocks
from batchsr.errors import InputChanged, InputFormat, InputMissing, InputNotFinite, InputTruncated, InputUnreadable
from tests.audio.conftest import Make


def whole(source: Source, block_frames: int = 65_536) -> np.ndarray:
    return np.concatenate(list(source.blocks(block_frames)))


def test_blocks_are_the_file_and_may_be_asked_for_again(make: Make) -> None:
    path = make(signal=np.random.default_rng(0).uniform(-0.5, 0.5, (1000, 2)))
    expected = soundfile.read(path, dtype="float32")[0]
    with Source.open(path) as source:
        assert np.array_equal(whole(source, 7), expected)
        next(source.blocks(3))  # given up
        assert np.array_equal(whole(source), expected)


def test_samples_over_full_scale_are_carried(recordings: Path) -> None:
    with Source.open(recordings / "inputs" / "levels" / "ga_overrange_vorbis_44k1.ogg") as source:
        assert np.abs(whole(source)).max() == pytest.approx(10 ** (35.7 / 20), rel=0.01)


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, r"no number .* at 0\.500 s in channel 2"), (np.inf, "no number"), (-1e20, "too large")],
)
def test_what_cannot_be_computed_with_is_refused_with_its_place(make: Make, value: float, words: str) -> None:
    signal = np.zeros((8000, 2), np.float32)
    signal[4000, 1] = value
    with (
        Source.open(make(signal=signal, subtype="FLOAT")) as source,
        pytest.raises(InputNotFinite, match=words),
    ):
        whole(source, 1000)


def test_denormals_and_integers_stored_as_floats_are_fine(make: Make) -> None:
    signal = np.full((100, 1), 1e-40, np.float32)
    signal[50] = 2.0**31
    with Source.open(make(signal=signal, subtype="FLOAT")) as source:
        assert np.array_equal(whole(source), signal)


def test_a_damaged_middle_is_an_error_not_a_short_file(make: Make) -> None:
    path = make("in.flac", np.random.default_rng(0).uniform(-0.5, 0.5, (200_000, 1)))
    damaged = bytearray(path.read_bytes())
    damaged[100_000:300_000] = bytes(200_000)
    path.write_bytes(damaged)
    with Source.open(path) as source, pytest.raises(InputFormat, match=r"is damaged \d"):
        whole(source)


def test_a_file_that_is_written_to_while_it_is_read_has_changed(make: Make) -> None:
    path = make()
    with Source.open(path) as source:
        with path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(InputChanged, match="enqueue it again"):
            whole(source)


def test_a_file_that_shrinks_while_it_is_read_has_changed(make: Make) -> None:
    path = make(signal=np.zeros((100_000, 1)))
    with Source.open(path) as source:
        blocks = source.blocks(1000)
        next(blocks)
        os.truncate(path, 5000)
        with pytest.raises(InputChanged):
            list(blocks)


def test_a_file_that_is_exchanged_while_it_is_read_has_changed(make: Make) -> None:
    path = make()
    other = make("other.wav")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    with Source.open(path) as source:
        other.replace(path)
        with pytest.raises(InputChanged):
            whole(source)


def test_a_file_that_vanishes_while_it_is_read_is_missing(make: Make) -> None:
    path = make()
    with Source.open(path) as source:
        path.unlink()
        with pytest.raises(InputMissing, match="vanished"):
            whole(source)


def test_a_decoder_that_stops_early_is_a_cut_file(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with Source.open(make()) as source:
        monkeypatch.setattr(soundfile.SoundFile, "read", lambda *a, **k: np.zeros((10, 1), np.float32))
        with pytest.raises(InputTruncated, match="8,000 frames promised, 10 there"):
            whole(source)


def test_an_error_of_the_disk_is_not_blamed_on_the_file(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise soundfile.LibsndfileError(2)

    with Source.open(make()) as source:
        monkeypatch.setattr(soundfile.SoundFile, "read", fail)
        with pytest.raises(InputUnreadable, match="the system reports an error"):
            whole(source)


def test_no_descriptor_is_left_open(make: Make) -> None:
    path = make()
    before = len(os.listdir("/dev/fd"))
    with Source.open(path) as source:
        next(source.blocks(10))
    source.close()
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("channels", [3, 5, 6, 7, 8])
def test_surround_in_ogg_comes_in_the_order_of_wav(make: Make, channels: int) -> None:
    """The Vorbis specification's order, told apart by level: each loudspeaker plays its place in a WAV."""
    vorbis = {
        3: "L C R",
        5: "L C R BL BR",
        6: "L C R BL BR LFE",
        7: "L C R SL SR BC LFE",
        8: "L C R SL SR BL BR LFE",
    }[channels].split()
    wav = [name for name in ["L", "R", "C", "LFE", "BL", "BR", "BC", "SL", "SR"] if name in vorbis]
    tone = 0.5 * np.sin(2 * np.pi * 60 * np.arange(48_000) / 48_000)[:, None]  # low: the LFE carries nothing else
    signal = tone * [2.0 ** -wav.index(name) for name in vorbis]
    with Source.open(make("in.ogg", signal, 48_000, "VORBIS")) as source:
        levels = 20 * np.log10(whole(source)[5000:-5000].std(axis=0))
    assert np.diff(levels) == pytest.approx(-6.02, abs=2.5)


@pytest.mark.parametrize(
    "rate_hz", [1000, 8000, 8012, 11_000, 22_050, 22_100, 44_100, 48_000, 96_000, 128_000, 655_350]
)
@pytest.mark.parametrize("frames", [1, 2, 3, 5000])
def test_length_at_48_khz_is_exact(rate_hz: int, frames: int) -> None:
    out = resample(np.ones((frames, 2), np.float32), rate_hz)
    assert out.shape == (-(-frames * 48_000 // rate_hz), 2)
    assert np.isfinite(out).all()


@settings(max_examples=25, deadline=None)
@given(
    rate_hz=st.sampled_from([8000, 8012, 11_025, 44_100, 96_000]) | st.integers(1000, 768_000),
    frames=st.integers(1, 60_000),
    sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=5),
)
def test_bytes_do_not_depend_on_blocks(rate_hz: int, frames: int, sizes: list[int]) -> None:
    signal = np.random.default_rng(frames).standard_normal((frames, 1)).astype(np.float32)
    blocks, at = [], 0
    while at < frames:
        blocks.append(signal[at : at + sizes[len(blocks) % len(sizes)]])
        at += len(blocks[-1])
    out = np.concatenate(list(resample_blocks(blocks, rate_hz, frames)))
    assert out.tobytes() == resample(signal, rate_hz).tobytes()
    assert len(out) == -(-frames * 48_000 // rate_hz)


@pytest.mark.parametrize("rate_hz", [8000, 8012, 11_000, 44_100, 96_000, 128_000])
def test_a_tone_keeps_its_place_and_level(rate_hz: int) -> None:
    """No delay, and nothing added: a slow tone at 48 kHz is the tone that was sampled, to -100 dB."""
    frames = rate_hz * 2
    tone = np.sin(2 * np.pi * 440.0 * np.arange(frames) / rate_hz)[:, None].astype(np.float32)
    out = resample(tone, rate_hz)[:, 0]
    expected = np.sin(2 * np.pi * 440.0 * np.arange(len(out)) / 48_000)
    inside = slice(4800, -4800)
    assert np.sqrt(np.mean((out - expected)[inside] ** 2)) < 1e-5 * np.sqrt(0.5)


def test_48_khz_passes_through_untouched(make: Make) -> None:
    signal = np.random.default_rng(0).standard_normal((1000, 1)).astype(np.float32)
    with Source.open(make(signal=signal, rate_hz=48_000, subtype="FLOAT")) as source:
        assert np.concatenate(list(resampled(source, 17))).tobytes() == signal.tobytes()


def test_the_file_and_the_array_give_the_same(make: Make) -> None:
    with Source.open(make("in.flac", np.random.default_rng(0).uniform(-1, 1, (9000, 2)), 8012)) as source:
        stream = np.concatenate(list(resampled(source, 1000)))
        assert stream.tobytes() == resample(whole(source), 8012).tobytes()
        assert len(stream) == source.info.samples_at()


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=20), frames=st.integers(1, 40))
def test_reblocking_keeps_the_stream(sizes: list[int], frames: int) -> None:
    stream = np.arange(sum(sizes), dtype=np.float32)[:, None]
    out = list(reblock(np.split(stream, np.cumsum(sizes)), frames))
    assert all(len(block) == frames for block in out[:-1])
    assert all(0 < len(block) <= frames for block in out[-1:])
    assert np.array_equal(np.concatenate([stream[:0], *out]), stream)
