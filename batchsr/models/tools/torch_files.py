"""The tensors of a PyTorch file, read without PyTorch and without doing what its pickle asks for.

    name/data.pkl    a pickle: which tensors there are, and where in a storage each begins
    name/data/KEY    the bytes of a storage

A pickle is a program. This one is not run: of its instructions those that a file of tensors consists of are followed,
and the first other one, or the first name that is neither a tensor nor a storage, is an error that says what it is.
Sizes are compared with the file before anything is read, and nothing in it is ever unpacked to the disk.

Source: the format that torch.save writes since 1.6 (torch/serialization.py), and Python's pickletools.

Longer than other modules: the instructions of one format that is not trusted stand beside their checks.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from batchsr.errors import BundleError
from batchsr.models.flashsr import json_files
from batchsr.models.flashsr.json_files import name_shown

MAX_PICKLE_BYTES: Final = 32 << 20
MAX_ENTRIES: Final = 100_000
_MAX_AXES: Final = 16
_DTYPES: Final = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
"""Kinds of storage -> the type of what is in it; bfloat16 has none in numpy."""
_STATE_KEYS: Final = ("state_dict", "model_state_dict", "model", "generator")
"""Where checkpoints keep the state dict, if they are not one themselves."""
_REMEDY: Final = "take the authors' own files; this reader takes tensors, and nothing that would have to be run"


class _NotTensors(Exception):
    """Why a pickle is refused."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Name:
    """A class or function that the pickle names."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Storage:
    kind: str
    key: str
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK: Final = object()


def state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a checkpoint by their names: what is float as float32, the rest as it is.

    Raises BundleError naming the file, and the tensor or the name that is not to be had.
    """
    try:
        with json_files.regular(path) as file:
            begin = file.read(4)
            if begin[:2] == b"\x80\x02" or begin[:1] == b"\x80":
                raise _NotTensors("it is in the form of PyTorch before 1.6; save it again with a newer one")
            size_bytes = os.fstat(file.fileno()).st_size
            with zipfile.ZipFile(file) as archive:
                return _Archive(archive, size_bytes).state_dict()
    except _NotTensors as e:
        raise BundleError(f"{path} cannot be read: {e}", remedy=_REMEDY) from e
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError) as e:
        why = str(e)[:200] if str(e).isprintable() else type(e).__name__
        raise BundleError(f"{path} cannot be read: it is no whole PyTorch file: {why}", remedy=_REMEDY) from e


class _Archive:
    """The zip file that torch.save wrote."""

    def __init__(self, archive: zipfile.ZipFile, size_bytes: int) -> None:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise _NotTensors(f"it has {len(entries)} entries")
        self._archive = archive
        self._size_bytes = size_bytes
        self._entries = {entry.filename: entry for entry in entries}
        if len(self._entries) != len(entries):
            raise _NotTensors("two of its entries have one name")
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise _NotTensors("it is compressed or encrypted, which PyTorch's files are not")
        if any(entry.file_size != entry.compress_size for entry in entries) or size_bytes < sum(
            entry.file_size for entry in entries
        ):
            raise _NotTensors("its entries claim more bytes than it has")
        pickles = [name for name in self._entries if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise _NotTensors(f"it has {len(pickles)} data.pkl instead of one")
        self._prefix = pickles[0].removesuffix("data.pkl")
        if self._entries[pickles[0]].file_size > MAX_PICKLE_BYTES:
            raise _NotTensors("its data.pkl is larger than that of any list of tensors")
        order = self._entries.get(f"{self._prefix}byteorder")
        if order is not None and archive.read(order)[:10].strip() != b"little":
            raise _NotTensors("its numbers are big-endian")
        self._pickle = archive.read(self._entries[pickles[0]])
        self._storages: dict[_Storage, np.ndarray] = {}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the tensors by name."""
        found = _followed(self._pickle)
        if isinstance(found, dict) and not any(isinstance(value, _Tensor) for value in found.values()):
            found = next((found[key] for key in _STATE_KEYS if isinstance(found.get(key), dict)), found)
        if not isinstance(found, dict):
            raise _NotTensors("it holds no state dict")
        tensors = {name: value for name, value in found.items() if isinstance(value, _Tensor)}
        if not tensors:
            raise _NotTensors("it holds no state dict")
        if sum(math.prod(tensor.shape) for tensor in tensors.values()) > self._size_bytes:
            raise _NotTensors("its tensors claim more values than it has bytes")
        return {name: self._values(name, tensor) for name, tensor in tensors.items()}

    def _values(self, name: str, tensor: _Tensor) -> np.ndarray:
        storage = self._storage(name, tensor.storage)
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
        count = math.prod(tensor.shape)
        if count and (tensor.offset + last >= len(storage) or count > len(storage)):
            raise _NotTensors(f"tensor {name_shown(name)} reaches beyond its storage")
        if not count:
            values = np.empty(tensor.shape, storage.dtype)
        else:
            strides = [stride * storage.itemsize for stride in tensor.strides]
            values = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
        if tensor.storage.kind == "BFloat16Storage":
            return np.asarray((values.astype(np.uint32) << 16).view(np.float32))
        return values.astype(np.float32) if values.dtype.kind == "f" else values

    def _storage(self, name: str, storage: _Storage) -> np.ndarray:
        if storage not in self._storages:
            entry = self._entries.get(f"{self._prefix}data/{storage.key}")
            dtype = np.dtype(_DTYPES[storage.kind])
            if entry is None or entry.file_size != storage.count * dtype.itemsize:
                raise _NotTensors(f"the storage of tensor {name_shown(name)} is missing or of another size")
            self._storages[storage] = np.frombuffer(self._archive.read(entry), dtype)
        return self._storages[storage]


def _followed(data: bytes) -> Any:
    """Return what a pickle describes, by the instructions that a file of tensors consists of."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return stack.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise _NotTensors(f"its pickle has the instruction {opcode.name}, which no file of tensors needs")
            step(stack, memo, argument)
    except (IndexError, KeyError, TypeError, UnicodeDecodeError) as e:
        raise _NotTensors(f"its pickle makes no sense ({type(e).__name__})") from e
    raise _NotTensors("its pickle has no end")


def _above_mark(stack: list[Any]) -> list[Any]:
    """Take what lies above the last mark, and the mark."""
    above: list[Any] = []
    while (top := stack.pop()) is not _MARK:
        above.append(top)
    return above[::-1]


def _set_items(stack: list[Any], pairs: list[Any]) -> None:
    target = stack[-1]
    if type(target) is not dict or len(pairs) % 2:
        raise _NotTensors("its pickle fills something that is no dict")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if not isinstance(key, str | int | None):
            raise _NotTensors("a key in it is neither a text nor a number")
        if key in target:
            raise _NotTensors(f"it names {name_shown(str(key))} twice")
        target[key] = value


def _append(stack: list[Any], values: list[Any]) -> None:
    if type(stack[-1]) is not list:
        raise _NotTensors("its pickle fills something that is no list")
    stack[-1].extend(values)


def _call(stack: list[Any]) -> None:
    """Put there the result of a call, if it is of one of the few functions that make tensors."""
    arguments, function = stack.pop(), stack.pop()
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise _NotTensors("its pickle calls what is no function")
    made = _CALLS.get((function.module, function.name))
    if made is None:
        raise _NotTensors(f"it asks to call {_asked(function)}, which is no tensor")
    stack.append(made(arguments))


def _tensor(arguments: tuple[Any, ...]) -> _Tensor:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)."""
    storage, offset, shape, strides = arguments[:4]
    sizes = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or len(shape) != len(strides) or len(shape) > _MAX_AXES:
        raise _NotTensors("a tensor in it has no storage or no shape")
    if not all(type(size) is int and 0 <= size < 1 << 48 for size in sizes):
        raise _NotTensors("a tensor in it has a size that is none")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(arguments: tuple[Any, ...]) -> _Tensor:
    """torch._utils._rebuild_parameter(tensor, ...)."""
    if not isinstance(arguments[0], _Tensor):
        raise _NotTensors("a parameter in it is no tensor")
    return arguments[0]


def _nothing(arguments: tuple[Any, ...]) -> dict[str, Any]:
    """collections.OrderedDict()."""
    if arguments:
        raise _NotTensors("it makes a dict of something")
    return {}


_CALLS: Final[dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): _nothing,
}


def _named(stack: list[Any], module: str, name: str) -> None:
    if (module, name) not in _CALLS and not (module == "torch" and name in _DTYPES):
        raise _NotTensors(f"it asks for {_asked(_Name(module, name))}, which is no tensor")
    stack.append(_Name(module, name))


def _asked(name: _Name) -> str:
    return name_shown(f"{name.module}.{name.name}")


def _global(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    module, _, name = str(argument).partition(" ")
    _named(stack, module, name)


def _stack_global(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    name, module = stack.pop(), stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise _NotTensors("its pickle names something by no name")
    _named(stack, module, name)


def _persistent(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    """Put there a storage: ("storage", its kind, its key, a device, how many values)."""
    what, kind, key, _, count = stack.pop()
    if what != "storage" or not isinstance(kind, _Name) or kind.name not in _DTYPES:
        raise _NotTensors("its pickle points to something that is no storage")
    if not isinstance(key, str) or not key.isalnum() or type(count) is not int or not 0 <= count < 1 << 48:
        raise _NotTensors("a storage in it has no key or no size")
    stack.append(_Storage(kind.name, key, count))


def _build(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    """State of an object: of a state dict, its `_metadata`, which is left out."""
    stack.pop()
    if type(stack[-1]) is not dict:
        raise _NotTensors("its pickle builds an object")


def _tuple(count: int) -> Callable[..., None]:
    def step(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
        stack.append(tuple([stack.pop() for _ in range(count)][::-1]))

    return step


def _push(make: Callable[[Any], Any]) -> Callable[..., None]:
    return lambda stack, memo, argument: stack.append(make(argument))


def _keep(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    memo[len(memo) if argument is None else argument] = stack[-1]


_STEPS: Final[dict[str, Callable[[list[Any], dict[int, Any], Any], None]]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda stack, memo, argument: None),
    **dict.fromkeys(
        ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        _push(lambda argument: argument),
    ),
    "NONE": _push(lambda _: None),
    "NEWTRUE": _push(lambda _: True),
    "NEWFALSE": _push(lambda _: False),
    "MARK": _push(lambda _: _MARK),
    "EMPTY_DICT": _push(lambda _: {}),
    "EMPTY_LIST": _push(lambda _: []),
    "EMPTY_TUPLE": _push(lambda _: ()),
    "TUPLE": lambda stack, memo, argument: stack.append(tuple(_above_mark(stack))),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _keep),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda stack, memo, argument: stack.append(memo[argument])),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "BINPERSID": _persistent,
    "REDUCE": lambda stack, memo, argument: _call(stack),
    "SETITEM": lambda stack, memo, argument: _set_items(stack, [stack.pop(), stack.pop()][::-1]),
    "SETITEMS": lambda stack, memo, argument: _set_items(stack, _above_mark(stack)),
    "APPEND": lambda stack, memo, argument: _append(stack, [stack.pop()]),
    "APPENDS": lambda stack, memo, argument: _append(stack, _above_mark(stack)),
    "BUILD": _build,
}
"""Instruction -> what it does with the stack and the memo."""
