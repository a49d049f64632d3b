"""Sound that is held out of training: how far restorations of it are from it, while a training goes on.

The measure is that of `scripts/evaluate.py` (log-spectral distance, floor 1e-8) on the middle window of each clip,
degraded in the same way, in one pass through the networks in JAX: figures to compare with each other, not with others'.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from batchsr.quality import measure
from scripts.training import losses, network

RATES_HZ = (8_000, 16_000, 24_000)
N_FFT = 2048
LAST = 999
"""The timestep of one-step restoration."""


class Held:
    """Clips, degraded to each of RATES_HZ, and what they were."""

    def __init__(
        self, folder: Path, config: network.Config, bands: np.ndarray, signal: np.ndarray, noise: np.ndarray
    ) -> None:
        """`folder` holds FLAC or WAV files of 48 kHz; `bands`: the mel's triangles; `signal`, `noise`: the schedule."""
        self.config, self.bands = config, bands
        self.signal, self.noise = float(signal[LAST]), float(noise[LAST])
        length = config["audio"]["frame_samples"]
        paths = sorted(p for p in folder.iterdir() if p.suffix in (".flac", ".wav"))
        clips = [measure.fit(measure.middle(measure.read_clip(p), length / 48_000), length) for p in paths]
        self.originals = np.stack(clips).astype(np.float32)
        self.given = {}
        for rate_hz in RATES_HZ:
            rows = [measure.fit(measure.sinc(measure.degrade(x, rate_hz), rate_hz), length) for x in clips]
            low = np.stack(rows).astype(np.float32)
            mean = low.mean(axis=1, keepdims=True)
            scale = np.abs(low - mean).max(axis=1, keepdims=True) + 1e-8
            self.given[rate_hz] = ((low - mean) / (2 * scale), 2 * scale, mean)
        rng = np.random.default_rng(0)
        frames, n_mels = length // config["mel"]["hop"], config["mel"]["n_mels"]
        shape = (len(clips), frames // 8, n_mels // 8, config["vae"]["embed_dim"])
        self.drawn = rng.standard_normal(shape).astype(np.float32)
        self._measured = jax.jit(self._distances)

    def distances(self, weights: Mapping[str, jax.Array]) -> dict[str, float]:
        """Mean log-spectral distance at each rate, and over all of them."""
        found = {}
        for rate_hz, (low, scale, mean) in self.given.items():
            found[f"held_{rate_hz // 1000}k"] = float(self._measured(weights, low, scale, mean).mean())
        return found | {"held": float(np.mean(list(found.values())))}

    def _distances(self, weights: Mapping[str, jax.Array], low: jax.Array, scale: jax.Array, mean: jax.Array) -> object:
        unit = self.config["vae"]["scale_factor_z"]
        cond = unit * network.moments(weights, network.log_mel(self.config, self.bands, low))[0]
        t = jnp.full((low.shape[0],), float(LAST))
        v = network.unet(weights, self.config, jnp.asarray(self.drawn), cond, t)
        mel = network.decode(weights, (self.signal * self.drawn - self.noise * v) / unit)
        y = network.vocoder(weights, self.config, mel, low) * scale + mean
        made, was = (losses.power(losses.spectrum(x, N_FFT)) for x in (y, jnp.asarray(self.originals)))
        difference = losses.decades(made + losses.FLOOR) - losses.decades(was + losses.FLOOR)
        return jnp.sqrt(jnp.square(difference).mean(axis=-1)).mean(axis=-1)
