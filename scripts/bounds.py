#!/usr/bin/env python3
"""Print where a model's log-spectral distance comes from: what it would be, were one thing after the other right.

    scripts/bounds.py CLIPS                                        # `tiny`, at 8, 16 and 24 kHz
    scripts/bounds.py CLIPS --model MODEL_FOLDER --rates 16000

CLIPS holds FLAC or WAV files of 48 kHz; the middle window of each is taken. Everything is measured as if the band below
the cutoff were the original's: the distance that a restoration with --keep-band can reach. "Right" means that the
restoration's spectrum in decibels is moved by the mean error of some part of it. In float32 on the CPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from batchsr.quality import evaluate, measure

if TYPE_CHECKING:
    from batchsr.models.flashsr.config import ModelConfig
    from batchsr.models.flashsr.networks import Networks

Levels = NDArray[np.float64]
"""Decades of power (M, 1025), as the measure compares them."""
NEAR = (3, 21)
"""Frames and bins (0.5 kHz) over which a level is a level and not yet the sound's fine structure."""
LAST = 999
"""The timestep of one-step restoration."""


def levels(x: measure.Signal) -> Levels:
    return np.log10(evaluate.spectrogram(x) + evaluate.FLOORS[0])


def near(x: Levels) -> Levels:
    """The mean over what is near."""
    return np.asarray(uniform_filter(x, NEAR))


def noise_of(power: Levels, rng: np.random.Generator) -> Levels:
    """Levels of noise whose power follows the near means of another sound's."""
    hop, n_fft = evaluate.HOP, evaluate.N_FFT
    shape = np.sqrt(near(power).clip(0))
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft))
    white = rng.standard_normal((len(power) - 1) * hop + n_fft)
    made = np.zeros(len(white))
    for i, row in enumerate(shape):
        part = slice(i * hop, i * hop + n_fft)
        made[part] += np.fft.irfft(np.fft.rfft(white[part] * window) * row, n_fft) * window / 2
    return levels(made / np.sqrt(0.375 * n_fft))  # the mean square of a Hann window


def restorations(
    networks: Networks, config: ModelConfig, original: NDArray[np.float32], rate_hz: int
) -> dict[str, Levels]:
    """Levels of the original, of what the model makes of it, and of what its vocoder makes of the true mel."""
    import mlx.core as mx

    from batchsr.models.flashsr.schedule import cumulative_alphas

    length = len(original)
    low = measure.fit(measure.sinc(measure.degrade(original, rate_hz), rate_hz), length)
    mean = float(low.mean())
    scale = 2 * (float(np.abs(low - mean).max()) + 1e-8)
    given, true = (mx.array(((x - mean) / scale)[None].astype(np.float32)) for x in (low, original))
    drawn = np.random.default_rng(0).standard_normal((1, *config.noise_shape)).astype(np.float32)
    alpha = float(cumulative_alphas()[LAST])
    weights = mx.array(np.array([[alpha**0.5], [(1 - alpha) ** 0.5]], np.float32))
    mel = networks.log_mel(true)
    made = {
        "model": networks(given, mx.array(drawn), mx.array([LAST]), weights),
        "vae": networks.voc(networks.vae.decode(networks.vae.encode(mel)), given),
        "vocoder": networks.voc(mel, given),
    }
    return {name: levels(np.array(y)[0] * scale + mean) for name, y in made.items()} | {"original": levels(original)}


def rungs(found: list[Mapping[str, Levels]], edge: int) -> dict[str, list[float]]:
    """What each thing right would give, clip by clip; `edge` is the first bin above the cutoff."""
    rng = np.random.default_rng(0)
    errors = [one["model"] - one["original"] for one in found]

    def distance(error: Levels) -> float:
        return float(np.sqrt((error[:, edge:] ** 2).sum(axis=1) / error.shape[1]).mean())

    def others(index: int) -> Levels:
        return np.asarray(np.mean([e.mean(axis=0) for i, e in enumerate(errors) if i != index] or [0.0], axis=0))

    top = np.arange(errors[0].shape[1]) >= round(16_000 * evaluate.N_FFT / measure.SAMPLE_RATE_HZ)
    right: dict[str, Callable[[int, Mapping[str, Levels], Levels], Levels]] = {
        "the model as it is": lambda _, one, e: e,
        "its mean error on the other clips taken off, bin by bin": lambda i, one, e: e - others(i),
        "each clip's mean level right": lambda _, one, e: e - e[:, edge:].mean(),
        "each frame's mean level right": lambda _, one, e: e - e[:, edge:].mean(axis=1, keepdims=True),
        "each clip's mean level right in every bin above 16 kHz": lambda _, one, e: (
            e - np.where(top, e.mean(axis=0), 0.0)
        ),
        "each clip's mean level right in every bin": lambda _, one, e: e - e.mean(axis=0),
        "every level right": lambda _, one, e: e - near(e),
        "the VAE given the true mel, and the vocoder": lambda _, one, e: one["vae"] - one["original"],
        "the vocoder given the true mel": lambda _, one, e: one["vocoder"] - one["original"],
        "noise with every power right": lambda _, one, e: (
            noise_of(10 ** one["original"] - evaluate.FLOORS[0], rng) - one["original"]
        ),
        "no fine structure, every level right": lambda _, one, e: near(one["original"]) - one["original"],
    }
    return {
        name: [distance(f(i, one, error)) for i, (one, error) in enumerate(zip(found, errors, strict=True))]
        for name, f in right.items()
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    bundles = Path(__file__).parents[1] / "batchsr" / "bundles"
    parser.add_argument("--model", type=Path, default=bundles / "tiny", help="folder of a bundle (default: tiny's)")
    parser.add_argument("--rates", type=int, nargs="+", default=evaluate.RATES_HZ)
    options = parser.parse_args(argv)

    from batchsr.models.compute import backend

    chosen = backend.prepare("float32", "cpu")
    from batchsr.models.flashsr import bundle

    config, networks = bundle.load(options.model, chosen.mlx_dtype())
    networks.ready()
    length = config.audio.frame_samples
    seconds = length / measure.SAMPLE_RATE_HZ
    paths = evaluate.find_clips(options.clips)
    clips = [measure.fit(measure.middle(measure.read_clip(path), seconds), length).astype(np.float32) for path in paths]
    table: dict[str, list[str]] = {}
    for rate_hz in options.rates:
        found: list[Mapping[str, Levels]] = [restorations(networks, config, clip, rate_hz) for clip in clips]
        edge = round(measure.EDGE * rate_hz / 2 * evaluate.N_FFT / measure.SAMPLE_RATE_HZ)
        for name, distances in rungs(found, edge).items():
            table.setdefault(name, []).append(f"{np.mean(distances):.2f}")
    print("| LSD, were right | " + " | ".join(f"{rate_hz / 1000:g} kHz" for rate_hz in options.rates) + " |")
    print("|" + "---|" * (len(options.rates) + 1))
    for name, figures in table.items():
        print(f"| {name} | " + " | ".join(figures) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
