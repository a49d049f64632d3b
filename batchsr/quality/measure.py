"""Signal processing behind the quality measure (`quality.evaluate`): degradation, plain resampling, bands, loudness.

All functions take and give one channel, (n,), in +-1, float64 inside. Nothing here is part of a restoration.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray
from scipy import signal

from batchsr.errors import InputFormat, InputNotFinite

Signal = NDArray[np.floating]
"""One channel, (n,), samples in +-1."""

SAMPLE_RATE_HZ = 48_000
"""Rate of every reference and of every restoration."""
EDGE = 0.9
"""Where the degradation's low-pass ends, as a part of the target's Nyquist frequency."""


def read_sound(path: Path) -> tuple[NDArray[np.float32], int]:
    """Return a recording as one channel, (n,), the mean of its channels, and its rate in Hz. Raises InputFormat."""
    try:
        samples, rate_hz = sf.read(path, dtype="float32", always_2d=True)
    except (sf.LibsndfileError, OSError) as e:
        raise InputFormat(f"{path}: cannot be decoded", remedy="give WAV or FLAC clips") from e
    return np.asarray(samples.mean(axis=1), np.float32), int(rate_hz)


def read_clip(path: Path) -> NDArray[np.float32]:
    """Return a full-band clip as one channel at 48 kHz, (n,).

    Raises InputFormat when it cannot be decoded or is not sampled at 48 kHz: resampling would add an edge of its own;
    InputNotFinite.
    """
    samples, rate_hz = read_sound(path)
    if rate_hz != SAMPLE_RATE_HZ:
        raise InputFormat(f"{path}: sampled at {rate_hz} Hz", remedy="clips to judge by are full-band, at 48,000 Hz")
    if not np.isfinite(samples).all():
        raise InputNotFinite(f"{path}: holds NaN or infinity", remedy="silence or cut the damaged samples in an editor")
    return samples


def middle(clip: NDArray[np.float32], seconds: float | None) -> NDArray[np.float32]:
    """`seconds` out of the middle of a 48 kHz clip, or all of it for None."""
    if seconds is None:
        return clip
    length = min(len(clip), round(seconds * SAMPLE_RATE_HZ))
    first = (len(clip) - length) // 2
    return clip[first : first + length]


def degrade(clip: Signal, rate_hz: int) -> NDArray[np.float32]:
    """Return what is left of a 48 kHz clip at `rate_hz`, a divisor of 48,000: low-pass, then every q-th sample.

    The low-pass is Chebyshev-I, order 8, 0.1 dB ripple, zero phase, at 0.9 of the new Nyquist frequency.
    """
    q, rest = divmod(SAMPLE_RATE_HZ, rate_hz)
    if rest or q < 2:
        raise ValueError(f"{rate_hz} Hz does not divide {SAMPLE_RATE_HZ} Hz")
    sos = signal.cheby1(8, 0.1, EDGE * rate_hz / 2, fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(signal.sosfiltfilt(sos, clip.astype(np.float64))[::q], np.float32)


def sinc(x: Signal, rate_hz: int) -> NDArray[np.float32]:
    """`x` at 48 kHz by band-limited interpolation: nothing lost, nothing added. ceil(n * 48000 / rate_hz) samples."""
    up = soxr.resample(np.asarray(x, np.float64), rate_hz, SAMPLE_RATE_HZ, quality="VHQ")
    return np.asarray(fit(up, -(-len(x) * SAMPLE_RATE_HZ // rate_hz)), np.float32)


def fit(x: Signal, length: int) -> Signal:
    """`x` cut or padded with zeros to `length` samples."""
    return x[:length] if len(x) >= length else np.pad(x, (0, length - len(x)))


def kept(x: Signal, cutoff_hz: float) -> NDArray[np.float64]:
    """Return the part of a 48 kHz signal below `cutoff_hz`, zero phase (linear-phase FIR, 1 kHz transition, 80 dB)."""
    taps = signal.firwin(257, cutoff_hz, window=("kaiser", signal.kaiser_beta(80.0)), fs=SAMPLE_RATE_HZ)
    return np.asarray(signal.oaconvolve(x.astype(np.float64), taps, mode="same"))


def line_share(x: Signal, low_hz: float, high_hz: float = 17_000) -> float:
    """Return the share of stretches of 0.17 s whose spectrum has lines 70 to 2,900 Hz apart between two edges.

    Such are harmonics, and the buzz of a vocoder: a restoration should not have more of them than its original. A
    stretch has them if its level in dB, less its mean over 1.8 kHz, correlates with itself moved by such a distance by
    more than 0.4. From 0 to 1; 0 for less than a stretch of 48 kHz.
    """
    n, smooth, nearest, farthest = 8192, 301, 12, 500
    if len(x) < n:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), n)[:: n // 2]
    band = slice(int(low_hz * n / SAMPLE_RATE_HZ), int(high_hz * n / SAMPLE_RATE_HZ))
    level = np.log(np.abs(np.fft.rfft(frames * np.hanning(n), axis=1))[:, band] ** 2 + 1e-12)
    level -= signal.oaconvolve(level, np.full((1, smooth), 1 / smooth), mode="same", axes=1)
    power = np.abs(np.fft.rfft(level, 2 * level.shape[1], axis=1)) ** 2
    alike = np.fft.irfft(power, axis=1)
    regular = alike[:, nearest:farthest].max(axis=1) > 0.4 * alike[:, 0]
    return float(regular.mean())


def loudness_lufs(x: Signal) -> float:
    """Return the gated loudness of one 48 kHz channel, after ITU-R BS.1770-4; -inf when nothing passes the gates."""
    # The two K-weighting biquads as the recommendation prints them for 48 kHz.
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
    highpass = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    weighted = signal.sosfilt(np.array([shelf, highpass]), x.astype(np.float64))
    block, step = SAMPLE_RATE_HZ * 2 // 5, SAMPLE_RATE_HZ // 10
    if len(weighted) < block:
        weighted = np.pad(weighted, (0, block - len(weighted)))
    power = np.mean(np.lib.stride_tricks.sliding_window_view(weighted, block)[::step] ** 2, axis=1)
    with np.errstate(divide="ignore"):
        level = -0.691 + 10 * np.log10(power)
        loud = power[level > -70]
        if not len(loud):
            return -np.inf
        relative = -0.691 + 10 * np.log10(loud.mean()) - 10
        return float(-0.691 + 10 * np.log10(power[(level > -70) & (level > relative)].mean()))
