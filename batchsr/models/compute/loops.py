"""The CPU's inner loops, compiled by numba when they are first called and kept on disk from then on.

Each computes a range of its result, `first` to `last`, so that several threads can share one: they run without
Python's lock. Arrays are float32 and contiguous, channels last. Loops go over slices of equal length, because only
then does the compiler know that no index is negative, and vectorises them.

Longer than other modules: the loops are written out in full.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import extending, types

from batchsr.audio.loops import compiled


def _fused(context: Any, a: Any, b: Any, c: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


_fma: Any = extending.intrinsic(_fused)
"""a * b + c in float32, rounded once."""
_ROUND = np.float32(12582912.0)
"""1.5 * 2^23: adding and subtracting it rounds a float32 below 2^22 to the nearest integer."""


# --- convolutions -----------------------------------------------------------------------------------------------------


@compiled
def convolve(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    before: np.ndarray,
    y: np.ndarray,
    plane: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    width: int,
    rows: int,
    first: int,
    last: int,
) -> None:
    """Convolve a plane (H, W), whose points are the rows of x (N, C) and zero behind N, to rows of y (M, out).

    weight (kh * kw * C, lines * out), bias (lines * out,): a step of the kernel yields `lines` lines of the result at
    once. Of all its positions, `width` a line, `first` to `last` are done: `rows` at a time become one matrix of what
    they see, which stays in the cache for the one product. `before` is added, like y or without a row.
    """
    out = y.shape[1]
    lines = weight.shape[1] // out
    joined = width == 1 or lines == 1  # then what a step yields lies together in y
    results, summands = y.reshape(y.size), before.reshape(before.size)
    pointwise = kernel == (1, 1) and stride == (1, 1)
    count = min(rows, last - first)
    seen = np.empty((0 if pointwise else count, weight.shape[0]), np.float32)
    products = np.empty((count, weight.shape[1]), np.float32)
    for begin in range(first, last, rows):
        n = min(rows, last - begin)
        product = products[:n]
        if pointwise:
            np.dot(x[begin : begin + n], weight, product)
        else:
            _gather(x, seen[:n], plane, kernel, stride, padding, width, begin)
            np.dot(seen[:n], weight, product)
        sums = product.reshape(product.size)
        line, column = begin // width, begin % width
        for i in range(n):
            start = i * lines * out
            if joined:
                to = (begin + i) * lines * out
                _add(results, to, sums, start, bias, summands, max(0, min(lines * out, len(results) - to)))
            else:
                for at in range(line * lines, min((line + 1) * lines, -(-(len(y) - column) // width))):
                    _add(results, (at * width + column) * out, sums, start, bias, summands, out)
                    start += out
            column += 1
            if column == width:
                line, column = line + 1, 0


@compiled
def _gather(
    x: np.ndarray,
    seen: np.ndarray,
    plane: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    width: int,
    first: int,
) -> None:
    """Row i of `seen`: the kh * kw * C values under the kernel at position first + i."""
    (N, C), (H, W), (kh, kw) = x.shape, plane, kernel
    values, to = x.reshape(N * C), seen.reshape(seen.size)
    line, column = first // width, first % width
    for i in range(len(seen)):
        top, left = line * stride[0] - padding[0], column * stride[1] - padding[1]
        start = i * kh * kw * C
        whole = top >= 0 and left >= 0 and left + kw <= W and (top + kh - 1) * W + left + kw <= N
        if whole and kw == W:
            _copy(to, start, values, top * W * C, kh * kw * C)
        elif whole:
            for dy in range(kh):
                _copy(to, start + dy * kw * C, values, ((top + dy) * W + left) * C, kw * C)
        else:
            for dy in range(kh):
                for dx in range(kw):
                    point = (top + dy) * W + left + dx
                    outside = top + dy < 0 or top + dy >= H or left + dx < 0 or left + dx >= W or point >= N
                    if outside:
                        to[start : start + C] = 0
                    else:
                        _copy(to, start, values, point * C, C)
                    start += C
        column += 1
        if column == width:
            line, column = line + 1, 0


# Unsigned, because an index that cannot be negative is not looked at; slices would cost more than what is copied.


@compiled
def _copy(to: np.ndarray, start: int, source: np.ndarray, at: int, count: int) -> None:
    first, begin = np.uintp(start), np.uintp(at)
    for i in range(np.uintp(count)):
        to[first + i] = source[begin + i]


@compiled
def _add(
    to: np.ndarray, start: int, source: np.ndarray, at: int, bias: np.ndarray, before: np.ndarray, count: int
) -> None:
    first, begin = np.uintp(start), np.uintp(at)
    if len(before):
        for i in range(np.uintp(count)):
            to[first + i] = before[first + i] + (source[begin + i] + bias[i])
    else:
        for i in range(np.uintp(count)):
            to[first + i] = source[begin + i] + bias[i]


# --- normalisation and attention --------------------------------------------------------------------------------------


@compiled
def _exp(x: Any) -> Any:
    """e^x in float32, to 2e-7; between e^-87 and e^88."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    power = (x * np.float32(1.4426950408889634) + _ROUND) - _ROUND
    # ln 2 in two parts; the first has so few bits that its multiples are exact.
    r = _fma(power, np.float32(2.12194440e-4), x - power * np.float32(0.693359375))
    p = np.float32(1 / 720)
    p = _fma(p, r, np.float32(1 / 120))
    p = _fma(p, r, np.float32(1 / 24))
    p = _fma(p, r, np.float32(1 / 6))
    p = _fma(p, r, np.float32(0.5))
    p = _fma(p, r, np.float32(1.0))
    p = _fma(p, r, np.float32(1.0))
    return p * np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled
def moments(x: np.ndarray, mean: np.ndarray, squares: np.ndarray, rows: int, first: int, last: int) -> None:
    """Find mean and sum of squares about it for each piece of `rows` rows of x (N, C); mean, squares (pieces, C)."""
    C = x.shape[1]
    for piece in range(first, last):
        part = x[piece * rows : (piece + 1) * rows]
        sums, about = mean[piece], squares[piece]
        sums[:] = 0
        about[:] = 0
        for i in range(len(part)):
            row = part[i]
            for c in range(C):
                sums[c] += row[c]
        for c in range(C):
            sums[c] /= len(part)
        for i in range(len(part)):
            row = part[i]
            for c in range(C):
                about[c] = _fma(row[c] - sums[c], row[c] - sums[c], about[c])


@compiled
def normalise(
    x: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    silu: bool,
    y: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Rows of y (N, C) = (x - mean) * scale + bias, times its own sigmoid if `silu`; mean, scale, bias (C,)."""
    C = x.shape[1]
    for i in range(first, last):
        row, result = x[i], y[i]
        for c in range(C):
            result[c] = _fma(row[c] - mean[c], scale[c], bias[c])
        if silu:
            for c in range(C):
                result[c] = result[c] / (np.float32(1) + _exp(-result[c]))


@compiled
def attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, y: np.ndarray, scale: float, rows: int, first: int, last: int
) -> None:
    """Rows of y (N, D) = softmax(q k^T * scale) v; all (N, D)."""
    for begin in range(first, last, rows):
        weights = np.dot(q[begin : begin + rows], k.T)
        for i in range(len(weights)):
            row = weights[i]
            top = row.max()
            for j in range(len(row)):
                row[j] = _exp((row[j] - top) * scale)
            row /= row.sum()
        np.dot(weights, v, y[begin : min(begin + rows, len(y))])


# --- the vocoder's activation -----------------------------------------------------------------------------------------

_SIN2_PI = np.array(
    [
        9.869603157043457,
        -32.469581604003906,
        42.72536087036133,
        -30.085744857788086,
        12.989892959594727,
        -3.2717061042785645,
    ],
    np.float32,
)
"""sin(pi r)^2 = sum of _SIN2_PI[k] r^(2k + 2) for |r| <= 1/2; minimax, error 6e-9 in exact arithmetic."""


@compiled
def snake(u: Any, frequency: Any, gain: Any) -> Any:
    """u + gain sin(pi frequency u)^2."""
    turns = u * frequency
    r = turns - ((turns + _ROUND) - _ROUND)
    w = r * r
    p = _SIN2_PI[5]
    p = _fma(p, w, _SIN2_PI[4])
    p = _fma(p, w, _SIN2_PI[3])
    p = _fma(p, w, _SIN2_PI[2])
    p = _fma(p, w, _SIN2_PI[1])
    p = _fma(p, w, _SIN2_PI[0])
    return _fma(gain * w, p, u)


@compiled
def _six(a: Any, i: Any, b: Any, j: Any, c: Any, k: Any, d: Any, m: Any, e: Any, n: Any, f: Any, o: Any) -> Any:
    """a i + b j + c k + d m + e n + f o."""
    return _fma(a, i, _fma(b, j, _fma(c, k, _fma(d, m, _fma(e, n, f * o)))))


@compiled
def activate(
    x: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
    frequency: np.ndarray,
    gain: np.ndarray,
    y: np.ndarray,
    rows: int,
    first: int,
    last: int,
) -> None:
    """Rows of y (T, C), as activation.polyphase but with frequency / pi; `rows` at a time, so that all stays in cache.

    Both phases of the doubled rate are kept apart, so that a filter is a sum of shifted slices. A row of time and
    channels is one flat array: a step in time is a shift by C.
    """
    T, C = x.shape
    values, results = x.reshape(T * C), y.reshape(T * C)
    f, g = np.empty((rows + 6) * C, np.float32), np.empty((rows + 6) * C, np.float32)
    for t in range(rows + 6):
        _copy(f, t * C, frequency, 0, C)
        _copy(g, t * C, gain, 0, C)
    padded = np.empty((rows + 12) * C, np.float32)
    even, odd = np.empty(len(f), np.float32), np.empty(len(f), np.float32)
    for begin in range(first, last, rows):
        end = min(begin + rows, last)
        source = values[max(begin - 6, 0) * C : min(end + 6, T) * C]
        if begin < 6 or end + 6 > T:  # beyond the sound, its first or last row is repeated
            for t in range(end - begin + 12):
                _copy(padded, t * C, values, min(max(begin - 6 + t, 0), T - 1) * C, C)
            source = padded[: (end - begin + 12) * C]
        _upsample(source, C, up, f, g, even, odd, (end - begin + 6) * C)
        # So is s: its first value is of the even phase, its last of the odd one.
        for t in range(begin - 3, min(0, end + 3)):
            for phase in (even, odd):
                _copy(phase, (t - begin + 3) * C, even, (3 - begin) * C, C)
        for t in range(max(T, begin - 3), end + 3):
            for phase in (even, odd):
                _copy(phase, (t - begin + 3) * C, odd, (T + 2 - begin) * C, C)
        _downsample(even, odd, C, down, results[begin * C : end * C])


@compiled
def _upsample(
    x: np.ndarray,
    C: int,
    up: np.ndarray,
    frequency: np.ndarray,
    gain: np.ndarray,
    even: np.ndarray,
    odd: np.ndarray,
    count: int,
) -> None:
    """Both phases of s for the rows t + 3 of x."""
    x0, x1, x2, x3 = x[:count], x[C : C + count], x[2 * C : 2 * C + count], x[3 * C : 3 * C + count]
    x4, x5, x6 = x[4 * C : 4 * C + count], x[5 * C : 5 * C + count], x[6 * C : 6 * C + count]
    a = np.float32(2) * up
    for i in range(count):
        u = _six(a[1], x5[i], a[3], x4[i], a[5], x3[i], a[7], x2[i], a[9], x1[i], a[11], x0[i])
        even[i] = snake(u, frequency[i], gain[i])
        u = _six(a[0], x6[i], a[2], x5[i], a[4], x4[i], a[6], x3[i], a[8], x2[i], a[10], x1[i])
        odd[i] = snake(u, frequency[i], gain[i])


@compiled
def _downsample(even: np.ndarray, odd: np.ndarray, C: int, down: np.ndarray, y: np.ndarray) -> None:
    """y for the rows t + 3 of both phases of s."""
    n = len(y)
    o0, o1, o2 = odd[:n], odd[C : C + n], odd[2 * C : 2 * C + n]
    o3, o4, o5 = odd[3 * C : 3 * C + n], odd[4 * C : 4 * C + n], odd[5 * C : 5 * C + n]
    e0, e1, e2 = even[C : C + n], even[2 * C : 2 * C + n], even[3 * C : 3 * C + n]
    e3, e4, e5 = even[4 * C : 4 * C + n], even[5 * C : 5 * C + n], even[6 * C : 6 * C + n]
    d = down
    for i in range(n):
        s = _six(d[0], o0[i], d[2], o1[i], d[4], o2[i], d[6], o3[i], d[8], o4[i], d[10], o5[i])
        y[i] = s + _six(d[1], e0[i], d[3], e1[i], d[5], e2[i], d[7], e3[i], d[9], e4[i], d[11], e5[i])
