"""A bundle: a folder with config.json and model.safetensors, read and written strictly.

Weights are in MLX's layout under the names of the networks' parameters. In an int4 or int8 bundle, every tensor of
two or more axes whose prod(shape[1:]) divides into groups is stored flat, (out, fan_in), as `mx.quantize` leaves it,
with KEY.scales and KEY.biases beside it; the rest, and scales and biases, are float16.

The file's header is read here rather than by MLX, so that a truncated, overlapping or misnamed tensor is an error
with a name before a byte of weights is used.

Source: bundle format of aufklarer/FlashSR-MLX-4bit; safetensors' format description.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from batchsr.errors import BundleError
from batchsr.models.flashsr.config import ModelConfig, QuantisationConfig
from batchsr.models.flashsr.config_reading import QUANTISED_FORMATS
from batchsr.models.flashsr.networks import Networks, tensor_shapes
from batchsr.temporary import whole_file, write_atomic

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
GROUP_SIZE = 64
RULE = "every weight with ndim>=2 and (prod(shape[1:]) % group_size == 0)"
_MAX_HEADER_BYTES = 100_000_000
_ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "U8": 1,
    "I8": 1,
    "BOOL": 1,
}
_FLOATS = ("F32", "F16", "BF16")


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header. `start` counts bytes from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int


def read_config(folder: Path) -> ModelConfig:
    """config.json of a bundle. Raises BundleError naming the file or the key at fault."""
    path = folder / CONFIG_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise BundleError(
            f"{path} is missing", remedy=f"a bundle is a folder with {CONFIG_NAME} and {WEIGHTS_NAME}"
        ) from e
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        raise BundleError(f"{path} cannot be read: {e}") from e
    try:
        return ModelConfig.from_mapping(values)
    except BundleError as e:
        raise BundleError(f"{folder}: {e.message}", remedy=e.remedy) from e


def read_header(path: Path) -> dict[str, Tensor]:
    """What a safetensors file holds, in the order of its bytes, without reading the tensors.

    Raises BundleError when the file is no safetensors file, is cut short, or its tensors overlap or leave gaps.
    """
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            if len(prefix) < 8:
                raise BundleError(f"{path} is cut short: it has no header")
            (header_bytes,) = struct.unpack("<Q", prefix)
            if header_bytes > min(_MAX_HEADER_BYTES, size_bytes - 8):
                raise BundleError(
                    f"{path} is no safetensors file, or cut short: its header claims {header_bytes} bytes"
                )
            header = json.loads(file.read(header_bytes).decode("utf-8"))
    except FileNotFoundError as e:
        raise BundleError(
            f"{path} is missing", remedy=f"a bundle is a folder with {CONFIG_NAME} and {WEIGHTS_NAME}"
        ) from e
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        raise BundleError(f"{path} cannot be read: {e}") from e
    if not isinstance(header, dict):
        raise BundleError(f"{path}: its header is not a JSON object")
    header.pop("__metadata__", None)
    base = 8 + header_bytes
    tensors = sorted((_tensor(path, name, entry, base) for name, entry in header.items()), key=lambda t: t.start)
    end = base
    for tensor in tensors:
        if tensor.start != end:
            raise BundleError(f"{path}: tensor {tensor.name!r} does not begin where the one before it ends")
        end += tensor.size_bytes
    if end != size_bytes:
        last = f"; the last tensor is {tensors[-1].name!r}" if tensors else ""
        raise BundleError(f"{path}: {size_bytes} bytes long, but its header describes {end}{last}")
    return {tensor.name: tensor for tensor in tensors}


def _tensor(path: Path, name: str, entry: object, base: int) -> Tensor:
    """One entry of the header, checked."""
    try:
        assert isinstance(entry, dict)
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        size_bytes = math.prod(shape) * _ITEM_BYTES[dtype]
        assert all(type(n) is int and n >= 0 for n in (*shape, start, end))
        assert end - start == size_bytes
    except (AssertionError, KeyError, TypeError, ValueError) as e:
        raise BundleError(f"{path}: the header's entry of tensor {name!r} makes no sense: {str(entry)[:200]}") from e
    return Tensor(name, dtype, shape, base + start, size_bytes)


def load(folder: Path, dtype: mx.Dtype = mx.float32) -> tuple[ModelConfig, Networks]:
    """The networks of a bundle, computing in `dtype`.

    Raises BundleError naming the key or tensor: config.json wrong, a tensor missing, extra, misshapen, of a wrong
    type or not finite.
    """
    config = read_config(folder)
    networks = Networks(config)
    expected = tensor_shapes(config)
    path = folder / WEIGHTS_NAME
    check_tensors(path, config, expected, read_header(path))
    try:
        stored = mx.load(str(path), stream=mx.cpu)
    except (RuntimeError, ValueError) as e:
        raise BundleError(f"{path} cannot be read: {e}") from e
    networks.cast(dtype)
    weights = []
    for name, placeholder in tree_flatten(networks.parameters()):
        # One at a time, so that the file's form of a tensor is gone before the next is read.
        value = _decoded(path, config, name, expected[name], stored).astype(placeholder.dtype)
        mx.eval(value)
        weights.append((name, value))
    networks.update(tree_unflatten(weights))
    del weights  # or the tensors would live beside their copies in another order
    networks.ready()
    return config, networks


def check_tensors(
    path: Path, config: ModelConfig, expected: Mapping[str, tuple[int, ...]], header: Mapping[str, Tensor]
) -> None:
    """Raise BundleError unless the file holds exactly the tensors of `config`, of the right shapes and types."""
    quantised = set(config.quantized_shapes)
    for name, shape in config.quantized_shapes.items():
        if name not in expected:
            raise BundleError(f"{path}: quantized_shapes names {name!r}, which the model does not have")
        if shape != expected[name]:
            raise BundleError(
                f"{path}: quantized_shapes gives {name!r} the shape {list(shape)} instead of {list(expected[name])}"
            )
        assert config.quantization is not None
        if len(shape) < 2 or math.prod(shape[1:]) % config.quantization.group_size:
            raise BundleError(f"{path}: quantized_shapes names {name!r}, whose shape {list(shape)} cannot be quantised")
    wanted: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {}
    for name, shape in expected.items():
        if name in quantised:
            assert config.quantization is not None
            bits, group = config.quantization.bits, config.quantization.group_size
            fan_in = math.prod(shape[1:])
            wanted[name] = (shape[0], fan_in * bits // 32), ("U32",)
            wanted[f"{name}.scales"] = wanted[f"{name}.biases"] = (shape[0], fan_in // group), _FLOATS
        else:
            wanted[name] = shape, _FLOATS
    missing = [name for name in wanted if name not in header]
    if missing:
        raise BundleError(f"{path}: tensor {missing[0]!r} is missing{_more(missing)}")
    extra = [name for name in header if name not in wanted]
    if extra:
        raise BundleError(f"{path}: tensor {extra[0]!r} is not part of the model{_more(extra)}")
    for name, (shape, dtypes) in wanted.items():
        tensor = header[name]
        if tensor.shape != shape:
            raise BundleError(f"{path}: tensor {name!r} has the shape {list(tensor.shape)} instead of {list(shape)}")
        if tensor.dtype not in dtypes:
            raise BundleError(f"{path}: tensor {name!r} is of type {tensor.dtype} instead of {' or '.join(dtypes)}")


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _decoded(
    path: Path, config: ModelConfig, name: str, shape: tuple[int, ...], stored: dict[str, mx.array]
) -> mx.array:
    """One tensor as the model wants it, float32 if it was quantised. Takes it out of `stored`."""
    value = stored.pop(name)
    if name in config.quantized_shapes:
        assert config.quantization is not None
        scales, biases = (stored.pop(f"{name}.{part}") for part in ("scales", "biases"))
        for part, array in (("scales", scales), ("biases", biases)):
            _check_finite(path, f"{name}.{part}", array)
        value = dequantise(value, scales, biases, config.quantization, shape)
    _check_finite(path, name, value)
    return value


def _check_finite(path: Path, name: str, value: mx.array) -> None:
    try:
        finite = bool(mx.all(mx.isfinite(value)).item())
    except (RuntimeError, ValueError) as e:
        raise BundleError(f"{path}: tensor {name!r} cannot be read: {e}") from e
    if not finite:
        raise BundleError(f"{path}: tensor {name!r} holds NaN or infinity")


def quantisable(shape: tuple[int, ...], group_size: int = GROUP_SIZE) -> bool:
    """Whether a tensor of this shape is quantised in an int4 or int8 bundle."""
    return len(shape) >= 2 and math.prod(shape[1:]) % group_size == 0


def quantise(value: mx.array, config: QuantisationConfig) -> tuple[mx.array, mx.array, mx.array]:
    """Packed integers (out, fan_in * bits / 32), scales and biases (out, fan_in / group), the latter two float16."""
    flat = value.astype(mx.float32).reshape(value.shape[0], -1)
    packed, scales, biases = mx.quantize(flat, group_size=config.group_size, bits=config.bits, stream=mx.cpu)
    return packed, scales.astype(mx.float16), biases.astype(mx.float16)


def dequantise(
    packed: mx.array, scales: mx.array, biases: mx.array, config: QuantisationConfig, shape: tuple[int, ...]
) -> mx.array:
    """The tensor, float32: integer * scale + bias, computed in float32."""
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
        size_bytes = math.prod(shape) * _ITEM_BYTES[dtype]
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
    """SHA-256 of model.safetensors, hexadecimal."""
    with (folder / WEIGHTS_NAME).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parameter_count(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Parameters of each network, by the first part of their names."""
    counts: dict[str, int] = {}
    for name, shape in shapes.items():
        part = name.split(".", 1)[0]
        counts[part] = counts.get(part, 0) + math.prod(shape)
    return counts
