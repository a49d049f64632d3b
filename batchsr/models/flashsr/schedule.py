"""The noise schedule: clipped cosine, 1000 steps, v-prediction. Plain numpy, float64.

The clipping matters: sqrt(a[999]) is 4.93e-5 with it and 1.56e-3 in the closed form, and the network was trained
with it.

Source: jakeoneijk/FlashSR_Inference, commit 2292814; Nichol and Dhariwal, Improved DDPM, section 3.2.
"""

from __future__ import annotations

import numpy as np

STEPS = 1000
OFFSET = 0.008


def cumulative_alphas() -> np.ndarray:
    """a[t] for t = 0..999: the share of the signal's power that is left at step t, falling."""
    x = np.linspace(0, STEPS + 1, STEPS + 1)
    f = np.cos((x / (STEPS + 1) + OFFSET) / (1 + OFFSET) * np.pi / 2) ** 2
    betas = np.clip(1 - f[1:] / f[:-1], 0, 0.999)
    return np.asarray(np.cumprod(1 - betas))


def step_weights(timestep: int) -> tuple[float, float]:
    """(sqrt(a[t]), sqrt(1 - a[t])): z0 = first * noise - second * v. `timestep` from 0 to 999."""
    a = cumulative_alphas()[timestep]
    return float(np.sqrt(a)), float(np.sqrt(1 - a))
