"""FlashSR's networks in JAX, for training: what batchsr computes in MLX, under the same names and layouts.

`weights` is everywhere a mapping of a bundle's names to arrays, `config` the mapping of its config.json. A test holds
the two against each other. JAX, because a whole step becomes one compiled program: on an H100 a step of MLX's spent
most of its time between its thousands of small operations.

What is multiplied may be rounded to TF32 by a GPU, but for the vocoder's last levels (PRECISE): their rounding would
lie in the open, 60 to 80 dB down, and a model that is used to it lacks that noise where nothing is rounded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Config = Mapping[str, Any]
LEAK = 0.1
MEL_FLOOR = 1e-5
MAX_PERIOD = 10_000
PRECISE = 2
"""So many of the vocoder's levels, the last ones, are computed in float32 throughout."""
ROWS = 4096
"""Rows of one piece of a sum over all samples: the pieces run side by side, and are added up afterwards."""


class Scope:
    """The weights whose names begin with a prefix: `scope / "conv_in" / 0` goes down, `scope["weight"]` is one."""

    def __init__(self, weights: Mapping[str, jax.Array], prefix: str = "") -> None:
        self.weights = weights
        self.prefix = prefix

    def __truediv__(self, name: object) -> Scope:
        return Scope(self.weights, f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> jax.Array:
        return self.weights[self.prefix + name]

    def __contains__(self, name: str) -> bool:
        """Whether there is a weight, or any weight below it, of this name."""
        whole = self.prefix + name
        return whole in self.weights or any(key.startswith(whole + ".") for key in self.weights)

    def count(self) -> int:
        """How many numbered parts there are below."""
        return next(i for i in range(1_000) if str(i) not in self)


# --- layers -----------------------------------------------------------------------------------------------------------


def linear(at: Scope, x: jax.Array) -> jax.Array:
    """x (..., C) -> (..., out)."""
    y = x @ at["weight"].T
    return y + at["bias"] if "bias" in at else y


def conv2d(at: Scope, x: jax.Array, stride: int = 1, padding: tuple[int, int] = (1, 1)) -> jax.Array:
    """x (B, H, W, C) -> (B, H', W', out); `padding` before and behind, the same on both axes; none for a 1 x 1."""
    weight = at["weight"]
    if weight.shape[1] == 1:
        return x @ weight[:, 0, 0].T + at["bias"]
    pads = (padding, padding)
    return (
        lax.conv_general_dilated(x, weight, (stride, stride), pads, dimension_numbers=("NHWC", "OHWI", "NHWC"))
        + at["bias"]
    )


def group_norm(at: Scope, x: jax.Array, eps: float, *, silu: bool = False, groups: int = 32) -> jax.Array:
    """Normalise over space and the channels of a group together."""
    B, C = x.shape[0], x.shape[-1]
    grouped = x.reshape(B, -1, groups, C // groups)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    variance = jnp.square(grouped - mean).mean(axis=(1, 3), keepdims=True)
    y = ((grouped - mean) * lax.rsqrt(variance + eps)).reshape(x.shape) * at["weight"] + at["bias"]
    return jax.nn.silu(y) if silu else y


def layer_norm(at: Scope, x: jax.Array, eps: float = 1e-5) -> jax.Array:
    mean = x.mean(axis=-1, keepdims=True)
    variance = jnp.square(x - mean).mean(axis=-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + eps) * at["weight"] + at["bias"]


def attention(q: jax.Array, k: jax.Array, v: jax.Array, heads: int) -> jax.Array:
    """softmax(q k^T / sqrt(D)) v for each head; q, k, v (B, L, heads * D)."""
    B, L, C = q.shape
    q, k, v = (a.reshape(B, L, heads, C // heads) for a in (q, k, v))
    scores = jnp.einsum("blhd,bmhd->bhlm", q, k) * (C // heads) ** -0.5
    return jnp.einsum("bhlm,bmhd->blhd", jax.nn.softmax(scores, axis=-1), v).reshape(B, L, C)


def twice(x: jax.Array) -> jax.Array:
    """x (B, H, W, C) -> (B, 2H, 2W, C), each value four times."""
    B, H, W, C = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)


def columns(x: jax.Array, k: int, dilation: int) -> jax.Array:
    """x (B, T, C) -> (B * T, k * C): beside each sample the ones that the taps of a centred convolution see."""
    B, T, _ = x.shape
    reach = dilation * (k - 1) // 2
    padded = jnp.pad(x, [(0, 0), (reach, reach), (0, 0)])
    return jnp.concatenate([padded[:, j * dilation : j * dilation + T] for j in range(k)], axis=-1).reshape(B * T, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, weight: jax.Array, dilation: int, precise: bool) -> jax.Array:
    """x (B, T, I), weight (O, k, I), k odd -> (B, T, O): a matrix product over copied columns.

    Few channels and hundreds of thousands of samples are the worst case of the libraries' convolutions, above all of
    their derivatives.
    """
    B, T, _ = x.shape
    out, k, _ = weight.shape
    flat = weight.reshape(out, -1)
    return jnp.matmul(columns(x, k, dilation), flat.T, precision=_precision(precise)).reshape(B, T, out)


def _convolved(x: jax.Array, weight: jax.Array, dilation: int, precise: bool) -> tuple[jax.Array, Any]:
    return convolve(x, weight, dilation, precise), (x, weight)


def _convolution_slopes(dilation: int, precise: bool, kept: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    out, k, inputs = weight.shape
    dx = convolve(dy, weight[:, ::-1].transpose(2, 1, 0), dilation, precise)
    rows = math.gcd(x.shape[0] * x.shape[1], ROWS)
    side = columns(x, k, dilation).reshape(-1, rows, k * inputs)
    pieces = jnp.einsum("nro,nrk->nok", dy.reshape(-1, rows, out), side, precision=_precision(precise))
    return dx, pieces.sum(axis=0).reshape(weight.shape)


convolve.defvjp(_convolved, _convolution_slopes)


def _precision(precise: bool) -> lax.Precision:
    return lax.Precision.HIGHEST if precise else lax.Precision.DEFAULT


def conv1d(at: Scope, x: jax.Array, dilation: int = 1, *, precise: bool = False) -> jax.Array:
    """x (B, T, C) -> (B, T, out), centred."""
    return convolve(x, at["weight"], dilation, precise) + at["bias"]


def downsampled(at: Scope, x: jax.Array, rate: int, *, precise: bool = False) -> jax.Array:
    """The vocoder's downsampling (kernel 2 * rate, stride rate, padding rate - 1) as one matrix product."""
    B, L, C = x.shape
    blocks = jnp.pad(x, [(0, 0), (rate - 1, 1), (0, 0)]).reshape(B, L // rate + 1, rate * C)
    side = jnp.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=-1)
    weight = at["weight"]
    return jnp.matmul(side, weight.reshape(weight.shape[0], -1).T, precision=_precision(precise)) + at["bias"]


def upsampled(at: Scope, x: jax.Array, rate: int, *, precise: bool = False) -> jax.Array:
    """The transposed convolution: x (B, T, C) -> (B, T * rate, out); kernel at least `rate`, padding the half rest."""
    B, T, C = x.shape
    out, kernel, _ = at["weight"].shape
    inputs = -(-kernel // rate)
    taps = jnp.pad(at["weight"], [(0, 0), (0, inputs * rate - kernel), (0, 0)])
    taps = taps.reshape(out, inputs, rate, C)[:, ::-1].transpose(2, 0, 1, 3).reshape(rate * out, inputs * C)
    padded = jnp.pad(x, [(0, 0), (inputs - 1, inputs - 1), (0, 0)])
    blocks = T + inputs - 1
    side = jnp.concatenate([padded[:, j : j + blocks] for j in range(inputs)], axis=-1)
    y = jnp.matmul(side, taps.T, precision=_precision(precise)).reshape(B, blocks * rate, out)
    crop = (kernel - rate) // 2
    return y[:, crop : crop + T * rate] + at["bias"]


def snake(at: Scope, x: jax.Array) -> jax.Array:
    """Anti-aliased SnakeBeta: twice the rate, u + sin(a u)^2 / b, half the rate; its two filters are constants."""
    B, T, C = x.shape
    up, down = (lax.stop_gradient(at[f"{name}.filter"]).reshape(-1) for name in ("upsample", "downsample.lowpass"))
    frequency, gain = jnp.exp(at["act.alpha"]), 1.0 / (jnp.exp(at["act.beta"]) + 1e-9)
    padded = jnp.pad(x, [(0, 0), (3, 3), (0, 0)], mode="edge")
    even = sum(up[2 * q + 1] * padded[:, 5 - q : 5 - q + T] for q in range(6))
    odd = sum(up[2 * q] * padded[:, 6 - q : 6 - q + T] for q in range(6))
    u = 2.0 * jnp.stack([even, odd], axis=2).reshape(B, 2 * T, C)
    s = u + gain * jnp.square(jnp.sin(frequency * u))
    padded = jnp.pad(s, [(0, 0), (5, 7), (0, 0)], mode="edge").reshape(B, T + 6, 2, C)
    return sum(down[2 * k] * padded[:, k : k + T, 0] + down[2 * k + 1] * padded[:, k : k + T, 1] for k in range(6))


# --- log-mel ----------------------------------------------------------------------------------------------------------


def log_mel(config: Config, bands: np.ndarray, samples: jax.Array) -> jax.Array:
    """Samples (B, T) -> (B, T / hop, M); `bands` (M, n_fft / 2 + 1). Not to be differentiated at silence."""
    n_fft, hop = config["mel"]["n_fft"], config["mel"]["hop"]
    pad = (n_fft - hop) // 2
    padded = jnp.pad(samples, [(0, 0), (pad, pad)], mode="reflect")
    places = np.arange(samples.shape[1] // hop)[:, None] * hop + np.arange(n_fft)
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    magnitude = jnp.abs(jnp.fft.rfft(padded[:, places] * hann, axis=-1))
    in_bands = jnp.matmul(magnitude, bands.astype(np.float32).T, precision=lax.Precision.HIGHEST)
    return jnp.log(jnp.maximum(in_bands, MEL_FLOOR))


# --- VAE --------------------------------------------------------------------------------------------------------------


def _vae_block(at: Scope, x: jax.Array) -> jax.Array:
    h = conv2d(at / "conv1", group_norm(at / "norm1", x, 1e-6, silu=True))
    h = conv2d(at / "conv2", group_norm(at / "norm2", h, 1e-6, silu=True))
    return h + (conv2d(at / "nin_shortcut", x) if "nin_shortcut" in at else x)


def _vae_mid(at: Scope, x: jax.Array) -> jax.Array:
    x = _vae_block(at / "block_1", x)
    inner = at / "attn_1"
    B, H, W, C = x.shape
    h = group_norm(inner / "norm", x, 1e-6)
    q, k, v = (conv2d(inner / name, h).reshape(B, H * W, C) for name in "qkv")
    x = x + conv2d(inner / "proj_out", attention(q, k, v, 1).reshape(B, H, W, C))
    return _vae_block(at / "block_2", x)


def _vae_level(at: Scope, x: jax.Array) -> jax.Array:
    for i in range((at / "block").count()):
        x = _vae_block(at / "block" / i, x)
    if "downsample" in at:
        x = conv2d(at / "downsample" / "conv", x, stride=2, padding=(0, 1))
    if "upsample" in at:
        x = conv2d(at / "upsample" / "conv", twice(x))
    return x


def moments(weights: Mapping[str, jax.Array], mel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and log variance of the posterior, unscaled, each (B, F / 8, M / 8, Z), of a log-mel (B, F, M)."""
    vae = Scope(weights) / "vae"
    at = vae / "encoder"
    x = conv2d(at / "conv_in", mel[..., None])
    for i in range((at / "down").count()):
        x = _vae_level(at / "down" / i, x)
    x = group_norm(at / "norm_out", _vae_mid(at / "mid", x), 1e-6, silu=True)
    mean, spread = jnp.split(conv2d(vae / "quant_conv", conv2d(at / "conv_out", x)), 2, axis=-1)
    return mean, spread


def decode(weights: Mapping[str, jax.Array], z: jax.Array) -> jax.Array:
    """Unscaled latent (B, F / 8, M / 8, Z) -> log-mel (B, F, M)."""
    vae = Scope(weights) / "vae"
    at = vae / "decoder"
    x = _vae_mid(at / "mid", conv2d(at / "conv_in", conv2d(vae / "post_quant_conv", z)))
    for i in reversed(range((at / "up").count())):
        x = _vae_level(at / "up" / i, x)
    return conv2d(at / "conv_out", group_norm(at / "norm_out", x, 1e-6, silu=True))[..., 0]


# --- UNet -------------------------------------------------------------------------------------------------------------


def _unet_block(at: Scope, x: jax.Array, emb: jax.Array) -> jax.Array:
    h = conv2d(at / "in_layers" / 2, group_norm(at / "in_layers" / 0, x, 1e-5, silu=True))
    h = h + linear(at / "emb_layers" / 1, emb)[:, None, None]
    h = conv2d(at / "out_layers" / 3, group_norm(at / "out_layers" / 0, h, 1e-5, silu=True))
    return h + (conv2d(at / "skip_connection", x) if "skip_connection" in at else x)


def _unet_attention(at: Scope, x: jax.Array, head_channels: int) -> jax.Array:
    B, H, W, C = x.shape
    h = conv2d(at / "proj_in", group_norm(at / "norm", x, 1e-6)).reshape(B, H * W, C)
    for i in range((at / "transformer_blocks").count()):
        block = at / "transformer_blocks" / i
        for n in (1, 2):
            to, given = block / f"attn{n}", layer_norm(block / f"norm{n}", h)
            q, k, v = (linear(to / f"to_{name}", given) for name in "qkv")
            h = h + linear(to / "to_out" / 0, attention(q, k, v, C // head_channels))
        net = block / "ff" / "net"
        value, gate = jnp.split(linear(net / 0 / "proj", layer_norm(block / "norm3", h)), 2, axis=-1)
        h = h + linear(net / 2, value * jax.nn.gelu(gate, approximate=False))
    return x + conv2d(at / "proj_out", h.reshape(B, H, W, C))


def _unet_layers(at: Scope, x: jax.Array, emb: jax.Array, head_channels: int) -> jax.Array:
    for i in range(at.count()):
        layer = at / i
        if "in_layers" in layer:
            x = _unet_block(layer, x, emb)
        elif "transformer_blocks" in layer:
            x = _unet_attention(layer, x, head_channels)
        elif "op" in layer:
            x = conv2d(layer / "op", x, stride=2)
        elif "conv" in layer:
            x = conv2d(layer / "conv", twice(x))
        else:
            x = conv2d(layer, x)
    return x


def unet(
    weights: Mapping[str, jax.Array], config: Config, noise: jax.Array, cond: jax.Array, t: jax.Array
) -> jax.Array:
    """(noise, condition, each (B, F / 8, M / 8, Z) scaled, t (B,)) -> v of the same shape."""
    at = Scope(weights) / "ldm"
    heads, half = config["ldm"]["num_head_channels"], config["ldm"]["model_channels"] // 2
    angles = t.astype(jnp.float32)[:, None] * np.exp(np.arange(half, dtype=np.float32) * (-math.log(MAX_PERIOD) / half))
    emb = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    emb = jax.nn.silu(linear(at / "time_embed" / 2, jax.nn.silu(linear(at / "time_embed" / 0, emb))))
    x = jnp.concatenate([noise, cond], axis=-1)
    skips = []
    for i in range((at / "input_blocks").count()):
        x = _unet_layers(at / "input_blocks" / i, x, emb, heads)
        skips.append(x)
    x = _unet_layers(at / "middle_block", x, emb, heads)
    for i in range((at / "output_blocks").count()):
        x = _unet_layers(at / "output_blocks" / i, jnp.concatenate([x, skips.pop()], axis=-1), emb, heads)
    return conv2d(at / "out" / 2, group_norm(at / "out" / 0, x, 1e-5, silu=True))


# --- vocoder ----------------------------------------------------------------------------------------------------------


def vocoder(weights: Mapping[str, jax.Array], config: Config, mel: jax.Array, samples: jax.Array) -> jax.Array:
    """Log-mel (B, F, M) and the sound itself (B, T) -> samples (B, T) in (-1, 1)."""
    at, shape = Scope(weights) / "voc", config["vocoder"]
    rates, dilations = shape["upsample_rates"], shape["resblock_dilation_sizes"]
    levels = len(rates)
    x = conv1d(at / "audio_block" / "emb", samples[..., None], precise=True)
    pyramid = [x]
    for i, rate in enumerate(reversed(rates[1:])):
        x = downsampled(at / "audio_block" / "downsamples" / i / 0, x, rate, precise=i < PRECISE)
        x = jax.nn.leaky_relu(x, LEAK)
        pyramid.append(x)
    x = conv1d(at / "conv_pre", mel)
    for level, rate in enumerate(rates):
        precise = level >= levels - PRECISE
        x = upsampled(at / "ups" / level / 0, x, rate, precise=precise) + pyramid.pop()
        blocks = [at / "resblocks" / (level * len(dilations) + i) for i in range(len(dilations))]
        made = [_amp_block(b, x, spread, precise=precise) for b, spread in zip(blocks, dilations, strict=True)]
        x = sum(made) / len(made)
    return jnp.tanh(conv1d(at / "conv_post", snake(at / "activation_post", x), precise=True))[..., 0]


def _amp_block(at: Scope, x: jax.Array, dilations: list[int], *, precise: bool) -> jax.Array:
    for i, dilation in enumerate(dilations):
        h = conv1d(at / "convs1" / i, snake(at / "activations" / (2 * i), x), dilation, precise=precise)
        h = conv1d(at / "convs2" / i, snake(at / "activations" / (2 * i + 1), h), precise=precise)
        x = x + h
    return x
