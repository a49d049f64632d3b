"""The layers on the CPU: MLX's arrays in and out, computed by the loops of batchsr.models.compute.loops on every core.

MLX's own way on a CPU without Apple's libraries is a reference BLAS and one thread. Here each result is cut into tiles
whose data stay in a core's cache; a tile of a convolution is one matrix product, by SciPy's BLAS. Tiles are the same
however many threads share them, so results do not depend on the machine's cores.

Nothing here can be differentiated; layers come here when they are in evaluation mode (nn.Module.eval).
"""

from __future__ import annotations

import concurrent.futures
import functools
import math
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import scipy.linalg  # noqa: F401  (holds the BLAS that is to be limited)
import threadpoolctl

from batchsr import machine
from batchsr.models.compute import loops

TILE_VALUES = 1 << 17
"""float32 values of a tile's largest array: half a megabyte, half of a core's cache."""
ACTIVATION_VALUES = 1 << 12
"""The same where five arrays are in use at once."""
MIN_ROWS = 512
"""Fewest rows of a convolution's tile: fewer do not pay for the weights that each product prepares."""
MIN_COLUMNS = 48
"""Fewest columns of a matrix product, roughly: with fewer it is slow."""
PARTS = 4
"""Parts of a result for each core: a core that is busy elsewhere takes fewer."""


def conv2d(
    x: mx.array, weight: mx.array, bias: mx.array, stride: int, padding: int, to: mx.array | None = None
) -> mx.array:
    """x (B, H, W, C), weight (out, kh, kw, C), bias (out,) -> (B, H', W', out); `to` is added to it."""
    B, H, W, C = x.shape
    out, kh, kw, _ = weight.shape
    height, width = (H + 2 * padding - kh) // stride + 1, (W + 2 * padding - kw) // stride + 1
    how = ((H, W), (stride, stride), (padding, padding), width)
    y = _convolved(x.reshape(B, H * W, C), weight, bias, to, height * width, *how)
    return y.reshape(B, height, width, out)


def conv1d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    to: mx.array | None = None,
) -> mx.array:
    """x (B, T, C), weight (out, k, C), bias (out,) -> (B, T', out); `to` is added to it. Dilation without stride only.

    Time is written in lines of `dilation` samples, so that the kernel is a column.
    """
    if padding % dilation:
        x, padding = mx.pad(x, [(0, 0), (padding, padding), (0, 0)]), 0
    _, T, _ = x.shape
    _, kernel, _ = weight.shape
    length = (T + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    how = ((-(-T // dilation), dilation), (stride, 1), (padding // dilation, 0), dilation)
    return _convolved(x, weight[:, :, None], bias, to, length, *how)


def linear(x: mx.array, weight: mx.array, bias: mx.array | None) -> mx.array:
    """x (B, ..., C), weight (out, C), bias (out,) -> (B, ..., out).

    Each of the B is a product of its own: what a BLAS makes of a row may depend on the rows around it.
    """
    rows = x.reshape(len(x), -1, x.shape[-1])
    return conv1d(rows, weight[:, None], bias).reshape(*x.shape[:-1], -1)


def _convolved(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    to: mx.array | None,
    length: int,
    plane: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    width: int,
) -> mx.array:
    """loops.convolve over each row of x (B, N, C) -> (B, length, out), in lines of `width`."""
    out, kh, kw, C = weight.shape
    height = -(-length // width)
    matrix = np.ascontiguousarray(np.moveaxis(_view(weight), 0, -1)).reshape(-1, out)  # no copy if it was laid out
    offset = np.zeros(out, np.float32) if bias is None else _values(bias)
    lines = min(height, MIN_COLUMNS // out, 2 * kh)
    if lines > 1 and kh > 1 and stride == (1, 1):
        # Few channels make narrow products, which are slow: so several lines come of one, whose weights are those of
        # the first line, then the same a line further down, and so on.
        wide = np.zeros((kh + lines - 1, kw * C, lines, out), np.float32)
        for line in range(lines):
            wide[line : line + kh, :, line] = matrix.reshape(kh, kw * C, out)
        matrix, offset, kh, stride = wide.reshape(-1, lines * out), np.tile(offset, lines), kh + lines - 1, (lines, 1)
    else:
        lines = 1
    y, results = _empty(len(x), length, out)
    before = np.empty((len(x), 0, out), np.float32) if to is None else _values(to).reshape(results.shape)
    rows = max(MIN_ROWS, TILE_VALUES // len(matrix))
    for row, summand, result in zip(_values(x), before, results, strict=True):
        given = (row, matrix, offset, summand, result, plane, (kh, kw), stride, padding, width, rows)
        _share(functools.partial(loops.convolve, *given), -(-height // lines) * width, rows)
    return y


def prepack(weight: mx.array) -> mx.array:
    """Return the same weight (out, ..., in) with its memory ordered (..., in, out), as convolutions want it."""
    axes = list(range(1, weight.ndim))
    return mx.contiguous(weight.transpose(*axes, 0)).transpose(weight.ndim - 1, *range(weight.ndim - 1))


def group_norm(x: mx.array, groups: int, eps: float, weight: mx.array, bias: mx.array, *, silu: bool) -> mx.array:
    """x (B, ..., C), normalised over space and the channels of a group together; then SiLU if `silu`."""
    C = x.shape[-1]
    y, results = _empty(*x.shape)
    rows = max(1, TILE_VALUES // C)
    for values, result in zip(_values(x).reshape(len(x), -1, C), results.reshape(len(x), -1, C), strict=True):
        mean, variance = _moments(values, rows, groups)
        scale = (_values(weight) / np.sqrt(variance + eps)).astype(np.float32)
        given = (values, mean.astype(np.float32), scale, _values(bias), silu, result)
        _share(functools.partial(loops.normalise, *given), len(values), rows)
    return y


def _moments(x: np.ndarray, rows: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of x (N, C) over the group that a channel belongs to; float64 (C,)."""
    N, C = x.shape
    pieces = -(-N // rows)
    means, squares = np.empty((pieces, C), np.float32), np.empty((pieces, C), np.float32)
    _share(functools.partial(loops.moments, x, means, squares, rows), pieces, 1)
    counts = np.diff([*range(0, N, rows), N])[:, None, None]
    means, squares = (a.astype(np.float64).reshape(pieces, groups, -1) for a in (means, squares))
    total = N * (C // groups)
    mean = (counts * means).sum(axis=(0, 2), keepdims=True) / total
    variance = (squares + counts * (means - mean) ** 2).sum(axis=(0, 2)) / total
    return mean.reshape(groups).repeat(C // groups), variance.repeat(C // groups)


def attention(q: mx.array, k: mx.array, v: mx.array, heads: int) -> mx.array:
    """softmax(q k^T / sqrt(D)) v for each head; all (B, L, heads * D)."""
    B, L, C = q.shape
    y, results = _empty(B, L, C)
    scale = np.float32((C // heads) ** -0.5)
    rows = max(1, TILE_VALUES // L)
    given = [_values(a) for a in (q, k, v)]
    for row in range(B):
        for first in range(0, C, C // heads):
            mine = np.s_[row, :, first : first + C // heads]
            one = [np.ascontiguousarray(a[mine]) for a in given]
            result = np.empty_like(one[0])
            _share(functools.partial(loops.attend, *one, result, scale, rows), L, rows)
            results[mine] = result
    return y


def activation(x: mx.array, up: mx.array, down: mx.array, frequency: mx.array, gain: mx.array) -> mx.array:
    """As activation.polyphase: x (B, T, C), up, down (12,), frequency, gain (C,)."""
    B, T, C = x.shape
    y, results = _empty(B, T, C)
    constants = [_values(a) for a in (up, down, frequency * (1 / math.pi), gain)]
    rows = max(32, ACTIVATION_VALUES // C)
    for row, result in zip(_values(x), results, strict=True):
        _share(functools.partial(loops.activate, row, *constants, result, rows), T, rows)
    return y


def _view(x: mx.array) -> np.ndarray:
    """Return the memory of an array, computed by now."""
    mx.eval(x)
    return np.array(x, copy=False)


def _values(x: mx.array) -> np.ndarray:
    """Return what is in an array, in order: a view of its memory where that is."""
    return np.ascontiguousarray(_view(x))


def _empty(*shape: int) -> tuple[mx.array, np.ndarray]:
    """Return an array and a view of its memory, to be filled before the array is used."""
    y = mx.zeros(shape)
    return y, _view(y)


def _share(compute: Callable[[int, int], None], count: int, grain: int) -> None:
    """Call `compute(first, last)` for parts of `count`, each a multiple of `grain`, on all cores, this thread's too."""
    threads, pool = _pool()
    part = grain * max(1, -(-count // (grain * PARTS * threads)))
    starts = iter(range(0, count, part))

    def work() -> None:
        for first in starts:
            compute(first, min(first + part, count))

    helpers = [pool.submit(work) for _ in range(threads - 1) if part < count]
    work()
    for helper in helpers:
        helper.result()


@functools.cache
def _pool() -> tuple[int, concurrent.futures.Executor]:
    """Return a thread for each core. Products are shared out here, so the BLAS must not use threads of its own."""
    cores = machine.cores()
    threadpoolctl.threadpool_limits(1, user_api="blas")
    return cores, concurrent.futures.ThreadPoolExecutor(cores, "batchsr-cpu")
