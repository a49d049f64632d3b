"""Turn the authors' three PyTorch files into the tensors of a bundle, as numpy arrays; PyTorch is not needed.

    student_ldm.pth   the UNet under `model.`, beside the diffusion's buffers, which are dropped     -> ldm.
    sr_vocoder.pth    weight norm as weight_g and weight_v, which are multiplied out                 -> voc.
    vae.pth           `loss.` and an unused `vocoder.` are dropped                                   -> vae.

Every other key must be one of the model, and every tensor of the model must be among them.

Source: jakeoneijk/FlashSR_Inference, commit 2292814.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from batchsr.errors import BundleError
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.networks import tensor_shapes

FILES = {"ldm": "student_ldm.pth", "voc": "sr_vocoder.pth", "vae": "vae.pth"}
_DROPPED = {"vae": ("loss.", "vocoder."), "voc": (), "ldm": ()}
_UNET = "model."
_DIRECTION = {".weight_v": ".weight_g", ".parametrizations.weight.original1": ".parametrizations.weight.original0"}
"""Weight norm's direction and, beside it, its length: as old and as new PyTorch name them."""


def converted(config: ModelConfig, checkpoints: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the bundle's tensors, float32, from the state dicts of FILES' files by their keys there ("ldm", "voc",
    "vae").

    Raises BundleError naming a tensor that is missing, unknown, or of a wrong shape.
    """
    expected = tensor_shapes(config)
    result: dict[str, np.ndarray] = {}
    for part, checkpoint in checkpoints.items():
        for key, value in _folded(part, _relevant(part, checkpoint)).items():
            name = f"{part}.{key}"
            if name not in expected:
                raise BundleError(f"{FILES[part]}: {key!r} is not part of the model")
            result[name] = _laid_out(name, np.asarray(value, np.float32), expected[name], FILES[part])
    missing = [name for name in expected if name not in result]
    if missing:
        part, _, key = missing[0].partition(".")
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise BundleError(f"{FILES[part]}: {key!r} is missing{more}")
    return result


def _relevant(part: str, checkpoint: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the checkpoint without what this model has no use for, under the model's own names."""
    if part == "ldm":
        return {key.removeprefix(_UNET): value for key, value in checkpoint.items() if key.startswith(_UNET)}
    return {key: value for key, value in checkpoint.items() if not key.startswith(_DROPPED[part])}


def _folded(part: str, checkpoint: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weight norm multiplied out: w = g * v / |v|, the norm over all axes but the first; in float64."""
    result = {}
    lengths = set()
    for key, value in checkpoint.items():
        suffix = next((s for s in _DIRECTION if key.endswith(s)), None)
        if suffix is None:
            continue
        stem = key.removesuffix(suffix)
        length_key = stem + _DIRECTION[suffix]
        if length_key not in checkpoint:
            raise BundleError(f"{FILES[part]}: {key!r} stands without {length_key!r}")
        lengths |= {key, length_key}
        v, g = np.asarray(value, np.float64), np.asarray(checkpoint[length_key], np.float64)
        norm = np.sqrt((v**2).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
        result[f"{stem}.weight"] = (g.reshape(norm.shape) * v / norm).astype(np.float32)
    return {**{key: value for key, value in checkpoint.items() if key not in lengths}, **result}


def _laid_out(name: str, value: np.ndarray, shape: tuple[int, ...], file: str) -> np.ndarray:
    """PyTorch's layout to MLX's: (out, in, k...) to (out, k..., in); transposed convolutions are (in, out, k)."""
    if value.ndim == 4:
        value = value.transpose(0, 2, 3, 1)
    elif value.ndim == 3 and name.startswith("voc.ups."):
        value = value.transpose(1, 2, 0)
    elif value.ndim == 3 and not name.endswith(".filter"):
        value = value.transpose(0, 2, 1)
    if value.shape != shape:
        raise BundleError(f"{file}: {name!r} has the shape {list(value.shape)} instead of {list(shape)}")
    if not np.isfinite(value).all():
        raise BundleError(f"{file}: {name!r} holds NaN or infinity")
    return value
