"""What runs on a Mac: kernels compiled with Metal's words reserved, and held against the plain operations."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest

from batchsr.models.compute import activation, kernels

from . import metal_on_cpu

pytestmark = pytest.mark.skipif(not metal_on_cpu.COMPILER, reason="no C++ compiler is installed")


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(mx.fast, "metal_kernel", metal_on_cpu.metal_kernel)
    yield
    activation.verdict.cache_clear()


def ours() -> activation.Path:
    return activation._fused(mx.fast.metal_kernel, kernels.METAL_HEADER, kernels.METAL_THREAD)


@pytest.mark.usefixtures("metal")
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_the_kernels_for_metal_compile_and_pass_their_own_test(dtype: mx.Dtype) -> None:
    worst = activation.largest_distance(ours(), dtype, gradients=True)
    assert worst < activation.TOLERANCES[dtype] / 5


@pytest.mark.parametrize("word", metal_on_cpu.WORDS)
def test_a_variable_called_like_a_word_of_metal_s_does_not_compile(word: str) -> None:
    kernel = metal_on_cpu.metal_kernel(
        name="control",
        input_names=["x"],
        output_names=["y"],
        source=f"const int {word} = int(thread_position_in_grid.x); y[{word}] = 2.0f * x[{word}];",
    )
    given = {"grid": (8, 1, 1), "threadgroup": (8, 1, 1), "output_shapes": [(8,)], "output_dtypes": [mx.float32]}
    with pytest.raises(RuntimeError, match="Unable to build"):
        kernel(inputs=[mx.arange(8.0)], template=[("N", 1)], **given)


def test_what_the_control_refuses_is_the_name_alone() -> None:
    kernel = metal_on_cpu.metal_kernel(
        name="control",
        input_names=["x"],
        output_names=["y"],
        source="thread float twice = 2.0f * x[thread_position_in_grid.x]; y[thread_position_in_grid.x] = twice;",
    )
    given = {"grid": (8, 1, 1), "threadgroup": (8, 1, 1), "output_shapes": [(8,)], "output_dtypes": [mx.float32]}
    (y,) = kernel(inputs=[mx.arange(8.0)], template=[("N", 1)], **given)
    assert y.tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


BOUNDS = {mx.float32: 2e-7, mx.float16: 2e-5, mx.bfloat16: 1e-4}
"""Relative distance of norms; the most that 76 shapes showed is 1.6e-7, 1.4e-5 and 2.8e-5."""
SHAPES = [
    (1, 5120, 768),  # the published size's first level
    (2, 2048, 192),  # tiny's
    (1, 30720, 12),  # its last channels
    *((3, T, C) for T, C in ((32, 1), (96, 5), (160, 7), (224, 8), (992, 13), (64, 48))),
]


@pytest.mark.usefixtures("metal")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_the_compiled_text_equals_the_plain_operations_at_every_size(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    frequency, gain = (mx.array(rng.uniform(0.3, 3, shape[2]).astype(np.float32)) for _ in range(2))
    taps = mx.array(activation.kaiser_sinc().astype(np.float32))
    sound, bias = (rng.standard_normal(size).astype(np.float32) for size in (shape, shape[2]))
    for dtype, bound in BOUNDS.items():
        given = mx.array(sound).astype(dtype), taps, taps, frequency, gain, mx.array(bias).astype(dtype)
        out, expected = (path(*given).astype(mx.float32) for path in (ours(), activation.polyphase))
        difference = (mx.linalg.norm((out - expected).reshape(-1)) / mx.linalg.norm(expected.reshape(-1))).item()
        assert difference <= bound, (dtype, difference)
