"""Anti-aliased SnakeBeta: upsample by two, x + sin(a x)^2 / b, downsample by two; 12-tap Kaiser-sinc both ways.

Most of the vocoder's time goes here, so each backend has its own way to the same numbers:

    fused       one kernel on CUDA and Metal, with its own gradient (batchsr.model.kernels)
    cpu         vectorised loops on every core (batchsr.model.cpu)
    polyphase   plain MLX operations; the reference, and what is left where the kernel cannot be used

With f the filter, x clamped at its ends (replicate padding) and s the signal at twice the rate:

    u[2m]     = 2 sum_q f[2q + 1] x[m + 2 - q]
    u[2m + 1] = 2 sum_q f[2q]     x[m + 3 - q]          q = 0..5
    s         = u + sin(exp(alpha) u)^2 / (exp(beta) + 1e-9)
    y[m]      = sum_k f[k] s[clamp(2m + k - 5)]         k = 0..11

Source: BigVGAN's alias-free activation as in jakeoneijk/FlashSR_Inference, commit 2292814.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import mlx.core as mx
import numpy as np
from mlx import nn

from batchsr.model import kernels
from batchsr.model.layers import by_cpu

TAPS = 12
log = logging.getLogger(__name__)

Path = Callable[[mx.array, mx.array, mx.array, mx.array, mx.array], mx.array]
"""(x (B, T, C), up (12,), down (12,), frequency (C,), gain (C,)) -> (B, T, C)."""


def kaiser_sinc() -> np.ndarray:
    """The twelve taps: cutoff 0.25, half width 0.3 (both of the doubled rate), as float64; they sum to one."""
    delta_f = 4 * 0.3
    attenuation = 2.285 * (TAPS / 2 - 1) * np.pi * delta_f + 7.95
    beta = 0.1102 * (attenuation - 8.7)  # Kaiser's formula above 50 dB; these constants give 51.02 dB
    time = np.arange(-TAPS // 2, TAPS // 2) + 0.5
    taps = 2 * 0.25 * np.kaiser(TAPS, beta) * np.sinc(2 * 0.25 * time)
    return np.asarray(taps / taps.sum())


class _Filter(nn.Module):
    """Holder of `filter` (1, 1, 12), which is never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = mx.array(kaiser_sinc().astype(np.float32))[None, None]
        self.freeze(keys=["filter"])


class _Downsample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lowpass = _Filter()


class _SnakeBeta(nn.Module):
    """Holder of `alpha` and `beta` (C,), both logarithms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = mx.zeros((channels,))
        self.beta = mx.zeros((channels,))


class Activation(nn.Module):
    """x (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = _SnakeBeta(channels)
        self.upsample = _Filter()
        self.downsample = _Downsample()

    def __call__(self, x: mx.array) -> mx.array:
        up, down = self.upsample.filter.reshape(TAPS), self.downsample.lowpass.filter.reshape(TAPS)
        # In float32 whatever the networks compute in: a rounded frequency shifts the phase of every loud sample.
        alpha, beta = self.act.alpha.astype(mx.float32), self.act.beta.astype(mx.float32)
        frequency, gain = mx.exp(alpha), 1.0 / (mx.exp(beta) + 1e-9)
        if by_cpu(self, x):
            from batchsr.model import cpu

            return cpu.activation(x, up, down, frequency, gain)
        return _path(x)(x, up, down, frequency, gain)


def _path(x: mx.array) -> Path:
    if x.shape[1] % kernels.OUTPUTS or mx.default_device().type == mx.DeviceType.cpu:
        return polyphase
    return fused() or polyphase


def polyphase(x: mx.array, up: mx.array, down: mx.array, frequency: mx.array, gain: mx.array) -> mx.array:
    """The activation in plain operations. `up`, `down` (12,); `frequency`, `gain` (C,)."""
    B, T, C = x.shape
    x, dtype = x.astype(mx.float32), x.dtype
    up, down = up.astype(mx.float32), down.astype(mx.float32)
    padded = mx.pad(x, [(0, 0), (3, 3), (0, 0)], mode="edge")
    even = sum(up[2 * q + 1] * padded[:, 5 - q : 5 - q + T] for q in range(6))
    odd = sum(up[2 * q] * padded[:, 6 - q : 6 - q + T] for q in range(6))
    u = 2.0 * mx.stack([even, odd], axis=2).reshape(B, 2 * T, C)
    s = u + gain * mx.square(mx.sin(frequency * u))
    padded = mx.pad(s, [(0, 0), (5, 7), (0, 0)], mode="edge").reshape(B, T + 6, 2, C)
    y = sum(down[2 * k] * padded[:, k : k + T, 0] + down[2 * k + 1] * padded[:, k : k + T, 1] for k in range(6))
    return y.astype(dtype)


@functools.cache
def fused() -> Path | None:
    """The kernel for MLX's GPU, or None where there is none or it does not compute what `polyphase` does."""
    if mx.metal.is_available():
        make, header, thread = mx.fast.metal_kernel, kernels.METAL_HEADER, kernels.METAL_THREAD
    elif mx.cuda.is_available():
        make, header, thread = mx.fast.cuda_kernel, kernels.CUDA_HEADER, kernels.CUDA_THREAD
    else:
        return None
    try:
        path = _fused(make, header, thread)
        worst = self_test(path)
    except (RuntimeError, ValueError) as e:
        log.warning("the fused activation cannot be used here, so the slower plain one is: %s", e)
        return None
    if not worst < SELF_TEST_TOLERANCE:
        log.warning("the fused activation is wrong here by %.1e, so the slower plain one is used", worst)
        return None
    return path


SELF_TEST_TOLERANCE = 1e-4
"""Of norms; the two agree to 2e-7 where the arithmetic is float32."""


def self_test(path: Path) -> float:
    """Largest relative distance (of norms) of a path and its gradients to `polyphase`, on a small sound of two rows."""
    rng = np.random.default_rng(0)
    B, T, C = 2, 4 * kernels.OUTPUTS, 5
    x, weight = (mx.array(rng.standard_normal((B, T, C)).astype(np.float32)) for _ in range(2))
    frequency, gain = (mx.array(rng.uniform(0.5, 2, C).astype(np.float32)) for _ in range(2))
    taps = mx.array(kaiser_sinc().astype(np.float32))

    def everything(p: Path) -> list[mx.array]:
        ys, gradients = mx.vjp(lambda x, f, g: p(x, taps, taps, f, g), [x, frequency, gain], [weight])
        return [*ys, *gradients]

    distances = [
        (mx.linalg.norm(a.reshape(-1) - b.reshape(-1)) / mx.linalg.norm(b.reshape(-1))).item()
        for a, b in zip(everything(path), everything(polyphase), strict=True)
    ]
    return float(np.max(distances))  # NaN stays NaN


def _fused(make: Callable[..., Callable[..., list[mx.array]]], header: str, thread: str) -> Path:
    """The two kernels as one differentiable function."""
    names = ["up", "down", "frequency", "gain", "sizes"]
    forward = make(
        name="batchsr_activation",
        input_names=["x", *names],
        output_names=["y"],
        header=header,
        source=thread + kernels.FORWARD,
    )
    backward = make(
        name="batchsr_activation_gradient",
        input_names=["x", "dy", *names],
        output_names=["dx", "dgain", "dfrequency"],
        header=header,
        source=thread + kernels.BACKWARD,
    )

    def run(kernel: Callable[..., list[mx.array]], inputs: list[mx.array], partials: int) -> list[mx.array]:
        x = inputs[0]
        B, T, C = x.shape
        threads = B * (T // kernels.OUTPUTS) * C
        partial = (B, T // kernels.OUTPUTS, C)
        return kernel(
            inputs=[*inputs, mx.array([T, C, threads], mx.int32)],
            template=[("T", x.dtype), ("N", kernels.OUTPUTS)],
            grid=(threads, 1, 1),
            threadgroup=(min(kernels.THREADS, threads), 1, 1),
            output_shapes=[x.shape, *[partial] * partials],
            output_dtypes=[x.dtype, *[mx.float32] * partials],
        )

    @mx.custom_function
    def path(x: mx.array, up: mx.array, down: mx.array, frequency: mx.array, gain: mx.array) -> mx.array:
        (y,) = run(forward, [x, up.astype(mx.float32), down.astype(mx.float32), frequency, gain], 0)
        return y

    @path.vjp
    def gradient(primals: tuple[mx.array, ...], dy: mx.array, _: mx.array) -> tuple[mx.array, ...]:
        x, up, down, frequency, gain = primals
        inputs = [x, dy.astype(x.dtype), up.astype(mx.float32), down.astype(mx.float32), frequency, gain]
        dx, dgain, dfrequency = run(backward, inputs, 2)
        # The filters are constants of the architecture and are never trained.
        # Summed in two steps: over one long axis alone, CUDA would leave most of the chip idle.
        dfrequency, dgain = dfrequency.sum(axis=1).sum(axis=0), dgain.sum(axis=1).sum(axis=0)
        return dx, mx.zeros_like(up), mx.zeros_like(down), dfrequency, dgain

    function: Path = path
    return function
