"""What config.json of a bundle says, typed and frozen: the sizes of the three networks, of the mel, of a window.

Whatever a bundle leaves out has the published value. Nothing is checked here; `batchsr.models.flashsr.config` does it.

Source: sizes of jakeoneijk/FlashSR_Inference, commit 2292814.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

QUANTISATION_MODE = "mlx_affine_flat"
"""The one layout of quantised weights."""


@dataclasses.dataclass(frozen=True, slots=True)
class VaeConfig:
    """Sizes of the mel autoencoder."""

    in_channels: int = 1
    out_ch: int = 1
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 8)
    num_res_blocks: int = 2
    """A level of the encoder; the decoder has one more."""
    attn_resolutions: tuple[int, ...] = ()
    double_z: bool = True
    z_channels: int = 16
    embed_dim: int = 16
    dropout: float = 0.1
    """Used in training; no effect here."""
    resolution: int = 256
    """Used in training; no effect here."""
    mel_bins: int = 256
    scale_factor_z: float = 0.3342

    @property
    def downsampling(self) -> int:
        """Mel frames (and bands) to one latent frame (and band)."""
        return int(2 ** (len(self.ch_mult) - 1))


@dataclasses.dataclass(frozen=True, slots=True)
class UnetConfig:
    """Sizes of the diffusion UNet; section `ldm`."""

    in_channels: int = 32
    model_channels: int = 128
    out_channels: int = 16
    num_res_blocks: int = 2
    channel_mult: tuple[int, ...] = (1, 2, 3, 5)
    attention_resolutions: tuple[int, ...] = (2, 4, 8)
    """Downsampling rates at which a level has spatial transformers."""
    num_head_channels: int = 32

    @property
    def downsampling(self) -> int:
        """Latent frames to one frame of the deepest level."""
        return int(2 ** (len(self.channel_mult) - 1))


@dataclasses.dataclass(frozen=True, slots=True)
class VocoderConfig:
    """Sizes of the super-resolution BigVGAN; section `vocoder`."""

    upsample_initial_channel: int = 1536
    upsample_rates: tuple[int, ...] = (10, 6, 2, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (20, 12, 4, 4, 4)
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))

    def channels(self, level: int) -> int:
        """Channels after `level` transposed convolutions; 0 is the widest."""
        return int(self.upsample_initial_channel // 2**level)


@dataclasses.dataclass(frozen=True, slots=True)
class MelConfig:
    """Log-mel spectrogram. `hop` and `n_fft` in samples, `sr`, `fmin` and `fmax` in Hz."""

    n_fft: int = 2048
    hop: int = 480
    sr: int = 48_000
    n_mels: int = 256
    fmin: float = 20.0
    fmax: float = 24_000.0


@dataclasses.dataclass(frozen=True, slots=True)
class AudioConfig:
    """One window. `sample_rate` in Hz, `frame_samples` in samples, `frame_sec` in seconds: the same in another unit."""

    sample_rate: int = 48_000
    frame_samples: int = 245_760
    frame_sec: float = math.nan
    """What follows from the others, unless it is given."""

    def __post_init__(self) -> None:
        if math.isnan(self.frame_sec) and self.sample_rate:
            object.__setattr__(self, "frame_sec", self.frame_samples / self.sample_rate)


@dataclasses.dataclass(frozen=True, slots=True)
class QuantisationConfig:
    """How the quantised tensors of a bundle are stored."""

    bits: int
    group_size: int = 64
    mode: str = QUANTISATION_MODE
    rule: str = ""
    """In words, for people."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSizes:
    """Everything that config.json says."""

    vae: VaeConfig = VaeConfig()
    ldm: UnetConfig = UnetConfig()
    vocoder: VocoderConfig = VocoderConfig()
    mel: MelConfig = MelConfig()
    audio: AudioConfig = AudioConfig()
    format: str = "float32"
    """float32, float16, bfloat16, int4 or int8."""
    quantization: QuantisationConfig | None = None
    quantized_shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    """Key of each quantised tensor to its shape before quantisation. Empty where a bundle does not say."""
    unknown_keys: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """Paths of what config.json says beyond this."""
    oddities: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """Sentences about what was taken calmly in reading it."""

    @property
    def latent_samples(self) -> int:
        """Samples of sound to one latent frame: 3840 as published."""
        return self.mel.hop * self.vae.downsampling

    @property
    def window_multiple_samples(self) -> int:
        """A window must be a multiple of this, or a level of the UNet would not divide evenly."""
        return self.latent_samples * self.ldm.downsampling

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Shape of the noise of one window: (latent frames, latent bands, channels)."""
        return (
            self.audio.frame_samples // self.latent_samples,
            self.mel.n_mels // self.vae.downsampling,
            self.vae.embed_dim,
        )
