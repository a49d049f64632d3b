"""Log-mel spectrogram of a window: samples (B, T) -> (B, T / hop, n_mels), natural logarithm.

Reflect-padded by (n_fft - hop) / 2, so there is one frame a hop and none is centred on the ends; magnitudes, Slaney's
mel scale with area-normalised triangles, floor 1e-5.

Source: HiFi-GAN's spectrogram as jakeoneijk/FlashSR_Inference (commit 2292814) calls it; Slaney's Auditory Toolbox.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from mlx import nn

from batchsr.models.compute.layers import by_cpu
from batchsr.models.flashsr.config import MelConfig

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


def mel_bands(config: MelConfig) -> np.ndarray:
    """Slaney's triangles, (n_mels, n_fft / 2 + 1), float64, each of area one over frequency in Hz."""
    bins_hz = np.linspace(0, config.sr / 2, config.n_fft // 2 + 1)
    edges_mel = np.linspace(_hz_to_mel(config.fmin), _hz_to_mel(config.fmax), config.n_mels + 2)
    edges_hz = _mel_to_hz(edges_mel)
    lower, centre, upper = (edges_hz[i : i + config.n_mels, None] for i in range(3))
    rising = (bins_hz - lower) / (centre - lower)
    falling = (upper - bins_hz) / (upper - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * (2.0 / (upper - lower)))


# Slaney's scale: linear (15 mel a kHz) up to 1 kHz, logarithmic (27 mel to a factor of 6.4) above.
_LINEAR_HZ = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return float(hz / _LINEAR_HZ if hz < _BREAK_HZ else _BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    linear = mel * _LINEAR_HZ
    return np.where(mel < _BREAK_MEL, linear, _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL)))
