"""The edge of the band is found to 10 %, under hiss too, and nothing that has no edge makes the search fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from batchsr.audio.cutoff import BandLevels, find_cutoff
from batchsr.audio.files import Source

RATE_HZ = 48_000


def programme(seconds: float = 6.0) -> np.ndarray:
    """Syllables: a gliding voice with all its harmonics, and bursts of noise for consonants. (n, 1) at 48 kHz."""
    rng = np.random.default_rng(2)
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(120 * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * t))) / RATE_HZ
    voice = sum(np.sin(k * phase) / k**0.7 for k in range(1, 140)) * np.clip(np.sin(2 * np.pi * 3 * t), 0, 1)
    consonants = rng.standard_normal(len(t)) * np.clip(np.sin(2 * np.pi * 1.3 * t + 1), 0, 1) ** 4
    return (0.1 * voice * (np.sin(2 * np.pi * 0.3 * t) > -0.6) + 0.05 * consonants)[:, None]


def hiss(kind: str, like: np.ndarray, snr_db: float) -> np.ndarray:
    noise = np.random.default_rng(9).standard_normal(like.shape)
    if kind == "pink":
        spectrum = np.fft.rfft(noise, axis=0) / np.sqrt(np.maximum(np.arange(len(noise) // 2 + 1), 1))[:, None]
        noise = np.fft.irfft(spectrum, len(noise), axis=0)
    return noise * like.std() / noise.std() * 10 ** (-snr_db / 20)


def lowpassed(signal: np.ndarray, cutoff_hz: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    return scipy.signal.sosfiltfilt(scipy.signal.cheby1(8, 0.1, cutoff_hz, fs=rate_hz, output="sos"), signal, axis=0)


def found_hz(signal: np.ndarray, rate_hz: int = RATE_HZ) -> float | None:
    return find_cutoff(np.array_split(signal.astype(np.float32), 5), rate_hz).hz


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return programme()


@pytest.mark.parametrize("cutoff_hz", [2000, 3400, 8000, 16_000])
@pytest.mark.parametrize(
    ("kind", "snr_db"), [("white", 20), ("white", 30), ("white", 50), ("pink", 20), ("pink", 40), ("none", 200)]
)
def test_hiss_does_not_move_the_edge(speech: np.ndarray, cutoff_hz: int, kind: str, snr_db: float) -> None:
    narrow = lowpassed(speech, cutoff_hz)
    assert found_hz(narrow + hiss(kind, narrow, snr_db)) == pytest.approx(cutoff_hz, rel=0.1)


@pytest.mark.parametrize("cutoff_hz", [3400, 8000])
@pytest.mark.parametrize("snr_db", [20, 30, 50])
def test_real_music_and_speech_under_hiss(shared: Path, cutoff_hz: int, snr_db: float) -> None:
    for name in ("music_hedgewars_hell", "music_sonicpi_tabla", "speech_fillets_cs", "speech_hedgewars_uk"):
        signal, rate_hz = soundfile.read(shared / "audio" / "eval" / f"{name}.flac", always_2d=True)
        narrow = lowpassed(signal, cutoff_hz, rate_hz)
        for kind in ("white", "pink"):
            edge_hz = found_hz(narrow + hiss(kind, narrow, snr_db), rate_hz)
            assert edge_hz == pytest.approx(cutoff_hz, rel=0.1), (name, kind)


def test_steady_noise_that_was_cut_off_shows_its_step() -> None:
    rng = np.random.default_rng(0)
    steady = lowpassed(0.1 * rng.standard_normal((6 * RATE_HZ, 1)), 5000)
    cutoff = find_cutoff([(steady + hiss("white", steady, 30)).astype(np.float32)], RATE_HZ)
    assert cutoff.how == "step"
    assert cutoff.hz == pytest.approx(5000, rel=0.1)


def test_the_shared_recordings_end_where_they_end(recordings: Path) -> None:
    expected = {
        "phone/demo-congrats_8k_pcm16.wav": 4000,
        "phone/demo-nogo_8k_mulaw.wav": 4000,
        "phone/demo-nogo_it_8k_alaw.wav": 4000,
        "phone/ss-noservice_fr_8k_pcm16.wav": 4000,
        "radio/ve9qrp_hamradio_8k.wav": 4000,
        "speech16/demo-nogo_ru_16k.wav": 8000,
        "speech16/hello16000.wav": 8000,
        "formats/demo_16k_vorbis.ogg": 8000,
        "music/macroform-cold_day_8k_30s.wav": 4000,
        "music/frantic_24k_stereo.flac": 12_000,
        "rates/a-16_128kHz.ogg": 7400,
        "levels/very_quiet_8k_pcm24.wav": 4000,
        "levels/dc_offset_8k.wav": 4000,
        "levels/one_dead_channel_8k_stereo.wav": 4000,
    }
    for name, hz in expected.items():
        with Source.open(recordings / "inputs" / name) as source:
            cutoff = find_cutoff(source.blocks(), source.info.sample_rate)
        assert cutoff.hz == pytest.approx(hz, rel=0.1), name
        assert not cutoff.full_band


@pytest.mark.parametrize("name", ["music_hedgewars_hell", "music_sonicpi_garzul", "sfx_hydrogen_cymbals"])
def test_a_full_band_recording_is_called_so(shared: Path, name: str) -> None:
    with Source.open(shared / "audio" / "eval" / f"{name}.flac") as source:
        assert find_cutoff(source.blocks(), source.info.sample_rate).full_band


def hum() -> np.ndarray:
    t = np.arange(5 * RATE_HZ) / RATE_HZ
    return sum(0.1 / k * np.sin(2 * np.pi * 50 * k * t) for k in (1, 2, 3, 5))[:, None] * (1 + 0.1 * np.sin(t))[:, None]


@pytest.mark.parametrize(
    "signal",
    [
        np.zeros((5 * RATE_HZ, 2)),
        np.full((5 * RATE_HZ, 1), 0.3),
        hum(),
        np.full((5 * RATE_HZ, 1), 1e-40),
        np.full((RATE_HZ, 1), 1e12) * (-1) ** np.arange(RATE_HZ)[:, None],
        np.random.default_rng(0).standard_normal((5 * RATE_HZ, 1)) * 1e-5,
        np.zeros((1, 1)),
        np.zeros((0, 1)),
        np.ones((100, 64)),
    ],
    ids=["silence", "dc", "hum", "denormal", "huge", "hiss", "one sample", "nothing", "64 channels"],
)
@pytest.mark.parametrize("rate_hz", [1000, 8000, 768_000])
def test_what_has_no_edge_never_raises(signal: np.ndarray, rate_hz: int) -> None:
    cutoff = find_cutoff([signal.astype(np.float32)], rate_hz)
    assert cutoff.hz is None or 1000 <= cutoff.hz <= rate_hz / 2
    assert cutoff.band_hz <= rate_hz / 2
    if rate_hz == 8000:
        assert cutoff.hz is None


def test_blocks_do_not_matter_and_memory_is_bounded(speech: np.ndarray) -> None:
    narrow = lowpassed(speech, 3400).astype(np.float32)
    one, many = BandLevels(RATE_HZ), BandLevels(RATE_HZ)
    one.add(narrow)
    for block in np.array_split(narrow, 100):
        many.add(block)
        assert many._rest is not None
        assert len(many._rest) < 20_000
    assert one.cutoff() == many.cutoff()


def test_all_channels_are_heard_together(speech: np.ndarray) -> None:
    narrow = np.concatenate([lowpassed(speech, 2000), lowpassed(speech, 6000), 0 * speech], axis=1)
    assert found_hz(narrow) == pytest.approx(6000, rel=0.1)
