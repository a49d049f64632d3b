"""The weights of a bundle's file, on their way into the networks: read, unpacked, checked and laid out by all cores.

    file -> bytes of a tensor -> float32 in the order that the device wants -> (float16 on a GPU) -> parameter

That a quantised tensor is finite follows from its scales and biases, so nothing is looked at twice. A tensor is read
with the file's own calls and not mapped: a file that is cut while it is read must be an error, not a SIGBUS.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from batchsr import machine
from batchsr.errors import BundleError
from batchsr.models.compute.layers import on_cpu
from batchsr.models.flashsr import json_files
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.networks import Networks
from batchsr.models.flashsr.safetensors_header import Tensor

_LARGEST = 3e38
"""What a quantised weight may be in float32."""
_PART_VALUES = 1 << 19
"""Values of a tensor that a thread does at a time."""
_AHEAD = 3
"""Tensors that are read and allocated before they are unpacked, beside one for each core."""
_BEGUN_BYTES = 64 << 20
"""What a GPU is given to unpack before the oldest of it is waited for: a wait for each of 1,900 tensors costs more than
unpacking it."""


def fill(
    networks: Networks,
    path: Path,
    config: ModelConfig,
    shapes: Mapping[str, tuple[int, ...]],
    header: Mapping[str, Tensor],
) -> None:
    """Give the networks the weights of a file whose header fits them, in the types of their parameters.

    A parameter that `shapes` does not name is one that no result depends on: it becomes zeros.
    Raises BundleError naming the first tensor that cannot be read or is not finite.
    """
    placeholders = tree_flatten(networks.parameters())
    wanted = {name: placeholder.dtype for name, placeholder in placeholders if name in shapes}
    idle = [(name, mx.zeros(given.shape, given.dtype)) for name, given in placeholders if name not in shapes]
    if not on_cpu():
        networks.update(tree_unflatten(idle + _filled_by_gpu(wanted, path, config, shapes, header)))
        return
    filled: list[tuple[str, mx.array]] = []
    cores = machine.cores()
    with (
        json_files.regular(path) as file,
        concurrent.futures.ThreadPoolExecutor(cores, "batchsr-load") as pool,
    ):
        reader = _Reader(path, file.fileno(), config, header)
        waiting: list[tuple[_Target, list[concurrent.futures.Future[bool]]]] = []
        for name, dtype in wanted.items():
            target = _Target.of(name, shapes[name], dtype)
            parts = reader.parts(name, target)
            waiting.append((target, [pool.submit(part) for part in parts]))
            while len(waiting) > cores + _AHEAD:
                filled.append(_finished(path, *waiting.pop(0)))
        while waiting:
            filled.append(_finished(path, *waiting.pop(0)))
    networks.update(tree_unflatten(idle + filled))


def is_finite(path: Path, name: str, config: ModelConfig, header: Mapping[str, Tensor]) -> bool:
    """Return whether a tensor of a file, whose header fits the networks, can be read and holds finite values only."""
    with json_files.regular(path) as file:
        try:
            value = _Reader(path, file.fileno(), config, header).stored(name)[0]
        except BundleError:  # its scales or biases are not finite, or it is cut short
            return False
    if name in config.quantized_shapes:
        return True
    if header[name].dtype == "BF16":
        return bool(((value & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(value).all())


def _filled_by_gpu(
    wanted: Mapping[str, mx.Dtype],
    path: Path,
    config: ModelConfig,
    shapes: Mapping[str, tuple[int, ...]],
    header: Mapping[str, Tensor],
) -> list[tuple[str, mx.array]]:
    """Return the tensors, unpacked by the GPU: what crosses to it is what the file holds, and no loop needs to be
    loaded."""
    filled, finite = [], []
    begun: collections.deque[mx.array] = collections.deque()
    begun_bytes = 0
    with json_files.regular(path) as file, concurrent.futures.ThreadPoolExecutor(1, "batchsr-load") as reading:
        reader = _Reader(path, file.fileno(), config, header)
        coming: collections.deque[concurrent.futures.Future[tuple[np.ndarray, ...]]] = collections.deque()
        names = iter(wanted)
        for name, dtype in wanted.items():
            coming.extend(reading.submit(reader.stored, n) for n in itertools.islice(names, _AHEAD + 1 - len(coming)))
            parts = [mx.array(part) for part in coming.popleft().result()]
            if name in config.quantized_shapes:
                assert config.quantization is not None
                how = {"group_size": config.quantization.group_size, "bits": config.quantization.bits}
                value = mx.dequantize(*parts, **how)
            else:
                value = parts[0].view(mx.bfloat16) if header[name].dtype == "BF16" else parts[0]
            finite.append(mx.all(mx.isfinite(value)))
            value = value.reshape(shapes[name]).astype(dtype)
            mx.async_eval(value, finite[-1])
            filled.append((name, value))
            begun.append(value)
            begun_bytes += value.nbytes
            while begun_bytes > _BEGUN_BYTES:
                mx.eval(begun[0])
                begun_bytes -= begun.popleft().nbytes
    good = mx.stack(finite).tolist() if finite else []
    if (wrong := [name for name, is_good in zip(wanted, good, strict=True) if not is_good]) != []:
        raise BundleError(f"{path}: tensor {wrong[0]!r} holds NaN or infinity", remedy="fetch or copy it again")
    return filled


def _finished(path: Path, target: _Target, parts: list[concurrent.futures.Future[bool]]) -> tuple[str, mx.array]:
    """Return a tensor when all its parts are done, as its parameter."""
    finite = [part.result() for part in parts]  # all of them: an error in any is to be raised
    if not all(finite):
        raise BundleError(f"{path}: tensor {target.name!r} holds NaN or infinity", remedy="fetch or copy it again")
    return target.name, target.parameter()


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    """Where a tensor is unpacked to."""

    name: str
    shape: tuple[int, ...]
    dtype: mx.Dtype
    across: bool
    """Whether memory has the out channels last (batchsr.models.compute.cpu.prepack)."""
    values: np.ndarray
    """(fan_in, out) if across, else (out, fan_in); float32."""
    array: mx.array | None
    """The same memory, where MLX's arrays are the computer's."""

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], dtype: mx.Dtype) -> _Target:
        out, fan_in = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
        across = on_cpu() and len(shape) > 1 and out > 1
        size = (fan_in, out) if across else (out, fan_in)
        if not on_cpu() or not math.prod(shape):
            return cls(name, shape, dtype, across, np.empty(size, np.float32), None)
        array = mx.zeros(size)
        mx.eval(array)
        return cls(name, shape, dtype, across, np.array(array, copy=False), array)

    def parameter(self) -> mx.array:
        """Return the tensor, in its shape and type; on the CPU without a copy."""
        array = mx.array(self.values) if self.array is None else self.array
        if self.across:
            axes = len(self.shape) - 1
            array = array.reshape(*self.shape[1:], self.shape[0]).transpose(axes, *range(axes))
        else:
            array = array.reshape(self.shape)
        array = array.astype(self.dtype)
        mx.eval(array)
        return array


class _Reader:
    """Reads tensors of an open file, and says how their parts are unpacked."""

    def __init__(self, path: Path, fd: int, config: ModelConfig, header: Mapping[str, Tensor]) -> None:
        self._path = path
        self._fd = fd
        self._config = config
        self._header = header

    def parts(self, name: str, target: _Target) -> Iterator[Callable[[], bool]]:
        """Functions that together unpack a tensor to its target, and return whether what they saw is finite."""
        from batchsr.models.compute import unpack  # numba's loops, for which a GPU has no use

        rows = target.values.shape[1 if target.across else 0]
        columns = target.values.size // max(1, rows)
        call: Callable[..., bool]
        if name in self._config.quantized_shapes:
            assert self._config.quantization is not None
            bits = self._config.quantization.bits
            scales, biases = self._scales_and_biases(name, 2.0**bits - 1)
            packed = self._bytes(name).view(np.uint32).reshape(rows, -1)
            loop = unpack.dequantise_across if target.across else unpack.dequantise
            call = functools.partial(loop, packed, scales, biases, bits)
        elif self._header[name].dtype == "F32":
            loop = unpack.copy_across if target.across else unpack.copy
            call = functools.partial(loop, self._bytes(name).view(np.float32).reshape(rows, columns))
        else:
            loop = unpack.widen_across if target.across else unpack.widen
            stored = self._bytes(name).view(np.uint16).reshape(rows, columns)
            call = functools.partial(loop, stored, _meaning(self._header[name].dtype))
        step = max(unpack.TILE, _PART_VALUES // max(1, columns) // unpack.TILE * unpack.TILE)
        for first in range(0, rows, step):
            yield functools.partial(call, target.values, first, min(first + step, rows))

    def stored(self, name: str) -> tuple[np.ndarray, ...]:
        """Return what the file holds of a tensor: its values (bfloat16 as integers), or packed ones with scales and
        biases."""
        if name in self._config.quantized_shapes:
            assert self._config.quantization is not None
            scales, biases = self._scales_and_biases(name, 2.0**self._config.quantization.bits - 1)
            packed = self._bytes(name).view(np.uint32).reshape(len(scales), -1)
            return packed, scales, biases
        tensor = self._header[name]
        kind = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}[tensor.dtype]
        return (self._bytes(name).view(kind).reshape(tensor.shape),)

    def _scales_and_biases(self, name: str, most: float) -> tuple[np.ndarray, np.ndarray]:
        """Both of a tensor, float32; with them every q * scale + bias, q up to `most`, is finite."""
        scales, biases = (self._floats(f"{name}.{part}") for part in ("scales", "biases"))
        for part, values in (("scales", scales), ("biases", biases)):
            if not np.isfinite(values).all():
                raise BundleError(
                    f"{self._path}: tensor '{name}.{part}' holds NaN or infinity", remedy="fetch or copy it again"
                )
        reach = most * np.abs(scales).max(initial=0).astype(np.float64) + np.abs(biases).max(initial=0)
        if reach > _LARGEST:
            raise BundleError(
                f"{self._path}: '{name}.scales' and '{name}.biases' give weights of {reach:.1e}, which are not finite "
                "in float32",
                remedy="fetch or copy it again",
            )
        return scales, biases

    def _floats(self, name: str) -> np.ndarray:
        """Return a small tensor as float32, in its shape."""
        tensor = self._header[name]
        stored = self._bytes(name)
        if tensor.dtype == "F32":
            return stored.view(np.float32).reshape(tensor.shape)
        return _meaning(tensor.dtype)[stored.view(np.uint16)].reshape(tensor.shape)

    def _bytes(self, name: str) -> np.ndarray:
        """Return the bytes of a tensor in the file."""
        tensor = self._header[name]
        read = np.empty(tensor.size_bytes, np.uint8)
        view, at = read.data, tensor.start
        while view:
            count = os.preadv(self._fd, [view], at)
            if count <= 0:
                raise BundleError(f"{self._path}: tensor {name!r} is cut short", remedy="fetch or copy it again")
            view, at = view[count:], at + count
        return read


@functools.cache
def _meaning(dtype: str) -> np.ndarray:
    """Return what each 16 bits mean as a float16 (F16) or bfloat16 (BF16), float32."""
    every = np.arange(1 << 16, dtype=np.uint16)
    if dtype == "F16":
        return every.view(np.float16).astype(np.float32)
    return (every.astype(np.uint32) << 16).view(np.float32)
