"""How far the numbers of a bundle lie from those of another with the same shapes: what quantising costs, by stage."""

from __future__ import annotations

from collections.abc import Mapping

import mlx.core as mx
import numpy as np

from batchsr.models.flashsr.networks import Networks
from batchsr.models.flashsr.schedule import STEPS, step_weights


def stage_errors(reference: Networks, other: Networks, norm: np.ndarray, noise: np.ndarray) -> Mapping[str, float]:
    """norm(other - reference) / norm(reference) of each stage's output, and of the `window` that comes out at the end.

    norm (B, T): samples within +-0.5. noise (B, T / 3840, bands, 16). A stage is fed with what the reference's stage
    is fed with, so its error is its own; `window` is one network's whole chain against the other's, with phases and
    all: restored bands are noise, so it says more of the waveform than of the sound.
    """
    sound, drawn = mx.array(norm, mx.float32), mx.array(noise, mx.float32)
    t = mx.full((len(norm),), STEPS - 1, mx.float32)
    weights = mx.array([[w] * len(norm) for w in step_weights(STEPS - 1)], mx.float32)
    mel = reference.log_mel(sound)
    cond = reference.vae.encode(mel)
    v = reference.ldm(drawn, cond, t)
    z = weights[0, :, None, None, None] * drawn - weights[1, :, None, None, None] * v
    predicted = reference.vae.decode(z)
    restored = reference.voc(predicted, sound)
    return {
        "encode": _distance(other.vae.encode(mel), cond),
        "unet": _distance(other.ldm(drawn, cond, t), v),
        "decode": _distance(other.vae.decode(z), predicted),
        "vocoder": _distance(other.voc(predicted, sound), restored),
        "window": _distance(other(sound, drawn, t, weights), restored),
    }


def _distance(out: mx.array, reference: mx.array) -> float:
    a, b = (np.array(x.astype(mx.float32), np.float64) for x in (out, reference))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
