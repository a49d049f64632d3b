"""The UNet of the one diffusion step: (noise, condition, t) -> v, on latents (B, F / 8, M / 8, 16).

Source: UNetModel of latent diffusion with two spatial transformers in a row wherever it attends, as
jakeoneijk/FlashSR_Inference (commit 2292814) configures it.
"""

from __future__ import annotations

import math

import mlx.core as mx
from mlx import nn

from batchsr.models.compute.cuda import VECTOR, attends
from batchsr.models.compute.layers import (
    Attention,
    Conv2d,
    GroupNorm,
    Linear,
    by_cuda,
    gelu,
    on_cpu,
    silu,
    upsample_nearest,
)
from batchsr.models.flashsr.config_sizes import UnetConfig

MAX_PERIOD = 10_000


class ResBlock(nn.Module):
    def __init__(self, channels: int, embedding: int, out: int) -> None:
        super().__init__()
        self.in_layers = [GroupNorm(channels, 1e-5, silu=True), nn.Identity(), Conv2d(channels, out, 3, padding=1)]
        self.emb_layers = [nn.Identity(), Linear(embedding, out)]
        self.out_layers = [
            GroupNorm(out, 1e-5, silu=True),
            nn.Identity(),
            nn.Identity(),
            Conv2d(out, out, 3, padding=1),
        ]
        if channels != out:
            self.skip_connection = Conv2d(channels, out, 1)

    def __call__(self, x: mx.array, emb: mx.array) -> mx.array:
        """x (B, H, W, C), emb (B, embedding): the embedding of t behind its SiLU, which is the same for all blocks."""
        norm, _, conv = self.in_layers
        h, bias = conv.deferred(norm(x))
        shift = self.emb_layers[1](emb)
        norm, *_, conv = self.out_layers
        skip = self.skip_connection(x) if "skip_connection" in self else x
        return conv.plus(norm(h, shift if bias is None else shift + bias), skip)


class SiLU(nn.Module):
    """x times its own sigmoid."""

    def __call__(self, x: mx.array) -> mx.array:
        return silu(x)


class SelfAttention(nn.Module):
    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.to_q = Linear(channels, channels, bias=False)
        self.to_k = Linear(channels, channels, bias=False)
        self.to_v = Linear(channels, channels, bias=False)
        self.to_out = [Linear(channels, channels)]
        self.attend = Attention(channels // head_channels)
        self._together: mx.array | None = None

    def prepack(self) -> None:
        """For a GPU, lay the three weights side by side: one product then takes the place of three.

        The three become parts of the one, so that they take no memory of their own.
        """
        if on_cpu():
            return
        three = self.to_q, self.to_k, self.to_v
        whole = mx.concatenate([layer.weight for layer in three])
        parts = mx.split(whole, 3)
        self._together = whole.T
        mx.eval(self._together, parts)
        for layer, part in zip(three, parts, strict=True):
            layer.weight = part
            layer.prepack()

    def __call__(self, x: mx.array, rows: int) -> mx.array:
        if self._together is None or self.training:
            return self.to_out[0](self.attend(self.to_q(x), self.to_k(x), self.to_v(x), rows))
        together = x @ self._together
        heads = self.attend.heads
        kernels = by_cuda(self, together)
        if kernels and attends(x.shape[-1] // heads, x.dtype):
            return self.to_out[0](kernels.attention(together, heads, rows))
        q, k, v = mx.split(together, 3, axis=-1)
        return self.to_out[0](self.attend(q, k, v, rows))


class GEGLU(nn.Module):
    """Linear to twice the width; the first half times the GELU of the second."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.proj = Linear(channels, 2 * out)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.proj(x)
        kernels = by_cuda(self, x)
        if kernels and x.shape[-1] % (2 * VECTOR) == 0:
            return kernels.geglu(x)
        value, gate = mx.split(x, 2, axis=-1)
        return value * gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = [GEGLU(channels, 4 * channels), nn.Identity(), Linear(4 * channels, channels)]

    def __call__(self, x: mx.array) -> mx.array:
        return _chain(self.net, x)


class TransformerBlock(nn.Module):
    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = SelfAttention(channels, head_channels)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = SelfAttention(channels, head_channels)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def __call__(self, x: mx.array, rows: int) -> mx.array:
        """x (B, L, C) or (B * L, C); `rows` is B."""
        x = x + self.attn1(self.norm1(x), rows)
        x = x + self.attn2(self.norm2(x), rows)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, 1e-6)
        self.proj_in = Conv2d(channels, channels, 1)
        self.transformer_blocks = [TransformerBlock(channels, head_channels)]
        self.proj_out = Conv2d(channels, channels, 1)

    def __call__(self, x: mx.array) -> mx.array:
        B, H, W, C = x.shape
        # On a GPU without the axis of rows, which MLX would take away and put back in each of ten products.
        h = self.proj_in(self.norm(x)).reshape((B, H * W, C) if on_cpu() else (B * H * W, C))
        for block in self.transformer_blocks:
            h = block(h, B)
        return self.proj_out.plus(h.reshape(B, H, W, C), x)


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = Conv2d(channels, channels, 3, stride=2, padding=1)

    def __call__(self, x: mx.array) -> mx.array:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def __call__(self, x: mx.array) -> mx.array:
        return self.conv(upsample_nearest(x))


class Unet(nn.Module):
    """`__call__(noise, cond, t)`: noise and cond (B, H, W, 16), t (B,) -> v (B, H, W, 16)."""

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        base, head = config.model_channels, config.num_head_channels
        embedding = 4 * base
        last = len(config.channel_mult) - 1
        self.frequencies = base // 2
        self.time_embed = [Linear(base, embedding), SiLU(), Linear(embedding, embedding)]

        self.input_blocks: list[list[nn.Module]] = [[Conv2d(config.in_channels, base, 3, padding=1)]]
        channels, skips = base, [base]
        for level, mult in enumerate(config.channel_mult):
            attends = 2**level in config.attention_resolutions
            for _ in range(config.num_res_blocks):
                block: list[nn.Module] = [ResBlock(channels, embedding, mult * base)]
                channels = mult * base
                if attends:
                    block += [SpatialTransformer(channels, head) for _ in range(2)]
                self.input_blocks.append(block)
                skips.append(channels)
            if level < last:
                self.input_blocks.append([Downsample(channels)])
                skips.append(channels)

        self.middle_block = [
            ResBlock(channels, embedding, channels),
            SpatialTransformer(channels, head),
            SpatialTransformer(channels, head),
            ResBlock(channels, embedding, channels),
        ]

        self.output_blocks: list[list[nn.Module]] = []
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            attends = 2**level in config.attention_resolutions
            for i in range(config.num_res_blocks + 1):
                block = [ResBlock(channels + skips.pop(), embedding, mult * base)]
                channels = mult * base
                if attends:
                    block += [SpatialTransformer(channels, head) for _ in range(2)]
                if level > 0 and i == config.num_res_blocks:
                    block.append(Upsample(channels))
                self.output_blocks.append(block)

        self.out = [
            GroupNorm(channels, 1e-5, silu=True),
            nn.Identity(),
            Conv2d(channels, config.out_channels, 3, padding=1),
        ]

    def __call__(self, noise: mx.array, cond: mx.array, t: mx.array) -> mx.array:
        emb = silu(_chain(self.time_embed, self._timestep_embedding(t).astype(noise.dtype)))
        x = mx.concatenate([noise, cond], axis=-1)
        skips = []
        for block in self.input_blocks:
            x = _run(block, x, emb)
            skips.append(x)
        x = _run(self.middle_block, x, emb)
        for block in self.output_blocks:
            x = _run(block, mx.concatenate([x, skips.pop()], axis=-1), emb)
        return _chain(self.out, x)

    def _timestep_embedding(self, t: mx.array) -> mx.array:
        """t (B,) -> (B, base), cosines first; in float32."""
        half = self.frequencies
        rates = mx.exp(mx.arange(half, dtype=mx.float32) * (-math.log(MAX_PERIOD) / half))
        angles = t.astype(mx.float32)[:, None] * rates[None]
        return mx.concatenate([mx.cos(angles), mx.sin(angles)], axis=-1)


def _chain(layers: list[nn.Module], x: mx.array) -> mx.array:
    for layer in layers:
        x = layer(x)
    return x


def _run(block: list[nn.Module], x: mx.array, emb: mx.array) -> mx.array:
    for layer in block:
        x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
    return x
