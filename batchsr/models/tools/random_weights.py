"""Random weights that anyone can make again: each tensor is a function of (seed, its name, its shape) alone.

The golden files were computed with such weights, so a test makes 640 million of them in seconds instead of storing
them; `scripts/make_bundle.py` writes bundles of any size with them.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from batchsr.models.compute.activation import kaiser_sinc


def init_of(name: str) -> str:
    """Return how a tensor of this name is drawn: `normal_scaled`, `one_plus`, `small` or `fir`."""
    if name.endswith(".filter"):
        return "fir"
    if name.endswith((".bias", ".alpha", ".beta")):
        return "small"
    parts = name.split(".")
    layer, parent = parts[-2], parts[-3]
    norms = ("norm", "norm1", "norm2", "norm3", "norm_out")
    if layer in norms or (layer == "0" and parent in ("in_layers", "out_layers", "out")):
        return "one_plus"
    return "normal_scaled"


def draw(seed: str, name: str, shape: tuple[int, ...], init: str | None = None) -> np.ndarray:
    """Return the tensor, float32. `init` is `init_of(name)` unless given."""
    init = init or init_of(name)
    if init == "fir":
        return kaiser_sinc().astype(np.float32).reshape(shape)
    key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little")
    normal = np.random.Generator(np.random.Philox(key)).standard_normal(shape, dtype=np.float32)
    if init == "normal_scaled":
        return normal * np.float32(math.prod(shape[1:]) ** -0.5)
    if init == "one_plus":
        return np.float32(1) + np.float32(0.1) * normal
    if init == "small":
        return np.float32(0.1) * normal
    raise ValueError(f"unknown init {init!r} of {name}")
