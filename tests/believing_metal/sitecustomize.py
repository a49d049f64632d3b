"""Python imports this at its start where PYTHONPATH names this folder: MLX then says that it has a Mac's GPU.

What MLX computes is computed by this processor, and our kernels for Metal are compiled as C++ (metal_on_cpu.py). So
every branch of ours for Metal runs, in processes of its own; Metal itself is not proven. BELIEVED_GB is the Mac's
memory; BELIEVED_LOG a file that is told, a line of JSON each, what MLX is asked to keep below; BELIEVED_FAULT is
`kernels` where none compiles, `device` where no GPU is in reach.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "model"))
import metal_on_cpu

WORKING_SETS = {"8": 5_726_633_984, "16": 12_713_115_648, "64": 51_539_607_552}
"""What Macs with so many GB report (MTLDevice.recommendedMaxWorkingSetSize)."""
GIGABYTES = os.environ.get("BELIEVED_GB", "16")
FAULT = os.environ.get("BELIEVED_FAULT", "")
INFO = {
    "device_name": "Apple M1",
    "architecture": "applegpu_g13g",
    "memory_size": int(GIGABYTES) << 30,
    "max_recommended_working_set_size": WORKING_SETS[GIGABYTES],
    "max_buffer_length": WORKING_SETS[GIGABYTES] * 3 // 4,
    "resource_limit": 499_000,
}


class Gpu:
    """The default device, as far as it is asked."""

    type = mx.DeviceType.gpu


chosen = [True]
real_device = mx.default_device


def default_device() -> Any:
    return Gpu if chosen[0] else real_device()


def set_default_device(device: Any) -> None:
    chosen[0] = device == mx.gpu


def device_info(*_: Any) -> dict[str, Any]:
    if FAULT == "device":
        raise RuntimeError("[metal::load_device] No Metal device available.")
    return dict(INFO)


def metal_kernel(**given: Any) -> Any:
    if FAULT == "kernels":
        raise RuntimeError("[metal::Device] Unable to build metal library from source\nprogram_source:3: error: no")
    return metal_on_cpu.metal_kernel(**given)


def told(name: str) -> Any:
    """MLX's setter of a limit, which is written down and, as here no GPU has it, not passed on."""

    def setter(value: int) -> int:
        if (log := os.environ.get("BELIEVED_LOG")) is not None:
            with open(log, "a") as file:
                file.write(json.dumps({name: value, "active": mx.get_active_memory()}) + "\n")
        return 0

    return setter


mx.metal.is_available = lambda: True
mx.default_device = default_device
mx.set_default_device = set_default_device
mx.device_info = device_info
mx.fast.metal_kernel = metal_kernel
mx.set_memory_limit = told("memory_limit")
mx.set_cache_limit = told("cache_limit")
