#!/usr/bin/env python3
"""Measure what the audio path does to sound, with the model left out, and print README's fidelity table.

    scripts/fidelity.py RECORDING...       # a handful of real ones, of any kind

The model is replaced by noise where something must stand in for it, since what is measured is everything else:
the kept band, the joint, the low-pass, the resampler, the loudness meter.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyloudnorm
import scipy.signal
from numpy.typing import NDArray

from batchsr.audio import files
from batchsr.audio.filters import Crossover, keep_band, lowpass
from batchsr.audio.meters.loudness import LoudnessMeter
from batchsr.audio.resample import resample
from batchsr.report.tables import plain_table

RATE = 48_000
CUTOFFS_HZ = (100, 300, 1_000, 3_400, 8_000, 16_000, 23_000)
RATES_HZ = (8_000, 8_012, 11_000, 22_050, 44_100, 96_000, 128_000)
Sound = NDArray[np.floating]


def decibel(x: Sound, reference: Sound) -> float:
    return float(20 * np.log10(np.linalg.norm(x) / np.linalg.norm(reference)))


def noise(samples: int, channels: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (samples, channels)).astype(np.float32)


def pink(samples: int, seed: int) -> NDArray[np.float32]:
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    x = np.fft.irfft(spectrum, samples)
    return (0.1 * x / x.std()).astype(np.float32)[:, None]


def lowpass_error_db() -> float:
    """The streamed zero-phase low-pass against the one over the whole signal, at the worst cutoff."""
    worst = -np.inf
    for cutoff_hz in CUTOFFS_HZ:
        x = noise(300_000, 2, 1) + np.float32(0.5)
        sos = scipy.signal.cheby1(8, 0.1, cutoff_hz, fs=RATE, output="sos")
        whole = scipy.signal.sosfiltfilt(sos, x.astype(np.float64), axis=0)
        streamed = np.concatenate(list(lowpass(np.array_split(x, 7), cutoff_hz)))
        worst = max(worst, decibel(streamed - whole, whole))
    return worst


def kept_band(paths: list[Path]) -> tuple[float, float, int]:
    """Null residual in dB, gain error in dB and delay in samples below the crossover, at the worst recording."""
    residual_db, gain_db, delay = -np.inf, 0.0, 0
    for path in paths:
        with files.Source.open(path) as source:
            info, x = source.info, np.concatenate(list(files.resampled(source)))
        crossover = Crossover.below(info.sample_rate / 2, info.sample_rate)
        y = np.concatenate(list(keep_band([x], [noise(len(x), x.shape[1], 5)], crossover)))
        kernel = scipy.signal.firwin(8_001, 0.985 * crossover.pass_hz, window=("kaiser", 12), fs=RATE)[:, None]
        before, after = (scipy.signal.fftconvolve(z.astype(np.float64), kernel, "valid", axes=0) for z in (x, y))
        residual_db = max(residual_db, decibel(after - before, before))
        gain_db = max(gain_db, abs(decibel(after, before)))
        correlation = scipy.signal.correlate(after[:, 0], before[:, 0], method="fft")
        delay = max(delay, abs(int(np.argmax(correlation)) - (len(before) - 1)))
    return residual_db, gain_db, delay


def joint_db(seed: int) -> float:
    """Largest deviation of a third-octave band around the crossover of pink noise cut at 4 kHz and restored."""
    full = pink(960_000, 1)
    narrow = resample(scipy.signal.resample_poly(full, 1, 6, axis=0).astype(np.float32), 8_000)[: len(full)]
    joined = np.concatenate(list(keep_band([narrow], [pink(960_000, seed)], Crossover.below(4_000, 8_000))))
    frequencies, before = scipy.signal.welch(full[:, 0], RATE, nperseg=8_192)
    after = scipy.signal.welch(joined[:, 0], RATE, nperseg=8_192)[1]
    worst = 0.0
    for centre in 1_000 * 2.0 ** (np.arange(-3, 12) / 3):
        band = (frequencies > centre * 2 ** (-1 / 6)) & (frequencies < centre * 2 ** (1 / 6))
        worst = max(worst, abs(10 * float(np.log10(after[band].sum() / before[band].sum()))))
    return worst


def tone_error_db() -> float:
    """What a resampled 440 Hz tone differs from the tone at 48 kHz, at the worst rate."""
    worst = -np.inf
    for rate in RATES_HZ:
        x = np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)[:, None].astype(np.float32)
        y = resample(x, rate)[:, 0]
        exact = np.sin(2 * np.pi * 440 * np.arange(len(y)) / RATE)
        worst = max(worst, decibel((y - exact)[4_800:-4_800], exact[4_800:-4_800]))
    return worst


def loudness_error_lu(paths: list[Path]) -> float:
    """The streaming meter against pyloudnorm over the whole file, at the worst recording."""
    worst = 0.0
    for path in paths:
        with files.Source.open(path) as source:
            x = np.concatenate(list(files.resampled(source)))
        meter = LoudnessMeter(x.shape[1])
        for block in np.array_split(x, 9):
            meter.add(block)
        assert meter.lufs is not None, f"{path} is silent"
        worst = max(worst, abs(meter.lufs - pyloudnorm.Meter(RATE).integrated_loudness(x.astype(np.float64))))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("recordings", nargs="+", type=Path)
    paths = parser.parse_args().recordings
    residual_db, gain_db, delay = kept_band(paths)
    figures = {
        "streamed low-pass against the whole-file filter, worst of 100 Hz to 23 kHz": f"{lowpass_error_db():.1f} dB",
        f"kept band: null residual, worst of {len(paths)} recordings": f"{residual_db:.1f} dB",
        "kept band: gain error": f"{gain_db:.5f} dB",
        "kept band: delay": f"{delay} samples",
        "joint on pink noise, restoration agreeing": f"{joint_db(1):.2f} dB",
        "joint on pink noise, restoration independent": f"{joint_db(7):.2f} dB",
        "resampled tone, worst of 8 to 128 kHz": f"{tone_error_db():.1f} dB",
        f"loudness against pyloudnorm, worst of {len(paths)} recordings": f"{loudness_error_lu(paths):.3f} LU",
    }
    print(
        "\n".join(plain_table([{"figure": k, "measured": v} for k, v in figures.items()], ["figure", "measured"], None))
    )


if __name__ == "__main__":
    main()
