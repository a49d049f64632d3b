"""Anti-aliased SnakeBeta: upsample by two, x + sin(a x)^2 / b, downsample by two; 12-tap Kaiser-sinc both ways.

Most of the vocoder's time goes here, so each backend has its own way to the same numbers:

    polyphase   plain MLX operations; the reference, and what training differentiates through

With f the filter, x clamped at its ends (replicate padding) and s the signal at twice the rate:

    u[2m]     = 2 sum_q f[2q + 1] x[m + 2 - q]
    u[2m + 1] = 2 sum_q f[2q]     x[m + 3 - q]          q = 0..5
    s         = u + sin(exp(alpha) u)^2 / (exp(beta) + 1e-9)
    y[m]      = sum_k f[k] s[clamp(2m + k - 5)]         k = 0..11

Source: BigVGAN's alias-free activation as in jakeoneijk/FlashSR_Inference, commit 2292814.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from mlx import nn

TAPS = 12


def kaiser_sinc() -> np.ndarray:
    """The twelve taps: cutoff 0.25, half width 0.3 (both of the doubled rate), as float64; they sum to one."""
    delta_f = 4 * 0.3
    attenuation = 2.285 * (TAPS / 2 - 1) * np.pi * delta_f + 7.95
    beta = 0.1102 * (attenuation - 8.7)  # Kaiser's formula above 50 dB; these constants give 51.02 dB
    time = np.arange(-TAPS // 2, TAPS // 2) + 0.5
    taps = 2 * 0.25 * np.kaiser(TAPS, beta) * np.sinc(2 * 0.25 * time)
    return np.asarray(taps / taps.sum())


class _Filter(nn.Module):
    """Holder of `filter` (1, 1, 12), which is never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = mx.array(kaiser_sinc().astype(np.float32))[None, None]
        self.freeze(keys=["filter"])


class _Downsample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lowpass = _Filter()


class _SnakeBeta(nn.Module):
    """Holder of `alpha` and `beta` (C,), both logarithms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = mx.zeros((channels,))
        self.beta = mx.zeros((channels,))


class Activation(nn.Module):
    """x (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = _SnakeBeta(channels)
        self.upsample = _Filter()
        self.downsample = _Downsample()

    def __call__(self, x: mx.array) -> mx.array:
        up, down = self.upsample.filter.reshape(TAPS), self.downsample.lowpass.filter.reshape(TAPS)
        return polyphase(x, up, down, mx.exp(self.act.alpha), 1.0 / (mx.exp(self.act.beta) + 1e-9))


def polyphase(x: mx.array, up: mx.array, down: mx.array, frequency: mx.array, gain: mx.array) -> mx.array:
    """The activation in plain operations. `up`, `down` (12,); `frequency`, `gain` (C,)."""
    B, T, C = x.shape
    padded = mx.pad(x, [(0, 0), (3, 3), (0, 0)], mode="edge")
    even = sum(up[2 * q + 1] * padded[:, 5 - q : 5 - q + T] for q in range(6))
    odd = sum(up[2 * q] * padded[:, 6 - q : 6 - q + T] for q in range(6))
    u = 2.0 * mx.stack([even, odd], axis=2).reshape(B, 2 * T, C)
    s = u + gain * mx.square(mx.sin(frequency * u))
    padded = mx.pad(s, [(0, 0), (5, 7), (0, 0)], mode="edge").reshape(B, T + 6, 2, C)
    return sum(down[2 * k] * padded[:, k : k + T, 0] + down[2 * k + 1] * padded[:, k : k + T, 1] for k in range(6))
