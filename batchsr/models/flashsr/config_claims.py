"""What a config says of its model under keys that this program does not read.

Such keys are many and mostly harmless, so they are noted and let pass; but one that names a property of the sound, and
another value than this network has, is an error: sample rate, mel, latent scale, schedule, steps, prediction, vocoder.
A bundle that says that it is an AudioSR is refused as such.

Source: the names that AudioLDM's, AudioSR's, BigVGAN's, diffusers' and mlx-lm's configs use.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from batchsr.errors import BundleError
from batchsr.models.flashsr.config_sizes import ModelSizes
from batchsr.models.flashsr.json_files import name_shown, shown

TIMESTEPS = 1000
"""Steps of the schedule that the model was trained with (batchsr.models.flashsr.schedule)."""
_NAMES_ITSELF = {
    "model",
    "name",
    "model_name",
    "model_type",
    "model_id",
    "architecture",
    "architectures",
    "arch",
    "network",
    "type",
    "id",
    "repo",
    "repo_id",
    "repository",
    "_name_or_path",
}
_LATENT = ("vae", "ldm", "diffusion", "model", "architecture", "scheduler", "unet")
_V = ("v", "v_prediction", "vprediction", "velocity", "v_pred", "vpred", "v_param")
_COSINE = ("cosine", "squaredcos_cap_v2", "cosine_clipped", "cos")
Wanted = object
"""A value, a tuple of values of which one must stand, or `Of`."""


class Of:
    """The value of the config under a path, which the key must have too."""

    def __init__(self, path: str) -> None:
        self.value: Callable[[Any], Any] = operator.attrgetter(path)


_ANYWHERE: dict[str, Wanted] = {
    **dict.fromkeys(
        ("timesteps", "num_timesteps", "num_train_timesteps", "train_timesteps", "diffusion_timesteps", "n_timesteps"),
        TIMESTEPS,
    ),
    **dict.fromkeys(
        ("prediction_type", "parameterization", "parametrization", "pred_type", "prediction", "model_mean_type"), _V
    ),
    **dict.fromkeys(("beta_schedule", "noise_schedule", "schedule", "schedule_type", "schedule_name"), _COSINE),
    **dict.fromkeys(
        ("sample_rate", "sampling_rate", "target_sample_rate", "output_sample_rate", "target_sr", "output_sr", "sr"),
        Of("audio.sample_rate"),
    ),
    "upsample_rates": Of("vocoder.upsample_rates"),
    "upsample_kernel_sizes": Of("vocoder.upsample_kernel_sizes"),
    "scale_factor_z": Of("vae.scale_factor_z"),
}
"""Keys that mean the same wherever they stand -> what this network has."""
_IN_SECTION: dict[str, dict[str, Wanted]] = {
    "ldm": {
        "extra_sa_layer": True,
        "use_scale_shift_norm": False,
        "resblock_updown": False,
        "channel_multipliers": Of("ldm.channel_mult"),
        "channel_mults": Of("ldm.channel_mult"),
    },
    "vae": {"tanh_out": False, "channel_multipliers": Of("vae.ch_mult"), "channel_mult": Of("vae.ch_mult")},
    "mel": {
        **dict.fromkeys(("hop_length", "hop_size", "hop_samples"), Of("mel.hop")),
        **dict.fromkeys(("win", "win_length", "win_size", "window_size", "fft_size", "filter_length"), Of("mel.n_fft")),
        **dict.fromkeys(("num_mels", "n_mel", "mel_bins", "n_mel_channels"), Of("mel.n_mels")),
        **dict.fromkeys(("f_min", "mel_fmin"), Of("mel.fmin")),
        **dict.fromkeys(("f_max", "mel_fmax"), Of("mel.fmax")),
        "center": False,
        "htk": False,
        "power": 1,
        "window": ("hann", "hanning", "hann_window"),
        "norm": ("slaney",),
        "mel_scale": ("slaney",),
    },
    "voc": {
        "hop_size": Of("mel.hop"),
        "hop_length": Of("mel.hop"),
        "win_size": Of("mel.n_fft"),
        "n_fft": Of("mel.n_fft"),
    },
    "audio": {
        **dict.fromkeys(("window_samples", "segment_samples", "segment_size"), Of("audio.frame_samples")),
    },
    "quantization_config": {"bits": Of("quantization.bits"), "group_size": Of("quantization.group_size")},
}
"""Keys that mean something in one section alone."""
_IN_SECTION["vocoder"] = _IN_SECTION["voc"]
_SCALES = ("scale_factor", "latent_scale", "latent_scale_factor", "scaling_factor", "scale_latent")
_STEPS = (
    "sampling_steps",
    "inference_steps",
    "num_inference_steps",
    "num_sampling_steps",
    "denoising_steps",
    "ddim_steps",
    "ddim_num_steps",
    "diffusion_steps",
    "steps",
    "num_steps",
)
_ONE_STEP_OR_ITS_TRAINING = (1, TIMESTEPS)
_OF_ITS_MAKING = re.compile(r"train|teacher|distil|optim|loss|ema|histor|dataset|^lr|learning|input|evaluat|benchmark")
"""Sections that speak of how a model was made or tried, and not of what it computes."""


def refuse_audiosr(values: Mapping[str, Any]) -> None:
    """Raise BundleError if a config calls its model AudioSR; "distilled from AudioSR" in passing is no such call."""
    for path, value in _leaves(values):
        names = [part.lower() for part in path]
        own = names[-1] in _NAMES_ITSELF and (len(names) == 1 or (len(names) == 2 and names[0] in _NAMES_ITSELF))
        if (own and is_audiosr(str(value)[:200])) or is_audiosr(names[0]):
            raise audiosr_error(f"{_joined(path)} = {shown(value)}")


def is_audiosr(text: str) -> bool:
    """Return whether a name means an AudioSR."""
    text = text.lower()
    return bool(re.search(r"audio[-_ ]?sr(?![a-z])", text)) and "flashsr" not in text.replace("-", "").replace("_", "")


def audiosr_error(said_by: str) -> BundleError:
    """Return the refusal of an AudioSR, which has another vocoder and restores in many steps."""
    return BundleError(
        f"this is an AudioSR bundle ({said_by}): another model, which needs many steps (200) a window, not one",
        remedy="take a FlashSR bundle: --variant int4, int8 or tiny",
    )


def check(unknown: Mapping[str, object], config: ModelSizes) -> None:
    """Raise BundleError naming the first unknown key that says of the model what is not so."""
    for key, value in unknown.items():
        start = tuple(key.split("."))
        for path, leaf in _leaves(value, start):
            _check_one(path, leaf, config)


def _check_one(path: tuple[str, ...], value: object, config: ModelSizes) -> None:
    *sections, name = (part.lower() for part in path)
    if value is None or any(_OF_ITS_MAKING.search(section) for section in sections):
        return
    if name in _STEPS and (name not in ("steps", "num_steps", "diffusion_steps") or _is_number(value)):
        allowed = (1,) if name not in ("steps", "num_steps", "diffusion_steps") else _ONE_STEP_OR_ITS_TRAINING
        if _is_number(value) and value not in allowed:
            raise BundleError(
                f"config.json: {_joined(path)} = {shown(value)}, but FlashSR restores in one step",
                remedy="a model that needs many steps, such as AudioSR, is another; take a FlashSR bundle",
            )
        return
    wanted = _ANYWHERE.get(name)
    for section in sections:
        wanted = _IN_SECTION.get(section, {}).get(name, wanted)
    if name in _SCALES and (not sections or any(section in _LATENT for section in sections)):
        wanted = Of("vae.scale_factor_z")
    if wanted is None or isinstance(value, Mapping):
        return
    if isinstance(wanted, Of):
        try:
            wanted = wanted.value(config)
        except AttributeError:  # not quantised at all
            return
        allowed_values: tuple[object, ...] = (wanted,)
    else:
        allowed_values = wanted if isinstance(wanted, tuple) else (wanted,)
    if not any(_same(value, allowed) for allowed in allowed_values):
        raise BundleError(
            f"config.json: {_joined(path)} = {shown(value)}, but this network computes with {shown(allowed_values[0])}",
            remedy="this program cannot run that model",
        )


def _same(value: object, wanted: object) -> bool:
    if isinstance(wanted, tuple):
        return isinstance(value, list) and tuple(value) == wanted
    if isinstance(wanted, bool):
        return value is wanted
    if isinstance(wanted, int | float):
        return _is_number(value) and math.isclose(float(str(value)[:40]), wanted, rel_tol=1e-6)
    return isinstance(value, str) and value.lower().replace("-", "_").replace(" ", "_") == wanted


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _leaves(value: object, start: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """(path, value) of everything under a value that is no object; a list's entries that are objects too."""
    waiting: list[tuple[tuple[str, ...], object]] = [(start, value)]
    while waiting:
        path, at = waiting.pop()
        if isinstance(at, Mapping):
            waiting += [((*path, str(name)), entry) for name, entry in list(at.items())[::-1]]
        elif isinstance(at, list) and any(isinstance(entry, Mapping) for entry in at):
            waiting += [((*path, str(number)), entry) for number, entry in enumerate(at)]
        elif path:
            yield path, at


def _joined(path: tuple[str, ...]) -> str:
    """A path as messages show it, its beginning and its end if it is long."""
    parts = [name_shown(part) for part in path]
    return ".".join(parts if len(parts) <= 6 else [*parts[:3], "...", *parts[-2:]])
