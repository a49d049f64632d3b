"""What training minimises, and the discriminators. Waveforms here are (B, T)."""

from __future__ import annotations

import itertools

import mlx.core as mx
import numpy as np
from mlx import nn

from batchsr.models.flashsr.config import MelConfig
from batchsr.models.flashsr.mel import mel_bands

FLOOR = 1e-8
"""Constant added to the power of a spectrum of 2048 samples, as in the quality measure; scaled to other lengths."""
RESOLUTIONS = (256, 512, 1024, 2048, 4096)
SILENT = 10.0
"""What the length of a normalised spectrum (some hundreds for sound) is taken to be at least."""


def spectrum(x: mx.array, n_fft: int) -> mx.array:
    """Complex spectrum (B, M, n_fft / 2 + 1), Hann, hop n_fft / 4, frames wholly inside.

    Frames are put together from blocks of one hop: unlike a strided view, that has a cheap derivative.
    """
    hop = n_fft // 4
    B, T = x.shape
    blocks = x[:, : T // hop * hop].reshape(B, -1, hop)
    count = blocks.shape[1] - 3
    frames = mx.concatenate([blocks[:, j : j + count] for j in range(4)], axis=-1)
    hann = mx.array((0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32))
    return mx.fft.rfft(frames * hann, axis=-1)


def power(s: mx.array) -> mx.array:
    return mx.square(mx.real(s)) + mx.square(mx.imag(s))


class SpectralLoss:
    """Distances of a restoration y from its original h, and from what was given (low)."""

    def __init__(self) -> None:
        bands = {2048: 128, 512: 48}
        self.bands = {
            n: mx.array(mel_bands(MelConfig(n_fft=n, n_mels=m, fmin=200.0 * 2048 / n)).T.astype(np.float32))
            for n, m in bands.items()
        }

    def __call__(self, y: mx.array, h: mx.array, low: mx.array, scale: mx.array) -> dict[str, mx.array]:
        """`log` (levels, all bins), `linear` (spectral convergence), `lsd` (the measure itself), `band` (levels of
        bands: noise of the right strength costs nothing) and, in the band that was given, `kept` (the waveform) and
        `fine` (the same with all bins alike: the decades of power by which the error stands above what it is added to).

        y, h and low are as normalised for the model; times `scale` (B, 1) they are as loud as they were. Only what is
        about levels is measured there: the waveform of a silent stretch must not outweigh all others.
        """
        log, linear, band = [], [], []
        found: dict[str, mx.array] = {}
        loud = mx.square(scale)[..., None]
        for n in RESOLUTIONS:
            floor = FLOOR * n / 2048
            sy, sh = spectrum(y, n), spectrum(h, n)
            py, ph = power(sy), power(sh)
            difference = decades(loud * py + floor) - decades(loud * ph + floor)
            log.append(mx.abs(difference).mean())
            error = mx.sqrt(mx.square(mx.sqrt(py + 1e-8) - mx.sqrt(ph + 1e-8)).sum(axis=(1, 2)) + 1e-8)
            linear.append((error / (mx.sqrt(ph.sum(axis=(1, 2))) + SILENT)).mean())
            if n in self.bands:
                levels = [decades(loud * (p @ self.bands[n]) * 100 + floor) for p in (py, ph)]
                band.append(mx.abs(levels[0] - levels[1]).mean())
            if n == 2048:
                found["lsd"] = mx.sqrt(mx.square(difference).mean(axis=-1) + 1e-6).mean()
            if n == 1024:
                given = (power(spectrum(low, n)) > 0.5 * ph).astype(mx.float32)
                wrong = power(sy - sh) * given
                error = mx.sqrt(wrong.sum(axis=(1, 2)) + 1e-8)
                found["kept"] = (error / (mx.sqrt((ph * given).sum(axis=(1, 2))) + SILENT)).mean()
                found["fine"] = decades(1 + loud * wrong / (loud * ph + 100 * floor)).sum() / (given.sum() + 1)
        found["log"] = sum(log) / len(log)
        found["linear"] = sum(linear) / len(linear)
        found["band"] = sum(band) / len(band)
        return found


@mx.custom_function
def balanced(y: mx.array) -> mx.array:
    """y itself; in its derivative no row (B, T) may be longer than twice the median row.

    The derivative of a level is endless where there is hardly any sound: a few silent rows would decide every step.
    """
    return y + 0.0


@balanced.vjp
def _balance(y: mx.array, dy: mx.array, _: mx.array) -> mx.array:
    length = mx.sqrt(mx.square(dy).sum(axis=1, keepdims=True) + 1e-20)
    longest = 2 * mx.sort(length, axis=0)[length.shape[0] // 2]
    return dy * mx.minimum(1.0, longest / length)


@mx.custom_function
def gentle(mel: mx.array) -> mx.array:
    """mel itself; its derivative is shortened or stretched to the length that a mean of absolute errors gives.

    So the waveform's losses steer the prediction as strongly as its own loss does, however steep they are.
    """
    return mel + 0.0


@gentle.vjp
def _gentle(mel: mx.array, dy: mx.array, _: mx.array) -> mx.array:
    return dy * (mel.size**-0.5 / (mx.sqrt(mx.square(dy).sum()) + 1e-12))


def decades(p: mx.array) -> mx.array:
    return mx.log(p) * (1 / np.log(10))


class Discriminator(nn.Module):  # type: ignore[misc]
    """Tells restored from original by levels at one resolution; gives its features, the verdict last."""

    def __init__(self, n_fft: int, channels: int = 32) -> None:
        super().__init__()
        self.n_fft = n_fft
        widths = [2, channels // 2, channels, channels, channels]
        self.convs = [nn.Conv2d(a, b, (3, 9), stride=(1, 2), padding=(1, 4)) for a, b in itertools.pairwise(widths)]
        self.last = nn.Conv2d(channels, 1, 3, padding=1)

    def __call__(self, x: mx.array) -> list[mx.array]:
        level = decades(power(spectrum(x, self.n_fft)) + FLOOR * self.n_fft / 2048) * 0.3 + 1.0
        # Where in the band: noise that is right at 4 kHz is wrong at 20 kHz.
        place = mx.broadcast_to(mx.linspace(-1, 1, level.shape[-1]), level.shape)
        h = mx.stack([level, place], axis=-1)
        features = []
        for conv in self.convs:
            h = nn.leaky_relu(conv(h), 0.2)
            features.append(h)
        return [*features, self.last(h)]


class Discriminators(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.each = [Discriminator(n) for n in (512, 1024, 2048, 4096)]

    def __call__(self, x: mx.array) -> list[list[mx.array]]:
        return [one(x) for one in self.each]


def judge_loss(seen: list[list[mx.array]], originals: int) -> mx.array:
    """Least squares: an original is 1, a restoration is 0. The originals are the first rows of `seen`."""
    verdicts = [features[-1] for features in seen]
    return sum(mx.square(v[:originals] - 1).mean() + mx.square(v[originals:]).mean() for v in verdicts)


def fool_loss(seen: list[list[mx.array]], made: list[list[mx.array]]) -> tuple[mx.array, mx.array]:
    """(least squares towards 1, mean distance of the features to the first rows of `seen`, the originals)."""
    fool = sum(mx.square(m[-1] - 1).mean() for m in made)
    pairs = [(a, b) for s, m in zip(seen, made, strict=True) for a, b in zip(s[:-1], m[:-1], strict=True)]
    features = sum(mx.abs(mx.stop_gradient(a)[: len(b)] - b).mean() for a, b in pairs) / len(pairs)
    return fool, features
