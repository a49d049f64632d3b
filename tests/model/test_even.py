"""A window's bytes in every row of a pass, where a library cuts a convolution into pieces without regard to rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from batchsr import FlashSR
from batchsr.models import batch_size
from batchsr.models.compute import even, layers


def odd_in_last_row(convolution: Callable[..., mx.array], channels: int) -> Callable[..., mx.array]:
    """The convolution, which adds up otherwise in the last row where it makes so many channels."""

    def odd(x: mx.array, weight: mx.array, *rest: int) -> mx.array:
        y = convolution(x, weight, *rest)
        return mx.concatenate([y[:-1], y[-1:] * 1.001]) if weight.shape[0] == channels else y

    return odd


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16])
def test_the_convolution_that_differs_is_found_and_those_behind_it_are_not(
    monkeypatch: pytest.MonkeyPatch, dtype: mx.Dtype
) -> None:
    monkeypatch.setattr(mx, "conv1d", odd_in_last_row(mx.conv1d, 5))
    chain = [layers.Conv1d(3, 4, 3, padding=1), layers.Conv1d(4, 5, 4, stride=2, padding=1), layers.Conv1d(5, 2, 1)]
    for layer in chain:
        layer.set_dtype(dtype)
    x = mx.broadcast_to(mx.random.normal((1, 16, 3), dtype, key=mx.random.key(0)), (4, 16, 3))

    def run() -> mx.array:
        y = x
        for layer in chain:
            y = layer(y)
        return y

    (found,) = even.uneven(run)
    assert found is chain[1]
    assert not np.array_equal(np.array(run()[-1]), np.array(run()[0])), "watching is over"
    chain[1].apart = True
    assert even.uneven(run) == []
    assert np.array_equal(np.array(run()[-1]), np.array(run()[0]))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("plane", [False, True], ids=["time", "plane"])
def test_set_apart_a_convolution_is_the_same_within_rounding(stride: int, plane: bool) -> None:
    if plane:
        layer: layers.Conv1d | layers.Conv2d = layers.Conv2d(6, 4, 3, stride=stride, padding=1)
        x = mx.random.normal((2, 8, 10, 6), key=mx.random.key(1))
    else:
        layer = layers.Conv1d(6, 4, 4, stride=stride, padding=1)
        x = mx.random.normal((2, 32, 6), key=mx.random.key(1))
    expected = np.array(layer(x))
    layer.apart = True
    assert np.allclose(np.array(layer(x)), expected, atol=1e-6)


def test_a_model_with_such_a_convolution_uses_every_row_and_knows_it_the_next_time(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training every layer is plain operations, as on a GPU but for the kernels."""
    model = FlashSR.from_pretrained(tiny_folder, device="cpu")
    model._networks.train()
    model.batch_windows = 4
    monkeypatch.setattr(mx, "conv2d", odd_in_last_row(mx.conv2d, model._networks.vae.decoder.conv_in.weight.shape[0]))
    model.warm_up()
    assert (model.batch_windows, model._spare_rows) == (4, 0)
    names = batch_size.apart(model.identity, 4)
    assert names
    assert batch_size.apart(model.identity, 8) == [], "another size is looked at by itself"
    again = FlashSR.from_pretrained(tiny_folder, device="cpu")
    again._networks.train()
    again.batch_windows = 4
    monkeypatch.setattr(even, "uneven", lambda run: pytest.fail("known already"))
    again.warm_up()
    assert (again.batch_windows, again._spare_rows) == (4, 0)
    assert again.shrink()
    assert again.batch_windows + again._spare_rows == 2
    assert again._spare_rows == 1, "passes of two were not looked at"
