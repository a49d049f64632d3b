"""The whole way of the sound, with a model that changes nothing: file, 48 kHz, windows, output file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchsr.audio.cutoff import find_cutoff
from batchsr.audio.files import Source, Writer, resample, resampled
from batchsr.audio.filters import Crossover, condition, keep_band
from batchsr.audio.meters.loudness import LoudnessMeter
from batchsr.audio.meters.seams import SeamMeter
from batchsr.audio.resample import resample_blocks
from batchsr.audio.windows import Plan, assemble, cut
from tests.audio.conftest import true_frames


def restored(source: Path, out: Path, frame: int, overlap: int, subtype: str = "FLOAT") -> np.ndarray:
    """Restore with the identity as the model; the output read back, (n, C)."""
    with Source.open(source) as opened:
        plan = Plan(opened.info.samples_at(), frame, overlap)
        slots = dict(cut(plan, resampled(opened)))
        with Writer(out, opened.info.channels, "wav", subtype, frames=plan.total_samples) as writer:
            for block in assemble(plan, slots.__getitem__):
                writer.write(block)
    return soundfile.read(out, dtype="float64", always_2d=True)[0]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.integers(1, 30_000),
    rate_hz=st.sampled_from([1000, 8000, 8012, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
    | st.integers(1000, 768_000),
    channels=st.integers(1, 6),
    frame=st.integers(1000, 30_000),
    overlap=st.floats(0, 0.99),
)
def test_the_identity_gives_the_resampled_input(
    tmp_path: Path, frames: int, rate_hz: int, channels: int, frame: int, overlap: float
) -> None:
    """Any length, rate, channel count and overlap: exact in length, and in content far below -90 dB."""
    signal = (0.2 * np.random.default_rng(frames).standard_normal((frames, channels))).astype(np.float32)
    with (tmp_path / "in.wav").open("wb") as file:
        soundfile.write(file, signal, rate_hz, format="WAV", subtype="FLOAT")
    out = restored(tmp_path / "in.wav", tmp_path / "out.wav", frame, int(overlap * frame))
    expected = resample(signal, rate_hz)
    assert out.shape == (-(-frames * 48_000 // rate_hz), channels)
    assert np.abs(out - expected).max() <= 10 ** (-90 / 20) * np.abs(expected).max()


def test_every_real_recording_comes_through_the_identity(
    inputs: list[tuple[Path, dict[str, str]]], tmp_path: Path
) -> None:
    for path, row in inputs:
        out = restored(path, tmp_path / "out.wav", 61_440, 24_000, "PCM_24")
        assert out.shape == (-(-true_frames(path, row) * 48_000 // int(row["rate"])), int(row["channels"])), path
        assert np.isfinite(out).all()
        with Source.open(path) as source:
            expected = np.concatenate(list(resampled(source)))
        assert np.abs(out - np.clip(expected, -1, 1)).max() <= 2**-22, path  # 24 bits, dithered


def test_levels_survive(recordings: Path, tmp_path: Path) -> None:
    """DC, very quiet and silent files, and a dead channel, keep what they are through 24 bits."""
    levels = recordings / "inputs" / "levels"
    out = restored(levels / "dc_offset_8k.wav", tmp_path / "o.wav", 61_440, 24_000, "PCM_24")
    assert out.mean() == pytest.approx(0.3, abs=0.01)
    out = restored(levels / "very_quiet_8k_pcm24.wav", tmp_path / "o.wav", 61_440, 24_000, "PCM_24")
    assert 20 * np.log10(np.abs(out).max()) == pytest.approx(-80, abs=1)
    assert not restored(levels / "all_digital_silence_8k.wav", tmp_path / "o.wav", 61_440, 24_000, "PCM_24").any()
    out = restored(levels / "one_dead_channel_8k_stereo.wav", tmp_path / "o.wav", 61_440, 24_000, "PCM_24")
    assert out[:, 0].any()
    assert not out[:, 1].any()


def long_stream(seconds: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(seconds):
        yield (0.1 * rng.standard_normal((8000, 1))).astype(np.float32)


def consumed_bytes(seconds: int, folder: Path) -> int:
    """Peak of Python's and numpy's memory while a stream goes the whole way, slots kept on disk."""
    total = seconds * 48_000
    plan = Plan.of(total, 61_440, 0.5)
    slots = np.memmap(folder / "slots", np.float32, "w+", shape=(plan.count, 1, plan.frame_samples))
    meter, seams = LoudnessMeter(1), SeamMeter(plan.borders())
    tracemalloc.start()
    cutoff = find_cutoff(long_stream(seconds), 8000)
    low = condition(resample_blocks(long_stream(seconds), 8000, seconds * 8000), total, 3400)
    for index, window in cut(plan, low):
        slots[index] = window
    kept = resample_blocks(long_stream(seconds), 8000, seconds * 8000)
    made = seams.through(assemble(plan, slots.__getitem__))
    with Writer(folder / "out.wav", 1, frames=total) as writer:
        for block in keep_band(kept, made, Crossover.below(cutoff.band_hz, 8000)):
            meter.add(block)
            writer.write(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert writer.samples == total
    assert meter.lufs is not None
    return peak


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """Reading aside (libsndfile streams), every stage at once: 100 s cost what 20 s cost."""
    short, long = consumed_bytes(20, tmp_path), consumed_bytes(100, tmp_path)
    assert long < short + 2_000_000
    assert long < 100_000_000
