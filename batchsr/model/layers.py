"""The few layers that FlashSR's networks share, channels-last: (B, T, C) in time, (B, H, W, C) on the mel plane.

Parameters have the names and layouts of the bundles: Linear (out, in), Conv2d (out, kh, kw, in),
Conv1d (out, k, in), ConvTranspose1d (out, k, in).
"""

from __future__ import annotations

import mlx.core as mx
from mlx import nn

from batchsr.model import cpu


def on_cpu() -> bool:
    """Whether arrays are computed on the CPU, where matrix products are cheap and everything else is not."""
    return bool(mx.default_device().type == mx.DeviceType.cpu)


def settle(x: mx.array) -> mx.array:
    """x itself, computed by now on the CPU: a whole network at once would hold a gigabyte more than its parts."""
    if on_cpu():
        mx.eval(x)
    return x


def _uniform(shape: tuple[int, ...], fan_in: int) -> mx.array:
    bound = fan_in**-0.5
    return mx.random.uniform(-bound, bound, shape)


class GroupNorm(nn.Module):
    """Normalise over space and the channels of a group together, as PyTorch does; x (B, ..., C) of any rank.

    Statistics are computed in float32 whatever x is.
    """

    def __init__(self, channels: int, eps: float, groups: int = 32) -> None:
        super().__init__()
        self.groups = groups
        self.eps = eps
        self.weight = mx.ones((channels,))
        self.bias = mx.zeros((channels,))

    def __call__(self, x: mx.array) -> mx.array:
        if on_cpu() and x.dtype == mx.float32:
            return cpu.group_norm(x, self.groups, self.eps, self.weight, self.bias)
        B, C = x.shape[0], x.shape[-1]
        # layer_norm over a transposed view: mean and var over split axes are many times slower on CUDA.
        grouped = x.reshape(B, -1, self.groups, C // self.groups).transpose(0, 2, 1, 3).reshape(B, self.groups, -1)
        normal = mx.fast.layer_norm(grouped, None, None, self.eps)
        normal = normal.reshape(B, self.groups, -1, C // self.groups).transpose(0, 2, 1, 3).reshape(x.shape)
        return normal * self.weight + self.bias


class Conv2d(nn.Module):
    """x (B, H, W, C) -> (B, H', W', out). `padding` is symmetric; `kernel` is 1 or 3."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.weight = _uniform((out, kernel, kernel, channels), kernel * kernel * channels)
        self.bias = mx.zeros((out,))

    def lay_out(self) -> None:
        """Order the weight in memory as the CPU wants it; shape and values stay."""
        self.weight = cpu.tap_major(self.weight)

    def __call__(self, x: mx.array) -> mx.array:
        if self.weight.shape[1] == 1:
            return x @ self.weight[:, 0, 0].T + self.bias
        if on_cpu() and (self.stride, self.padding) == (1, 1):
            return cpu.conv2d(x, self.weight, self.bias)
        return mx.conv2d(x, self.weight, self.stride, self.padding) + self.bias


class Conv1d(nn.Module):
    """x (B, T, C) -> (B, T', out), zero-padded by `padding` on both sides."""

    def __init__(
        self, channels: int, out: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.weight = _uniform((out, kernel, channels), kernel * channels)
        self.bias = mx.zeros((out,))

    def lay_out(self) -> None:
        """Order the weight in memory as the CPU wants it; shape and values stay."""
        self.weight = cpu.tap_major(self.weight)

    def __call__(self, x: mx.array) -> mx.array:
        if on_cpu() and self.stride == 1:
            return cpu.conv1d(x, self.weight, self.bias, self.padding, self.dilation)
        return mx.conv1d(x, self.weight, self.stride, self.padding, self.dilation) + self.bias


class ConvTranspose1d(nn.Module):
    """Upsample x (B, T, C) -> (B, T * rate, out); the kernel is at least `rate`, the padding (kernel - rate) / 2.

    One matrix product: output block m (rate samples) is made of the inputs m, m - 1, ..., whose taps are laid side
    by side. It is the same on every backend and has no overlapping writes.
    """

    def __init__(self, channels: int, out: int, kernel: int, rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.weight = _uniform((out, kernel, channels), kernel * channels)
        self.bias = mx.zeros((out,))
        self._taps: mx.array | None = None

    def lay_out(self) -> None:
        """Order the weight once for all calls; it must not change afterwards."""
        self._taps = mx.contiguous(self._ordered())

    def _ordered(self) -> mx.array:
        """The weight as one matrix (inputs * C, rate * out); taps past the kernel are zero."""
        out, kernel, C = self.weight.shape
        inputs = -(-kernel // self.rate)
        taps = mx.pad(self.weight, [(0, 0), (0, inputs * self.rate - kernel), (0, 0)])
        return taps.reshape(out, inputs, self.rate, C).transpose(1, 3, 2, 0).reshape(inputs * C, self.rate * out)

    def __call__(self, x: mx.array) -> mx.array:
        B, T, _ = x.shape
        out, kernel, _ = self.weight.shape
        rate = self.rate
        inputs = -(-kernel // rate)
        taps = self._ordered() if self._taps is None else self._taps
        blocks = T + inputs - 1
        padded = mx.pad(x, [(0, 0), (inputs - 1, inputs - 1), (0, 0)])
        side = mx.concatenate([padded[:, inputs - 1 - j : inputs - 1 - j + blocks] for j in range(inputs)], axis=-1)
        y = (side @ taps).reshape(B, blocks * rate, out)
        crop = (kernel - rate) // 2
        return y[:, crop : crop + T * rate] + self.bias


class SiLU(nn.Module):
    """x * sigmoid(x); a module because it stands in numbered lists of layers."""

    def __call__(self, x: mx.array) -> mx.array:
        return silu(x)


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x)."""
    return cpu.silu(x) if on_cpu() and x.dtype == mx.float32 else nn.silu(x)


def upsample_nearest(x: mx.array) -> mx.array:
    """x (B, H, W, C) -> (B, 2H, 2W, C), each value four times."""
    B, H, W, C = x.shape
    return mx.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)
