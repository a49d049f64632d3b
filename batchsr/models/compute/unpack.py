"""Stored weights become float32 in the order in which the CPU wants them, in one pass: unpacked, checked, laid out.

A matrix (rows, columns) of the file, out channels first, is written to y: as it is, or (`across`) as (columns, rows).
Each loop does the rows `first` to `last`, so that several threads can share a tensor: they run without Python's lock.
It returns False where it met a value that is not finite.
"""

from __future__ import annotations

import numpy as np

from batchsr.audio.loops import compiled

TILE = 64
"""Rows that are done side by side, a column at a time: what is written together is together in memory."""


@compiled
def dequantise_across(
    packed: np.ndarray,
    scales: np.ndarray,
    biases: np.ndarray,
    bits: int,
    y: np.ndarray,
    first: int,
    last: int,
) -> bool:
    """packed (rows, columns * bits / 32) uint32, scales and biases (rows, groups) float32: y (columns, rows).

    A weight is q * scale + bias; the first number of a group is in the lowest bits of its first word. That the results
    are finite is for the caller to know from the scales and biases.
    """
    each = 32 // bits
    mask = np.uint32((1 << bits) - 1)
    words = packed.shape[1] // scales.shape[1]
    word, scale, bias = np.empty(TILE, np.uint32), np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for top in range(first, last, TILE):
        count = min(TILE, last - top)
        for at in range(packed.shape[1]):
            group = at // words
            for row in range(count):
                word[row] = packed[top + row, at]
                scale[row] = scales[top + row, group]
                bias[row] = biases[top + row, group]
            for number in range(each):
                shift = np.uint32(number * bits)
                line = y[at * each + number, top : top + count]
                for row in range(count):
                    # By way of int32, which the processor turns into floats many at a time.
                    line[row] = np.float32(np.int32((word[row] >> shift) & mask)) * scale[row] + bias[row]
    return True


@compiled
def dequantise(
    packed: np.ndarray,
    scales: np.ndarray,
    biases: np.ndarray,
    bits: int,
    y: np.ndarray,
    first: int,
    last: int,
) -> bool:
    """As `dequantise_across`, to y (rows, columns)."""
    each = 32 // bits
    mask = np.uint32((1 << bits) - 1)
    words = packed.shape[1] // scales.shape[1]
    for row in range(first, last):
        for at in range(packed.shape[1]):
            scale, bias, word = scales[row, at // words], biases[row, at // words], packed[row, at]
            line = y[row, at * each : (at + 1) * each]
            for number in range(len(line)):
                line[number] = np.float32(np.int32((word >> np.uint32(number * bits)) & mask)) * scale + bias
    return True


@compiled
def widen(stored: np.ndarray, table: np.ndarray, y: np.ndarray, first: int, last: int) -> bool:
    """stored (rows, columns) uint16, and what each of the 65,536 means, table float32: y (rows, columns)."""
    good = True
    for row in range(first, last):
        line, result = stored[row], y[row]
        for column in range(len(line)):
            value = table[line[column]]
            good &= np.isfinite(value)
            result[column] = value
    return good


@compiled
def widen_across(stored: np.ndarray, table: np.ndarray, y: np.ndarray, first: int, last: int) -> bool:
    """As `widen`, to y (columns, rows)."""
    good = True
    for top in range(first, last, TILE):
        bottom = min(top + TILE, last)
        for column in range(stored.shape[1]):
            line = y[column, top:bottom]
            for row in range(len(line)):
                value = table[stored[top + row, column]]
                good &= np.isfinite(value)
                line[row] = value
    return good


@compiled
def copy(stored: np.ndarray, y: np.ndarray, first: int, last: int) -> bool:
    """stored (rows, columns) float32: y (rows, columns)."""
    good = True
    for row in range(first, last):
        line, result = stored[row], y[row]
        for column in range(len(line)):
            value = line[column]
            good &= np.isfinite(value)
            result[column] = value
    return good


@compiled
def copy_across(stored: np.ndarray, y: np.ndarray, first: int, last: int) -> bool:
    """As `copy`, to y (columns, rows)."""
    good = True
    for top in range(first, last, TILE):
        bottom = min(top + TILE, last)
        for column in range(stored.shape[1]):
            line = y[column, top:bottom]
            for row in range(len(line)):
                value = stored[top + row, column]
                good &= np.isfinite(value)
                line[row] = value
    return good
