"""A network of a few bytes that separates nothing: each stem is the recording times a number. ONNX, written by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

QUARTERS = (0.5, 0.25, 0.125, 0.125)
"""Sum to one, so the mix is the recording."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, kind: int, dims: Sequence[int], data: bytes) -> bytes:
    return b"".join(_field(1, dim) for dim in dims) + _field(2, kind) + _field(8, name) + _field(9, data)


def _value(name: str, dims: Sequence[int]) -> bytes:
    shape = b"".join(_field(1, _field(1, dim)) for dim in dims)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


def _node(kind: str, inputs: Sequence[str], output: str) -> bytes:
    return b"".join(_field(1, one) for one in inputs) + _field(2, output) + _field(4, kind)


def write(path: Path, chunk_samples: int = 20_000, gains: Sequence[float] = QUARTERS) -> Path:
    """Write the network: mix (1, 2, n) -> stems (1, len(gains), 2, n)."""
    graph = b"".join(
        (
            _field(1, _node("Unsqueeze", ["mix", "axes"], "one")),
            _field(1, _node("Mul", ["one", "gains"], "stems")),
            _field(2, "fake"),
            _field(5, _tensor("axes", 7, [1], struct.pack("<q", 1))),
            _field(5, _tensor("gains", 1, [1, len(gains), 1, 1], struct.pack(f"<{len(gains)}f", *gains))),
            _field(11, _value("mix", [1, 2, chunk_samples])),
            _field(12, _value("stems", [1, len(gains), 2, chunk_samples])),
        )
    )
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(2, 13)))
    return path
