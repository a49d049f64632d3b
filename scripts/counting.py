"""What one window multiplies and moves, stage by stage, by counting: what a device that nobody has tried can reach.

Products are counted as multiplications and additions. Bytes are what has to cross a device's memory if every operation
of the plain MLX path reads its inputs and weights once and writes its result once: caches spare some of it, spills and
copies add to it. Activations are counted twice, by the fused kernel and by plain operations.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

PLAIN_PASSES = 159
"""Reads and writes of an activation's sound in plain operations, all in float32."""
NORM_PASSES, SILU_PASSES = 11, 5
"""Reads and writes of what a group norm takes: two copies, the norm's own, scale and shift; SiLU: two operations."""
BIAS_PASSES, SUM_PASSES = 2, 3
"""Of a convolution's result: its bias, and the sum at a residual block's end."""
MACS = {
    "M1": (68, 2.6),
    "M1 Pro": (200, 5.2),
    "M1 Max": (400, 10.4),
    "M2": (100, 3.6),
    "M2 Pro": (200, 6.8),
    "M2 Max": (400, 13.6),
    "M2 Ultra": (800, 27.2),
    "M4 Max": (546, 18.0),
}
"""GB/s by Apple's data sheets, the largest of each; TFLOP/s: GPU cores x 128 lanes x 2 x clock in both types."""


@dataclasses.dataclass
class Count:
    """Of one stage: floating-point operations, values moved, values that activations take in, and weights."""

    flops: float = 0.0
    values: float = 0.0
    activated: float = 0.0
    weights: float = 0.0

    def gigabytes(self, value_bytes: int, *, fused: bool = True) -> float:
        """GB moved where a value has so many bytes; plain activations take four for each whatever the rest does."""
        activations = self.activated * (2 * value_bytes if fused else PLAIN_PASSES * 4)
        return ((self.values + self.weights) * value_bytes + activations) / 1e9

    def seconds(self, bandwidth_gb: float, tflops: float, value_bytes: int, *, fused: bool = True) -> float:
        """Return the least time: the longer of what multiplying and moving take, if each is done at the peak."""
        return max(self.flops / (tflops * 1e12), self.gigabytes(value_bytes, fused=fused) / bandwidth_gb)


def count(networks: Any, config: Any) -> dict[str, Count]:
    """Counts of encode, unet, decode and vocoder for one window; nothing is computed."""
    import mlx.core as mx

    networks.train()  # in which every layer is plain operations, and MLX computes none before it is asked
    frames, bands = config.audio.frame_samples // config.mel.hop, config.mel.n_mels
    sound, mel = mx.zeros((1, config.audio.frame_samples)), mx.zeros((1, frames, bands))
    z, t = mx.zeros((1, *config.noise_shape)), mx.zeros((1,))
    runs: dict[str, Callable[[], Any]] = {
        "encode": lambda: networks.vae.encode(mel),
        "unet": lambda: networks.ldm(z, z, t),
        "decode": lambda: networks.vae.decode(z),
        "vocoder": lambda: networks.voc(mel, sound),
    }
    found = {}
    for name, run in runs.items():
        with _counting() as stage:
            run()
        found[name] = stage
    return found


@contextlib.contextmanager
def _counting() -> Iterator[Count]:
    """Add up what layers do, in the place of each layer's own call."""
    from batchsr.models.compute import layers
    from batchsr.models.compute.activation import Activation

    stage = Count()

    def product(layer: Any, x: Any, y: Any) -> None:
        weight = layer.weight.size
        stage.flops += 2 * (y.size / y.shape[-1]) * weight
        stage.values += x.size + y.size
        stage.weights += weight

    def convolution(layer: Any, x: Any, y: Any) -> None:
        product(layer, x, y)
        stage.values += BIAS_PASSES * y.size

    def residual(layer: Any, x: Any, y: Any) -> None:
        convolution(layer, x, y)
        stage.values += SUM_PASSES * y.size

    def transposed(layer: Any, x: Any, y: Any) -> None:
        out, kernel, _ = layer.weight.shape
        inputs = -(-kernel // layer.rate)
        stage.flops += 2 * x.size * inputs * layer.rate * out
        stage.values += x.size * (1 + 2 * inputs) + (1 + BIAS_PASSES) * y.size
        stage.weights += layer.weight.size

    def norm(layer: Any, x: Any, y: Any) -> None:
        stage.values += (NORM_PASSES + (SILU_PASSES if layer.silu else 0)) * x.size

    def activation(layer: Any, x: Any, y: Any) -> None:
        stage.activated += x.size

    def attention(layer: Any, x: Any, y: Any) -> None:
        length = math.prod(x.shape[:-1])
        stage.flops += 4 * length * x.size
        stage.values += 4 * x.size

    with contextlib.ExitStack() as stack:
        for kind, method, add in (
            (layers.Conv1d, "__call__", convolution),
            (layers.Conv2d, "__call__", convolution),
            (layers.Conv1d, "plus", residual),
            (layers.Conv2d, "plus", residual),
            (layers.Linear, "__call__", product),
            (layers.ConvTranspose1d, "__call__", transposed),
            (layers.GroupNorm, "__call__", norm),
            (layers.Attention, "__call__", attention),
            (Activation, "__call__", activation),
        ):
            stack.enter_context(_counted(kind, method, add))
        yield stage


@contextlib.contextmanager
def _counted(kind: type, method: str, add: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Each outermost call of a method is told to `add`: the layer, its input, its result."""
    was = kind.__dict__.get(method)
    plain = getattr(kind, method)

    def told(layer: Any, x: Any, *rest: Any) -> Any:
        inside = getattr(layer, "_inside", False)
        layer._inside = True
        try:
            y = plain(layer, x, *rest)
        finally:
            layer._inside = inside
        if not inside:
            add(layer, x, y)
        return y

    setattr(kind, method, told)
    try:
        yield
    finally:
        if was is None:
            delattr(kind, method)
        else:
            setattr(kind, method, was)


def print_counts(networks: Any, config: Any) -> None:
    """A line for each stage, and one for each Mac."""
    found = count(networks, config)
    total = Count()
    for stage in found.values():
        for field in dataclasses.fields(Count):
            setattr(total, field.name, getattr(total, field.name) + getattr(stage, field.name))
    print(f"{'one window':12s} {'TFLOP':>7s}   GB in float32, float16, and float32 with plain activations")
    for name, stage in [*found.items(), ("together", total)]:
        moved = (stage.gigabytes(4), stage.gigabytes(2), stage.gigabytes(4, fused=False))
        print(f"{name:12s} {stage.flops / 1e12:7.2f}   " + "  ".join(f"{value:8.2f}" for value in moved))
    kernel, plain = total.activated * 8 / 1e9, total.activated * 4 * PLAIN_PASSES / 1e9
    print(f"activations, float32: {kernel:.1f} GB by the kernel, {plain:.0f} GB by plain operations\n")
    seconds = config.audio.frame_samples / config.audio.sample_rate
    print(f"{'at best':12s} {'GB/s':>5s} {'TFLOP/s':>8s}   s a window (RTF): float16, float32, plain activations")
    for name, (bandwidth, tflops) in MACS.items():
        ways = ((2, True), (4, True), (4, False))
        times = [sum(s.seconds(bandwidth, tflops, size, fused=fused) for s in found.values()) for size, fused in ways]
        print(
            f"{name:12s} {bandwidth:5d} {tflops:8.1f}   "
            + "  ".join(f"{time:6.2f} ({time / seconds:.2f})" for time in times)
        )
