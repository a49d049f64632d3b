"""The vocoder's convolutions with a derivative of their own, for training on CUDA.

MLX 0.32 differentiates them correctly, but that took seven times as long as computing them: few channels and hundreds
of thousands of samples are the worst case for the general derivative. Here the input's derivative is a convolution
again, and the weight's is a matrix product over copied columns. On Metal and the CPU the general derivative stays.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import mlx.core as mx
from mlx import nn

from batchsr.models.compute.layers import Conv1d

ROWS = 4096
"""Samples of one piece of a sum over all: the pieces run side by side, and are added up afterwards."""


def columns(x: mx.array, k: int, padding: int, dilation: int) -> mx.array:
    """x (B, T, C) -> (B * T, k * C): beside each sample the ones that the taps of a convolution see."""
    B, T, C = x.shape
    padded = mx.contiguous(mx.pad(x, [(0, 0), (padding, padding), (0, 0)]))
    view = mx.as_strided(padded, (B, T, k, C), ((T + 2 * padding) * C, C, dilation * C, 1))
    return view.reshape(B * T, k * C)


@functools.cache
def convolution(padding: int, dilation: int) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    """(x (B, T, I), weight (O, k, I), bias (O,)) -> (B, T, O), stride 1; the padding must keep the length."""

    @mx.custom_function
    def forward(x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        return mx.conv1d(x, weight, 1, padding, dilation) + bias

    @forward.vjp
    def backward(primals: tuple[mx.array, ...], dy: mx.array, _: mx.array) -> tuple[mx.array, ...]:
        x, weight, _bias = primals
        B, T, inputs = x.shape
        k, out = weight.shape[1], weight.shape[0]
        dx = mx.conv1d(dy, weight[:, ::-1].transpose(2, 1, 0), 1, dilation * (k - 1) - padding, dilation)
        rows = math.gcd(B * T, ROWS)
        side = columns(x, k, padding, dilation).reshape(-1, rows, k * inputs)
        slope = dy.reshape(-1, rows, out)
        dweight = (slope.swapaxes(1, 2) @ side).sum(axis=0).reshape(weight.shape)
        return dx, dweight, slope.sum(axis=1).sum(axis=0)

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
    """Give every Conv1d the derivative above."""
    for module in vocoder.modules():
        if isinstance(module, Conv1d):
            module.__class__ = TrainedConv1d
