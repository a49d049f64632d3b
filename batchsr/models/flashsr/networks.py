"""The three networks as one module whose parameters have exactly the names of a bundle, and their chain."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from batchsr.models.compute.layers import step
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.mel import LogMel
from batchsr.models.flashsr.unet import Unet
from batchsr.models.flashsr.vae import Vae
from batchsr.models.flashsr.vocoder import Vocoder

ARRAYS, ARRAYS_FLOAT32 = 12, 18
"""Arrays of the largest size that a row takes at once; more where convolutions are matrix products (cuda.products)."""


class Networks(nn.Module):
    """`vae`, `ldm` and `voc`; parameters are random, and cost nothing, until they are replaced."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.vae = Vae(config.vae)
        self.ldm = Unet(config.ldm)
        self.voc = Vocoder(config.vocoder, config.mel.n_mels)
        self.mel = LogMel(config.mel)
        self._dtype = mx.float32
        # MLX's generator is a chain of keys, one for each parameter, that would grow with every network made.
        mx.eval(mx.random.state)

    @property
    def dtype(self) -> mx.Dtype:
        """What the networks compute in."""
        return self._dtype

    def cast(self, dtype: mx.Dtype) -> None:
        """Compute in `dtype` from now on, but for the vocoder's last level; parameters are converted."""
        self.set_dtype(dtype)
        self.voc.keep_precise()
        self._dtype = dtype

    def ready(self) -> None:
        """Evaluation mode, and whatever layers order or compute ahead; the weights must not change afterwards."""
        self.eval()
        for layer in self.modules():
            if hasattr(layer, "prepack"):
                layer.prepack()

    def log_mel(self, norm: mx.array) -> mx.array:
        """Normalised samples (B, T) float32 -> log-mel (B, T / hop, M) float32."""
        return self.mel(norm)

    def __call__(self, norm: mx.array, noise: mx.array, t: mx.array, weights: mx.array) -> mx.array:
        """Compute one step of restoration.

        norm (B, T): samples within +-0.5, float32. noise (B, T / 3840, 32, 16), float32. t (B,): timesteps.
        weights (2, B): sqrt(a[t]) and sqrt(1 - a[t]). Returns (B, T) float32 in (-1, 1).
        """
        *_, (_, samples) = self.stages(norm, noise, t, weights)
        return samples

    def stages(self, norm: mx.array, noise: mx.array, t: mx.array, weights: mx.array) -> Iterator[tuple[str, mx.array]]:
        """Yield the same, stage by stage: `mel`, `encode`, `unet`, `decode` and `vocoder`, each with its result."""
        mel = self.log_mel(norm)
        yield "mel", mel
        cond = step(self, self.vae.encode(mel.astype(self.dtype)), mel)
        yield "encode", cond
        v = step(self, self.ldm(noise.astype(self.dtype), cond, t), mel)
        yield "unet", v
        signal, rest = weights[:, :, None, None, None]
        mel = self.vae.decode((signal * noise - rest * v).astype(self.dtype))
        yield "decode", step(self, mel, v)
        yield "vocoder", self.voc(mel, norm)


def row_bytes(config: ModelConfig, value_bytes: int) -> int:
    """Return the memory that a row of a pass takes beside the weights, in values of so many bytes; never too little.

    The largest array of a row, and others of its size that are alive with it or wait to be freed: on an H100 never
    more than 11.6 of them, and 17.6 in float32 (docs/measurements.md, "Memory of a pass").
    """
    frames = config.audio.frame_samples // config.mel.hop
    widest = config.vae.ch * max(config.vae.ch_mult[:2])  # at the finest resolution, on its way up
    largest = [value_bytes * frames * config.mel.n_mels * widest]
    length = frames
    for level, rate in enumerate(config.vocoder.upsample_rates, 1):
        length *= rate
        last = level == len(config.vocoder.upsample_rates)
        largest.append((4 if last else value_bytes) * length * config.vocoder.channels(level))
    return (ARRAYS_FLOAT32 if value_bytes == 4 else ARRAYS) * max(largest)


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a bundle of this config holds; nothing is computed."""
    return {name: tuple(value.shape) for name, value in tree_flatten(Networks(config).parameters())}


def idle_tensors(config: ModelConfig) -> tuple[str, ...]:
    """Return the names of what every bundle holds and no result depends on: the vocoder's deepest audio convolution."""
    last = len(config.vocoder.upsample_rates) - 1
    return tuple(f"voc.audio_block.downsamples.{last}.0.{part}" for part in ("weight", "bias"))
