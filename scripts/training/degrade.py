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
    noise_db: float | None
    """Level of white noise at the low rate, relative to the sound; None is none."""


def draw(rng: np.random.Generator) -> Degradation:
    """A degradation at random: half of them plain (Chebyshev-I, order 8, 0.9 of Nyquist), no codec, no noise."""
    rate_hz = int(rng.choice(RATES_HZ, p=RATE_WEIGHTS))
    if rng.random() < 0.55:
        plain = Degradation(rate_hz, "cheby1", 8, 0.9, "none", None)
        return plain if rng.random() < 0.9 else dataclasses.replace(plain, noise_db=float(rng.uniform(-70, -45)))
    kind = str(rng.choice(["cheby1", "butter", "ellip", "bessel", "soxr"], p=[0.35, 0.2, 0.1, 0.05, 0.3]))
    codec = "none"
    if rng.random() < 0.35:
        fitting = {8_000: ("ulaw", "gsm", "mp3", "opus"), 4_000: ("none",), 6_000: ("none",)}
        codec = str(rng.choice(fitting.get(rate_hz, ("mp3", "opus"))))
        if codec == "opus" and rate_hz not in (8_000, 12_000, 16_000, 24_000):
            codec = "mp3"
    noise = float(rng.uniform(-60, -25)) if rng.random() < 0.15 else None
    return Degradation(rate_hz, kind, int(rng.integers(4, 13)), float(rng.uniform(0.6, 0.98)), codec, noise)


def apply(clip: NDArray[np.float32], how: Degradation, rng: np.random.Generator) -> NDArray[np.float32]:
    """`clip` (n,) at 48 kHz after that degradation, (n,) at 48 kHz."""
    low = _lowpass(clip, how)
    if how.noise_db is not None:
        level = float(np.sqrt(np.mean(low**2))) * 10 ** (how.noise_db / 20)
        low = low + level * rng.standard_normal(len(low)).astype(np.float32)
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
