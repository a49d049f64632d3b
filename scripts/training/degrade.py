"""What narrowband archives do to sound: low-pass filters, low rates, old codecs, noise.

One random degradation: the 48 kHz original goes in, the same sound as the model will be given it comes out (at 48 kHz
again, through the resampler that the package uses, aligned with the original to the sample).
"""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray
from scipy import signal

SAMPLE_RATE_HZ = 48_000
RATES_HZ = (8_000, 16_000, 24_000, 4_000, 6_000, 11_025, 12_000, 22_050, 32_000, 44_100)
RATE_WEIGHTS = (0.30, 0.22, 0.18, 0.03, 0.04, 0.07, 0.05, 0.07, 0.03, 0.01)
CODECS = ("none", "ulaw", "gsm", "mp3", "opus")


@dataclasses.dataclass(frozen=True, slots=True)
class Degradation:
    """One way of losing a band, as drawn."""

    rate_hz: int
    filter: str
    order: int
    edge: float
    """Cutoff of the low-pass, as a part of the rate's Nyquist frequency."""
    codec: str
    noise_db: float | None = None
    """Level of white noise at the low rate, relative to the sound; None is none."""
    hiss_db: float | None = None
    """Level of white noise in the original, relative to the sound, which a restoration leaves there; None is none."""
    lowest_hz: float = 0.0
    """What lies below is lost as well."""


def draw(rng: np.random.Generator) -> Degradation:
    """A degradation at random: most are plain (Chebyshev-I, order 8, 0.9 of Nyquist), the others as archives are."""
    rate_hz = int(rng.choice(RATES_HZ, p=RATE_WEIGHTS))
    hiss = float(rng.uniform(-70, -35)) if rng.random() < 0.1 else None
    plain = Degradation(rate_hz, "cheby1", 8, 0.9, "none", hiss_db=hiss)
    what = rng.random()
    if what < 0.6:
        return plain if rng.random() < 0.9 else dataclasses.replace(plain, noise_db=float(rng.uniform(-70, -45)))
    if what < 0.65:
        return _telephone(plain, rng)
    if what < 0.69:
        return _tape(plain, rng)
    if what < 0.72:  # a codec that cuts somewhere below the rate's own limit
        return dataclasses.replace(plain, rate_hz=44_100, filter="soxr", codec="mp3")
    kind = str(rng.choice(["cheby1", "butter", "ellip", "bessel", "soxr"], p=[0.35, 0.2, 0.1, 0.05, 0.3]))
    codec = "none"
    if rng.random() < 0.35:
        fitting = {8_000: ("ulaw", "gsm", "mp3", "opus"), 4_000: ("none",), 6_000: ("none",)}
        codec = str(rng.choice(fitting.get(rate_hz, ("mp3", "opus"))))
        if codec == "opus" and rate_hz not in (8_000, 12_000, 16_000, 24_000):
            codec = "mp3"
    noise = float(rng.uniform(-60, -25)) if rng.random() < 0.15 else None
    return Degradation(rate_hz, kind, int(rng.integers(4, 13)), float(rng.uniform(0.6, 0.98)), codec, noise, hiss)


def _telephone(plain: Degradation, rng: np.random.Generator) -> Degradation:
    """Up to 3.4 kHz, often from 300 Hz on, through a telephone's codec or none."""
    codec = str(rng.choice(["none", "ulaw", "gsm"]))
    lowest_hz = 300.0 if rng.random() < 0.5 else 0.0
    edge = float(rng.uniform(0.82, 0.88))
    return dataclasses.replace(plain, rate_hz=8_000, filter="ellip", edge=edge, codec=codec, lowest_hz=lowest_hz)


def _tape(plain: Degradation, rng: np.random.Generator) -> Degradation:
    """A band that fades from 4 to 9 kHz on and never quite ends, under hiss."""
    how = dataclasses.replace(plain, rate_hz=44_100, filter="butter", order=int(rng.integers(2, 4)))
    return dataclasses.replace(how, edge=float(rng.uniform(0.18, 0.4)), noise_db=float(rng.uniform(-65, -40)))


def recorded(clip: NDArray[np.float32], how: Degradation, rng: np.random.Generator) -> NDArray[np.float32]:
    """The original itself, with its hiss."""
    return clip if how.hiss_db is None else _noisy(clip, how.hiss_db, rng)


def _noisy(sound: NDArray[np.float32], level_db: float, rng: np.random.Generator) -> NDArray[np.float32]:
    level = float(np.sqrt(np.mean(sound**2))) * 10 ** (level_db / 20)
    return np.asarray(sound + level * rng.standard_normal(len(sound)), np.float32)


def apply(clip: NDArray[np.float32], how: Degradation, rng: np.random.Generator) -> NDArray[np.float32]:
    """`clip` (n,) at 48 kHz after that degradation, (n,) at 48 kHz."""
    low = _lowpass(clip, how)
    if how.lowest_hz:
        low = signal.sosfiltfilt(signal.butter(2, how.lowest_hz, "high", fs=how.rate_hz, output="sos"), low)
        low = np.asarray(low, np.float32)
    if how.noise_db is not None:
        low = _noisy(low, how.noise_db, rng)
    if how.codec != "none":
        low = _aligned(_coded(low, how, rng), low)
    up = soxr.resample(low, how.rate_hz, SAMPLE_RATE_HZ, quality="VHQ")
    up = up[: len(clip)]
    return np.pad(up, (0, len(clip) - len(up))).astype(np.float32)


def _lowpass(clip: NDArray[np.float32], how: Degradation) -> NDArray[np.float32]:
    """Down to the low rate. `soxr` is the resampler's own steep filter, the others are zero phase."""
    if how.filter == "soxr":
        return np.asarray(soxr.resample(clip, SAMPLE_RATE_HZ, how.rate_hz, quality="HQ"), np.float32)
    edge_hz = how.edge * how.rate_hz / 2
    design = {
        "cheby1": lambda: signal.cheby1(how.order, 0.1, edge_hz, fs=SAMPLE_RATE_HZ, output="sos"),
        "butter": lambda: signal.butter(how.order, edge_hz, fs=SAMPLE_RATE_HZ, output="sos"),
        "ellip": lambda: signal.ellip(min(how.order, 8), 0.1, 60, edge_hz, fs=SAMPLE_RATE_HZ, output="sos"),
        "bessel": lambda: signal.bessel(min(how.order, 8), edge_hz, fs=SAMPLE_RATE_HZ, output="sos", norm="mag"),
    }[how.filter]
    filtered = signal.sosfiltfilt(design(), clip.astype(np.float64)).astype(np.float32)
    if SAMPLE_RATE_HZ % how.rate_hz == 0:
        return filtered[:: SAMPLE_RATE_HZ // how.rate_hz]
    return np.asarray(soxr.resample(filtered, SAMPLE_RATE_HZ, how.rate_hz, quality="HQ"), np.float32)


def _coded(low: NDArray[np.float32], how: Degradation, rng: np.random.Generator) -> NDArray[np.float32]:
    """Through an encoder and its decoder, by way of libsndfile; the delay stays."""
    file = io.BytesIO()
    low = np.clip(low, -1, 1)
    if how.codec in ("ulaw", "gsm"):
        sf.write(file, low, how.rate_hz, format="WAV", subtype={"ulaw": "ULAW", "gsm": "GSM610"}[how.codec])
    else:
        container, subtype = {"mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}[how.codec]
        level = float(rng.uniform(0.3, 0.9))
        sf.write(file, low, how.rate_hz, format=container, subtype=subtype, compression_level=level)
    file.seek(0)
    decoded, rate_hz = sf.read(file, dtype="float32")
    if rate_hz != how.rate_hz:  # libsndfile gives Opus at the rate it was told, but only those that Opus knows
        decoded = soxr.resample(decoded, rate_hz, how.rate_hz, quality="HQ")
    return np.asarray(decoded, np.float32)


def _aligned(decoded: NDArray[np.float32], low: NDArray[np.float32]) -> NDArray[np.float32]:
    """`decoded` moved by the codec's delay, found by cross-correlation, and cut to the length of `low`."""
    n = len(low) + len(decoded)
    product = np.fft.rfft(decoded, n) * np.conj(np.fft.rfft(low, n))
    lag = int(np.argmax(np.fft.irfft(product, n)))
    lag = lag - n if lag > n // 2 else lag
    moved = decoded[lag:] if lag >= 0 else np.pad(decoded, (-lag, 0))
    return np.pad(moved[: len(low)], (0, max(0, len(low) - len(moved))))
