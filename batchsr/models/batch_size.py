"""How many rows one pass through the networks has: as many as fit into the device's memory.

The rows of a pass share every matrix product, so on CUDA sixteen rows take four times as long as one; but each takes
memory, of which the networks know how much (`Networks.row_bytes`). The largest of 16, 8, 4, 2 and 1 rows that fits into
what is free is taken, and MLX is told to keep below that; no other size is computed, so none is compiled. Should it be
too much all the same, passes are halved, and remembered for this model on this device: to run out of memory costs the
windows of the files in flight. The memory is a file in the user's cache; without it the program works as well.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import platformdirs

from batchsr.errors import ModelMemory
from batchsr.models import checksums

if TYPE_CHECKING:
    from batchsr.models.identity import ModelIdentity

SHARE: Final = 0.8
"""Share of the free memory that passes may take: kernels' own workspaces and other programs need some."""
_SAYINGS: Final = (
    "unable to allocate",
    "out of memory",
    "insufficient memory",
    "maximum allowed buffer size",
    "resource limit",
)
"""How MLX says that there is no memory: its allocator, CUDA and Metal."""
_APART: Final = "apart.json"


def fitting(most: int, identity: ModelIdentity, row_bytes: int) -> int:
    """Return `most`, or half of it, and so on, as far as passes are remembered or memory is free to be larger.

    `row_bytes` is what a row takes beside the weights. MLX is told to keep below what the passes take.
    """
    rows, remembered = most, _remembered().get(_key(identity), most)
    while rows > remembered:
        rows //= 2  # a size between these was never remembered by us, and is not computed
    free = free_bytes()
    if free is not None:
        import mlx.core as mx

        usable = int(SHARE * free)
        while rows > 1 and rows * row_bytes > usable:
            rows //= 2
        mx.set_memory_limit(mx.get_active_memory() + max(0, min(rows * row_bytes, usable)))
    return rows


def refit(rows: int, row_bytes: int) -> None:
    """After passes became smaller: give back what is kept of larger ones, and tell MLX to keep below the smaller."""
    import mlx.core as mx

    mx.clear_cache()
    free = free_bytes()
    if free is not None:
        mx.set_memory_limit(mx.get_active_memory() + max(0, min(rows * row_bytes, int(SHARE * free))))


def free_bytes() -> int | None:
    """Return what the default device has free for arrays, MLX's own cache included; None where it does not say."""
    import mlx.core as mx

    info: dict[str, Any] = mx.device_info()
    if "free_memory" in info:  # CUDA
        return int(info["free_memory"] + mx.get_cache_memory())
    if "max_recommended_working_set_size" in info:  # Metal
        return int(info["max_recommended_working_set_size"] - mx.get_active_memory())
    return None


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn MLX's way of saying that there is no memory into ModelMemory, and give back what it had kept."""
    try:
        yield
    except (RuntimeError, MemoryError) as e:
        said = str(e).lower()
        if not isinstance(e, MemoryError) and not any(saying in said for saying in _SAYINGS):
            raise
        import mlx.core as mx

        traceback.clear_frames(e.__traceback__)  # whose variables are the arrays that take the memory
        mx.clear_cache()
        raise ModelMemory(
            "the device has too little memory for a pass", remedy="end what else uses it, or take a smaller model"
        ) from e


def remember(rows: int, identity: ModelIdentity) -> None:
    """From now on `fitting` gives no more for this model on this device."""
    checksums.write_json(_path(), _remembered() | {_key(identity): rows})


def apart(identity: ModelIdentity, rows: int) -> list[str]:
    """Return the layers of this model that passes of so many rows were found to need apart on this device."""
    names = checksums.read_json(_path(_APART)).get(f"{_key(identity)} {rows}")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def remember_apart(names: list[str], identity: ModelIdentity, rows: int) -> None:
    """From now on `apart` gives these; without the memory they are found again in every process."""
    path = _path(_APART)
    checksums.write_json(path, checksums.read_json(path) | {f"{_key(identity)} {rows}": names})


def _remembered() -> dict[str, int]:
    return {key: rows for key, rows in checksums.read_json(_path()).items() if type(rows) is int and rows >= 1}


def _key(identity: ModelIdentity) -> str:
    return " ".join((identity.device, identity.dtype, identity.weights_sha256, identity.mlx_version))


def _path(name: str = "passes.json") -> Path:
    return platformdirs.user_cache_path("batchsr") / name
