"""Kernels for NVIDIA GPUs beside the activation's, for inference: what MLX spends there on anything but arithmetic.

    group_norm   the norm of x + bias, then SiLU: two kernels, one where there are few positions, that read x twice and
                 write it once, where plain operations take seven passes and as many launches
    add          x + (h + bias), the end of a residual block, in one pass
    geglu        the first half of the channels times the GELU of the second: one launch instead of seven
    attention    self-attention in half precision, heads of 32 channels, read from where one product has left queries,
                 keys and values: one launch instead of a dozen operations
    conv1d       a convolution of 48 channels on the tensor cores, bias and residual added before it is written;
                 cuDNN is two to three times as slow at that, and faster from 96 on. In float32 too, without TF32

All compute in float32 and round once. `kernels(dtype)` compares them with plain operations before anybody uses them.
What cuDNN is not trusted with, convolutions in float32, are matrix products (`products`); what it is slow at, dilated
ones, are given to it as others (`dilated`).

Longer than other modules: each kernel's call stands beside the test that all of them have to pass.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from batchsr.models.compute import kernel_test, nvrtc, proven
from batchsr.models.compute.cuda_kernels import SOURCES

GROUPS = 32
"""Groups of the group norm; eight threads add up each."""
VECTOR = 8
"""Neighbouring channels of one load or store; channels must be a multiple of it."""
THREADS = 256
MAX_CHANNELS = THREADS * VECTOR
"""Most channels of the group norm, whose blocks hold a whole position."""
SLAB_ELEMENTS, MAX_SLABS = 1 << 15, 128
"""Elements of a row that a block of the norm sums up, and the most blocks a row."""
MAX_SMALL = 24_576
"""Most elements of a group and row whose norm is one kernel: all of the UNet's at the published size, which costs the
host more to prepare than the GPU to compute."""
ATTENTION_CHANNELS, ATTENTION_QUERIES = 32, 64
"""Channels of a head that the attention is made for, and queries of a block of 128 threads."""
CONV_THREADS = 128
CONV_PRODUCTS = {(48, 2): 4, (48, 4): 2}
"""Channels of a convolution and bytes of a value -> 16-row products a warp; the tile must fit 48 KiB."""
MAX_REACH = 50
"""Most rows that a convolution may read beyond its tile, (taps - 1) * dilation."""
TOLERANCES = {mx.float32: 1e-5, mx.float16: 3e-3, mx.bfloat16: 3e-2}
"""Largest relative distance of norms between a kernel and float32; rounding makes a tenth of it."""


class Kernels(NamedTuple):
    """What `kernels` found to work."""

    add: Callable[..., mx.array]
    geglu: Callable[..., mx.array]
    group_norm: Callable[..., mx.array]
    conv1d: Callable[..., mx.array]
    attention: Callable[..., mx.array]


def kernels(dtype: mx.Dtype) -> Kernels | None:
    """Return the kernels for arrays of a type, or None where there is no CUDA or they do not compute what they
    should."""
    return verdict(dtype).used


@functools.cache
def verdict(dtype: mx.Dtype) -> kernel_test.Verdict[Kernels]:
    """Return the same, with the reason where there are none."""
    if not mx.cuda.is_available() or dtype not in TOLERANCES:
        return kernel_test.Verdict(None, "no CUDA")
    return judged(Kernels(add, geglu, group_norm, conv1d, attention), dtype, proven.circumstances("cuda", str(dtype)))


def judged(candidates: Kernels, dtype: mx.Dtype, circumstances: str | None = None) -> kernel_test.Verdict[Kernels]:
    """Return the candidates, or nothing and a warning where they do not run or give wrong numbers."""
    return kernel_test.judged(
        "the CUDA kernels",
        lambda: candidates,
        lambda c: largest_distance(c, dtype),
        TOLERANCES[dtype],
        circumstances,
    )


def largest_distance(candidates: Kernels, dtype: mx.Dtype) -> float:
    """Largest relative distance (of norms) of the kernels to plain operations in float32, on small arrays."""
    rng = np.random.default_rng(0)
    distances = []

    def random(*shape: int) -> mx.array:
        return mx.array(rng.standard_normal(shape).astype(np.float32)).astype(dtype)

    def compare(out: mx.array, expected: mx.array) -> None:
        distance = mx.linalg.norm((out.astype(mx.float32) - expected).reshape(-1))
        distances.append((distance / mx.linalg.norm(expected.reshape(-1))).item())

    x, h, bias, weight, beta = random(2, 70, 96), random(2, 70, 96), random(2, 96), random(96), random(96)
    wide = [a.astype(mx.float32) for a in (x, h, bias, weight, beta)]
    compare(candidates.add(x, h, beta), wide[0] + wide[1] + wide[4])
    value, gate = mx.split(wide[0], 2, axis=-1)
    compare(candidates.geglu(x), value * gate * 0.5 * (1 + mx.erf(gate * math.sqrt(0.5))))
    grouped = (wide[0] + wide[2][:, None]).reshape(2, 70, 32, 3)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    normal = (grouped - mean) * mx.rsqrt(mx.square(grouped - mean).mean(axis=(1, 3), keepdims=True) + 1e-5)
    normal = normal.reshape(x.shape) * wide[3] + wide[4]
    for most_small in (0, MAX_SMALL):
        compare(candidates.group_norm(x, bias, weight, beta, 1e-5, False, most_small), normal)
        compare(candidates.group_norm(x, bias, weight, beta, 1e-5, True, most_small), normal * mx.sigmoid(normal))
    if attends(ATTENTION_CHANNELS, dtype):
        qkv = random(2 * 70, 3 * 2 * ATTENTION_CHANNELS)
        q, k, v = qkv.astype(mx.float32).reshape(2, 70, 3, 2, -1).transpose(2, 0, 3, 1, 4)
        scores = mx.softmax(q @ k.swapaxes(-1, -2) * ATTENTION_CHANNELS**-0.5, axis=-1)
        compare(candidates.attention(qkv, 2, 2), (scores @ v).transpose(0, 2, 1, 3).reshape(2 * 70, -1))
    for channels in (channels for channels, size in CONV_PRODUCTS if size == dtype.size):
        x, w, bias = random(2, 150, channels), random(channels, 5, channels), random(channels)
        wide = [np.array(a.astype(mx.float32), np.float64) for a in (x, w, bias)]
        padded = np.pad(wide[0], [(0, 0), (6, 6), (0, 0)])
        expected = mx.array(sum(padded[:, 3 * k : 3 * k + 150] @ wide[1][:, k].T for k in range(5)) + wide[2])
        compare(candidates.conv1d(x, packed(w), bias, 3), expected)
        compare(candidates.conv1d(x, packed(w), bias, 3, x), expected + x)
    return float(np.max(distances))  # NaN stays NaN


@functools.cache
def _kernel(name: str) -> Callable[..., list[mx.array]]:
    inputs, output, header, body = SOURCES[name]
    kernel: Callable[..., list[mx.array]] = nvrtc.cuda_kernel(
        name="batchsr_" + name, input_names=inputs, output_names=[output], header=header, source=body
    )
    return kernel


@functools.lru_cache(maxsize=None, typed=True)
def _options(*values: float) -> mx.array:
    """Return a kernel's constants, float32 if the first is a float, else int32; kept, for each copy to the GPU is a
    wait."""
    return mx.array(values, mx.float32 if isinstance(values[0], float) else mx.int32)


def add(x: mx.array, h: mx.array, bias: mx.array) -> mx.array:
    """x + (h + bias): x, h (B, ..., C), bias (C,)."""
    vectors = x.size // VECTOR
    (y,) = _kernel("add")(
        inputs=[x, h, bias, _options(vectors, x.shape[-1] // VECTOR)],
        template=[("T", x.dtype)],
        grid=(_whole(vectors, THREADS), 1, 1),
        threadgroup=(THREADS, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    return y


def geglu(x: mx.array) -> mx.array:
    """Return the first half of x (..., 2 C), C a multiple of VECTOR, times the GELU of the second: (..., C)."""
    C = x.shape[-1] // 2
    rows = x.size // (2 * C)
    (y,) = _kernel("geglu")(
        inputs=[x.reshape(rows, 2 * C)],
        template=[("T", x.dtype)],
        grid=(_whole(rows * C // VECTOR, THREADS), 1, 1),
        threadgroup=(THREADS, 1, 1),
        output_shapes=[(rows, C)],
        output_dtypes=[x.dtype],
    )
    return y.reshape(*x.shape[:-1], C)


def group_norm(
    x: mx.array,
    bias: mx.array | None,
    weight: mx.array,
    beta: mx.array,
    eps: float,
    activate: bool,
    most_small: int = MAX_SMALL,
) -> mx.array:
    """Return the norm of x + bias, scaled by `weight` and shifted by `beta`, then SiLU if `activate`.

    x (B, ..., C), bias (C,) or (B, C), weight and beta (C,). With up to `most_small` elements of a group and row it is
    one kernel, else two.
    """
    B, C = x.shape[0], x.shape[-1]
    P = x.size // (B * C)
    bias = _zeros(C, x.dtype) if bias is None else bias
    slabs = min(max(P * C // SLAB_ELEMENTS, 1), MAX_SLABS)
    options, sizes = _options(float(eps), float(activate)), _options(slabs, P, C, bias.size // C)
    elements = P * C // GROUPS
    if elements <= most_small:
        together = next(n for n in (4, 2, 1) if C // GROUPS % n == 0)
        (y,) = _kernel("small_norm")(
            inputs=[x, bias, weight, beta, options, sizes],
            template=[("T", x.dtype), ("V", together)],
            grid=(B * GROUPS * THREADS, 1, 1),
            output_shapes=[x.shape],
            output_dtypes=[x.dtype],
            threadgroup=(THREADS, 1, 1),
        )
        return y
    (partial,) = _kernel("statistics")(
        inputs=[x, bias, sizes],
        template=[("T", x.dtype)],
        grid=(B * slabs * THREADS, 1, 1),
        output_shapes=[(B, slabs, GROUPS, 2)],
        output_dtypes=[mx.float32],
        threadgroup=(THREADS, 1, 1),
    )
    (y,) = _kernel("normalise")(
        inputs=[x, partial, bias, weight, beta, options, sizes],
        template=[("T", x.dtype)],
        grid=(B * 2 * slabs * THREADS, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        threadgroup=(THREADS, 1, 1),
    )
    return y


@functools.cache
def _zeros(channels: int, dtype: mx.Dtype) -> mx.array:
    return mx.zeros((channels,), dtype)


def attends(head_channels: int, dtype: mx.Dtype) -> bool:
    """Return whether `attention` is made for heads of so many channels, of this type."""
    return head_channels == ATTENTION_CHANNELS and dtype.size == 2


def attention(qkv: mx.array, heads: int, rows: int) -> mx.array:
    """Return softmax(q k^T / sqrt(C / heads)) v for each head and row: qkv (rows * L, 3 C), q, k, v side by side.

    The result is (rows * L, C).
    """
    C = qkv.shape[-1] // 3
    length = qkv.shape[0] // rows
    (y,) = _kernel("attention")(
        inputs=[qkv, _options((C / heads) ** -0.5), _options(length, C)],
        template=[("T", qkv.dtype), ("D", C // heads)],
        grid=(_whole(length, ATTENTION_QUERIES) // ATTENTION_QUERIES * CONV_THREADS, rows * heads, 1),
        threadgroup=(CONV_THREADS, 1, 1),
        output_shapes=[(rows * length, C)],
        output_dtypes=[qkv.dtype],
    )
    return y


def packed(weight: mx.array) -> mx.array:
    """Return a convolution's weight (C, taps, C) in the order in which the lanes of a warp read it, (parts, taps, C *
    C)."""
    C, taps, _ = weight.shape
    parts = [weight]
    if weight.dtype == mx.float32:
        high = weight.astype(mx.float16)
        parts = [high, (weight - high).astype(mx.float16)]
    # out = pair, half of it, lane / 4; in = step, half of it, lane % 4, one of two.
    split = mx.stack(parts).reshape(len(parts), C // 16, 2, 8, taps, C // 16, 2, 4, 2)
    return mx.contiguous(split.transpose(0, 4, 5, 1, 3, 7, 2, 6, 8).reshape(len(parts), taps, C * C))


def conv1d(x: mx.array, weight: mx.array, bias: mx.array, dilation: int, residual: mx.array | None = None) -> mx.array:
    """Stride 1, same size, + bias + residual. x, residual (B, T, C), weight `packed`, its taps odd."""
    B, T, C = x.shape
    products = CONV_PRODUCTS[C, x.dtype.size]
    shape = [("C", C), ("MT", products), ("REACH", MAX_REACH), ("PARTS", weight.shape[0])]
    (y,) = _kernel("conv")(
        inputs=[x, weight, bias, x if residual is None else residual, _options(dilation, int(residual is not None))],
        template=[("T", x.dtype), ("H", weight.dtype), *shape],
        grid=(_whole(T, 64 * products) // (64 * products) * CONV_THREADS, B, 1),
        threadgroup=(CONV_THREADS, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    return y


def dilated(x: mx.array, weight: mx.array, padding: int, dilation: int) -> mx.array:
    """Return the convolution of x (B, T, C) with weight (out, taps, C), stride 1, as one that is not dilated.

    Every `dilation`-th sample makes a sound of its own: laid side by side, which moves nothing, they are the columns of
    a plane, whose convolution along the other axis it is. cuDNN is up to twice as fast at that. `padding` is a multiple
    of `dilation` and keeps the length.
    """
    B, T, C = x.shape
    rest = -T % dilation
    if rest:
        x = mx.pad(x, [(0, 0), (0, rest), (0, 0)])
    y = mx.conv2d(x.reshape(B, -1, dilation, C), weight[:, :, None], 1, (padding // dilation, 0))
    y = y.reshape(B, T + rest, -1)
    return y[:, :T] if rest else y


def products(x: mx.array, weight: mx.array, stride: int, padding: tuple[int, int], dilation: int = 1) -> mx.array:
    """Return the convolution of x (B, H, W, C) with weight (out, kh, kw, C) as a matrix product for each row of its
    kernel.

    For float32: without TF32 cuDNN is half as fast, and takes workspaces of gigabytes, with which MLX 0.32 aborts when
    they reach two. `padding` is of H and W, `dilation` of H alone. Takes kw times the memory of x.
    """
    out, kh, kw, C = weight.shape
    padded = mx.pad(x, [(0, 0), *((p, p) for p in padding), (0, 0)])
    B, H, W, _ = padded.shape
    rows, columns = (H - dilation * (kh - 1) - 1) // stride + 1, (W - kw) // stride + 1
    side = mx.concatenate([padded[:, :, j : j + stride * (columns - 1) + 1 : stride] for j in range(kw)], axis=-1)
    seen = [side[:, i * dilation : i * dilation + stride * (rows - 1) + 1 : stride] for i in range(kh)]
    first, *others = zip(
        [a.reshape(B, -1, kw * C) for a in seen], weight.reshape(out, kh, -1).transpose(1, 2, 0), strict=True
    )
    y = first[0] @ first[1]
    for piece, taps in others:
        y = mx.addmm(y, piece, taps)
    return y.reshape(B, rows, columns, out)


def _whole(count: int, of: int) -> int:
    """Return the smallest multiple of `of` that is not below `count`."""
    return -(-count // of) * of
