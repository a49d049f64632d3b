"""The mel autoencoder: log-mel (B, F, M) <-> latent (B, F / 8, M / 8, 16).

Source: AutoencoderKL of latent diffusion, as jakeoneijk/FlashSR_Inference (commit 2292814) configures it.
"""

from __future__ import annotations

import mlx.core as mx
from mlx import nn

from batchsr.models.compute.layers import Attention, Conv2d, GroupNorm, step, upsample_nearest
from batchsr.models.flashsr.config_sizes import VaeConfig

EPS = 1e-6


class ResnetBlock(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(channels, EPS, silu=True)
        self.conv1 = Conv2d(channels, out, 3, padding=1)
        self.norm2 = GroupNorm(out, EPS, silu=True)
        self.conv2 = Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.nin_shortcut = Conv2d(channels, out, 1)

    def __call__(self, x: mx.array) -> mx.array:
        h, bias = self.conv1.deferred(self.norm1(x))
        skip = self.nin_shortcut(x) if "nin_shortcut" in self else x
        return self.conv2.plus(self.norm2(h, bias), skip)


class AttnBlock(nn.Module):
    """Single-head attention over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, EPS)
        self.q = Conv2d(channels, channels, 1)
        self.k = Conv2d(channels, channels, 1)
        self.v = Conv2d(channels, channels, 1)
        self.proj_out = Conv2d(channels, channels, 1)
        self.attend = Attention(heads=1)

    def __call__(self, x: mx.array) -> mx.array:
        B, H, W, C = x.shape
        h = self.norm(x)
        q, k, v = (layer(h).reshape(B, H * W, C) for layer in (self.q, self.k, self.v))
        return self.proj_out.plus(self.attend(q, k, v).reshape(B, H, W, C), x)


class Mid(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = AttnBlock(channels)
        self.block_2 = ResnetBlock(channels, channels)

    def __call__(self, x: mx.array) -> mx.array:
        return self.block_2(self.attn_1(self.block_1(x)))


class Downsample(nn.Module):
    """Halve both axes; padded below and to the right only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, stride=2)

    def __call__(self, x: mx.array) -> mx.array:
        return self.conv(mx.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)]))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def __call__(self, x: mx.array) -> mx.array:
        return self.conv(upsample_nearest(x))


class Level(nn.Module):
    """Residual blocks of one resolution, then, except at the last, a change of resolution."""

    def __init__(self, channels: int, out: int, blocks: int, *, decodes: bool = False) -> None:
        super().__init__()
        self.decodes = decodes
        self.block = [ResnetBlock(channels if i == 0 else out, out) for i in range(blocks)]

    def __call__(self, x: mx.array) -> mx.array:
        for block in self.block:
            x = self._reached(block(x), x)
        if "downsample" in self:
            x = self._reached(self.downsample(x), x)
        if "upsample" in self:
            x = self._reached(self.upsample(x), x)
        return x

    def _reached(self, x: mx.array, given: mx.array) -> mx.array:
        """x, before whose preparation the device has `given`, if the level is of the decoder.

        The encoder is prepared in one go: its arrays take less than the decoder's next step, and while it computes the
        UNet's many launches are prepared.
        """
        return step(self, x, given) if self.decodes else x


class Encoder(nn.Module):
    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        self.conv_in = Conv2d(config.in_channels, config.ch, 3, padding=1)
        self.down = []
        channels = config.ch
        for i, width in enumerate(widths):
            level = Level(channels, width, config.num_res_blocks)
            if i < len(widths) - 1:
                level.downsample = Downsample(width)
            self.down.append(level)
            channels = width
        self.mid = Mid(channels)
        self.norm_out = GroupNorm(channels, EPS, silu=True)
        self.conv_out = Conv2d(channels, 2 * config.z_channels, 3, padding=1)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(self.norm_out(self.mid(x)))


class Decoder(nn.Module):
    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        channels = widths[-1]
        self.conv_in = Conv2d(config.z_channels, channels, 3, padding=1)
        self.mid = Mid(channels)
        levels = []
        for i, width in reversed(list(enumerate(widths))):
            level = Level(channels, width, config.num_res_blocks + 1, decodes=True)
            if i > 0:
                level.upsample = Upsample(width)
            levels.append(level)
            channels = width
        self.up = levels[::-1]  # `up.0` is the finest and runs last
        self.norm_out = GroupNorm(channels, EPS, silu=True)
        self.conv_out = Conv2d(channels, config.out_ch, 3, padding=1)

    def __call__(self, z: mx.array) -> mx.array:
        x = step(self, self.mid(self.conv_in(z)), z)
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(self.norm_out(x))


class Vae(nn.Module):
    """`encode` takes the mean of the posterior, so the result depends on the input alone."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.scale = config.scale_factor_z
        self.embed_dim = config.embed_dim
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = Conv2d(2 * config.z_channels, 2 * config.embed_dim, 1)
        self.post_quant_conv = Conv2d(config.embed_dim, config.z_channels, 1)

    def moments(self, mel: mx.array) -> tuple[mx.array, mx.array]:
        """Mean and log variance of the posterior, unscaled, each (B, F / 8, M / 8, 16); for training."""
        moments = self.quant_conv(self.encoder(mel[..., None]))
        return moments[..., : self.embed_dim], moments[..., self.embed_dim :]

    def encode(self, mel: mx.array) -> mx.array:
        """Log-mel (B, F, M) -> scaled latent (B, F / 8, M / 8, 16)."""
        return self.scale * self.moments(mel)[0]

    def decode(self, z: mx.array) -> mx.array:
        """Scaled latent (B, F / 8, M / 8, 16) -> log-mel (B, F, M)."""
        return self.decoder(self.post_quant_conv(z * (1.0 / self.scale)))[..., 0]
