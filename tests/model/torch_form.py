"""Writes files as torch.save does, without PyTorch: a zip file with a pickle of tensors and the bytes of each."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

NAMES = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def several(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def tensor(key: str, value: np.ndarray) -> bytes:
    """The pickle of one tensor, contiguous, in a storage of its own."""
    strides = tuple(stride // value.itemsize for stride in np.ascontiguousarray(value).strides)
    kind = f"ctorch\n{NAMES[value.dtype.name]}\n".encode()
    storage = b"(" + text("storage") + kind + text(key) + text("cpu") + whole(value.size) + b"tQ"
    empty = b"ccollections\nOrderedDict\n)R"
    arguments = storage + whole(0) + several(value.shape) + several(strides) + b"\x89" + empty
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def pickled(tensors: Mapping[str, np.ndarray], under: str | None = None) -> bytes:
    """The pickle of a state dict, or of a dict that holds it `under` a key."""
    items = b"".join(text(name) + tensor(str(number), value) for number, (name, value) in enumerate(tensors.items()))
    state = b"}(" + items + b"u"
    return b"\x80\x02" + (state if under is None else b"}" + text(under) + state + b"s") + b"."


def write_pth(path: Path, tensors: Mapping[str, np.ndarray], under: str | None = None) -> None:
    write_archive(path, pickled(tensors, under), {str(n): value for n, value in enumerate(tensors.values())})


def write_archive(path: Path, data_pkl: bytes, storages: Mapping[str, np.ndarray | bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        archive.writestr("archive/byteorder", "little")
        for key, value in storages.items():
            content = value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes()
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")
