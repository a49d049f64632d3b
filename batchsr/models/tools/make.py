"""Bundles with random weights, of the sizes that tests and demonstrations use."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from mlx.utils import tree_flatten

from batchsr.errors import BundleError
from batchsr.models.flashsr import bundle
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.config_reading import FLOAT_FORMATS, QUANTISED_FORMATS
from batchsr.models.flashsr.config_sizes import (
    AudioConfig,
    MelConfig,
    QuantisationConfig,
    UnetConfig,
    VaeConfig,
    VocoderConfig,
)
from batchsr.models.flashsr.networks import tensor_shapes
from batchsr.models.tools import random_weights

SIZES = {
    "tiny": ModelConfig(
        vae=VaeConfig(ch=32, ch_mult=(1, 1, 1, 1), num_res_blocks=1, mel_bins=64),
        ldm=UnetConfig(model_channels=32, channel_mult=(1, 1), num_res_blocks=1, attention_resolutions=(2,)),
        vocoder=VocoderConfig(
            upsample_initial_channel=32, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1, 3),)
        ),
        mel=MelConfig(n_mels=64),
        audio=AudioConfig(frame_samples=15_360, frame_sec=0.32),
    ),
    "small": ModelConfig(
        vae=VaeConfig(ch=32),
        ldm=UnetConfig(model_channels=32),
        vocoder=VocoderConfig(upsample_initial_channel=96),
    ),
    "published": ModelConfig(),
}
"""`tiny` is for trying the program; `small` has the depth of the published model at a quarter of its width or less."""


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What was written."""

    parameters: int
    size_bytes: int


def config_of_size(size: str, *, format: str = "float32", frame_samples: int | None = None) -> ModelConfig:
    """Return the config of one of SIZES, in a format and with a window of `frame_samples`. Raises BundleError."""
    if size not in SIZES:
        raise BundleError(f"size = {size!r} is unknown", remedy="known: " + ", ".join(SIZES))
    config = SIZES[size]
    if frame_samples is not None:
        audio = AudioConfig(frame_samples=frame_samples, frame_sec=frame_samples / config.audio.sample_rate)
        config = dataclasses.replace(config, audio=audio)
    return in_format(config, format)


def in_format(config: ModelConfig, format: str) -> ModelConfig:
    """Return the same sizes, stored in another format. Raises BundleError naming an unknown one."""
    if format not in FLOAT_FORMATS and format not in QUANTISED_FORMATS:
        known = ", ".join((*dict.fromkeys(FLOAT_FORMATS.values()), *QUANTISED_FORMATS))
        raise BundleError(f"format = {format!r} is unknown", remedy=f"known: {known}")
    bits = QUANTISED_FORMATS.get(format)
    return dataclasses.replace(
        config,
        format=FLOAT_FORMATS.get(format, format),
        quantization=QuantisationConfig(bits=bits) if bits else None,
        quantized_shapes={},
    )


def rewrite(source: Path, folder: Path, format: str) -> ModelConfig:
    """Write the bundle in `source` again in another format, and return its new config. Raises BundleError."""
    if folder.resolve() == source.resolve():
        raise BundleError(f"{folder} is the bundle to be read", remedy="write to another folder")
    config, networks = bundle.load(source)
    values = dict(tree_flatten(networks.parameters()))
    return bundle.write(folder, in_format(config, format), lambda name, _: np.array(values[name]))


def write_random(folder: Path, config: ModelConfig, seed: str) -> Made:
    """Write a bundle whose weights follow the recipe with this seed."""
    bundle.write(folder, config, lambda name, shape: random_weights.draw(seed, name, shape))
    shapes = tensor_shapes(config)
    size_bytes = sum((folder / name).stat().st_size for name in (bundle.CONFIG_NAME, bundle.WEIGHTS_NAME))
    return Made(sum(bundle.parameter_count(shapes).values()), size_bytes)
