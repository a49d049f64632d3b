"""The same layers for the CPU, where a matrix product runs at the machine's speed and anything else at memory's.

Three things make the difference there:

- Convolutions are sums of matrix products, one a tap, each reading the same rows a little further on: nothing is
  copied, and the sum is formed in place by the product itself.
- Elementwise chains are compiled into loops that the C++ compiler vectorises, which it does only while a loop has few
  arrays (it must check them all against each other for overlap), no broadcast, and no call into the maths library. So
  the loops below are cut to that measure, and transcendental functions are polynomials. Without a C++ compiler MLX
  runs the same operations one by one: slower, same results but for rounding.
- Loops run on one core only, so what can be cut in pieces alternates between two streams.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import mlx.core as mx

CHUNK_ELEMENTS = 1 << 18
"""Elements of one array of a piece: a piece's handful of arrays should stay in the cache."""
HALO = 3
"""Samples at the doubled rate's phases that the downsampling filter reaches over, either way."""

SIN2_PI_TERMS = (
    9.869603157043457,
    -32.469581604003906,
    42.72536087036133,
    -30.085744857788086,
    12.989892959594727,
    -3.2717061042785645,
)
"""sin(pi r)^2 = sum of SIN2_PI_TERMS[k] r^(2k + 2) for |r| <= 1/2; minimax, error 6e-9 in exact arithmetic."""
TANH_NUMERATOR = (0.999999981, 0.129792213, 0.00298585968, 9.87864066e-06, -1.47041666e-08, 2.35084835e-11)
TANH_DENOMINATOR = (1.0, 0.463125373, 0.0240279152, 0.000237202931)
"""tanh(y) = y P(y^2) / Q(y^2) for |y| <= 8; fitted for the least relative error, 2e-8."""
TANH_RANGE = 8.0
_ROUND = 12582912.0
"""1.5 * 2^23: adding and subtracting it rounds a float32 below 2^22 to the nearest integer."""


# --- convolutions -----------------------------------------------------------------------------------------------------


def tap_major(weight: mx.array) -> mx.array:
    """The same weight (out, ..., in) with its memory ordered (..., in, out): each tap is then one contiguous matrix."""
    axes = list(range(1, weight.ndim))
    return mx.contiguous(weight.transpose(*axes, 0)).transpose(weight.ndim - 1, *range(weight.ndim - 1))


def conv1d(x: mx.array, weight: mx.array, bias: mx.array, padding: int, dilation: int) -> mx.array:
    """Stride 1. x (B, T, C), weight (out, k, C) -> (B, T', out)."""
    kernel = weight.shape[1]
    T = x.shape[1] + 2 * padding - dilation * (kernel - 1)
    padded = mx.pad(x, [(0, 0), (padding, padding), (0, 0)])
    taps = [(k * dilation, weight[:, k].T) for k in range(kernel)]
    return mx.stack([_sum_of_products(row, taps, bias, T) for row in padded])


def conv2d(x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
    """Stride 1, same size. x (B, H, W, C), weight (out, 3, 3, C) -> (B, H, W, out).

    Rows are laid end to end with one column of zeros between them, which serves as the right border of one row and the
    left border of the next, so that a tap is a shift along a single axis. The results at that column are dropped.
    """
    B, H, W, C = x.shape
    pitch = W + 1
    padded = mx.pad(x, [(0, 0), (2, 2), (0, 1), (0, 0)]).reshape(B, (H + 4) * pitch, C)
    taps = [((1 + dy) * pitch + dx - 1, weight[:, dy, dx].T) for dy in range(3) for dx in range(3)]
    rows = [_sum_of_products(row, taps, bias, H * pitch) for row in padded]
    return mx.stack(rows).reshape(B, H, pitch, -1)[:, :, :W]


def _sum_of_products(row: mx.array, taps: Sequence[tuple[int, mx.array]], bias: mx.array, length: int) -> mx.array:
    """bias + sum of row[start : start + length] @ matrix over the taps; row (T, C) -> (length, out)."""
    y = mx.broadcast_to(bias, (length, bias.shape[0]))
    for start, matrix in taps:
        y = mx.addmm(y, row[start : start + length], matrix)
    return y


# --- elementwise chains -----------------------------------------------------------------------------------------------


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x), to 3e-7 of |x|."""
    return _silu()(x)


def group_norm(x: mx.array, groups: int, eps: float, weight: mx.array, bias: mx.array) -> mx.array:
    """As layers.GroupNorm, in float32."""
    B, C = x.shape[0], x.shape[-1]
    rows = x.reshape(B, -1, C)
    mean = _group_mean(_mean(rows), groups)
    centred = rows - mean[:, None]
    scale = weight * mx.rsqrt(_group_mean(_mean(mx.square(centred)), groups) + eps)
    return (centred * scale[:, None] + bias).reshape(x.shape)


def _mean(rows: mx.array) -> mx.array:
    """(B, N, C) -> (B, C). In two steps: one long float32 sum would lose the fifth digit."""
    B, N, C = rows.shape
    step = next((n for n in (512, 256, 128, 64, 32) if N % n == 0), N)
    return rows.reshape(B, N // step, step, C).sum(axis=2).sum(axis=1) * (1.0 / N)


def _group_mean(channels: mx.array, groups: int) -> mx.array:
    """(B, C) -> (B, C), each channel the mean of its group."""
    B, C = channels.shape
    mean = channels.reshape(B, groups, -1).mean(axis=-1, keepdims=True)
    return mx.broadcast_to(mean, (B, groups, C // groups)).reshape(B, C)


def _tree(terms: Sequence[mx.array]) -> mx.array:
    """Sum in a tree: MLX stops fusing at a depth of eleven."""
    while len(terms) > 1:
        terms = [sum(terms[i + 1 : i + 2], terms[i]) for i in range(0, len(terms), 2)]
    return terms[0]


@functools.cache
def _silu() -> Callable[[mx.array], mx.array]:
    p, q = TANH_NUMERATOR, TANH_DENOMINATOR

    def ratio(x: mx.array) -> mx.array:
        """tanh(x / 2)"""
        y = mx.minimum(mx.maximum(x * 0.5, -TANH_RANGE), TANH_RANGE)
        w = y * y
        w2 = w * w
        above = (p[0] + p[1] * w) + w2 * ((p[2] + p[3] * w) + w2 * (p[4] + p[5] * w))
        below = (q[0] + q[1] * w) + w2 * (q[2] + q[3] * w)
        return y * above / below

    fused = mx.compile(ratio)
    gate = mx.compile(lambda x, t: x * (0.5 * t + 0.5))
    return lambda x: gate(x, fused(x))


# --- the vocoder's activation -----------------------------------------------------------------------------------------

Taps = tuple[float, ...]


def activation(x: mx.array, up: Taps, down: Taps, frequency: mx.array, gain: mx.array) -> mx.array:
    """As activation.polyphase, x (B, T, C) float32.

    Everything is scaled by frequency / pi, so that the sine's period is one; both phases of the doubled rate are kept
    apart, so that the filters are sums of shifted arrays. Pieces of T alternate between two streams.
    """
    B, T, C = x.shape
    scale = frequency * (1.0 / math.pi)
    rows = max(16, CHUNK_ELEMENTS // C)
    # Copies of the channels' constants for every row, because a loop with a broadcast in it is not vectorised.
    shape = (B, min(rows, T) + 4 * HALO, C)
    tiles = [mx.contiguous(mx.broadcast_to(v, shape)) for v in (scale, gain * scale, 1.0 / scale)]
    pieces = []
    for number, start in enumerate(range(0, T, rows)):
        stop = min(start + rows, T)
        with mx.stream(_streams()[number % 2]):
            to_scale, of_sine, back = (tile[:, : stop - start + n] for tile, n in zip(tiles, (12, 6, 0), strict=True))
            even, odd = _upsampled(_piece(x, start, stop) * to_scale, up, of_sine)
            even, odd = _replicated(even, odd, first=start == 0, last=stop == T)
            pieces.append(_downsampled(even, odd, down, back))
    return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces, axis=1)


def _piece(x: mx.array, start: int, stop: int) -> mx.array:
    """Rows start - 6 .. stop + 6; what lies beyond the sound repeats its first or last row."""
    T = x.shape[1]
    before, after = max(2 * HALO - start, 0), max(stop + 2 * HALO - T, 0)
    inner = x[:, max(start - 2 * HALO, 0) : min(stop + 2 * HALO, T)]
    if not before and not after:
        return inner
    first, last = (mx.repeat(x[:, i : i + 1], n, axis=1) for i, n in ((0, before), (T - 1, after)))
    return mx.concatenate([first, inner, last], axis=1)


@functools.cache
def _streams() -> tuple[mx.Stream, mx.Stream]:
    return mx.default_stream(mx.cpu), mx.new_stream(mx.cpu)


def _upsampled(piece: mx.array, up: Taps, gain: mx.array) -> tuple[mx.array, mx.array]:
    """Rows t - 6 .. t + n + 6 of the sound -> both phases of s for rows t - 3 .. t + n + 3."""
    to_even, to_odd = _upsample_filters(up)
    count = piece.shape[1] - 2 * HALO
    shifted = [piece[:, 2 * HALO - q : 2 * HALO - q + count] for q in range(7)]
    snake = _snake()
    return snake(to_even(*shifted[1:]), gain), snake(to_odd(*shifted[:6]), gain)


def _replicated(even: mx.array, odd: mx.array, *, first: bool, last: bool) -> tuple[mx.array, mx.array]:
    """At the ends of the sound, s is repeated: its first value is of the even phase, its last of the odd one."""
    if first:
        edge = mx.repeat(even[:, HALO : HALO + 1], HALO, axis=1)
        even, odd = (mx.concatenate([edge, phase[:, HALO:]], axis=1) for phase in (even, odd))
    if last:
        edge = mx.repeat(odd[:, -HALO - 1 : -HALO], HALO, axis=1)
        even, odd = (mx.concatenate([phase[:, :-HALO], edge], axis=1) for phase in (even, odd))
    return even, odd


def _downsampled(even: mx.array, odd: mx.array, down: Taps, back: mx.array) -> mx.array:
    """Both phases of s for rows t - 3 .. t + n + 3 -> y for rows t .. t + n, scaled back."""
    from_odd, from_even = _downsample_filters(down)
    count = even.shape[1] - 2 * HALO
    half = from_odd(*[odd[:, k : k + count] for k in range(6)])
    return from_even(*[even[:, k + 1 : k + 1 + count] for k in range(6)], half, back)


@functools.cache
def _upsample_filters(up: Taps) -> tuple[Callable[..., mx.array], Callable[..., mx.array]]:
    """Sums over x[m + 2 - q] and x[m + 3 - q]. The taps are constants of the loop: arrays would be broadcast."""

    def even(*shifted: mx.array) -> mx.array:
        return _tree([2.0 * up[2 * q + 1] * shifted[q] for q in range(6)])

    def odd(*shifted: mx.array) -> mx.array:
        return _tree([2.0 * up[2 * q] * shifted[q] for q in range(6)])

    return mx.compile(even), mx.compile(odd)


@functools.cache
def _downsample_filters(down: Taps) -> tuple[Callable[..., mx.array], Callable[..., mx.array]]:
    """Of 2m + k - 5, even k fall on row m + k / 2 - 3 of the odd phase, odd k on m + (k - 5) / 2 of the even one."""

    def from_odd(*shifted: mx.array) -> mx.array:
        return _tree([down[2 * k] * shifted[k] for k in range(6)])

    def from_even(*arrays: mx.array) -> mx.array:
        *shifted, half, back = arrays
        return (half + _tree([down[2 * k + 1] * shifted[k] for k in range(6)])) * back

    return mx.compile(from_odd), mx.compile(from_even)


@functools.cache
def _snake() -> Callable[[mx.array, mx.array], mx.array]:
    """(v, gain) -> v + gain sin(pi v)^2, no deeper than MLX fuses."""
    a = SIN2_PI_TERMS

    def snake(v: mx.array, gain: mx.array) -> mx.array:
        rest = v - ((v + _ROUND) - _ROUND)  # signed distance to the nearest integer
        w = rest * rest
        w2 = w * w
        polynomial = ((a[0] + a[1] * w) + w2 * (a[2] + a[3] * w)) + (w2 * w2) * (a[4] + a[5] * w)
        return v + (gain * w) * polynomial

    fused: Callable[[mx.array, mx.array], mx.array] = mx.compile(snake)
    return fused
