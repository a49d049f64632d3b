"""The super-resolution vocoder: log-mel (B, F, M) and the window itself (B, T) -> samples (B, T) in (-1, 1).

BigVGAN with a pyramid of the conditioning sound added after each transposed convolution.

Source: jakeoneijk/FlashSR_Inference, commit 2292814.
"""

from __future__ import annotations

import mlx.core as mx
from mlx import nn

from batchsr.models.compute.activation import Activation
from batchsr.models.compute.layers import Conv1d, ConvTranspose1d, leaky_relu, step
from batchsr.models.flashsr.config_sizes import VocoderConfig

LEAK = 0.1


class AmpBlock(nn.Module):
    """Residual pairs of (activation, dilated convolution, activation, convolution)."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = [Conv1d(channels, channels, kernel, padding=d * (kernel - 1) // 2, dilation=d) for d in dilations]
        self.convs2 = [Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2) for _ in dilations]
        self.activations = [Activation(channels) for _ in range(2 * len(dilations))]

    def __call__(self, x: mx.array) -> mx.array:
        for i, (first, second) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            h, bias = first.deferred(self.activations[2 * i](x))
            x = step(self, second.plus(self.activations[2 * i + 1](h, bias), x), x)
        return x


class AudioBlock(nn.Module):
    """The conditioning pyramid: features of the sound at each rate of the vocoder, finest first."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        levels = len(config.upsample_rates)
        self.emb = Conv1d(1, config.channels(levels), 7, padding=3)
        self.downsamples = [
            [Conv1d(config.channels(level + 1), config.channels(level), 2 * rate, stride=rate, padding=rate - 1)]
            for level, rate in reversed(list(enumerate(config.upsample_rates)))
        ]

    def __call__(self, samples: mx.array) -> list[mx.array]:
        x = self.emb(samples[..., None])
        pyramid = [x]
        # The last of `downsamples` is in every bundle and of no use: nothing is added before the first upsampling.
        for (layer,) in self.downsamples[:-1]:
            x = leaky_relu(layer(x.astype(layer.weight.dtype)), LEAK)
            pyramid.append(x)
        return pyramid


class Vocoder(nn.Module):
    def __init__(self, config: VocoderConfig, n_mels: int) -> None:
        super().__init__()
        levels = len(config.upsample_rates)
        self.audio_block = AudioBlock(config)
        self.conv_pre = Conv1d(n_mels, config.channels(0), 7, padding=3)
        self.ups = [
            [ConvTranspose1d(config.channels(level), config.channels(level + 1), kernel, rate)]
            for level, (rate, kernel) in enumerate(
                zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)
            )
        ]
        self.resblocks = [
            AmpBlock(config.channels(level + 1), kernel, dilations)
            for level in range(levels)
            for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        ]
        self.activation_post = Activation(config.channels(levels))
        self.conv_post = Conv1d(config.channels(levels), 1, 7, padding=3)

    def keep_precise(self) -> None:
        """Compute the last level in float32, whatever the others do: the noise of its roundings would lie in the open
        where the sound has nothing, 60 to 80 dB down. Noise of the levels before has no way into those bands."""
        blocks = self.resblocks[-(len(self.resblocks) // len(self.ups)) :]
        last: list[nn.Module] = [*self.ups[-1], *blocks, self.activation_post, self.conv_post]
        for part in (self.audio_block.emb, *last):
            part.set_dtype(mx.float32)

    def __call__(self, mel: mx.array, samples: mx.array) -> mx.array:
        """mel in the precision of the network, samples in float32; the result in float32."""
        pyramid = self.audio_block(samples)
        a_level = len(self.resblocks) // len(self.ups)
        x = self.conv_pre(mel)
        for level, (up,) in enumerate(self.ups):
            x = step(self, up(x.astype(up.weight.dtype)) + pyramid.pop(), x)
            first, *others = self.resblocks[level * a_level : (level + 1) * a_level]
            total = first(x)
            for block in others:
                total = step(self, total + block(x), total)
            x = total * (1.0 / a_level)
        return mx.tanh(self.conv_post(self.activation_post(x)))[..., 0]
