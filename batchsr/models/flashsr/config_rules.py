"""Which sizes fit together and into this architecture."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from batchsr.errors import BundleError
from batchsr.models.flashsr.config_reading import QUANTISED_FORMATS
from batchsr.models.flashsr.config_sizes import ModelSizes
from batchsr.models.flashsr.json_files import shown

_POSITIVE = {
    "vae": ("ch", "ch_mult", "num_res_blocks", "z_channels", "embed_dim", "resolution", "scale_factor_z"),
    "ldm": ("model_channels", "num_res_blocks", "channel_mult", "num_head_channels"),
    "vocoder": ("upsample_initial_channel", "upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes"),
    "mel": ("n_fft", "hop", "n_mels"),
    "audio": ("frame_samples", "frame_sec"),
}

_MOST_ENTRIES = 12
_MOST = {
    "vae.ch": 4096,
    "vae.ch_mult": 64,
    "vae.num_res_blocks": 16,
    "vae.z_channels": 1024,
    "vae.embed_dim": 1024,
    "ldm.model_channels": 4096,
    "ldm.channel_mult": 64,
    "ldm.num_res_blocks": 16,
    "ldm.num_head_channels": 4096,
    "ldm.attention_resolutions": 1 << 12,
    "vocoder.upsample_initial_channel": 1 << 14,
    "vocoder.upsample_rates": 1024,
    "vocoder.upsample_kernel_sizes": 4096,
    "vocoder.resblock_kernel_sizes": 255,
    "mel.n_fft": 1 << 14,
    "mel.hop": 1 << 14,
    "mel.n_mels": 1024,
    "audio.frame_samples": 60 * 48_000,
}
"""Beyond them a config is a mistake, and building its networks would take all memory or for ever."""


Want = Callable[[bool, str, str], None]
"""Raises BundleError unless the first holds, with the key at fault and the reason."""


def check(config: ModelSizes) -> None:
    """Raise BundleError naming the first key whose value does not go with the others."""

    def want(ok: bool, key: str, why: str) -> None:
        if not ok:
            value = operator.attrgetter(key)(config)
            raise BundleError(
                f"config.json: {key} = {shown(value)}, but {why}", remedy="this program cannot run that model"
            )

    for check_part in (_check_bounds, _check_vae, _check_unet, _check_vocoder, _check_window, _check_format):
        check_part(config, want)


def _check_bounds(config: ModelSizes, want: Want) -> None:
    for section, names in _POSITIVE.items():
        for name in names:
            value = getattr(getattr(config, section), name)
            entries = value if isinstance(value, tuple) else (value,)
            want(bool(entries) and all(e > 0 for e in entries), f"{section}.{name}", "it must be above zero")
    for key, most in _MOST.items():
        sizes = operator.attrgetter(key)(config)
        entries = sizes if isinstance(sizes, tuple) else (sizes,)
        want(len(entries) <= _MOST_ENTRIES and max(entries, default=0) <= most, key, f"the most is {most:,}")
    for of_a_block in config.vocoder.resblock_dilation_sizes:
        want(
            len(of_a_block) <= _MOST_ENTRIES and max(of_a_block, default=0) <= 1024,
            "vocoder.resblock_dilation_sizes",
            "the most is 1,024",
        )


def _check_vae(config: ModelSizes, want: Want) -> None:
    vae, mel = config.vae, config.mel
    want(vae.in_channels == 1, "vae.in_channels", "a mel spectrogram has 1")
    want(vae.out_ch == 1, "vae.out_ch", "a mel spectrogram has 1")
    want(vae.double_z, "vae.double_z", "the posterior needs a mean and a variance")
    want(not vae.attn_resolutions, "vae.attn_resolutions", "attention in the levels is not built")
    want(0 <= vae.dropout < 1, "vae.dropout", "it must lie in [0, 1)")
    want(vae.mel_bins == mel.n_mels, "vae.mel_bins", f"mel.n_mels is {mel.n_mels}")
    want(mel.n_mels % vae.downsampling == 0, "mel.n_mels", f"the VAE divides it by {vae.downsampling}")
    for level, mult in enumerate(vae.ch_mult):
        want(vae.ch * mult % 32 == 0, "vae.ch", f"level {level} has {vae.ch * mult} channels, not 32 groups")


def _check_unet(config: ModelSizes, want: Want) -> None:
    vae, ldm, mel = config.vae, config.ldm, config.mel
    latent = vae.embed_dim
    want(ldm.in_channels == 2 * latent, "ldm.in_channels", f"noise and condition have {latent} each")
    want(ldm.out_channels == latent, "ldm.out_channels", f"vae.embed_dim is {latent}")
    want(ldm.model_channels % 2 == 0, "ldm.model_channels", "the time embedding needs an even number")
    for rate in ldm.attention_resolutions:  # one deeper than the UNet is never met, as in the authors' code
        power = rate > 0 and rate & (rate - 1) == 0
        want(power, "ldm.attention_resolutions", "the levels are at powers of two")
    for level, mult in enumerate(ldm.channel_mult):
        width = ldm.model_channels * mult
        want(width % 32 == 0, "ldm.model_channels", f"level {level} has {width} channels, not 32 groups")
        attends = 2**level in ldm.attention_resolutions or level == len(ldm.channel_mult) - 1
        want(
            not attends or width % ldm.num_head_channels == 0,
            "ldm.num_head_channels",
            f"it must divide the {width} channels of level {level}",
        )
    bands = mel.n_mels // vae.downsampling
    want(bands % ldm.downsampling == 0, "ldm.channel_mult", f"{bands} latent bands cannot be halved so often")


def _check_vocoder(config: ModelSizes, want: Want) -> None:
    vocoder, mel = config.vocoder, config.mel
    levels = len(vocoder.upsample_rates)
    want(
        len(vocoder.upsample_kernel_sizes) == levels,
        "vocoder.upsample_kernel_sizes",
        f"vocoder.upsample_rates has {levels}",
    )
    for rate, kernel in zip(vocoder.upsample_rates, vocoder.upsample_kernel_sizes, strict=True):
        want(
            kernel >= rate and (kernel - rate) % 2 == 0,
            "vocoder.upsample_kernel_sizes",
            f"{kernel} does not fit rate {rate}",
        )
    want(
        math.prod(vocoder.upsample_rates) == mel.hop,
        "vocoder.upsample_rates",
        f"their product must be mel.hop = {mel.hop}",
    )
    want(
        vocoder.upsample_initial_channel % 2**levels == 0,
        "vocoder.upsample_initial_channel",
        f"it is halved {levels} times",
    )
    dilations = vocoder.resblock_dilation_sizes
    want(
        len(dilations) == len(vocoder.resblock_kernel_sizes) and all(d and min(d) > 0 for d in dilations),
        "vocoder.resblock_dilation_sizes",
        "each of vocoder.resblock_kernel_sizes needs its dilations",
    )
    want(all(k % 2 for k in vocoder.resblock_kernel_sizes), "vocoder.resblock_kernel_sizes", "they must be odd")


def _check_window(config: ModelSizes, want: Want) -> None:
    mel, audio = config.mel, config.audio
    want(audio.sample_rate == 48_000, "audio.sample_rate", "this program restores to 48000 Hz")
    want(mel.sr == audio.sample_rate, "mel.sr", f"audio.sample_rate is {audio.sample_rate}")
    want(mel.n_fft % 2 == 0 and mel.n_fft >= mel.hop, "mel.n_fft", "it must be even and no shorter than mel.hop")
    want((mel.n_fft - mel.hop) % 2 == 0, "mel.hop", "the padding (n_fft - hop) / 2 must be whole")
    want(0 <= mel.fmin < mel.fmax <= mel.sr / 2, "mel.fmax", f"bands must lie between mel.fmin and {mel.sr / 2:g} Hz")
    seconds = audio.frame_samples / audio.sample_rate
    want(
        math.isclose(audio.frame_sec, seconds, rel_tol=0.005),  # as rounded to two digits
        "audio.frame_sec",
        f"audio.frame_samples = {audio.frame_samples} are {seconds:g} s",
    )
    multiple = config.window_multiple_samples
    want(
        audio.frame_samples % multiple == 0,
        "audio.frame_samples",
        f"it must be a multiple of {multiple} (mel.hop times the halvings of the VAE and of the UNet)",
    )
    want(
        audio.frame_samples > (mel.n_fft - mel.hop) // 2, "audio.frame_samples", "it is shorter than the mel's padding"
    )


def _check_format(config: ModelSizes, want: Want) -> None:
    bits = QUANTISED_FORMATS.get(config.format)
    if config.quantization is None:
        want(bits is None, "format", "section quantization is missing")
        want(not config.quantized_shapes, "quantized_shapes", "section quantization is missing")
    else:
        want(bits == config.quantization.bits, "quantization.bits", f"format is {config.format!r}")
