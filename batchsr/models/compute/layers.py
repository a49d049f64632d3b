"""The few layers that FlashSR's networks share, channels-last: (B, T, C) in time, (B, H, W, C) on the mel plane.

Parameters have the names and layouts of the bundles: Linear (out, in), Conv2d (out, kh, kw, in),
Conv1d (out, k, in), ConvTranspose1d (out, k, in).

Each layer is plain MLX, which can be differentiated; in evaluation mode batchsr.models.compute.cpu computes the same
on the CPU and the kernels of batchsr.models.compute.cuda on CUDA.

Longer than other modules: each layer stands beside the choice of who computes it.
"""

from __future__ import annotations

import math

import mlx.core as mx
from mlx import nn

from batchsr.models.compute import cuda, even


def on_cpu() -> bool:
    """Return whether arrays are computed on the CPU."""
    return bool(mx.default_device().type == mx.DeviceType.cpu)


def by_cpu(layer: nn.Module, x: mx.array) -> bool:
    """Return whether `compute.cpu` computes what a layer makes of x. (It is imported only then: it takes a second.)"""
    return not layer.training and x.dtype == mx.float32 and on_cpu()


def by_cuda(layer: nn.Module, x: mx.array) -> cuda.Kernels | None:
    """Return the kernels for arrays like x if they may stand in for the layer's plain operations."""
    if layer.training or on_cpu() or x.shape[-1] % cuda.VECTOR:
        return None
    return cuda.kernels(x.dtype)


def by_products(layer: nn.Module, x: mx.array) -> bool:
    """Return whether a convolution is computed as matrix products: in float32 on CUDA."""
    return not (layer.training or on_cpu()) and x.dtype == mx.float32 and mx.cuda.is_available()


def step(layer: nn.Module, x: mx.array, given: mx.array) -> mx.array:
    """Return x, which a GPU begins to compute now, once `given`, the step before, is computed.

    MLX would prepare all of a network ahead of the device, each kernel with an array for its result: five times the
    memory that is in use at any moment, and more for larger passes. So Python stays one step ahead, which is enough to
    keep the device busy. Source of the steps' size: docs/measurements.md, "Memory of a pass".
    """
    if not (layer.training or on_cpu()):
        mx.async_eval(x)
        mx.eval(given)
    return x


def silu(x: mx.array) -> mx.array:
    """x times its own sigmoid."""
    return nn.silu(x) if on_cpu() else x * mx.sigmoid(x)


def gelu(x: mx.array) -> mx.array:
    """x times the normal distribution's share below it."""
    return nn.gelu(x) if on_cpu() else x * (1 + mx.erf(x * math.sqrt(0.5))) * 0.5


def leaky_relu(x: mx.array, leak: float) -> mx.array:
    """x where it is positive, else `leak` times x; `leak` below 1.

    MLX's own of these three are fused for each type by its compiler: on a GPU 4 to 6 s each, once for a machine, to
    spare a handful of launches.
    """
    return nn.leaky_relu(x, leak) if on_cpu() else mx.maximum(x, leak * x)


def _uniform(shape: tuple[int, ...], fan_in: int) -> mx.array:
    bound = fan_in**-0.5
    return mx.random.uniform(-bound, bound, shape)


class GroupNorm(nn.Module):
    """Normalise over space and the channels of a group together, as PyTorch does; x (B, ..., C) of any rank.

    With `silu`, the result times its own sigmoid. Statistics are computed in float32 whatever x is.
    """

    def __init__(self, channels: int, eps: float, groups: int = 32, *, silu: bool = False) -> None:
        super().__init__()
        self.groups = groups
        self.eps = eps
        self.silu = silu
        self.weight = mx.ones((channels,))
        self.bias = mx.zeros((channels,))

    def __call__(self, x: mx.array, bias: mx.array | None = None) -> mx.array:
        """Return the norm of x + bias; bias (C,) or (B, C)."""
        kernels = by_cuda(self, x)
        if kernels and self.groups == cuda.GROUPS and x.shape[-1] <= cuda.MAX_CHANNELS:
            return kernels.group_norm(x, bias, self.weight, self.bias, self.eps, self.silu)
        if bias is not None:
            x = x + bias.reshape(-1, *[1] * (x.ndim - 2), x.shape[-1])
        if by_cpu(self, x):
            from batchsr.models.compute import cpu

            return cpu.group_norm(x, self.groups, self.eps, self.weight, self.bias, silu=self.silu)
        B, C = x.shape[0], x.shape[-1]
        # layer_norm over a transposed view: mean and var over split axes are many times slower on CUDA.
        grouped = x.reshape(B, -1, self.groups, C // self.groups).transpose(0, 2, 1, 3).reshape(B, self.groups, -1)
        normal = mx.fast.layer_norm(grouped, None, None, self.eps)
        normal = normal.reshape(B, self.groups, -1, C // self.groups).transpose(0, 2, 1, 3).reshape(x.shape)
        y = normal * self.weight + self.bias
        return silu(y) if self.silu else y


class _Weighted(nn.Module):
    """A layer with a weight (out, ..., in)."""

    weight: mx.array

    def prepack(self) -> None:
        """Order the weight in memory as the CPU wants it; shape and values stay."""
        if on_cpu():
            from batchsr.models.compute import cpu

            self.weight = cpu.prepack(self.weight)
            mx.eval(self.weight)


class Linear(_Weighted):
    """x (..., C) -> (..., out)."""

    def __init__(self, channels: int, out: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = _uniform((out, channels), channels)
        if bias:
            self.bias = mx.zeros((out,))
        self._turned: mx.array | None = None

    def prepack(self) -> None:
        """Order the weight in memory as the CPU wants it; for a GPU, turn it once: each operation costs its launch."""
        super().prepack()
        if not on_cpu():
            self._turned = self.weight.T
            mx.eval(self._turned)

    def __call__(self, x: mx.array) -> mx.array:
        bias = self.bias if "bias" in self else None
        if by_cpu(self, x):
            from batchsr.models.compute import cpu

            return cpu.linear(x, self.weight, bias)
        turned = self.weight.T if self._turned is None else self._turned
        return x @ turned if bias is None else mx.addmm(bias, x, turned)


class _Convolution(_Weighted):
    """What Conv1d and Conv2d share: three ways to end, of which the later two spare a pass over the result."""

    bias: mx.array
    apart = False
    """Whether it is computed as matrix products whatever its type (batchsr.models.compute.even)."""

    def product(self, x: mx.array) -> mx.array:
        """Return the convolution without its bias, in plain operations."""
        raise NotImplementedError

    def computed(self, x: mx.array, to: mx.array | None = None) -> mx.array:
        """Return the convolution, and `to`, by batchsr.models.compute.cpu."""
        raise NotImplementedError

    def __call__(self, x: mx.array) -> mx.array:
        return self.computed(x) if by_cpu(self, x) else self.product(x) + self.bias

    def deferred(self, x: mx.array) -> tuple[mx.array, mx.array | None]:
        """Return the convolution, and what whoever reads it must still add to it, or None."""
        return (self.product(x), self.bias) if by_cuda(self, self.bias) else (self(x), None)

    def plus(self, x: mx.array, to: mx.array) -> mx.array:
        """`to` + the convolution of x: the end of a residual block."""
        if by_cpu(self, x):
            return self.computed(x, to)
        kernels = by_cuda(self, to)
        return kernels.add(to, self.product(x), self.bias) if kernels else to + self(x)


class Conv2d(_Convolution):
    """x (B, H, W, C) -> (B, H', W', out). `padding` is symmetric; `kernel` is 1 or 3."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.weight = _uniform((out, kernel, kernel, channels), kernel * kernel * channels)
        self.bias = mx.zeros((out,))
        self._turned: mx.array | None = None

    def prepack(self) -> None:
        """As `Linear.prepack`, which a kernel of one point is."""
        super().prepack()
        if not on_cpu() and self.weight.shape[1] == 1:
            self._turned = self._as_linear()
            mx.eval(self._turned)

    def _as_linear(self) -> mx.array:
        """Return the weight of a kernel of one point, (channels, out)."""
        return self.weight[:, 0, 0].T if self._turned is None else self._turned

    def product(self, x: mx.array) -> mx.array:
        if self.weight.shape[1] == 1:
            return x @ self._as_linear()
        if self.apart or by_products(self, x):
            return cuda.products(x, self.weight, self.stride, (self.padding, self.padding))
        return even.seen(self, x, mx.conv2d(x, self.weight, self.stride, self.padding))

    def computed(self, x: mx.array, to: mx.array | None = None) -> mx.array:
        from batchsr.models.compute import cpu

        return cpu.conv2d(x, self.weight, self.bias, self.stride, self.padding, to)

    def __call__(self, x: mx.array) -> mx.array:
        if self.weight.shape[1] == 1 and not by_cpu(self, x):
            return mx.addmm(self.bias, x, self._as_linear())
        return super().__call__(x)


class Conv1d(_Convolution):
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
        self._packed: mx.array | None = None

    def prepack(self) -> None:
        """Order the weight in memory as the CPU wants it; shape and values stay. For CUDA's kernel, make a copy."""
        super().prepack()
        if self._fits_kernel():
            self._packed = cuda.packed(self.weight)
            mx.eval(self._packed)

    def _fits_kernel(self) -> bool:
        out, kernel, channels = self.weight.shape
        reach = self.dilation * (kernel - 1)
        centred = (self.stride, 2 * self.padding) == (1, reach) and reach <= cuda.MAX_REACH
        square = out == channels and (channels, self.weight.dtype.size) in cuda.CONV_PRODUCTS
        return centred and square and by_cuda(self, self.bias) is not None

    def product(self, x: mx.array) -> mx.array:
        if self.apart or by_products(self, x):
            tall = x[:, :, None], self.weight[:, :, None]
            return cuda.products(*tall, self.stride, (self.padding, 0), self.dilation)[:, :, 0]
        as_plane = self.dilation > 1 == self.stride and self.padding % self.dilation == 0
        if as_plane and x.dtype != mx.float32 and by_cuda(self, self.bias):
            y = cuda.dilated(x, self.weight, self.padding, self.dilation)
        else:
            y = mx.conv1d(x, self.weight, self.stride, self.padding, self.dilation)
        return even.seen(self, x, y)

    def computed(self, x: mx.array, to: mx.array | None = None) -> mx.array:
        from batchsr.models.compute import cpu

        return cpu.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, to)

    def __call__(self, x: mx.array) -> mx.array:
        if self._packed is not None:
            return cuda.conv1d(x, self._packed, self.bias, self.dilation)
        return super().__call__(x)

    def deferred(self, x: mx.array) -> tuple[mx.array, mx.array | None]:
        return super().deferred(x) if self._packed is None else (self(x), None)

    def plus(self, x: mx.array, to: mx.array) -> mx.array:
        if self._packed is not None:
            return cuda.conv1d(x, self._packed, self.bias, self.dilation, to)
        return super().plus(x, to)


class ConvTranspose1d(nn.Module):
    """Upsample x (B, T, C) -> (B, T * rate, out); the kernel is at least `rate`, the padding (kernel - rate) / 2.

    Output block m (rate samples) is made of the inputs m, m - 1, ..., whose taps are laid side by side: an ordinary
    convolution to rate * out channels. It is the same on every backend and has no overlapping writes.
    """

    def __init__(self, channels: int, out: int, kernel: int, rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.weight = _uniform((out, kernel, channels), kernel * channels)
        self.bias = mx.zeros((out,))
        self._taps: mx.array | None = None

    def prepack(self) -> None:
        """Order the weight once for all calls; it must not change afterwards."""
        if on_cpu():
            from batchsr.models.compute import cpu

            self._taps = cpu.prepack(self._ordered())
        else:
            self._taps = mx.contiguous(self._ordered())
        mx.eval(self._taps)

    def _ordered(self) -> mx.array:
        """Return the weight as that of a convolution, (rate * out, inputs, C); taps past the kernel are zero."""
        out, kernel, C = self.weight.shape
        inputs = -(-kernel // self.rate)
        taps = mx.pad(self.weight, [(0, 0), (0, inputs * self.rate - kernel), (0, 0)])
        taps = taps.reshape(out, inputs, self.rate, C)[:, ::-1]
        return taps.transpose(2, 0, 1, 3).reshape(self.rate * out, inputs, C)

    def __call__(self, x: mx.array) -> mx.array:
        B, T, C = x.shape
        out, kernel, _ = self.weight.shape
        taps = self._ordered() if self._taps is None else self._taps
        inputs = taps.shape[1]
        blocks = T + inputs - 1
        if by_cpu(self, x):
            from batchsr.models.compute import cpu

            y = cpu.conv1d(x, taps, None, padding=inputs - 1)
        else:
            padded = mx.pad(x, [(0, 0), (inputs - 1, inputs - 1), (0, 0)])
            side = mx.concatenate([padded[:, j : j + blocks] for j in range(inputs)], axis=-1)
            y = side @ taps.reshape(-1, inputs * C).T
        crop = (kernel - self.rate) // 2
        return y.reshape(B, blocks * self.rate, out)[:, crop : crop + T * self.rate] + self.bias


class Attention(nn.Module):
    """softmax(q k^T / sqrt(D)) v for each head; q, k, v and the result (B, L, heads * D), or (B * L, heads * D)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def __call__(self, q: mx.array, k: mx.array, v: mx.array, rows: int | None = None) -> mx.array:
        """`rows`: B, where q, k and v do not show it."""
        if by_cpu(self, q):
            from batchsr.models.compute import cpu

            return cpu.attention(q, k, v, self.heads)
        shape, C = q.shape, q.shape[-1]
        q, k, v = (
            a.reshape(rows or shape[0], -1, self.heads, C // self.heads).transpose(0, 2, 1, 3) for a in (q, k, v)
        )
        h = mx.fast.scaled_dot_product_attention(q, k, v, scale=(C // self.heads) ** -0.5)
        return h.transpose(0, 2, 1, 3).reshape(shape)


def upsample_nearest(x: mx.array) -> mx.array:
    """x (B, H, W, C) -> (B, 2H, 2W, C), each value four times."""
    B, H, W, C = x.shape
    return mx.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)
