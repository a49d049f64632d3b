"""config.json of a bundle: typed, frozen, strict. Works without MLX.

A published bundle names `vae`, `ldm`, `mel`, `audio`, `format`, `quantization` and `quantized_shapes`, but neither
the UNet's multipliers nor the vocoder's sizes. A bundle of another size names those too, in `ldm` and in a section
`vocoder`, under the names of the authors' code. Whatever is absent has the published value.

It is long for being a table: each key is named as a field, as a reader, and in a check of what it goes with.

Strict means that a wrong type, a value that this architecture cannot have, and an unknown key are each a
BundleError naming the key. The only keys without a meaning here are those of INFORMATIONAL, at the top level.

Source: bundle format of aufklarer/FlashSR-MLX-4bit; sizes of jakeoneijk/FlashSR_Inference, commit 2292814.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from batchsr.errors import BundleError

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

FLOAT_FORMATS = {
    "float32": "float32",
    "fp32": "float32",
    "f32": "float32",
    "float16": "float16",
    "fp16": "float16",
    "f16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
}
"""Spellings of `format` for a bundle that is not quantised."""
QUANTISED_FORMATS = {"int4": 4, "int8": 8}
"""Spellings of `format` for a quantised bundle, and the bits that go with them."""
QUANTISATION_MODE = "mlx_affine_flat"


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
    """Of the training; no effect here."""
    resolution: int = 256
    """Of the training; no effect here."""
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
    mode: str = QUANTISATION_MODE
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
    """Key of each quantised tensor to its shape before quantisation."""

    def __post_init__(self) -> None:
        _check(self)

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
            raise BundleError("config.json is not a JSON object")
        sections: dict[str, Any] = {}
        for key, value in values.items():
            if key in _SECTIONS:
                name, parse = _SECTIONS[key]
                if name in sections:
                    raise BundleError(f"config.json names {name!r} twice, the second time as {key!r}")
                sections[name] = parse(key, value)
            elif key not in INFORMATIONAL:
                raise BundleError(f"config.json: unknown key {key!r}")
        quantised = sections.get("quantization")
        if "format" not in sections and quantised is not None:
            sections["format"] = f"int{quantised.bits}"
        return cls(**sections)

    def to_mapping(self) -> dict[str, Any]:
        """What config.json holds for this: `from_mapping` gives it back."""
        values = dataclasses.asdict(self)
        if self.quantization is None:
            del values["quantization"], values["quantized_shapes"]
        return values


def _check(config: ModelConfig) -> None:
    """Raise BundleError unless the sections fit together and into this architecture."""
    vae, ldm, vocoder, mel, audio = config.vae, config.ldm, config.vocoder, config.mel, config.audio

    def want(ok: bool, key: str, value: object, why: str) -> None:
        if not ok:
            raise BundleError(f"config.json: {key} = {_plain(value)}, but {why}")

    def positive(section: str, part: object, *names: str) -> None:
        for name in names:
            value = getattr(part, name)
            entries = value if isinstance(value, tuple) else (value,)
            want(bool(entries) and all(e > 0 for e in entries), f"{section}.{name}", value, "it must be above zero")

    positive("vae", vae, "ch", "ch_mult", "num_res_blocks", "z_channels", "embed_dim", "resolution", "scale_factor_z")
    positive("ldm", ldm, "model_channels", "num_res_blocks", "channel_mult", "num_head_channels")
    positive("vocoder", vocoder, "upsample_initial_channel", "upsample_rates", "upsample_kernel_sizes")
    positive("vocoder", vocoder, "resblock_kernel_sizes")
    positive("mel", mel, "n_fft", "hop", "n_mels")
    positive("audio", audio, "frame_samples", "frame_sec")

    want(vae.in_channels == 1, "vae.in_channels", vae.in_channels, "a mel spectrogram has 1")
    want(vae.out_ch == 1, "vae.out_ch", vae.out_ch, "a mel spectrogram has 1")
    want(vae.double_z, "vae.double_z", vae.double_z, "the posterior needs a mean and a variance")
    want(not vae.attn_resolutions, "vae.attn_resolutions", vae.attn_resolutions, "attention in the levels is not built")
    want(0 <= vae.dropout < 1, "vae.dropout", vae.dropout, "it must lie in [0, 1)")
    want(vae.mel_bins == mel.n_mels, "vae.mel_bins", vae.mel_bins, f"mel.n_mels is {mel.n_mels}")
    want(mel.n_mels % vae.downsampling == 0, "mel.n_mels", mel.n_mels, f"the VAE divides it by {vae.downsampling}")
    for level, mult in enumerate(vae.ch_mult):
        want(vae.ch * mult % 32 == 0, "vae.ch", vae.ch, f"level {level} has {vae.ch * mult} channels, not 32 groups")

    latent = vae.embed_dim
    want(ldm.in_channels == 2 * latent, "ldm.in_channels", ldm.in_channels, f"noise and condition have {latent} each")
    want(ldm.out_channels == latent, "ldm.out_channels", ldm.out_channels, f"vae.embed_dim is {latent}")
    want(
        ldm.model_channels % 2 == 0, "ldm.model_channels", ldm.model_channels, "the time embedding needs an even number"
    )
    for rate in ldm.attention_resolutions:  # one deeper than the UNet is never met, as in the authors' code
        power = rate > 0 and rate & (rate - 1) == 0
        want(power, "ldm.attention_resolutions", ldm.attention_resolutions, "the levels are at powers of two")
    for level, mult in enumerate(ldm.channel_mult):
        width = ldm.model_channels * mult
        want(
            width % 32 == 0,
            "ldm.model_channels",
            ldm.model_channels,
            f"level {level} has {width} channels, not 32 groups",
        )
        attends = 2**level in ldm.attention_resolutions or level == len(ldm.channel_mult) - 1
        want(
            not attends or width % ldm.num_head_channels == 0,
            "ldm.num_head_channels",
            ldm.num_head_channels,
            f"it must divide the {width} channels of level {level}",
        )
    bands = mel.n_mels // vae.downsampling
    want(
        bands % ldm.downsampling == 0,
        "ldm.channel_mult",
        ldm.channel_mult,
        f"{bands} latent bands cannot be halved so often",
    )

    levels = len(vocoder.upsample_rates)
    want(
        len(vocoder.upsample_kernel_sizes) == levels,
        "vocoder.upsample_kernel_sizes",
        vocoder.upsample_kernel_sizes,
        f"vocoder.upsample_rates has {levels}",
    )
    for rate, kernel in zip(vocoder.upsample_rates, vocoder.upsample_kernel_sizes, strict=True):
        want(
            kernel >= rate and (kernel - rate) % 2 == 0,
            "vocoder.upsample_kernel_sizes",
            vocoder.upsample_kernel_sizes,
            f"{kernel} does not fit rate {rate}",
        )
    want(
        math.prod(vocoder.upsample_rates) == mel.hop,
        "vocoder.upsample_rates",
        vocoder.upsample_rates,
        f"their product must be mel.hop = {mel.hop}",
    )
    want(
        vocoder.upsample_initial_channel % 2**levels == 0,
        "vocoder.upsample_initial_channel",
        vocoder.upsample_initial_channel,
        f"it is halved {levels} times",
    )
    dilations = vocoder.resblock_dilation_sizes
    want(
        len(dilations) == len(vocoder.resblock_kernel_sizes) and all(d and min(d) > 0 for d in dilations),
        "vocoder.resblock_dilation_sizes",
        dilations,
        "each of vocoder.resblock_kernel_sizes needs its dilations",
    )
    want(
        all(k % 2 for k in vocoder.resblock_kernel_sizes),
        "vocoder.resblock_kernel_sizes",
        vocoder.resblock_kernel_sizes,
        "they must be odd",
    )

    want(audio.sample_rate == 48_000, "audio.sample_rate", audio.sample_rate, "this program restores to 48000 Hz")
    want(mel.sr == audio.sample_rate, "mel.sr", mel.sr, f"audio.sample_rate is {audio.sample_rate}")
    want(
        mel.n_fft % 2 == 0 and mel.n_fft >= mel.hop,
        "mel.n_fft",
        mel.n_fft,
        "it must be even and no shorter than mel.hop",
    )
    want((mel.n_fft - mel.hop) % 2 == 0, "mel.hop", mel.hop, "the padding (n_fft - hop) / 2 must be whole")
    want(
        0 <= mel.fmin < mel.fmax <= mel.sr / 2,
        "mel.fmax",
        mel.fmax,
        f"bands must lie between mel.fmin and {mel.sr / 2:g} Hz",
    )
    multiple = config.window_multiple_samples
    want(
        audio.frame_samples % multiple == 0,
        "audio.frame_samples",
        audio.frame_samples,
        f"it must be a multiple of {multiple} (mel.hop times the halvings of the VAE and of the UNet)",
    )
    want(
        audio.frame_samples > (mel.n_fft - mel.hop) // 2,
        "audio.frame_samples",
        audio.frame_samples,
        "it is shorter than the mel's padding",
    )

    bits = QUANTISED_FORMATS.get(config.format)
    if config.quantization is None:
        want(bits is None, "format", config.format, "section quantization is missing")
        want(
            not config.quantized_shapes,
            "quantized_shapes",
            list(config.quantized_shapes)[:1],
            "section quantization is missing",
        )
    else:
        want(
            bits == config.quantization.bits,
            "quantization.bits",
            config.quantization.bits,
            f"format is {config.format!r}",
        )


def _plain(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)


# --- readers of single values: (key, value) -> typed value, or BundleError naming the key ---------------------------

Reader = Callable[[str, object], Any]


def _wrong(key: str, value: object, expected: str) -> BundleError:
    return BundleError(f"config.json: {key} = {value!r} is not {expected}")


def _integer(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(key, value, "a whole number")
    return value


def _number(key: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _wrong(key, value, "a number")
    return float(value)


def _boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def _string(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(key, value, "a string")
    return value


def _integers(key: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(key, value, "a list of whole numbers")
    return tuple(_integer(f"{key}[{i}]", entry) for i, entry in enumerate(value))


def _integer_lists(key: str, value: object) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(key, value, "a list of lists of whole numbers")
    return tuple(_integers(f"{key}[{i}]", entry) for i, entry in enumerate(value))


def _constant(*accepted: object) -> Reader:
    """Reader of a key that upstream's code has but that has one meaning here."""

    def read(key: str, value: object) -> None:
        if not any(value == a and type(value) is type(a) for a in accepted):
            raise BundleError(f"config.json: {key} = {value!r} is not built; it can only be {accepted[0]!r}")

    return read


def _section(cls: type[Any], readers: Mapping[str, Reader], constants: Mapping[str, Reader] | None = None) -> Reader:
    """Reader of an object whose keys are those of `readers` (kept) and `constants` (checked and dropped)."""

    def read(section: str, value: object) -> Any:
        if not isinstance(value, Mapping):
            raise _wrong(section, value, "an object")
        kept: dict[str, Any] = {}
        for name, entry in value.items():
            key = f"{section}.{name}"
            if name in readers:
                kept[name] = readers[name](key, entry)
            elif constants and name in constants:
                constants[name](key, entry)
            else:
                raise BundleError(f"config.json: unknown key {key!r}")
        for field in dataclasses.fields(cls):
            if field.default is dataclasses.MISSING and field.name not in kept:
                raise BundleError(f"config.json: {section}.{field.name} is missing")
        return cls(**kept)

    return read


def _format(key: str, value: object) -> str:
    text = _string(key, value)
    if text in QUANTISED_FORMATS:
        return text
    if text not in FLOAT_FORMATS:
        known = ", ".join([*QUANTISED_FORMATS, *dict.fromkeys(FLOAT_FORMATS.values())])
        raise BundleError(f"config.json: unknown {key} {text!r}", remedy=f"known formats: {known}")
    return FLOAT_FORMATS[text]


def _bits(key: str, value: object) -> int:
    bits = _integer(key, value)
    if bits not in QUANTISED_FORMATS.values():
        raise _wrong(key, value, "4 or 8")
    return bits


def _group_size(key: str, value: object) -> int:
    size = _integer(key, value)
    if size not in (32, 64, 128):
        raise _wrong(key, value, "32, 64 or 128")
    return size


def _mode(key: str, value: object) -> str:
    if value != QUANTISATION_MODE:
        raise BundleError(
            f"config.json: unknown {key} {value!r}", remedy=f"the only one known is {QUANTISATION_MODE!r}"
        )
    return QUANTISATION_MODE


def _quantisation(key: str, value: object) -> QuantisationConfig | None:
    if value is None:
        return None
    readers = {"mode": _mode, "bits": _bits, "group_size": _group_size, "rule": _string}
    section: QuantisationConfig = _section(QuantisationConfig, readers)(key, value)
    return section


def _shapes(key: str, value: object) -> dict[str, tuple[int, ...]]:
    if not isinstance(value, Mapping):
        raise _wrong(key, value, "an object of tensor names and shapes")
    return {str(name): _integers(f"{key}[{name!r}]", shape) for name, shape in value.items()}


_VOCODER = _section(
    VocoderConfig,
    {
        "upsample_initial_channel": _integer,
        "upsample_rates": _integers,
        "upsample_kernel_sizes": _integers,
        "resblock_kernel_sizes": _integers,
        "resblock_dilation_sizes": _integer_lists,
    },
    {
        "resblock": _constant("1"),
        "activation": _constant("snakebeta"),
        "snake_logscale": _constant(True),
    },
)

_SECTIONS: dict[str, tuple[str, Reader]] = {
    "vae": (
        "vae",
        _section(
            VaeConfig,
            {
                "in_channels": _integer,
                "out_ch": _integer,
                "ch": _integer,
                "ch_mult": _integers,
                "num_res_blocks": _integer,
                "attn_resolutions": _integers,
                "double_z": _boolean,
                "z_channels": _integer,
                "embed_dim": _integer,
                "dropout": _number,
                "resolution": _integer,
                "mel_bins": _integer,
                "scale_factor_z": _number,
            },
        ),
    ),
    "ldm": (
        "ldm",
        _section(
            UnetConfig,
            {
                "in_channels": _integer,
                "model_channels": _integer,
                "out_channels": _integer,
                "num_res_blocks": _integer,
                "channel_mult": _integers,
                "attention_resolutions": _integers,
                "num_head_channels": _integer,
            },
            {"transformer_depth": _constant(1), "use_spatial_transformer": _constant(True), "dims": _constant(2)},
        ),
    ),
    "vocoder": ("vocoder", _VOCODER),
    "voc": ("vocoder", _VOCODER),  # the section under the name that its tensors carry
    "mel": (
        "mel",
        _section(
            MelConfig,
            {
                "n_fft": _integer,
                "hop": _integer,
                "sr": _integer,
                "n_mels": _integer,
                "fmin": _number,
                "fmax": _number,
            },
        ),
    ),
    "audio": (
        "audio",
        _section(AudioConfig, {"sample_rate": _integer, "frame_samples": _integer, "frame_sec": _number}),
    ),
    "format": ("format", _format),
    "quantization": ("quantization", _quantisation),
    "quantized_shapes": ("quantized_shapes", _shapes),
}
