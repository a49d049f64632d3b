"""Convolutions that compute a window otherwise in some row of a pass: which they are, and that they are done otherwise.

A window's bytes must not depend on its place. cuDNN cuts some half-precision convolutions into pieces without regard
to rows, and adds up the last pieces in another order than the rest: so the last row of a pass comes out otherwise than
the same window before it, by a rounding. Two layers of the published size do so on an H200, one of `tiny`. Found by a
pass with one window in all its rows, they are computed as matrix products from then on (`compute.cuda.products`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
from mlx import nn

_found: list[nn.Module] | None = None
"""Where layers are gathered while a pass is watched."""


def uneven(run: Callable[[], Any]) -> list[nn.Module]:
    """Return the convolutions that make different rows of equal ones in `run`, which makes a pass of equal rows.

    The result of each is made equal behind it, so that the next is judged by itself. Not for several threads at once.
    """
    with _watching() as found:
        run()
    return list({id(layer): layer for layer in found}.values())


@contextlib.contextmanager
def _watching() -> Iterator[list[nn.Module]]:
    global _found
    _found = []
    try:
        yield _found
    finally:
        _found = None


def seen(layer: nn.Module, x: mx.array, y: mx.array) -> mx.array:
    """Return y, what a layer has made of x; while a pass is watched, its first row in the place of all."""
    if _found is None:
        return y
    if not _differs(x) and _differs(y):
        _found.append(layer)
    return mx.broadcast_to(y[:1], y.shape)


def _differs(x: mx.array) -> bool:
    """Return whether any row of x (B, ...) is not, value for value, the first."""
    return bool((x != x[:1]).any().item())
