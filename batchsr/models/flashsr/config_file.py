"""The file config.json, and whether two files are a bundle of this kind at all. Works without MLX."""

from __future__ import annotations

import os
from pathlib import Path

from batchsr.errors import BundleError
from batchsr.models.flashsr import json_files
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.safetensors_header import read_header

MAX_CONFIG_BYTES = 2 << 20
"""The published ones have 70 KB."""
_REMEDY = "fetch or copy the bundle again; `batchsr models check` looks one over"
_NETWORKS = ("vae.", "ldm.", "voc.")
"""How the names of the three networks' tensors begin."""


def read_config_file(path: Path) -> ModelConfig:
    """Read a config.json, whatever its name. Raises BundleError naming the file or the key at fault."""
    with json_files.regular(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > MAX_CONFIG_BYTES:
            raise BundleError(f"{path} has {size_bytes} bytes, so it is no bundle's", remedy=json_files.A_BUNDLE)
        text = file.read(MAX_CONFIG_BYTES)
    try:
        values = json_files.parsed(text)
    except ValueError as e:
        raise BundleError(f"{path} cannot be read: it is no JSON: {str(e)[:200]}", remedy=_REMEDY) from e
    return ModelConfig.from_mapping(values)


def check_weights_file(path: Path) -> None:
    """Raise BundleError unless a file is whole safetensors with tensors of each of the three networks.

    Whether every tensor is there and of the right shape is seen when the bundle is opened.
    """
    names = read_header(path)
    for network in _NETWORKS:
        if not any(name.startswith(network) for name in names):
            raise BundleError(
                f"{path} has no tensor {network}*, so it is the file of another model", remedy=json_files.A_BUNDLE
            )
