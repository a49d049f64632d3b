"""The header of a safetensors file: what tensors it holds, of what type and shape, and where.

Read here rather than by the safetensors library, which keeps the last of two tensors of one name and maps the whole
file: so a truncated, overlapping or repeated tensor is an error with a name before a byte of weights is used.

Source: the safetensors format's description.
"""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from batchsr.errors import BundleError
from batchsr.models.flashsr import json_files
from batchsr.models.flashsr.json_files import name_shown

MAX_HEADER_BYTES = 4 << 20
"""The published bundles' headers have 0.6 MB; reading JSON takes up to 25 times its size in memory."""
_MAX_RANK = 16
_BITS = (
    dict.fromkeys(("F64", "I64", "U64", "C64"), 64)
    | dict.fromkeys(("F32", "I32", "U32"), 32)
    | dict.fromkeys(("F16", "BF16", "I16", "U16"), 16)
    | dict.fromkeys(("U8", "I8", "BOOL", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8)
    | {"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
)
"""Bits of an item of each type that the format knows."""
_CUT_SHORT = "fetch it again (`batchsr models pull VARIANT --again`), or copy it again"


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """Return one entry of a header. `start` counts bytes from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int


def item_bytes(dtype: str) -> int:
    """Bytes of an item of a type of at least a byte."""
    return _BITS[dtype] // 8


def read_header(path: Path) -> dict[str, Tensor]:
    """Return what a safetensors file holds, in the order of its bytes, without reading the tensors.

    Raises BundleError when the file is no safetensors file, is cut short, or its tensors overlap, leave gaps or have
    one name.
    """
    with json_files.regular(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        if len(prefix) < 8:
            raise BundleError(f"{path} is cut short: it has no header", remedy=_CUT_SHORT)
        (header_bytes,) = struct.unpack("<Q", prefix)
        if header_bytes > size_bytes - 8:
            raise BundleError(
                f"{path} is no safetensors file, or cut short: its header claims {header_bytes} bytes",
                remedy=_CUT_SHORT,
            )
        if header_bytes > MAX_HEADER_BYTES:
            raise BundleError(
                f"{path}: its header of {header_bytes} bytes is larger than {MAX_HEADER_BYTES}, so it is no bundle's",
                remedy=json_files.A_BUNDLE,
            )
        text = file.read(header_bytes)
    try:
        header = json_files.parsed(text)
    except ValueError as e:
        raise BundleError(
            f"{path} cannot be read: its header is no JSON: {str(e)[:200]}", remedy=json_files.A_BUNDLE
        ) from e
    del text
    if not isinstance(header, dict):
        raise BundleError(f"{path}: its header is not a JSON object", remedy=json_files.A_BUNDLE)
    return _checked(path, header, 8 + header_bytes, size_bytes)


def _checked(path: Path, header: dict[str, object], base: int, size_bytes: int) -> dict[str, Tensor]:
    """Return the header's entries, which must lie side by side from `base` to the file's end."""
    for name in json_files.repeated(header):
        if name != "__metadata__":
            raise BundleError(f"{path}: tensor {name_shown(name)} is named twice", remedy="write the bundle again")
    entries = [_tensor(path, name, entry, base) for name, entry in header.items() if name != "__metadata__"]
    tensors = sorted(entries, key=lambda tensor: (tensor.start, tensor.size_bytes))
    end = base
    for tensor in tensors:
        if tensor.start != end:
            raise BundleError(
                f"{path}: tensor {name_shown(tensor.name)} does not begin where the one before it ends",
                remedy="write the bundle again",
            )
        end += tensor.size_bytes
    if end != size_bytes:
        last = f"; the last tensor is {name_shown(tensors[-1].name)}" if tensors else ""
        raise BundleError(
            f"{path}: {size_bytes} bytes long, but its header describes {end}{last}",
            remedy=_CUT_SHORT if end > size_bytes else "write the bundle again",
        )
    return {tensor.name: tensor for tensor in tensors}


def _tensor(path: Path, name: str, entry: object, base: int) -> Tensor:
    """Return one entry of the header, checked."""

    def wrong(why: str) -> BundleError:
        return BundleError(
            f"{path}: the header's entry of tensor {name_shown(name)} makes no sense: {why}",
            remedy="write the bundle again",
        )

    if not isinstance(entry, Mapping):
        raise wrong("it is no object")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise wrong(f"dtype is {json_files.shown(dtype)}")
    if not isinstance(shape, list) or len(shape) > _MAX_RANK or not all(map(_is_size, shape)):
        raise wrong(f"shape is {json_files.shown(shape)}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise wrong(f"data_offsets is {json_files.shown(offsets)}")
    start, end = offsets
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or end - start != bits // 8:
        raise wrong(f"{end - start} bytes do not hold {json_files.shown(shape)} of {dtype}")
    return Tensor(name, dtype, tuple(shape), base + start, bits // 8)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63
