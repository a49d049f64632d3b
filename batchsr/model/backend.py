"""What the model computes on, and in which precision.

Everything that needs MLX asks `prepare()` first: it must see the process before MLX does, because on Linux MLX's
matrix products come from whichever BLAS the process already holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import importlib.metadata
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchsr.errors import ConfigError, ModelUnavailable
from batchsr.model import blas

if TYPE_CHECKING:
    import mlx.core as mx

DTYPES = ("float32", "float16", "bfloat16")
DTYPE_VARIABLE = "BATCHSR_DTYPE"
DEVICES = ("cpu", "gpu")
CPU_BATCH = 1
"""A second row would take as long as the first."""
CPU_WORKING_BYTES = 400_000_000
"""Beyond it, MLX waits for an operation to end before it begins another."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
GPU_BATCH = {"metal": 1, "cuda": 8}
GPU_DTYPES = {"metal": "float32", "cuda": "float32"}
"""float16 works and is 1.6 times as fast on an H100, but only weights that were tried should be trusted with it."""
METAL_CACHE_BYTES = 4 << 30
"""Freed memory that MLX may keep for its next allocation."""


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """What `prepare` chose."""

    device: str
    """cpu, cuda or metal."""
    dtype: str
    """What the networks compute in, one of DTYPES."""
    batch_windows: int
    """Rows of one pass at most (batchsr.model.passes)."""
    blas: str
    """Library of the matrix products on the CPU; empty where that is MLX's own affair."""
    mlx_version: str

    @property
    def label(self) -> str:
        """Device and library: on one machine, the same label, weights and precision give the same bytes."""
        return f"{self.device} ({self.blas})" if self.blas else self.device

    def mlx_dtype(self) -> mx.Dtype:
        """`dtype` as MLX's own."""
        import mlx.core as mx

        return {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}[self.dtype]


def prepare(dtype: str | None = None, device: str | None = None) -> Backend:
    """Choose device and precision, and set MLX up for them. May be called again.

    `dtype` is one of DTYPES, else the variable BATCHSR_DTYPE, else the device's own choice; `device` is cpu, gpu, or
    None for the best there is. Raises ConfigError naming what is wrong, ModelUnavailable without a working MLX.
    """
    dtype = dtype or os.environ.get(DTYPE_VARIABLE) or None
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype = {dtype!r} is unknown", remedy="known: " + ", ".join(DTYPES))
    if device is not None and device not in DEVICES:
        raise ConfigError(f"device = {device!r} is unknown", remedy="known: " + ", ".join(DEVICES))
    library = _import_mlx()
    import mlx.core as mx

    kind = _gpu()
    if device == "gpu" and kind is None:
        raise ConfigError("device = 'gpu', but MLX finds none here")
    version = importlib.metadata.version("mlx")
    if device == "cpu" or kind is None:
        mx.set_default_device(mx.cpu)
        return Backend("cpu", dtype or "float32", CPU_BATCH, library, version)
    mx.set_default_device(mx.gpu)
    if kind == "metal":  # which shares its memory with everything else; on CUDA a limit of 4 GiB seemed to cost speed
        mx.set_cache_limit(METAL_CACHE_BYTES)
    return Backend(kind, dtype or GPU_DTYPES[kind], GPU_BATCH[kind], "", version)


def doctor() -> dict[str, Any]:
    """What this machine offers the model: `backend, dtype, blas, blas_candidates, gflops, mlx`. Takes a second."""
    chosen = prepare()
    return {
        "mlx": chosen.mlx_version,
        "backend": chosen.device,
        "dtype": chosen.dtype,
        "batch_windows": chosen.batch_windows,
        "blas": chosen.blas or "MLX's own",
        "blas_candidates": [candidate.name for candidate in blas.candidates()],
        "gflops": round(_gflops()),
    }


@functools.cache
def _import_mlx() -> str:
    """Import MLX behind the best BLAS that is installed; the library's name, empty if it is MLX's own."""
    candidate = blas.wanted()
    late = "mlx.core" in sys.modules  # then the loader has made its choice
    library = blas.preload(candidate) if candidate else None
    try:
        import mlx.core as mx
    except ImportError as e:
        remedy = "install it for this platform: pip install 'mlx[cpu]'"
        raise ModelUnavailable(f"MLX cannot be loaded: {e}", remedy=remedy) from e
    if candidate is None or library is None:
        return ""
    if (candidate.prefixed or late) and not blas.redirect(
        candidate, library, Path(mx.__file__).parent / "lib" / "libmlx.so"
    ):
        return ""
    return candidate.name


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Around the loading of weights: what is freed in it goes back to the system, what is freed after it is kept.

    glibc returns large arrays to the system one by one, and every page of a fresh one costs a fault, which is three
    times the work of adding two numbers in it. So while the model computes, memory is handed out again instead.

    MLX on the CPU reserves the results of ten operations ahead; it is held to CPU_WORKING_BYTES beside the weights.
    """
    import mlx.core as mx

    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    glibc = libc is not None and hasattr(libc, "mallopt")
    if libc is not None and glibc:
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 16)
    try:
        yield
    finally:
        if libc is not None and glibc:
            libc.malloc_trim(0)
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        if mx.default_device().type == mx.DeviceType.cpu:
            mx.set_memory_limit(mx.get_active_memory() + CPU_WORKING_BYTES)


def _gpu() -> str | None:
    import mlx.core as mx

    if mx.metal.is_available():
        return "metal"
    cuda = getattr(mx, "cuda", None)  # older MLX has none
    return "cuda" if cuda is not None and cuda.is_available() else None


def _gflops(size: int = 1024) -> float:
    """Speed of a matrix product on the default device, the best of three."""
    import mlx.core as mx

    a = mx.random.normal((size, size))
    mx.eval(a @ a)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        mx.eval(a @ a)
        times.append(time.perf_counter() - start)
    return float(2e-9 * size**3 / min(times))
