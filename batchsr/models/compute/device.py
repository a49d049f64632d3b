"""The device that MLX computes on: which kind it is, its name, its driver, its memory."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from batchsr.errors import ModelUnavailable


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """What a result's bytes and rightness depend on beside the program."""

    kind: str
    """cpu, cuda or metal."""
    name: str
    """As the maker calls it, and which of several it is."""
    driver: str
    """Version of what stands between MLX and the device."""


def describe(kind: str) -> Device:
    """Return the facts of the device of a kind; MLX must have been imported."""
    if kind == "cpu":
        return Device("cpu", processor(), _versions("numpy", "numba", "scipy"))
    import mlx.core as mx

    info: dict[str, Any] = mx.device_info()
    name = " ".join(str(info[part]) for part in ("device_name", "uuid") if part in info)
    return Device(kind, name or "unknown", f"macOS {platform.mac_ver()[0]}" if kind == "metal" else _nvidia_driver())


def gpu_kind() -> str | None:
    """Return metal or cuda, whichever MLX says it has, or None."""
    import mlx.core as mx

    if mx.metal.is_available():
        return "metal"
    cuda = getattr(mx, "cuda", None)  # older MLX has none
    return "cuda" if cuda is not None and cuda.is_available() else None


def choose(kind: str, gpu: str | None) -> None:
    """Make cpu, cuda or metal MLX's default device; `gpu` is the kind of GPU that MLX is for, if any.

    Raises ModelUnavailable if it is not in reach. On macOS MLX takes all memory from Metal, the CPU's too, and says
    that it has Metal even where no device can be opened: in a virtual machine, in some remote shells.
    """
    import mlx.core as mx

    try:
        mx.set_default_device(mx.cpu if kind == "cpu" else mx.gpu)
        if gpu is not None:
            mx.device_info()
            mx.eval(mx.zeros((1,)) + 1)
    except (RuntimeError, ValueError) as e:
        first = (str(e).splitlines() or [type(e).__name__])[0][:200]
        if gpu == "metal":
            said = (
                f"MLX reaches no Metal device, and computes nothing without one on macOS, not even on the CPU: {first}"
            )
            remedy = (
                "run it where the Mac's GPU can be used: logged in at the Mac, outside virtual machines and sandboxes"
            )
        else:
            said = f"MLX reaches no CUDA device: {first}"
            remedy = "check nvidia-smi and the driver, or hide the GPU: CUDA_VISIBLE_DEVICES= batchsr ..."
        raise ModelUnavailable(said, remedy=remedy) from e


def nvidia_nodes() -> int:
    """Return how many NVIDIA GPUs the system shows, without MLX; whether MLX is for them is another matter."""
    return sum(path.name.removeprefix("nvidia").isdigit() for path in Path("/dev").glob("nvidia*"))


def worker_environments() -> list[dict[str, str]]:
    """Return for each GPU that this process may use the variables of a worker that is to have it alone.

    Empty where MLX has none. MLX must have been imported.
    """
    import mlx.core as mx

    kind = gpu_kind()
    if kind != "cuda":
        return [] if kind is None else [{}]
    count = int(mx.device_count(mx.gpu))
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in given.split(",")] if given else [str(n) for n in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names[:count]]


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _nvidia_driver() -> str:
    """Return the version of the kernel's driver, or unknown where it does not say (as under WSL)."""
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        pass
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
        return next(word for word in words if word[0].isdigit() and "." in word)
    except (OSError, StopIteration):
        return "unknown"


def _versions(*packages: str) -> str:
    found = []
    for name in packages:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join((*found, f"Python {sys.version_info.major}.{sys.version_info.minor}"))
