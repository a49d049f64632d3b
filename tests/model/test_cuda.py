"""The kernels for NVIDIA GPUs, run on this processor: alone, inside the networks' blocks, and where they fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_map

from batchsr.models.compute import activation, cuda, kernels, layers, nvrtc
from batchsr.models.flashsr import unet
from batchsr.models.flashsr.unet import ResBlock, SpatialTransformer
from batchsr.models.flashsr.vae import ResnetBlock
from batchsr.models.flashsr.vocoder import AmpBlock

from . import cuda_on_cpu

OURS = cuda.Kernels(cuda.add, cuda.geglu, cuda.group_norm, cuda.conv1d, cuda.attention)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not cuda_on_cpu.COMPILER:
        pytest.skip("no C++ compiler is installed")
    monkeypatch.setattr(nvrtc, "cuda_kernel", cuda_on_cpu.cuda_kernel)
    cuda._kernel.cache_clear()
    monkeypatch.setattr(cuda, "kernels", lambda dtype: OURS)
    for module in (layers, unet):
        monkeypatch.setattr(module, "on_cpu", lambda: False)
    monkeypatch.setattr(layers, "by_products", lambda layer, x: not layer.training and x.dtype == mx.float32)
    yield
    cuda._kernel.cache_clear()


def normal(*shape: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16])
def test_the_kernels_pass_their_own_test(dtype: mx.Dtype) -> None:
    assert cuda.largest_distance(OURS, dtype) < cuda.TOLERANCES[dtype]


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("kernels", ["one", "two"])
@pytest.mark.parametrize(("rows", "mean", "channels"), [(1, 0, 64), (31, 1000, 32), (300, 1000, 128)])
def test_the_norm_keeps_its_digits_beside_a_large_mean_and_at_any_length(
    rows: int, mean: int, channels: int, kernels: str
) -> None:
    """Groups of one, two and four channels; rows that are a plane, as in the networks."""
    x, weight, bias = normal(2, rows, 1, channels) + mean, normal(channels, seed=1), normal(channels, seed=2)
    wide = np.array(x).astype(np.float64).reshape(2, rows, 32, channels // 32)
    wide = (wide - wide.mean(axis=(1, 3), keepdims=True)) / np.sqrt(wide.var(axis=(1, 3), keepdims=True) + 1e-6)
    expected = wide.reshape(x.shape) * np.array(weight) + np.array(bias)
    most_small = 0 if kernels == "two" else cuda.MAX_SMALL
    out = np.array(cuda.group_norm(x, None, weight, bias, 1e-6, False, most_small))
    assert np.linalg.norm(out - expected) <= 1e-4 * np.linalg.norm(expected)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(
    ("rows", "length", "heads", "loud"), [(1, 3, 1, 1), (2, 64, 2, 1), (3, 33, 1, 30), (1, 130, 2, 9)]
)
def test_the_attention_is_exact_at_any_length_and_loudness(rows: int, length: int, heads: int, loud: int) -> None:
    """Also where the largest product comes last, and where a softmax is all but one key's."""
    C = 32 * heads
    qkv = normal(rows * length, 3 * C)
    qkv[:, : 2 * C] *= mx.linspace(0.1, loud, rows * length)[:, None]
    half = qkv.astype(mx.float16)
    q, k, v = np.array(half.astype(mx.float32), np.float64).reshape(rows, length, 3, heads, 32).transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(32)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    expected = (scores / scores.sum(axis=-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(rows * length, C)
    out = np.array(cuda.attention(half, heads, rows).astype(mx.float32))
    assert np.linalg.norm(out - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.usefixtures("emulated")
def test_the_unet_s_attention_in_half_precision_is_the_kernel_s(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[mx.array] = []

    def counted(*given: Any) -> mx.array:
        used.append(cuda.attention(*given))
        return used[-1]

    monkeypatch.setattr(cuda, "kernels", lambda dtype: OURS._replace(attention=counted))
    block = unet.SelfAttention(64, 32)
    x = normal(2 * 40, 64)
    expected = block(x, 2)  # in training, by plain operations
    block.set_dtype(mx.float16)
    block.eval()
    block.prepack()
    out = block(x.astype(mx.float16), 2)
    assert len(used) == 1
    assert mx.linalg.norm(out - expected).item() <= 3e-3 * mx.linalg.norm(expected).item()


BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[mx.array, ...]]] = {
    "vae": (lambda: ResnetBlock(32, 64), (normal(2, 5, 6, 32),)),
    "unet": (lambda: ResBlock(64, 24, 32), (normal(2, 5, 6, 64), normal(2, 24, seed=1))),
    "unet, attention": (lambda: SpatialTransformer(64, 16), (normal(2, 5, 6, 64),)),
    "vocoder, own convolution": (lambda: AmpBlock(48, 3, (1, 5)), (normal(2, 150, 48),)),
    "vocoder, products": (lambda: AmpBlock(16, 3, (1, 5)), (normal(2, 150, 16),)),
}


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_by_the_kernels_is_the_plain_block(name: str) -> None:
    make, inputs = BLOCKS[name]
    block = make()
    block.update(tree_map(lambda p: normal(*p.shape, seed=p.size) * 0.3, block.trainable_parameters()))
    plain = block(*inputs)  # in training, where kernels have no place
    block.eval()
    for layer in block.modules():
        if hasattr(layer, "prepack"):
            layer.prepack()
    used = any(getattr(layer, "_packed", None) is not None for layer in block.modules())
    assert used == ("own" in name)
    assert mx.linalg.norm(block(*inputs) - plain).item() <= 1e-5 * mx.linalg.norm(plain).item()


@pytest.mark.parametrize(
    ("size", "weight", "stride", "padding", "dilation"),
    [
        ((40, 1, 5), (6, 7, 1, 5), 1, (9, 0), 3),
        ((41, 1, 5), (6, 11, 1, 5), 1, (25, 0), 5),  # reaches beyond both ends
        ((40, 1, 1), (6, 7, 1, 1), 1, (3, 0), 1),
        ((60, 1, 5), (6, 12, 1, 5), 6, (5, 0), 1),
        ((17, 12, 5), (4, 3, 3, 5), 1, (1, 1), 1),
        ((18, 12, 5), (4, 3, 3, 5), 2, (0, 0), 1),
    ],
)
def test_a_convolution_by_products_is_one(
    size: tuple[int, ...], weight: tuple[int, ...], stride: int, padding: tuple[int, int], dilation: int
) -> None:
    x, w = normal(2, *size), normal(*weight, seed=1)
    out, expected = cuda.products(x, w, stride, padding, dilation), mx.conv2d(x, w, stride, padding, (dilation, 1))
    assert out.shape == expected.shape
    assert mx.linalg.norm(out - expected).item() <= 1e-6 * mx.linalg.norm(expected).item()


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(("length", "dilation", "taps"), [(30, 3, 7), (31, 3, 3), (32, 5, 11), (3, 5, 3)])
def test_a_dilated_convolution_in_half_precision_is_one(length: int, dilation: int, taps: int) -> None:
    """Of any length: a plane of so many columns has whole rows only."""
    layer = layers.Conv1d(16, 16, taps, padding=dilation * (taps - 1) // 2, dilation=dilation)
    layer.bias = normal(16)
    x = normal(2, length, 16)
    expected = layer(x)
    layer.set_dtype(mx.float16)
    layer.eval()
    out = layer(x.astype(mx.float16))
    assert out.shape == expected.shape
    assert mx.linalg.norm(out - expected).item() <= 2e-3 * mx.linalg.norm(expected).item()


def wrong(*arguments: object) -> mx.array:
    return cuda.add(*arguments) * 1.1  # type: ignore[arg-type]


def failing(*_: object) -> mx.array:
    raise RuntimeError("no compiler for kernels")


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(("kernel", "reason"), [(wrong, "wrong here by"), (failing, "no compiler for kernels")])
def test_kernels_that_fail_their_test_are_not_used_and_a_warning_says_so(
    kernel: Callable[..., mx.array], reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "CONV_PRODUCTS", {})  # which take their time
    with caplog.at_level(logging.WARNING):
        assert cuda.judged(OURS._replace(add=kernel), mx.float32).used is None
    assert reason in caplog.text
    assert cuda.judged(OURS, mx.float32).used is OURS


# --- the activation, whose kernels Metal has as well ------------------------------------------------------------------


def fused_activation(header: str = kernels.CUDA_HEADER) -> activation.Path:
    return activation._fused(nvrtc.cuda_kernel, header, kernels.CUDA_THREAD)


METAL_HEADER = kernels.METAL_HEADER.replace("static inline", "static")
"""Its arithmetic, which is C."""


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("header", [kernels.CUDA_HEADER, METAL_HEADER], ids=["cuda", "metal"])
def test_the_activation_s_kernels_and_gradients_are_the_plain_ones(header: str) -> None:
    assert activation.largest_distance(fused_activation(header)) < 1e-6
    assert (
        activation.largest_distance(fused_activation(header), mx.float16, gradients=False)
        < activation.TOLERANCES[mx.float16]
    )


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("shape", [(2, 32, 3), (1, 64, 5), (2, 96, 4)])
def test_the_activation_s_kernels_hold_at_any_length_and_with_any_filter(shape: tuple[int, int, int]) -> None:
    """A sound of one, two and three threads: each sees both ends, one or none. The filters are not symmetric."""
    rng = np.random.default_rng(3)
    taps = [mx.array((activation.kaiser_sinc() + 0.004 * rng.standard_normal(12)).astype(np.float32)) for _ in range(2)]
    inputs = [normal(*shape), *(mx.array(rng.uniform(0.3, 3, shape[2]).astype(np.float32)) for _ in range(3))]
    path = fused_activation()
    ours, theirs = (
        mx.vjp(lambda x, f, g, b, p=p: p(x, *taps, f, g, b), inputs, [normal(*shape, seed=1)])
        for p in (path, activation.polyphase)
    )
    for a, b in zip((*ours[0], *ours[1]), (*theirs[0], *theirs[1]), strict=True):
        assert mx.linalg.norm((a - b).reshape(-1)).item() <= 1e-5 * mx.linalg.norm(b.reshape(-1)).item()


@pytest.mark.parametrize(("fault", "reason"), [("1.001f *", "wrong here by"), ("nonsense", "cannot be used here")])
def test_an_activation_kernel_that_is_wrong_or_does_not_compile_gives_way_to_the_plain_one(
    fault: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """On Metal and CUDA alike: what is handed in is the kernel maker of either."""

    def make(**options: object) -> Callable[..., list[mx.array]]:
        if fault == "nonsense":
            raise ValueError("program_source:3: error: use of undeclared identifier 'nonsense'")

        def run(inputs: list[mx.array], **_: object) -> list[mx.array]:
            return [1.001 * activation.polyphase(*inputs)]

        return run

    with caplog.at_level(logging.WARNING):
        path = activation.judged(
            lambda: activation._fused(make, kernels.METAL_HEADER, kernels.METAL_THREAD), mx.float32, gradients=False
        )
    assert path.used is None
    assert reason in caplog.text
