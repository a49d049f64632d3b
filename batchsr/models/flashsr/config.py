"""config.json of a bundle: typed, frozen, strict on what changes the sound. Works without MLX.

A published bundle names `vae`, `ldm`, `mel`, `audio`, `format`, `quantization` and `quantized_shapes`, but neither
the UNet's multipliers nor the vocoder's sizes. A bundle of another size names those too, in `ldm` and in a section
`vocoder`, under the names of the authors' code. Whatever is absent has the published value.

A wrong type (config_reading.py), a value that this architecture cannot have or that does not go with the others
(config_rules.py), and a key of another name that says of the model what is not so (config_claims.py) are each a
BundleError naming the key. Keys that have no meaning here are kept in `unknown_keys`, but for those of INFORMATIONAL.

Source: bundle format of aufklarer/FlashSR-MLX-4bit; sizes of jakeoneijk/FlashSR_Inference, commit 2292814.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from batchsr.errors import BundleError
from batchsr.models.flashsr import config_claims, config_rules
from batchsr.models.flashsr import config_reading as reading
from batchsr.models.flashsr.json_files import name_shown, repeated

INFORMATIONAL = (
    "name",
    "description",
    "license",
    "source",
    "model_type",
    "base_model",
    "version",
    "created",
    "training",
)
"""Top-level keys that a bundle may carry for people; their values are not looked at."""


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
    """One window. `sample_rate` in Hz, `frame_samples` in samples, `frame_sec` in seconds (informational)."""

    sample_rate: int = 48_000
    frame_samples: int = 245_760
    frame_sec: float = 5.12


@dataclasses.dataclass(frozen=True, slots=True)
class QuantisationConfig:
    """How the quantised tensors of a bundle are stored."""

    bits: int
    group_size: int = 64
    mode: str = reading.QUANTISATION_MODE
    rule: str = ""
    """In words, for people."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
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

    def __post_init__(self) -> None:
        config_rules.check(self)

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

    @classmethod
    def from_mapping(cls, values: object) -> ModelConfig:
        """Read what json.loads gave for config.json. Raises BundleError naming the key at fault."""
        if not isinstance(values, Mapping):
            raise BundleError("config.json is not a JSON object", remedy="write the bundle again, or fetch it again")
        config_claims.refuse_audiosr(values)
        for name in repeated(values):
            if name in _READERS or name in _ALIASES or name == "format":
                raise BundleError(f"config.json names {name!r} twice", remedy="leave one of them")
        notes = reading.Notes()
        sections: dict[str, Any] = {}
        for key, value in _with_quantization(values).items():
            name = _ALIASES.get(key, key)
            if name in _READERS:
                if name in sections:
                    raise BundleError(
                        f"config.json names {name!r} twice, the second time as {key!r}", remedy="leave one of them"
                    )
                sections[name] = _READERS[name](key, value, notes)
            elif key not in INFORMATIONAL and key != "format":
                notes.unknown[name_shown(key)] = value
        quantised = sections.get("quantization")
        bits = quantised.bits if quantised is not None else None
        if values.get("format") is not None:
            sections["format"] = reading.format_(values["format"], bits, notes)
        elif bits is not None:
            sections["format"] = f"int{bits}"
        config = cls(**sections)
        config_claims.check(notes.unknown, config)
        return dataclasses.replace(config, unknown_keys=tuple(notes.unknown), oddities=tuple(notes.oddities))

    def to_mapping(self) -> dict[str, Any]:
        """What config.json holds for this: `from_mapping` gives it back."""
        values = dataclasses.asdict(self)
        del values["unknown_keys"], values["oddities"]
        if self.quantization is None:
            del values["quantization"], values["quantized_shapes"]
        return values


_ALIASES = {"voc": "vocoder"}
"""The section under the name that its tensors carry."""
_READERS: dict[str, reading.Reader] = {
    "vae": reading.section(VaeConfig),
    "ldm": reading.section(UnetConfig, {"transformer_depth": 1, "use_spatial_transformer": True, "dims": 2}),
    "vocoder": reading.section(VocoderConfig, {"resblock": "1", "activation": "snakebeta", "snake_logscale": True}),
    "mel": reading.section(MelConfig, readers={"fmax": reading.top_hz}),
    "audio": reading.section(AudioConfig),
    "quantization": reading.optional(
        reading.section(
            QuantisationConfig,
            readers={
                "mode": reading.mode,
                "bits": reading.bits,
                "group_size": reading.group_size,
                "rule": reading.words,
            },
        )
    ),
    "quantized_shapes": lambda key, value, notes: {} if value is None else reading.shapes(key, value, notes),
}


def _with_quantization(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config with `quantization` where it names only `quantization_config`, as mlx-lm's bundles name both."""
    same = values.get("quantization_config")
    if values.get("quantization") is not None or not isinstance(same, Mapping) or "bits" not in same:
        return values
    if values.get("format") in reading.FLOAT_FORMATS:
        return values
    return {**values, "quantization": {name: same[name] for name in ("bits", "group_size") if name in same}}
