"""What the model computes on, and in which precision.

Everything that needs MLX asks `prepare()` first: it must see the process before MLX does, because on Linux MLX's
matrix products come from whichever BLAS the process already holds.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from batchsr.errors import ConfigError

if TYPE_CHECKING:
    import mlx.core as mx

DTYPES = ("float32", "float16", "bfloat16")
DTYPE_VARIABLE = "BATCHSR_DTYPE"
DEVICES = ("cpu", "gpu")


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """`device`: cpu, cuda or metal. `dtype`: what the networks compute in. `batch_windows`: rows of a pass."""

    device: str
    dtype: str
    batch_windows: int
    blas: str
    mlx_version: str

    def mlx_dtype(self) -> mx.Dtype:
        """`dtype` as MLX's own."""
        import mlx.core as mx

        return {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}[self.dtype]


def prepare(dtype: str | None = None, device: str | None = None) -> Backend:
    """Choose device and precision, and set MLX up for them.

    `dtype` is one of DTYPES, else the variable BATCHSR_DTYPE, else the device's own choice; `device` is cpu, gpu, or
    None for the best there is. Raises ConfigError naming what is wrong.
    """
    import mlx.core as mx

    dtype = dtype or os.environ.get(DTYPE_VARIABLE) or None
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype = {dtype!r} is unknown", remedy="known: " + ", ".join(DTYPES))
    if device is not None and device not in DEVICES:
        raise ConfigError(f"device = {device!r} is unknown", remedy="known: " + ", ".join(DEVICES))
    metal, cuda = mx.metal.is_available(), bool(getattr(mx, "cuda", None)) and mx.cuda.is_available()
    if device == "gpu" and not (metal or cuda):
        raise ConfigError("device = 'gpu', but MLX finds none here")
    if device == "cpu" or not (metal or cuda):
        mx.set_default_device(mx.cpu)
        return Backend("cpu", dtype or "float32", 1, "", mx.__version__)
    mx.set_default_device(mx.gpu)
    return Backend("metal" if metal else "cuda", dtype or "float32", 1 if metal else 8, "", mx.__version__)
