"""Layers against slow references in float64, on every path that this machine can take."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from batchsr.models.compute import cpu, loops
from batchsr.models.compute.activation import kaiser_sinc, largest_distance, polyphase
from batchsr.models.compute.layers import (
    Attention,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    GroupNorm,
    Linear,
    upsample_nearest,
)
from batchsr.models.flashsr import mel, schedule
from batchsr.models.flashsr.config_sizes import MelConfig
from batchsr.models.flashsr.mel_bands import mel_bands

BOTH_WAYS = pytest.mark.parametrize("training", [True, False], ids=["plain", "cpu"])
"""In training layers are plain MLX, in evaluation on the CPU batchsr.models.compute.cpu computes them."""


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(out: mx.array, reference: np.ndarray, tolerance: float = 1e-5) -> bool:
    assert tuple(out.shape) == reference.shape
    return bool(np.linalg.norm(np.array(out) - reference) <= tolerance * np.linalg.norm(reference))


# --- the activation ---------------------------------------------------------------------------------------------------


def slow_activation(
    x: np.ndarray, up: np.ndarray, down: np.ndarray, frequency: np.ndarray, gain: np.ndarray
) -> np.ndarray:
    """As the authors do it: pad, transposed convolution by zero-stuffing, snake, pad, strided convolution."""
    B, T, C = x.shape
    y = np.empty((B, T, C))
    for b in range(B):
        for c in range(C):
            padded = np.pad(x[b, :, c].astype(np.float64), 5, mode="edge")
            stuffed = np.zeros(2 * len(padded))
            stuffed[::2] = padded
            u = 2 * np.convolve(stuffed, up)[15 : 15 + 2 * T]
            s = u + gain[c] * np.sin(frequency[c] * u) ** 2
            padded = np.pad(s, (5, 6), mode="edge")
            y[b, :, c] = [padded[2 * m : 2 * m + 12] @ down for m in range(T)]
    return y


def activation_inputs(B: int, T: int, C: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    taps = [(kaiser_sinc() + 0.004 * rng.standard_normal(12)).astype(np.float32) for _ in range(2)]  # not symmetric
    curves = [rng.uniform(0.3, 3, C).astype(np.float32) for _ in range(2)]
    return normal(B, T, C), *taps, *curves


@pytest.mark.parametrize("path", [polyphase, cpu.activation])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 2), (2, 7, 3), (1, 40, 4), (1, 5000, 60), (2, 5000, 60)])
def test_the_activation_is_the_authors(path: Callable[..., mx.array], shape: tuple[int, int, int]) -> None:
    inputs = activation_inputs(*shape)
    assert close(path(*map(mx.array, inputs)), slow_activation(*inputs), 1e-6)


def test_the_activation_passes_a_constant_and_shapes_it_alike_everywhere() -> None:
    taps = mx.array(kaiser_sinc().astype(np.float32))
    y = cpu.activation(mx.full((1, 64, 1), 0.5), taps, taps, mx.array([2.0]), mx.array([0.25]))
    assert np.allclose(np.array(y), 0.5 + 0.25 * np.sin(1.0) ** 2, atol=1e-6)


def test_large_arguments_keep_their_phase() -> None:
    v = np.linspace(-500, 500, 10_001).astype(np.float32)
    wide = v.astype(np.float64)
    out = np.array([loops.snake(u, np.float32(1), np.float32(1000)) for u in v])
    assert np.abs(out - (wide + 1000 * np.sin(np.pi * wide) ** 2)).max() < 1e-3


def test_the_self_test_tells_right_from_wrong() -> None:
    assert largest_distance(polyphase) == 0
    assert largest_distance(lambda x, up, down, f, g, b: polyphase(x, up, down, f, 1.01 * g, b)) > 1e-4
    assert np.isnan(largest_distance(lambda *inputs: polyphase(*inputs) * mx.array(float("nan"))))


# --- the rest ---------------------------------------------------------------------------------------------------------


@BOTH_WAYS
@pytest.mark.parametrize(
    ("channels", "out", "kernel", "stride", "dilation", "padding", "T"),
    [
        (5, 6, 3, 1, 1, 1, 40),
        (5, 6, 7, 1, 3, 9, 40),
        (5, 6, 11, 1, 5, 25, 41),  # the kernel reaches beyond both ends; lines of 5 do not fill 41
        (5, 6, 5, 1, 3, 7, 43),  # a padding that is no multiple of the dilation
        (5, 6, 4, 2, 1, 1, 40),
        (5, 6, 7, 1, 1, 0, 40),
        (1, 1, 7, 1, 1, 3, 1),
        (60, 50, 3, 1, 5, 5, 3000),  # more than one tile, whole products of many channels
        (6, 6, 7, 1, 3, 9, 7001),
        (3, 1, 7, 1, 1, 3, 7001),
        (50, 60, 12, 6, 1, 5, 6000),
    ],
)
def test_conv1d(
    channels: int, out: int, kernel: int, stride: int, dilation: int, padding: int, T: int, training: bool
) -> None:
    layer = Conv1d(channels, out, kernel, stride=stride, dilation=dilation, padding=padding).train(training)
    layer.bias = mx.array(normal(out))
    x = normal(2, T, channels)
    padded = np.pad(x.astype(np.float64), [(0, 0), (padding, padding), (0, 0)])
    weight = np.array(layer.weight).astype(np.float64)
    count = (padded.shape[1] - dilation * (kernel - 1) - 1) // stride + 1
    expected = sum(
        padded[:, k * dilation : k * dilation + stride * (count - 1) + 1 : stride] @ weight[:, k].T
        for k in range(kernel)
    )
    assert close(layer(mx.array(x)), expected + np.array(layer.bias))
    to = normal(*expected.shape, seed=2)
    assert close(layer.plus(mx.array(x), mx.array(to)), to + expected + np.array(layer.bias))


@BOTH_WAYS
@pytest.mark.parametrize(
    ("channels", "out", "kernel", "stride", "padding", "plane"),
    [
        (3, 4, 3, 1, 1, (9, 7)),
        (3, 4, 3, 2, 0, (9, 7)),
        (3, 4, 3, 2, 1, (9, 7)),
        (3, 4, 1, 1, 0, (9, 7)),
        (3, 4, 3, 1, 1, (1, 1)),
        (40, 50, 3, 1, 1, (40, 33)),
        (40, 1, 3, 1, 1, (41, 33)),
        (40, 50, 3, 2, 0, (41, 33)),
        (40, 50, 1, 1, 0, (40, 33)),
    ],
)
def test_conv2d(
    channels: int, out: int, kernel: int, stride: int, padding: int, plane: tuple[int, int], training: bool
) -> None:
    layer = Conv2d(channels, out, kernel, stride, padding).train(training)
    layer.bias = mx.array(normal(out))
    x = normal(2, *plane, channels)
    padded = np.pad(x.astype(np.float64), [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    H, W = ((padded.shape[i] - kernel) // stride + 1 for i in (1, 2))
    expected = sum(
        padded[:, i : i + stride * (H - 1) + 1 : stride, j : j + stride * (W - 1) + 1 : stride]
        @ np.array(layer.weight)[:, i, j].T.astype(np.float64)
        for i in range(kernel)
        for j in range(kernel)
    )
    assert close(layer(mx.array(x)), expected + np.array(layer.bias))
    to = normal(*expected.shape, seed=2)
    assert close(layer.plus(mx.array(x), mx.array(to)), to + expected + np.array(layer.bias))


@BOTH_WAYS
@pytest.mark.parametrize("laid_out", [False, True])
@pytest.mark.parametrize(("kernel", "rate"), [(20, 10), (12, 6), (4, 2), (5, 3), (3, 3)])
def test_transposed_conv1d(kernel: int, rate: int, laid_out: bool, training: bool) -> None:
    layer = ConvTranspose1d(3, 4, kernel, rate).train(training)
    layer.bias = mx.array(normal(4))
    if laid_out:
        layer.prepack()
    x, weight = normal(2, 11, 3), np.array(layer.weight).astype(np.float64)
    full = np.zeros((2, 10 * rate + kernel, 4))
    for i in range(11):
        for k in range(kernel):
            full[:, i * rate + k] += x[:, i] @ weight[:, k].T
    crop = (kernel - rate) // 2
    assert close(layer(mx.array(x)), full[:, crop : crop + 11 * rate] + np.array(layer.bias))


@BOTH_WAYS
@pytest.mark.parametrize("bias", [False, True])
def test_linear(bias: bool, training: bool) -> None:
    layer = Linear(30, 70, bias=bias).train(training)
    offset = np.zeros(70)
    if bias:
        layer.bias = mx.array(normal(70))
        offset = np.array(layer.bias)
    x = normal(2, 5, 300, 30)
    assert close(layer(mx.array(x)), x.astype(np.float64) @ np.array(layer.weight).T + offset)


@BOTH_WAYS
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_group_norm_is_over_space_and_channels_together(offset: float, silu: bool, training: bool) -> None:
    layer = GroupNorm(8, 1e-5, groups=2, silu=silu).train(training)
    layer.weight, layer.bias = mx.array(normal(8)), mx.array(normal(8, seed=1))
    x = normal(2, 6400, 5, 8) + np.float32(offset)
    grouped = x.astype(np.float64).reshape(2, 32_000, 2, 4)
    centred = grouped - grouped.mean(axis=(1, 3), keepdims=True)
    expected = centred / np.sqrt(centred.var(axis=(1, 3), keepdims=True) + 1e-5)
    expected = expected.reshape(x.shape) * np.array(layer.weight) + np.array(layer.bias)
    if silu:
        expected = expected / (1 + np.exp(-expected))
    assert close(layer(mx.array(x)), expected, 2e-4 if training else 1e-5)
    half = layer(mx.array(x).astype(mx.float16))
    assert close(half.astype(mx.float32), expected, 0.03)


def test_silu_over_its_whole_range() -> None:
    x = np.concatenate([np.linspace(-100, 100, 20_001), [0.0, 1e-8, -1e-8]]).astype(np.float32)[:, None]
    y, one = np.empty_like(x), np.ones(1, np.float32)
    loops.normalise(x, 0 * one, one, 0 * one, True, y, 0, len(x))
    wide = x.astype(np.float64)
    assert np.abs(y - wide / (1 + np.exp(-wide))).max() < 2e-6


@BOTH_WAYS
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_attention(heads: int, scale: float, training: bool) -> None:
    q, k, v = (normal(2, 700, 32, seed=i) for i in range(3))
    q *= np.float32(scale)  # then a few weights are nearly all
    expected = np.empty((2, 700, heads, 32 // heads))
    for h in range(heads):
        one, two, three = (a.astype(np.float64).reshape(2, 700, heads, -1)[:, :, h] for a in (q, k, v))
        scores = one @ two.transpose(0, 2, 1) / np.sqrt(32 // heads)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        expected[:, :, h] = weights / weights.sum(axis=-1, keepdims=True) @ three
    out = Attention(heads).train(training)(*(mx.array(a) for a in (q, k, v)))
    assert close(out, expected.reshape(2, 700, 32))


# --- the CPU's own promises -------------------------------------------------------------------------------------------


def cpu_results() -> list[np.ndarray]:
    """One of each kind, larger than a tile."""
    mx.random.seed(0)
    layers = [Conv1d(6, 6, 7, padding=9, dilation=3), Conv1d(60, 60, 3, padding=1), GroupNorm(60, 1e-5, groups=4)]
    layers += [Attention(2), Conv1d(1, 6, 7, padding=3)]
    inputs = [[normal(1, 30_001, 6)], [normal(1, 5_001, 60)], [normal(1, 9_001, 60)], [normal(1, 800, 8)] * 3]
    inputs += [[normal(1, 9_001, 1)]]
    results = [layer.eval()(*map(mx.array, xs)) for layer, xs in zip(layers, inputs, strict=True)]
    taps = mx.array(kaiser_sinc().astype(np.float32))
    results.append(cpu.activation(mx.array(normal(1, 9_001, 6)), taps, taps, mx.full((6,), 2.0), mx.full((6,), 0.5)))
    return [np.array(y) for y in results]


def test_bytes_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    _, pool = cpu._pool()
    results = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(cpu, "_pool", lambda threads=threads: (threads, pool))
        results.append([y.tobytes() for y in cpu_results()])
    assert all(result == results[0] for result in results)


def test_an_error_in_any_part_is_raised() -> None:
    def fails(first: int, last: int) -> None:
        if last == 1000:
            raise ValueError("the last part")

    with pytest.raises(ValueError, match="the last part"):
        cpu._share(fails, 1000, 1)


def test_nan_stays_nan() -> None:
    for layer in (Conv1d(3, 3, 3, padding=1), GroupNorm(3, 1e-5, groups=1, silu=True), Attention(1)):
        x = mx.array(np.full((1, 20, 3), np.nan, np.float32))
        inputs = [x] * (3 if isinstance(layer, Attention) else 1)
        assert np.isnan(np.array(layer.eval()(*inputs))).all()
    taps = mx.array(kaiser_sinc().astype(np.float32))
    assert np.isnan(np.array(cpu.activation(x, taps, taps, mx.ones((3,)), mx.ones((3,))))).all()


def test_layers_in_training_have_gradients_that_those_in_evaluation_must_not_replace() -> None:
    layer = Conv1d(4, 4, 3, padding=1)
    x = mx.array(normal(1, 20, 4))
    y, slope = mx.vjp(layer, [x], [mx.ones((1, 20, 4))])
    assert float(mx.abs(slope[0]).max()) > 0
    assert close(layer.eval()(x), np.array(y[0]))


def test_without_a_folder_for_the_cache_loops_are_compiled_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    calls = []

    def njit(*, cache: bool = False, **options: object) -> Callable[..., object]:
        calls.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    assert loops.compiled(abs)(-3) == 3
    assert calls == [True, False]


def test_nearest_upsampling_repeats_each_value() -> None:
    x = normal(1, 3, 2, 4)
    assert np.array_equal(np.array(upsample_nearest(mx.array(x))), x.repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 5), (4, 3, 3, 5)])
def test_a_weight_that_is_laid_out_keeps_its_values_and_needs_no_copy(shape: tuple[int, ...]) -> None:
    weight = normal(*shape)
    ordered = cpu.prepack(mx.array(weight))
    assert np.array_equal(np.array(ordered), weight)
    assert np.moveaxis(np.array(ordered, copy=False), 0, -1).flags.c_contiguous


def test_mel_of_a_tone_peaks_in_its_band() -> None:
    config = MelConfig()
    tone = np.sin(2 * np.pi * 3000 * np.arange(9600) / 48_000).astype(np.float32)
    layer = mel.LogMel(config)
    out = np.array(layer(mx.array(tone)[None]))[0]
    assert np.allclose(np.array(layer.eval()(mx.array(tone)[None]))[0], out, atol=1e-4)
    bands = mel_bands(config)
    hz = (bands * np.linspace(0, 24_000, 1025)).sum(axis=1) / bands.sum(axis=1).clip(1e-9)
    assert out.shape == (20, 256)
    assert abs(hz[out[10].argmax()] - 3000) < 30
    assert out.min() == pytest.approx(np.log(1e-5))


def test_the_bands_have_area_one() -> None:
    # Where a band is wide against a bin; the narrow ones miss or hit bins by luck.
    areas = mel_bands(MelConfig()).sum(axis=1) * (48_000 / 2048)
    assert np.allclose(areas[-100:], 1, atol=0.05)


def test_the_schedule_is_the_clipped_one() -> None:
    assert schedule.step_weights(999)[0] == pytest.approx(4.93e-5, rel=1e-3)
    assert schedule.step_weights(600)[0] == pytest.approx(0.58252, rel=1e-4)
    a = schedule.cumulative_alphas()
    assert len(a) == 1000
    assert (np.diff(a) < 0).all()
    for t in (0, 500, 999):
        assert np.hypot(*schedule.step_weights(t)) == pytest.approx(1)
