"""What training minimises, and the discriminators. Waveforms here are (B, T)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FLOOR = 1e-8
"""Constant added to the power of a spectrum of 2048 samples, as in the quality measure; scaled to other lengths."""
RESOLUTIONS = (256, 512, 1024, 2048, 4096)
BANDS = {2048: 128, 512: 48}
"""Resolutions whose levels are compared in mel bands as well, and how many."""
SILENT = 10.0
"""What the length of a normalised spectrum (some hundreds for sound) is taken to be at least."""
JUDGED = (512, 1024, 2048, 4096)
"""The discriminators' resolutions."""
CHANNELS = 32
"""Width of a discriminator."""
Judges = Mapping[str, jax.Array]


def spectrum(x: jax.Array, n_fft: int) -> jax.Array:
    """Complex spectrum (B, M, n_fft / 2 + 1), Hann, hop n_fft / 4, frames wholly inside.

    Frames are put together from blocks of one hop, which has a cheap derivative.
    """
    hop = n_fft // 4
    B, T = x.shape
    blocks = x[:, : T // hop * hop].reshape(B, -1, hop)
    count = blocks.shape[1] - 3
    frames = jnp.concatenate([blocks[:, j : j + count] for j in range(4)], axis=-1)
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    return jnp.fft.rfft(frames * hann, axis=-1)


def power(s: jax.Array) -> jax.Array:
    return jnp.square(s.real) + jnp.square(s.imag)


def decades(p: jax.Array) -> jax.Array:
    return jnp.log10(p)


def spectral(
    y: jax.Array,
    h: jax.Array,
    low: jax.Array,
    scale: jax.Array,
    bands: Mapping[int, np.ndarray],
    *,
    by_measure: bool = False,
) -> dict[str, jax.Array]:
    """Distances of a restoration y from its original h, and from what was given (low).

    `log` (levels, all bins), `linear` (spectral convergence), `lsd` (the measure itself), `band` (levels of bands:
    noise of the right strength costs nothing) and, in the band that was given, `kept` (the waveform) and `fine` (the
    same with all bins alike: the decades of power by which the error stands above what it is added to).

    y, h and low are as normalised for the model; times `scale` (B, 1) they are as loud as they were. Only what is
    about levels is measured there: the waveform of a silent stretch must not outweigh all others. `bands`: for each
    of BANDS its triangles, (bands, n_fft / 2 + 1).

    `log` and `band` are means of absolute values, whose best guess is the median: where a band may end or go on, it
    commits itself to the likelier. `by_measure` takes roots of mean squares over a frame instead, as `lsd` does.
    """

    def level(x: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.square(x).mean(axis=-1) + 1e-6).mean() if by_measure else jnp.abs(x).mean()

    log, linear, band = [], [], []
    found: dict[str, jax.Array] = {}
    loud = jnp.square(scale)[..., None]
    for n in RESOLUTIONS:
        floor = FLOOR * n / 2048
        sy, sh = spectrum(y, n), spectrum(h, n)
        py, ph = power(sy), power(sh)
        difference = decades(loud * py + floor) - decades(loud * ph + floor)
        log.append(level(difference))
        error = jnp.sqrt(jnp.square(jnp.sqrt(py + 1e-8) - jnp.sqrt(ph + 1e-8)).sum(axis=(1, 2)) + 1e-8)
        linear.append((error / (jnp.sqrt(ph.sum(axis=(1, 2))) + SILENT)).mean())
        if n in BANDS:
            matrix = bands[n].T.astype(np.float32)
            levels = [decades(loud * jnp.matmul(p, matrix, precision="highest") * 100 + floor) for p in (py, ph)]
            band.append(level(levels[0] - levels[1]))
        if n == 2048:
            found["lsd"] = jnp.sqrt(jnp.square(difference).mean(axis=-1) + 1e-6).mean()
        if n == 1024:
            given = (power(spectrum(low, n)) > 0.5 * ph).astype(jnp.float32)
            wrong = power(sy - sh) * given
            error = jnp.sqrt(wrong.sum(axis=(1, 2)) + 1e-8)
            found["kept"] = (error / (jnp.sqrt((ph * given).sum(axis=(1, 2))) + SILENT)).mean()
            found["fine"] = decades(1 + loud * wrong / (loud * ph + 100 * floor)).sum() / (given.sum() + 1)
    found["log"] = sum(log) / len(log)
    found["linear"] = sum(linear) / len(linear)
    found["band"] = sum(band) / len(band)
    return found


@jax.custom_vjp
def balanced(y: jax.Array) -> jax.Array:
    """y itself; in its derivative no row (B, T) may be longer than twice the median row.

    The derivative of a level is endless where there is hardly any sound: a few silent rows would decide every step.
    """
    return y


def _balance(_: None, dy: jax.Array) -> tuple[jax.Array]:
    length = jnp.sqrt(jnp.square(dy).sum(axis=1, keepdims=True) + 1e-20)
    longest = 2 * jnp.sort(length, axis=0)[length.shape[0] // 2]
    return (dy * jnp.minimum(1.0, longest / length),)


balanced.defvjp(lambda y: (y, None), _balance)


@jax.custom_vjp
def gentle(mel: jax.Array) -> jax.Array:
    """mel itself; its derivative is shortened or stretched to the length that a mean of absolute errors gives.

    So the waveform's losses steer the prediction as strongly as its own loss does, however steep they are.
    """
    return mel


def _steer(_: None, dy: jax.Array) -> tuple[jax.Array]:
    return (dy * (dy.size**-0.5 / (jnp.sqrt(jnp.square(dy).sum()) + 1e-12)),)


gentle.defvjp(lambda mel: (mel, None), _steer)


def new_judges(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of untrained discriminators, one for each of JUDGED."""
    widths = [2, CHANNELS // 2, CHANNELS, CHANNELS, CHANNELS]
    judges = {}
    for n in JUDGED:
        shapes = {f"{n}.{i}": (b, 3, 9, a) for i, (a, b) in enumerate(itertools.pairwise(widths))}
        for name, shape in {**shapes, f"{n}.last": (1, 3, 3, CHANNELS)}.items():
            bound = float(np.prod(shape[1:])) ** -0.5
            judges[f"{name}.weight"] = rng.uniform(-bound, bound, shape).astype(np.float32)
            judges[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return judges


def judged(judges: Judges, x: jax.Array) -> list[list[jax.Array]]:
    """What each discriminator sees in the levels of x at its resolution: its features, the verdict last."""
    return [_judged(judges, n, x) for n in JUDGED]


def _judged(judges: Judges, n_fft: int, x: jax.Array) -> list[jax.Array]:
    level = decades(power(spectrum(x, n_fft)) + FLOOR * n_fft / 2048) * 0.3 + 1.0
    # Where in the band: noise that is right at 4 kHz is wrong at 20 kHz.
    place = jnp.broadcast_to(jnp.linspace(-1, 1, level.shape[-1]), level.shape)
    h = jnp.stack([level, place], axis=-1)
    features = []
    for i in range(4):
        h = jax.nn.leaky_relu(_conv(judges, f"{n_fft}.{i}", h, (1, 2), (1, 4)), 0.2)
        features.append(h)
    return [*features, _conv(judges, f"{n_fft}.last", h, (1, 1), (1, 1))]


def _conv(judges: Judges, name: str, x: jax.Array, stride: tuple[int, int], padding: tuple[int, int]) -> jax.Array:
    pads = [(p, p) for p in padding]
    layout = ("NHWC", "OHWI", "NHWC")
    y = lax.conv_general_dilated(x, judges[f"{name}.weight"], stride, pads, dimension_numbers=layout)
    return y + judges[f"{name}.bias"]


def judge_loss(seen: list[list[jax.Array]], originals: int) -> jax.Array:
    """Least squares: an original is 1, a restoration is 0. The originals are the first rows of `seen`."""
    verdicts = [features[-1] for features in seen]
    return sum(jnp.square(v[:originals] - 1).mean() + jnp.square(v[originals:]).mean() for v in verdicts)


def fool_loss(seen: list[list[jax.Array]], made: list[list[jax.Array]]) -> tuple[jax.Array, jax.Array]:
    """(least squares towards 1, mean distance of the features to the first rows of `seen`, the originals)."""
    fool = sum(jnp.square(m[-1] - 1).mean() for m in made)
    pairs = [(a, b) for s, m in zip(seen, made, strict=True) for a, b in zip(s[:-1], m[:-1], strict=True)]
    features = sum(jnp.abs(lax.stop_gradient(a)[: len(b)] - b).mean() for a, b in pairs) / len(pairs)
    return fool, features
