"""What the model computes on, and in which precision.

Everything that needs MLX asks `prepare()` first. On a GPU MLX computes everything; on the CPU
batchsr.models.compute.cpu does, with loops compiled by numba and with SciPy's BLAS.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import platformdirs

from batchsr import machine
from batchsr.audio import blas
from batchsr.errors import ConfigError, ModelUnavailable
from batchsr.models.compute import device as devices

if TYPE_CHECKING:
    import mlx.core as mx

DTYPES = ("float32", "float16", "bfloat16")
DTYPE_VARIABLE = "BATCHSR_DTYPE"
DEVICES = ("cpu", "gpu")
CPU_BATCH = 1
"""A second row would take as long as the first."""
CPU_ENGINE = "numba"
GPU_BATCH = {"metal": 1, "cuda": 16}
GPU_DTYPES = {"metal": "float16", "cuda": "float16"}
"""What half precision costs is measured in tests/model/test_half.py. On Metal it is the difference between running and
swapping on a Mac of 8 GB: with weights 2.1 GB instead of 4.2 at the published size."""
MLX_SETTINGS = {
    "MLX_ENABLE_TF32": "0",
    "MLX_USE_CUDA_GRAPHS": "0",
    "MLX_CONV_WINOGRAD_WORKING_SET": "1",
} | ({} if sys.platform == "darwin" else {"MLX_MAX_OPS_PER_BUFFER": "8"})
"""Unless the environment says otherwise. TF32 rounds what float32 multiplies to 10 bits, as float16 does, and is heard
where a sound has nothing (see Vocoder.keep_precise). Graphs of a pass that is never the same twice cost more than they
spare, and MLX gives up when it has made too many. Winograd's convolutions, which Metal takes for large planes, keep
their steps in half precision, at 37 times the error of a convolution; with a working set of a byte it takes others.
CUDA gives memory back when so many kernels have run; by default, without graphs, a hundred."""
METAL_CACHE_BYTES = 4 << 30
METAL_CACHE_SHARE = 8
"""Freed memory that MLX may keep for its next allocation: so many bytes, or a part of the working set."""
OLDEST_MLX = (0, 32, 3)
"""Older ones compute some convolutions wrongly without a word, and end the process when a Mac's memory runs out."""
_INSTALL_MLX = "pip install 'mlx>=0.32.3'" if sys.platform == "darwin" else "pip install 'mlx[cpu]>=0.32.3'"


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """What `prepare` chose."""

    device: str
    """cpu, cuda or metal."""
    dtype: str
    """What the networks compute in, one of DTYPES."""
    batch_windows: int
    """Rows of one pass at most (batchsr.models.batch_size)."""
    engine: str
    """What computes on the CPU; empty where MLX does."""
    mlx_version: str

    @property
    def warms_up(self) -> bool:
        """Whether a first pass pays that takes seconds longer; on Metal it would be a whole window's time lost."""
        return self.device == "cuda"

    @property
    def label(self) -> str:
        """Device and engine: on one machine, the same label, weights and precision give the same bytes."""
        return f"{self.device} ({self.engine})" if self.engine else self.device

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
    _import_mlx()
    version = importlib.metadata.version("mlx")
    kind = devices.gpu_kind()
    if device == "gpu" and kind is None:
        raise ConfigError("device = 'gpu', but MLX finds none here", remedy="leave it out, or ask `batchsr doctor`")
    if device == "cpu" or kind is None:
        devices.choose("cpu", kind)
        _import_cpu()
        return Backend("cpu", dtype or "float32", CPU_BATCH, CPU_ENGINE, version)
    devices.choose(kind, kind)
    if kind == "metal":  # which shares its memory with everything else; on CUDA the memory limit holds it (batch_size)
        _limit_cache()
    return Backend(kind, dtype or GPU_DTYPES[kind], GPU_BATCH[kind], "", version)


def _limit_cache() -> None:
    import mlx.core as mx

    working_set: Any = mx.device_info().get("max_recommended_working_set_size", METAL_CACHE_SHARE * METAL_CACHE_BYTES)
    mx.set_cache_limit(min(METAL_CACHE_BYTES, int(working_set) // METAL_CACHE_SHARE))


def worker_environments() -> list[dict[str, str]]:
    """Return for each GPU the variables of a worker that is to have it alone; empty without GPUs.

    Raises ModelUnavailable without a working MLX.
    """
    _import_mlx()
    return devices.worker_environments()


def doctor(dtype: str | None = None, device: str | None = None) -> dict[str, Any]:
    """Return what this machine offers the model: `mlx, backend, device, driver, dtype, batch_windows, blas, gflops`,
    and for each precision what computes in it. Takes a second, and some more the first time on a GPU.
    """
    chosen = prepare(dtype, device)
    described = devices.describe(chosen.device)
    return {
        "mlx": chosen.mlx_version,
        "backend": chosen.device,
        "device": described.name,
        "driver": described.driver,
        "dtype": chosen.dtype,
        "batch_windows": chosen.batch_windows,
        "blas": _blas() if chosen.engine else "MLX's own",
        "gflops": round(_gflops()),
        "kernels": {name: _kernels(chosen, name) for name in DTYPES},
    }


def _kernels(chosen: Backend, dtype: str) -> str:
    """Return what computes in a precision, and why if it is plain operations."""
    from batchsr.models.compute import activation, cuda

    if chosen.engine:
        reason = "the loops compute in float32 alone"
        return f"loops compiled by {chosen.engine}" if dtype == "float32" else f"plain operations ({reason})"
    kind = dataclasses.replace(chosen, dtype=dtype).mlx_dtype()
    verdicts = {"activation": activation.verdict(kind, False).reason}
    if chosen.device == "cuda":
        verdicts["norm, sum and convolution"] = cuda.verdict(kind).reason
    return "; ".join(
        f"{what}: plain operations ({why})" if why else f"{what}: kernel" for what, why in verdicts.items()
    )


def _import_mlx() -> None:
    for name, value in MLX_SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        version = importlib.metadata.version("mlx")
        if "MLX_PTX_CACHE_DIR" not in os.environ:  # else a temporary folder, which is lost when the machine starts
            folder = platformdirs.user_cache_path("batchsr") / "mlx" / version
            os.environ["MLX_PTX_CACHE_DIR"] = str(folder)
        import mlx.core  # noqa: F401
    except ImportError as e:  # PackageNotFoundError is one
        raise ModelUnavailable(f"MLX cannot be loaded: {e}", remedy=_mlx_remedy()) from e
    if _numbers(version) < OLDEST_MLX:
        oldest = ".".join(map(str, OLDEST_MLX))
        raise ModelUnavailable(
            f"MLX {version} is too old: before {oldest} some convolutions are computed wrongly", remedy=_INSTALL_MLX
        )


def _mlx_remedy() -> str:
    if sys.platform == "darwin" and platform.machine() != "arm64":
        return (
            "use a Mac with Apple silicon and macOS 14 or newer (and a Python for it, not one under Rosetta), or Linux"
        )
    return f"install it for this platform: {_INSTALL_MLX}"


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (0, 32, 4) of 0.32.4.dev1."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


@functools.cache
def _import_cpu() -> None:
    """Load what computes on the CPU."""
    try:
        blas.load()
        import batchsr.models.compute.cpu  # noqa: F401
    except ImportError as e:
        remedy = "install it: pip install numba scipy threadpoolctl"
        raise ModelUnavailable(f"what computes on the CPU cannot be loaded: {e}", remedy=remedy) from e


def _blas() -> str:
    """Return the library of the matrix products on the CPU, and the processor that it takes this one for."""
    import threadpoolctl

    found = [entry for entry in threadpoolctl.threadpool_info() if entry["user_api"] == "blas"]
    names = [f"{entry['internal_api']} {entry['version']} {entry.get('architecture', '')}".strip() for entry in found]
    return ", ".join(dict.fromkeys(names)) or "unknown"


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Around the loading of weights: what is freed in it goes back to the system, what is freed after it is kept.

    glibc returns large arrays to the system one by one, and every page of a fresh one costs a fault, which is three
    times the work of adding two numbers in it. So while the model computes, memory is handed out again instead.
    """
    machine.tune(machine.MMAP_THRESHOLD, 1 << 16)
    try:
        yield
    finally:
        machine.trim()
        machine.tune(machine.MMAP_THRESHOLD, 1 << 30)
        machine.tune(machine.TRIM_THRESHOLD, (1 << 31) - 1)


def _gflops(size: int = 1024) -> float:
    """Speed of a matrix product on the default device, the best of three."""
    import mlx.core as mx

    from batchsr.models.compute.layers import Linear

    product = Linear(size, size)
    product.eval()
    x = mx.random.normal((size, size))
    mx.eval(product(x))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        mx.eval(product(x))
        times.append(time.perf_counter() - start)
    return float(2e-9 * size**3 / min(times))
