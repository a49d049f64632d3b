"""Conv1d with a derivative of its own, for training on CUDA.

MLX 0.32 differentiates the vocoder's convolutions correctly, but that took seven times as long as computing them: few
channels and a million samples are the worst case for the general derivative. Here the input's derivative is a
convolution again, and the weight's is a kernel in which a thread sums one pair of channels over a stretch of sound.
On Metal and the CPU the general derivative stays.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import nn

from batchsr.model.layers import Conv1d

THREADS_WANTED = 250_000
"""Of one kernel: about what fills a large GPU."""

# x (B, L + 2 P, I) is padded already; dy (B, L, O). K, D: taps, dilation. `sizes`: L, P, I, O, stretch, threads.
BODY = """
    const int L = sizes[0], P = sizes[1], I = sizes[2], O = sizes[3], stretch = sizes[4];
    if (thread >= sizes[5]) return;
    const int i = thread % I, o = thread / I % O, s = thread / I / O;
    const int b = s / (L / stretch), first = s % (L / stretch) * stretch;
    const float* from = x + (size_t(b) * (L + 2 * P) + first) * I + i;
    const float* slope = dy + (size_t(b) * L + first) * O + o;
    float sum[K], total = 0.0f;
#pragma unroll
    for (int k = 0; k < K; ++k) sum[k] = 0.0f;
    for (int t = 0; t < stretch; ++t) {
        const float g = slope[size_t(t) * O];
        total += g;
#pragma unroll
        for (int k = 0; k < K; ++k) sum[k] += g * from[size_t(t + k * D) * I];
    }
#pragma unroll
    for (int k = 0; k < K; ++k) dweight[((size_t(s) * O + o) * K + k) * I + i] = sum[k];
    if (i == 0) dbias[s * O + o] = total;
"""


@functools.cache
def _kernel() -> Any:
    return mx.fast.cuda_kernel(
        name="training_weight_gradient",
        input_names=["x", "dy", "sizes"],
        output_names=["dweight", "dbias"],
        source="const int thread = int(cooperative_groups::this_grid().thread_rank());\n" + BODY,
    )


def weight_gradient(x: mx.array, dy: mx.array, k: int, padding: int, dilation: int) -> tuple[mx.array, mx.array]:
    """Derivatives (O, k, I) and (O,) of a convolution's weight and bias; x (B, L, I), dy (B, L, O)."""
    B, L, inputs = x.shape
    out = dy.shape[2]
    stretch = L
    while stretch % 2 == 0 and stretch > 32 and B * (L // stretch) * inputs * out < THREADS_WANTED:
        stretch //= 2
    pieces = B * (L // stretch)
    threads = pieces * inputs * out
    parts, sums = _kernel()(
        inputs=[
            mx.pad(x, [(0, 0), (padding, padding), (0, 0)]),
            dy,
            mx.array([L, padding, inputs, out, stretch, threads], mx.int32),
        ],
        template=[("K", k), ("D", dilation)],
        grid=(threads, 1, 1),
        threadgroup=(min(256, threads), 1, 1),
        output_shapes=[(pieces, out, k, inputs), (pieces, out)],
        output_dtypes=[mx.float32, mx.float32],
    )
    return _sum(parts), _sum(sums)


def _sum(parts: mx.array) -> mx.array:
    """Sum over the first axis, in two steps where it is long."""
    step = math.gcd(parts.shape[0], 64)
    return parts.reshape(-1, step, *parts.shape[1:]).sum(axis=1).sum(axis=0)


@functools.cache
def convolution(padding: int, dilation: int) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    """(x (B, L, I), weight (O, k, I), bias (O,)) -> (B, L, O), stride 1; the padding must keep the length."""

    @mx.custom_function
    def forward(x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        return mx.conv1d(x, weight, 1, padding, dilation) + bias

    @forward.vjp
    def backward(primals: tuple[mx.array, ...], dy: mx.array, _: mx.array) -> tuple[mx.array, ...]:
        x, weight, _bias = primals
        k = weight.shape[1]
        dx = mx.conv1d(dy, weight[:, ::-1].transpose(2, 1, 0), 1, dilation * (k - 1) - padding, dilation)
        return dx, *weight_gradient(x, dy, k, padding, dilation)

    return forward  # type: ignore[no-any-return]


def strided(x: mx.array, weight: mx.array, bias: mx.array, rate: int) -> mx.array:
    """The vocoder's downsampling (kernel 2 * rate, stride rate, padding rate - 1) as one matrix product."""
    B, L, C = x.shape
    blocks = mx.pad(x, [(0, 0), (rate - 1, 1), (0, 0)]).reshape(B, L // rate + 1, rate * C)
    side = mx.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=-1)
    return side @ weight.reshape(weight.shape[0], -1).T + bias


class TrainedConv1d(Conv1d):
    """Takes the place of Conv1d's class while training, so that the parameters stay where they are."""

    def __call__(self, x: mx.array) -> mx.array:
        if self.stride == 1:
            return convolution(self.padding, self.dilation)(x, self.weight, self.bias)
        return strided(x, self.weight, self.bias, self.stride)


def make_trainable(vocoder: nn.Module) -> None:
    """Give every Conv1d the derivative above. On CUDA only."""
    for module in vocoder.modules():
        if isinstance(module, Conv1d):
            module.__class__ = TrainedConv1d
