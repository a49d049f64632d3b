"""The bands of a log-mel spectrogram: Slaney's mel scale with area-normalised triangles. Plain numpy, float64.

Source: Slaney's Auditory Toolbox.
"""

from __future__ import annotations

import numpy as np

from batchsr.models.flashsr.config_sizes import MelConfig


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
