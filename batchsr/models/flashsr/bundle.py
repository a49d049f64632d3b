"""A bundle: a folder with config.json and model.safetensors, read strictly where the sound is concerned, and written.

Weights are in MLX's layout under the names of the networks' parameters. In an int4 or int8 bundle, every tensor of
two or more axes whose prod(shape[1:]) divides into groups is stored flat, (out, fan_in), as `mx.quantize` leaves it,
with KEY.scales and KEY.biases beside it; the rest, and scales and biases, are float16.

What is missing, misshapen, of a wrong type or not finite is an error with a name before a window is computed. What the
networks have no use for, keys or tensors, is a warning.

Source: bundle format of aufklarer/FlashSR-MLX-4bit.

Longer than other modules: what is refused in reading is what writing must not leave behind.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import numpy as np

from batchsr import storage
from batchsr.display import counted
from batchsr.errors import BundleError
from batchsr.models.flashsr import config_identity, json_files, weights
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.config_file import read_config_file
from batchsr.models.flashsr.config_reading import QUANTISED_FORMATS
from batchsr.models.flashsr.config_sizes import QuantisationConfig
from batchsr.models.flashsr.json_files import some
from batchsr.models.flashsr.networks import Networks, idle_tensors, tensor_shapes
from batchsr.models.flashsr.safetensors_header import Tensor, item_bytes, read_header
from batchsr.temporary import whole_file, write_atomic

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
GROUP_SIZE = 64
RULE = "every weight with ndim>=2 and (prod(shape[1:]) % group_size == 0)"
_REMEDY = "fetch or copy the bundle again; `batchsr models check` looks one over"
_FLOATS = ("F32", "F16", "BF16")
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A bundle whose config and header were read and fit each other; no weight was read yet."""

    folder: Path
    config: ModelConfig
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of every tensor of the networks, by name, but for those that are of no use here nor to the networks."""
    header: Mapping[str, Tensor]
    warnings: tuple[str, ...]
    """What was taken calmly, a sentence for each kind."""


def read_config(folder: Path) -> ModelConfig:
    """Read config.json of a bundle. Raises BundleError naming the file or the key at fault."""
    try:
        return read_config_file(folder / CONFIG_NAME)
    except BundleError as e:
        if str(folder) in e.message:
            raise
        raise BundleError(f"{folder}: {e.message}", remedy=e.remedy) from e


def open_bundle(folder: Path) -> Opened:
    """Read a bundle's config and header, and see whether they fit the networks.

    Raises BundleError naming the key or tensor: config.json wrong, a tensor missing, misshapen or of a wrong type.
    """
    try:
        return _opened(folder)
    except BundleError as e:
        # The hub's cache has the model's name two folders up.
        if config_identity.is_audiosr(" ".join(folder.absolute().parts[-3:])) and "AudioSR bundle" not in e.message:
            raise config_identity.audiosr_error(e.message) from e
        raise


def _opened(folder: Path) -> Opened:
    config = read_config(folder)
    shapes = tensor_shapes(config)
    path = folder / WEIGHTS_NAME
    header = read_header(path)
    warnings = []
    if config.unknown_keys:
        count = len(config.unknown_keys)
        warnings.append(
            f"{folder}: {CONFIG_NAME} has {counted(count, 'key')} with no meaning to this program: "
            f"{some(config.unknown_keys)}"
        )
    warnings += [f"{folder}: {oddity}" for oddity in config.oddities]
    if config.quantization is not None and not config.quantized_shapes:
        config = dataclasses.replace(config, quantized_shapes=_those_with_scales(path, config, shapes, header))
        warnings.append(
            f"{folder}: {CONFIG_NAME} has no quantized_shapes; the {len(config.quantized_shapes)} tensors with .scales "
            "beside them were taken as the quantised ones"
        )
    strays = [name for name in config.quantized_shapes if name not in shapes and name not in header]
    if strays:
        warnings.append(
            f"{folder}: quantized_shapes of {CONFIG_NAME} names {counted(len(strays), 'tensor')} that neither "
            f"{WEIGHTS_NAME} nor the networks have: {some(strays)}"
        )
    idle = _unusable_idle(path, config, shapes, header)
    if idle:
        shapes = {name: shape for name, shape in shapes.items() if name not in idle}
        warnings.append(
            f"{folder}: {WEIGHTS_NAME} has {counted(len(idle), 'tensor')} missing, misshapen or not finite that no "
            f"result depends on: {some(idle)}"
        )
    unknown = [name for name in check_tensors(path, config, shapes, header) if name not in idle]
    if unknown:
        count = len(unknown)
        warnings.append(
            f"{folder}: {WEIGHTS_NAME} has {counted(count, 'tensor')} that the networks have no use for: "
            f"{some(unknown)}"
        )
    return Opened(folder, config, shapes, header, tuple(warnings))


def load(folder: Path, dtype: mx.Dtype = mx.float32) -> tuple[ModelConfig, Networks]:
    """Return the config and the networks of a bundle, computing in `dtype`; what was taken calmly is logged.

    Raises BundleError naming the key or tensor: config.json wrong, a tensor missing, misshapen, of a wrong type or not
    finite.
    """
    opened = open_bundle(folder)
    for warning in opened.warnings:
        log.warning("%s", warning)
    return opened.config, networks_of(opened, dtype)


def networks_of(opened: Opened, dtype: mx.Dtype = mx.float32) -> Networks:
    """Return the networks of an opened bundle with their weights, computing in `dtype`. Raises BundleError."""
    networks = Networks(opened.config)
    networks.cast(dtype)
    weights.fill(networks, opened.folder / WEIGHTS_NAME, opened.config, opened.shapes, opened.header)
    networks.ready()
    return networks


def _those_with_scales(
    path: Path, config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], header: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    """Return the quantised tensors of a bundle whose config does not list them: those with scales, of the networks'
    shapes."""
    assert config.quantization is not None
    found = {name: shape for name, shape in shapes.items() if f"{name}.scales" in header}
    for name, shape in found.items():
        if not quantisable(shape, config.quantization.group_size):
            raise BundleError(
                f"{path}: tensor {name!r} has .scales, but its shape {list(shape)} cannot be quantised", remedy=_REMEDY
            )
    return found


def check_tensors(
    path: Path, config: ModelConfig, expected: Mapping[str, tuple[int, ...]], header: Mapping[str, Tensor]
) -> list[str]:
    """Raise BundleError unless the file holds the tensors of `config`, of the right shapes and types.

    Returns the names of those that it holds beside them.
    """
    for name, shape in config.quantized_shapes.items():
        if name not in expected:
            continue
        if shape != expected[name]:
            raise BundleError(
                f"{path}: quantized_shapes gives {name!r} the shape {json_files.shown(shape)} instead of "
                f"{list(expected[name])}",
                remedy=_REMEDY,
            )
        assert config.quantization is not None
        if not quantisable(shape, config.quantization.group_size):
            raise BundleError(
                f"{path}: quantized_shapes names {name!r}, whose shape {list(shape)} cannot be quantised",
                remedy=_REMEDY,
            )
    wanted = _stored_as(config, expected)
    missing = [name for name in wanted if name not in header]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        another = len(missing) > len(wanted) // 2
        raise BundleError(
            f"{path}: tensor {missing[0]!r} is missing{more}",
            remedy="this looks like another model's bundle (an AudioSR's, which needs many steps?): take a FlashSR's"
            if another
            else _REMEDY,
        )
    for name, (shape, dtypes) in wanted.items():
        tensor = header[name]
        if tensor.shape != shape:
            raise BundleError(
                f"{path}: tensor {name!r} has the shape {list(tensor.shape)} instead of {list(shape)}", remedy=_REMEDY
            )
        if tensor.dtype not in dtypes:
            raise BundleError(
                f"{path}: tensor {name!r} is of type {tensor.dtype} instead of {' or '.join(dtypes)}", remedy=_REMEDY
            )
    beside = {name: None for name in header if name not in wanted}  # in the order of the file
    return [name for name in beside if not (name.endswith((".scales", ".biases")) and name[:-7] in beside)]


def _stored_as(
    config: ModelConfig, expected: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """(shape, types that it may have) of each tensor in the file, those of the quantised ones beside them."""
    wanted: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {}
    for name, shape in expected.items():
        if name in config.quantized_shapes:
            assert config.quantization is not None
            bits, group = config.quantization.bits, config.quantization.group_size
            fan_in = math.prod(shape[1:])
            wanted[name] = (shape[0], fan_in * bits // 32), ("U32",)
            wanted[f"{name}.scales"] = wanted[f"{name}.biases"] = (shape[0], fan_in // group), _FLOATS
        else:
            wanted[name] = shape, _FLOATS
    return wanted


def _unusable_idle(
    path: Path, config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], header: Mapping[str, Tensor]
) -> list[str]:
    """Return those of the tensors that no result depends on that the networks cannot have as the file holds them."""
    found = []
    for name in idle_tensors(config):
        shape = shapes[name]
        parts = _stored_as(config, {name: shape})
        fits = config.quantized_shapes.get(name, shape) == shape and all(
            part in header and header[part].shape == stored and header[part].dtype in dtypes
            for part, (stored, dtypes) in parts.items()
        )
        if not fits or not weights.is_finite(path, name, config, header):
            found.append(name)
    return found


def quantisable(shape: tuple[int, ...], group_size: int = GROUP_SIZE) -> bool:
    """Return whether a tensor of this shape is quantised in an int4 or int8 bundle."""
    return len(shape) >= 2 and math.prod(shape[1:]) % group_size == 0


def quantise(value: mx.array, config: QuantisationConfig) -> tuple[mx.array, mx.array, mx.array]:
    """Packed integers (out, fan_in * bits / 32), scales and biases (out, fan_in / group), the latter two float16."""
    flat = value.astype(mx.float32).reshape(value.shape[0], -1)
    packed, scales, biases = mx.quantize(flat, group_size=config.group_size, bits=config.bits, stream=mx.cpu)
    return packed, scales.astype(mx.float16), biases.astype(mx.float16)


def dequantise(
    packed: mx.array, scales: mx.array, biases: mx.array, config: QuantisationConfig, shape: tuple[int, ...]
) -> mx.array:
    """Return the tensor, float32: integer * scale + bias, computed in float32."""
    flat = mx.dequantize(
        packed,
        scales.astype(mx.float32),
        biases.astype(mx.float32),
        group_size=config.group_size,
        bits=config.bits,
        stream=mx.cpu,
    )
    return flat.reshape(shape)


def write(folder: Path, config: ModelConfig, tensor: Callable[[str, tuple[int, ...]], np.ndarray]) -> ModelConfig:
    """Write a bundle in the form that `config.format` asks for; tensors come from `tensor(name, shape)`, one at a time.

    Returns the config as written, with `quantization` and `quantized_shapes` filled in. config.json is put in place
    last, so a folder without it is a bundle that was never finished. Raises BundleError on a tensor of a wrong shape,
    ResourceError when the disk refuses.
    """
    shapes = tensor_shapes(config)
    config = _as_stored(config, shapes)
    layout = list(_layout(config, shapes))
    header, offset = {}, 0
    for name, dtype, shape in layout:
        size_bytes = math.prod(shape) * item_bytes(dtype)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size_bytes]}
        offset += size_bytes
    text = json.dumps({"__metadata__": {"format": "mlx"}, **header}).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin aligned

    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS_NAME) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            value = tensor(name, shape)
            if tuple(value.shape) != shape:
                raise BundleError(f"tensor {name!r} has the shape {list(value.shape)} instead of {list(shape)}")
            _write_tensor(file, config, name, value)
    write_atomic(folder / CONFIG_NAME, (json.dumps(config.to_mapping(), indent=1) + "\n").encode())
    return config


def _as_stored(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    bits = QUANTISED_FORMATS.get(config.format)
    if bits is None:
        return config
    quantised = {name: shape for name, shape in shapes.items() if quantisable(shape)}
    how = QuantisationConfig(bits=bits, group_size=GROUP_SIZE, rule=RULE)
    return dataclasses.replace(config, quantization=how, quantized_shapes=quantised)


def _layout(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(name, type, shape) of each stored tensor, in the order of `_write_tensor`."""
    plain = "F32" if config.format == "float32" else "BF16" if config.format == "bfloat16" else "F16"
    for name, shape in shapes.items():
        if name in config.quantized_shapes:
            assert config.quantization is not None
            fan_in = math.prod(shape[1:])
            yield name, "U32", (shape[0], fan_in * config.quantization.bits // 32)
            yield f"{name}.scales", "F16", (shape[0], fan_in // config.quantization.group_size)
            yield f"{name}.biases", "F16", (shape[0], fan_in // config.quantization.group_size)
        else:
            yield name, plain, shape


def _write_tensor(file: BinaryIO, config: ModelConfig, name: str, value: np.ndarray) -> None:
    if name in config.quantized_shapes:
        assert config.quantization is not None
        for part in quantise(mx.array(np.ascontiguousarray(value)), config.quantization):
            file.write(np.array(part).tobytes())
    elif config.format == "bfloat16":
        file.write(np.array(mx.array(value).astype(mx.bfloat16).view(mx.uint16)).tobytes())
    else:
        file.write(np.ascontiguousarray(value, np.float32 if config.format == "float32" else np.float16).tobytes())


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of model.safetensors, hexadecimal."""
    return storage.sha256(folder / WEIGHTS_NAME)


def parameter_count(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Parameters of each network, by the first part of their names."""
    counts: dict[str, int] = {}
    for name, shape in shapes.items():
        part = name.split(".", 1)[0]
        counts[part] = counts.get(part, 0) + math.prod(shape)
    return counts
