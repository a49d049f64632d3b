"""Anti-aliased SnakeBeta: upsample by two, x + sin(a x)^2 / b, downsample by two; 12-tap Kaiser-sinc both ways.

Most of the vocoder's time goes here, so each backend has its own way to the same numbers:

    fused       one kernel on CUDA and Metal, with its own gradient (batchsr.models.compute.kernels)
    cpu         vectorised loops on every core (batchsr.models.compute.cpu)
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
import math
from collections.abc import Callable

import mlx.core as mx
import numpy as np
from mlx import nn

from batchsr.models.compute import kernel_test, kernels, nvrtc, proven
from batchsr.models.compute.layers import by_cpu, on_cpu

TAPS = 12

Path = Callable[..., mx.array]
"""(x (B, T, C), up (12,), down (12,), frequency (C,), gain (C,), bias (C,)) -> (B, T, C)."""


def kaiser_sinc() -> np.ndarray:
    """Return the twelve taps: cutoff 0.25, half width 0.3 (both of the doubled rate), as float64; they sum to one."""
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
        self._constants: tuple[mx.array, ...] | None = None

    def prepack(self) -> None:
        """Compute what depends on the parameters alone; they must not change afterwards."""
        self._constants = self._from_parameters()
        mx.eval(self._constants)

    def _from_parameters(self) -> tuple[mx.array, ...]:
        """Both filters, frequency, gain, and a bias of zero.

        All but the last in float32 whatever the networks compute in: a rounded frequency shifts the phase of every
        loud sample.
        """
        parameters = self.upsample.filter, self.downsample.lowpass.filter, self.act.alpha, self.act.beta
        up, down, alpha, beta = (value.astype(mx.float32).reshape(-1) for value in parameters)
        return up, down, mx.exp(alpha), 1.0 / (mx.exp(beta) + 1e-9), mx.zeros_like(self.act.alpha)

    def __call__(self, x: mx.array, bias: mx.array | None = None) -> mx.array:
        """Return the activation of x + bias, bias (C,)."""
        up, down, frequency, gain, zero = self._constants or self._from_parameters()
        if by_cpu(self, x):
            from batchsr.models.compute import cpu

            return cpu.activation(x if bias is None else x + bias, up, down, frequency, gain)
        return _path(x, self.training)(x, up, down, frequency, gain, zero if bias is None else bias)


def _path(x: mx.array, training: bool) -> Path:
    if on_cpu() or x.shape[1] % kernels.OUTPUTS:
        return polyphase
    return fused(x.dtype, training) or polyphase


def polyphase(
    x: mx.array, up: mx.array, down: mx.array, frequency: mx.array, gain: mx.array, bias: mx.array | None = None
) -> mx.array:
    """Return the activation in plain operations."""
    B, T, C = x.shape
    x, dtype = x.astype(mx.float32), x.dtype
    if bias is not None:
        x = x + bias.astype(mx.float32)
    up, down = up.astype(mx.float32), down.astype(mx.float32)
    padded = mx.pad(x, [(0, 0), (3, 3), (0, 0)], mode="edge")
    even = sum(up[2 * q + 1] * padded[:, 5 - q : 5 - q + T] for q in range(6))
    odd = sum(up[2 * q] * padded[:, 6 - q : 6 - q + T] for q in range(6))
    u = 2.0 * mx.stack([even, odd], axis=2).reshape(B, 2 * T, C)
    s = u + gain * mx.square(mx.sin(frequency * u))
    padded = mx.pad(s, [(0, 0), (5, 7), (0, 0)], mode="edge").reshape(B, T + 6, 2, C)
    y = sum(down[2 * k] * padded[:, k : k + T, 0] + down[2 * k + 1] * padded[:, k : k + T, 1] for k in range(6))
    return y.astype(dtype)


def fused(dtype: mx.Dtype = mx.float32, gradients: bool = True) -> Path | None:
    """Return the kernel for MLX's GPU, or None where there is none or it does not compute what `polyphase` does.

    `gradients`: whether they are wanted; compiling and testing their kernel takes seconds.
    """
    return verdict(dtype, gradients).used


@functools.cache
def verdict(dtype: mx.Dtype, gradients: bool) -> kernel_test.Verdict[Path]:
    """Return the same, with the reason where there is no kernel."""
    if mx.metal.is_available():
        kind, make, header, thread = "metal", mx.fast.metal_kernel, kernels.METAL_HEADER, kernels.METAL_THREAD
    elif mx.cuda.is_available():
        kind, make, header, thread = "cuda", nvrtc.cuda_kernel, kernels.CUDA_HEADER, kernels.CUDA_THREAD
    else:
        return kernel_test.Verdict(None, "no GPU")
    return judged(
        lambda: _fused(make, header, thread, gradients), dtype, gradients, proven.circumstances(kind, str(dtype))
    )


def judged(
    make: Callable[[], Path], dtype: mx.Dtype, gradients: bool, circumstances: str | None = None
) -> kernel_test.Verdict[Path]:
    """Return what `make` returns, or nothing and a warning where it cannot be made, does not run or gives wrong
    numbers."""
    what = "the fused activation and its gradient" if gradients else "the fused activation"
    return kernel_test.judged(
        what, make, lambda path: largest_distance(path, dtype, gradients), TOLERANCES[dtype], circumstances
    )


TOLERANCES = {mx.float32: 1e-4, mx.float16: 3e-3, mx.bfloat16: 3e-2}
"""Largest relative distance of norms, about ten times what rounding makes of it."""


def largest_distance(path: Path, dtype: mx.Dtype = mx.float32, gradients: bool = True) -> float:
    """Largest relative distance (of norms) of a path and its gradients to `polyphase`, on a small sound of two rows."""
    rng = np.random.default_rng(0)
    B, T, C = 2, 4 * kernels.OUTPUTS, 5
    x, weight = (mx.array(rng.standard_normal((B, T, C)).astype(np.float32)).astype(dtype) for _ in range(2))
    frequency, gain = (mx.array(rng.uniform(0.5, 2, C).astype(np.float32)) for _ in range(2))
    bias = mx.array(rng.standard_normal(C).astype(np.float32)).astype(dtype)
    taps = mx.array(kaiser_sinc().astype(np.float32))

    def everything(p: Path) -> list[mx.array]:
        values = [p(x, taps, taps, frequency, gain, bias)]
        if gradients:
            inputs = [x, frequency, gain, bias]
            values += mx.vjp(lambda x, f, g, b: p(x, taps, taps, f, g, b), inputs, [weight])[1]
        return [value.astype(mx.float32).reshape(-1) for value in values]

    distances = [
        (mx.linalg.norm(a - b) / mx.linalg.norm(b)).item()
        for a, b in zip(everything(path), everything(polyphase), strict=True)
    ]
    return float(np.max(distances))  # NaN stays NaN


def _fused(
    make: Callable[..., Callable[..., list[mx.array]]], header: str, thread: str, gradients: bool = True
) -> Path:
    """Return the two kernels as one differentiable function; without `gradients` the first as it is, at less cost."""
    names = ["up", "down", "frequency", "gain", "bias"]
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

    def run(
        kernel: Callable[..., list[mx.array]], inputs: list[mx.array], outputs: int, partials: int
    ) -> list[mx.array]:
        B, T, C = inputs[0].shape
        partial = (B, T // outputs, C)
        threads = math.prod(partial)
        return kernel(
            inputs=inputs,
            template=[("T", inputs[0].dtype), ("N", outputs)],
            grid=(threads, 1, 1),
            threadgroup=(min(kernels.THREADS, threads), 1, 1),
            output_shapes=[inputs[0].shape, *[partial] * partials],
            output_dtypes=[inputs[0].dtype, *[mx.float32] * partials],
        )

    def plain(
        x: mx.array, up: mx.array, down: mx.array, frequency: mx.array, gain: mx.array, bias: mx.array
    ) -> mx.array:
        return run(forward, [x, up, down, frequency, gain, bias], kernels.OUTPUTS, 0)[0]

    if not gradients:
        return plain
    path = mx.custom_function(plain)

    @path.vjp
    def gradient(primals: tuple[mx.array, ...], dy: mx.array, _: mx.array) -> tuple[mx.array, ...]:
        x, *rest = primals
        up, down, *_, bias = rest
        dx, dgain, dfrequency = run(backward, [x, dy.astype(x.dtype), *rest], kernels.OUTPUTS_BACKWARD, 2)
        # The filters are constants of the architecture and are never trained.
        # Summed in two steps: over one long axis alone, CUDA would leave most of the chip idle.
        dbias = dx.astype(mx.float32).sum(axis=1).sum(axis=0).astype(bias.dtype)
        dfrequency, dgain = dfrequency.sum(axis=1).sum(axis=0), dgain.sum(axis=1).sum(axis=0)
        return dx, mx.zeros_like(up), mx.zeros_like(down), dfrequency, dgain, dbias

    function: Path = path
    return function
