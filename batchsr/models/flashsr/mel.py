"""Log-mel spectrogram of a window: samples (B, T) -> (B, T / hop, n_mels), natural logarithm.

Reflect-padded by (n_fft - hop) / 2, so there is one frame a hop and none is centred on the ends; magnitudes in the
bands of `mel_bands`, floor 1e-5.

Source: HiFi-GAN's spectrogram as jakeoneijk/FlashSR_Inference (commit 2292814) calls it.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from mlx import nn

from batchsr.models.compute.layers import by_cpu
from batchsr.models.flashsr.config_sizes import MelConfig
from batchsr.models.flashsr.mel_bands import mel_bands

FLOOR = 1e-5


class LogMel(nn.Module):
    """(B, T) float32 -> (B, T / hop, n_mels) float32; differentiable. T must be a multiple of `hop`."""

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        periodic_hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.n_fft) / config.n_fft)
        self._window = mx.array(periodic_hann.astype(np.float32))
        self._bands = mx.array(mel_bands(config).astype(np.float32))

    def __call__(self, samples: mx.array) -> mx.array:
        n_fft, hop = self.config.n_fft, self.config.hop
        B, T = samples.shape
        pad = (n_fft - hop) // 2
        # Reflection without repeating the end: x[pad], ..., x[1], x[0], ..., x[T - 1], x[T - 2], ...
        left, right = samples[:, pad:0:-1], samples[:, -2 : -pad - 2 : -1]
        padded = mx.contiguous(mx.concatenate([left, samples, right], axis=1))
        length = T + 2 * pad
        frames = mx.as_strided(padded, (B, T // hop, n_fft), (length, hop, 1))
        spectrum = mx.fft.rfft(frames * self._window, axis=-1)
        # 1e-20: the square root's derivative at zero, for training on silence; no trace of it is left above FLOOR.
        magnitude = mx.sqrt(mx.square(mx.real(spectrum)) + mx.square(mx.imag(spectrum)) + 1e-20)
        return mx.log(mx.maximum(self._in_bands(magnitude), FLOOR))

    def _in_bands(self, magnitude: mx.array) -> mx.array:
        if by_cpu(self, magnitude):
            from batchsr.models.compute import cpu

            return cpu.linear(magnitude, self._bands, None)
        return magnitude @ self._bands.T
