"""The arithmetic of de-clicking one channel, compiled: prediction, what it cannot explain, what stands there instead.

Source: S. J. Godsill and P. J. W. Rayner, Digital Audio Restoration, Springer 1998, chapters 5 (detection by the
prediction error) and 3.4 and 5.2.2 (least-squares interpolation); A. J. E. M. Janssen, R. N. J. Veldhuis and
L. B. Vries, IEEE ASSP 34 (1986) 317, for the equations of the unknown samples.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from batchsr.audio.loops import compiled

ORDER: Final = 32
BLOCK: Final = 2_048
"""Samples that a model is fitted to; it judges the half in its middle."""
STEP: Final = BLOCK // 2
_PART: Final = 256
_GROW: Final = 3
_NEAR: Final = 8
_LARGER: Final = 2.0
MOST_UNKNOWN: Final = 256
"""Samples of one group of clicks that are interpolated together at most; a longer gap is a drop-out, no click."""
MOST_SPAN: Final = 1_024
_MAD_TO_SIGMA: Final = 1.4826
_FLOOR: Final = 1.5e-5  # half a step of 16 bits: in digital silence everything would stand out


@compiled
def predictor(block: np.ndarray, window: np.ndarray, coefficients: np.ndarray) -> bool:
    """Fit a linear predictor to a block (BLOCK,) by its autocorrelation behind `window` (Levinson and Durbin).

    coefficients (ORDER + 1,) get a_0 = 1, a_1...: the prediction error is the sum of a_i x[n - i]. False for silence.
    """
    count = len(block)
    x = block * window
    r = np.empty(ORDER + 1)
    for lag in range(ORDER + 1):
        r[lag] = np.dot(x[lag:], x[: count - lag])
    if r[0] <= 0.0:
        return False
    r[0] *= 1.0 + 1e-9
    coefficients[:] = 0.0
    coefficients[0] = 1.0
    error = r[0]
    before = np.empty(ORDER + 1)
    for order in range(1, ORDER + 1):
        total = r[order]
        for i in range(1, order):
            total += coefficients[i] * r[order - i]
        reflection = -total / error
        before[:order] = coefficients[:order]
        for i in range(1, order):
            coefficients[i] = before[i] + reflection * before[order - i]
        coefficients[order] = reflection
        error *= 1.0 - reflection * reflection
        if error <= 0.0:
            return False
    return True


@compiled
def _spread(errors: np.ndarray, sigma: np.ndarray) -> None:
    """Write the usual size of errors (BLOCK,) around each part of _PART samples, as a standard deviation, to sigma
    (parts,).

    It is the largest of the whole block's and those of the part and its neighbours, by medians: where a sound begins
    the block's own is that of the silence before, and all of the beginning would stand out.
    """
    whole = np.median(np.abs(errors))
    parts = len(sigma)
    own = np.empty(parts)
    for part in range(parts):
        own[part] = np.median(np.abs(errors[part * _PART : (part + 1) * _PART]))
    for part in range(parts):
        most = max(whole, own[part])
        if part > 0:
            most = max(most, own[part - 1])
        if part + 1 < parts:
            most = max(most, own[part + 1])
        sigma[part] = max(_MAD_TO_SIGMA * most, _FLOOR)


@compiled
def detect(
    x: np.ndarray, first: int, total: int, threshold: float, window: np.ndarray, flags: np.ndarray, models: np.ndarray
) -> None:
    """Flag the samples of a stretch x (n,) that neither what is before nor what is behind them predicts.

    `first` is the stretch's place in the recording of `total` samples, a multiple of STEP. Both errors must be over
    `threshold` times their usual size; each flag is grown by _GROW samples. flags (n,) is filled; models
    (judged stretches of STEP samples, ORDER + 1) get the predictors, a_0 = 0 where there is none.
    """
    count = len(x)
    flags[:] = 0
    forward = np.empty(BLOCK)
    backward = np.empty(BLOCK)
    sigma_f = np.empty(BLOCK // _PART)
    sigma_b = np.empty(BLOCK // _PART)
    last = (count + STEP - 1) // STEP
    for k in range(last):
        models[k, 0] = 0.0
        # In the recording the block lies around what it judges, but inside of the recording.
        start = min(max(first + k * STEP - STEP // 2, 0), max(total - BLOCK, 0)) - first
        if start < 0 or start + BLOCK > count:
            continue
        if not predictor(x[start : start + BLOCK], window, models[k]):
            models[k, 0] = 0.0
            continue
        a = models[k]
        for n in range(BLOCK):
            at = start + n
            f = 0.0
            b = 0.0
            if at >= ORDER and at + ORDER < count:
                for i in range(ORDER + 1):
                    f += a[i] * x[at - i]
                    b += a[i] * x[at + i]
            forward[n] = f
            backward[n] = b
        _spread(forward, sigma_f)
        _spread(backward, sigma_b)
        for at in range(k * STEP, min((k + 1) * STEP, count)):
            n = at - start
            if n < 0 or n >= BLOCK:
                continue
            part = n // _PART
            f, b = abs(forward[n]) / sigma_f[part], abs(backward[n]) / sigma_b[part]
            struck = f > threshold and b > threshold
            if not struck:
                # A large click's first sample surprises those before it, its last those behind it; between them
                # neither need, as the model has learned the click itself. So both may be near, but must be larger.
                for near in range(_NEAR):
                    back, on = n - near, n + near
                    if back >= 0:
                        f = max(f, abs(forward[back]) / sigma_f[part])
                    if on < BLOCK:
                        b = max(b, abs(backward[on]) / sigma_b[part])
                struck = f > _LARGER * threshold and b > _LARGER * threshold
            if struck:
                for grown in range(max(at - _GROW, 0), min(at + _GROW + 1, count)):
                    flags[grown] = 1


@compiled
def interpolate(x: np.ndarray, flags: np.ndarray, models: np.ndarray) -> int:
    """Put in place of the flagged samples of x (n,) those that make the prediction error least. Returns their number.

    Samples closer than ORDER to each other are found together. Groups too long or at the stretch's ends stay.
    """
    count = len(x)
    changed = 0
    at = 0
    unknown = np.empty(MOST_UNKNOWN, np.int64)
    while at < count:
        if not flags[at]:
            at += 1
            continue
        start, end, m = at, at, 0
        while at < count and at - end <= ORDER:
            if flags[at]:
                end = at
                if m < MOST_UNKNOWN:
                    unknown[m] = at
                m += 1
            at += 1
        at = end + 1
        if m > MOST_UNKNOWN - 1 or end - start >= MOST_SPAN or start < ORDER or end + ORDER >= count:
            continue
        model = models[min((start + end) // 2 // STEP, len(models) - 1)]
        if model[0] == 0.0:
            continue
        b = np.zeros(ORDER + 1)
        for lag in range(ORDER + 1):
            for i in range(ORDER + 1 - lag):
                b[lag] += model[i] * model[i + lag]
        matrix = np.zeros((m, m))
        right = np.zeros(m)
        for i in range(m):
            for j in range(m):
                apart = abs(unknown[i] - unknown[j])
                if apart <= ORDER:
                    matrix[i, j] = b[apart]
            for lag in range(-ORDER, ORDER + 1):
                known = unknown[i] + lag
                if not flags[known]:
                    right[i] -= b[abs(lag)] * x[known]
        if not _solve(matrix, right):
            continue
        for i in range(m):
            x[unknown[i]] = right[i]
        changed += m
    return changed


@compiled
def _solve(matrix: np.ndarray, right: np.ndarray) -> bool:
    """Solve a symmetric positive definite system in place by Cholesky's factors; False where it is not that."""
    m = len(right)
    for i in range(m):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                if total <= 0.0:
                    return False
                matrix[i, i] = np.sqrt(total)
            else:
                matrix[i, j] = total / matrix[j, j]
    for i in range(m):
        total = right[i]
        for k in range(i):
            total -= matrix[i, k] * right[k]
        right[i] = total / matrix[i, i]
    for i in range(m - 1, -1, -1):
        total = right[i]
        for k in range(i + 1, m):
            total -= matrix[k, i] * right[k]
        right[i] = total / matrix[i, i]
    return True
