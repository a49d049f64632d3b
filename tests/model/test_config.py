"""config.json: the published one is read as it is, and every wrong value is an error naming its key."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from batchsr.errors import BundleError
from batchsr.models.flashsr import json_files
from batchsr.models.flashsr.config import ModelConfig

PUBLISHED: dict[str, Any] = {
    "vae": {
        "in_channels": 1,
        "out_ch": 1,
        "ch": 128,
        "ch_mult": [1, 2, 4, 8],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "double_z": True,
        "z_channels": 16,
        "embed_dim": 16,
        "dropout": 0.1,
        "resolution": 256,
        "mel_bins": 256,
        "scale_factor_z": 0.3342,
    },
    "ldm": {"in_channels": 32, "model_channels": 128, "out_channels": 16, "num_res_blocks": 2},
    "mel": {"n_fft": 2048, "hop": 480, "sr": 48000, "n_mels": 256, "fmin": 20, "fmax": 24000},
    "audio": {"sample_rate": 48000, "frame_samples": 245760, "frame_sec": 5.12},
    "format": "int4",
    "quantization": {"mode": "mlx_affine_flat", "bits": 4, "group_size": 64, "rule": "every weight with ndim>=2"},
    "quantized_shapes": {"ldm.time_embed.2.weight": [512, 512]},
}


def changed(path: str, value: object) -> dict[str, Any]:
    """PUBLISHED with one value replaced; `...` removes it."""
    values = copy.deepcopy(PUBLISHED)
    *sections, key = path.split(".")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
    if value is ...:
        del target[key]
    else:
        target[key] = value
    return values


def test_the_published_config_has_the_published_sizes() -> None:
    config = ModelConfig.from_mapping(PUBLISHED)
    assert (config.vae.ch, config.ldm.channel_mult, config.ldm.attention_resolutions) == (128, (1, 2, 3, 5), (2, 4, 8))
    assert config.vocoder.upsample_initial_channel == 1536
    assert config.noise_shape == (64, 32, 16)
    assert config.window_multiple_samples == 30_720
    assert (config.format, config.quantization and config.quantization.bits) == ("int4", 4)


def test_an_empty_config_means_the_published_sizes_in_float32() -> None:
    assert ModelConfig.from_mapping({}) == ModelConfig()


def test_what_is_written_is_read_back() -> None:
    config = ModelConfig.from_mapping(PUBLISHED)
    assert ModelConfig.from_mapping(config.to_mapping()) == config


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("ldm.channel_mult", [1, 2], lambda c: c.ldm.channel_mult == (1, 2)),
        ("ldm.attention_resolutions", [8, 4, 2], lambda c: set(c.ldm.attention_resolutions) == {2, 4, 8}),
        ("ldm.num_head_channels", 64, lambda c: c.ldm.num_head_channels == 64),
        ("vocoder.upsample_initial_channel", 96, lambda c: c.vocoder.upsample_initial_channel == 96),
        ("voc.upsample_initial_channel", 96, lambda c: c.vocoder.upsample_initial_channel == 96),
        ("vocoder.upsample_kernel_sizes", [20, 12, 4, 4, 4], lambda c: c.vocoder.upsample_kernel_sizes[0] == 20),
        ("vocoder.resblock_dilation_sizes", [[1, 3, 5]] * 3, lambda c: len(c.vocoder.resblock_dilation_sizes) == 3),
        ("audio", {"frame_samples": 30720}, lambda c: c.noise_shape == (8, 32, 16) and c.audio.frame_sec == 0.64),
        ("vae.ch", 128.0, lambda c: type(c.vae.ch) is int),
        ("vocoder.upsample_rates", [10.0, 6.0, 2.0, 2.0, 2.0], lambda c: c.vocoder.upsample_rates == (10, 6, 2, 2, 2)),
        ("audio.frame_samples", 245760.0, lambda c: c.noise_shape == (64, 32, 16)),
        ("quantization.bits", 4.0, lambda c: c.format == "int4"),
        ("ldm.transformer_depth", 1.0, lambda c: True),
        ("vocoder.resblock", 1, lambda c: True),
        ("mel.fmin", 20.0, lambda c: c.mel.fmin == 20),
        ("name", "anything", lambda c: True),
        ("mel.fmax", None, lambda c: c.mel.fmax == 24_000),
    ],
)
def test_a_bundle_may_name_other_sizes(path: str, value: object, read: Any) -> None:
    assert read(ModelConfig.from_mapping(changed(path, value)))


@pytest.mark.parametrize("spelling", ["float32", "fp32", "f32"])
def test_float32_has_several_spellings(spelling: str) -> None:
    assert ModelConfig.from_mapping({"format": spelling}).format == "float32"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("vae.ch", "128"),
        ("vae.ch", 128.5),
        ("vae.ch", float("inf")),
        ("audio.frame_samples", 15_360),
        ("audio.frame_sec", 10.24),
        ("vae.ch", True),
        ("vae.ch", -128),
        ("vae.ch", 100),
        ("vae.ch_mult", []),
        ("vae.ch_mult", 3),
        ("vae.in_channels", 2),
        ("vae.double_z", False),
        ("vae.double_z", 1),
        ("vae.attn_resolutions", [16]),
        ("vae.mel_bins", 80),
        ("vae.scale_factor_z", 0),
        ("vae.scale_factor_z", float("nan")),
        ("vae.dropout", 1.5),
        ("ldm.in_channels", 16),
        ("ldm.out_channels", 8),
        ("ldm.model_channels", 100),
        ("ldm.channel_mult", [1, 2, 3, 5, 5, 5, 5]),
        ("ldm.attention_resolutions", [3]),
        ("ldm.num_head_channels", 48),
        ("ldm.transformer_depth", 2),
        ("vocoder.upsample_initial_channel", 100),
        ("vocoder.upsample_rates", [10, 6, 2, 2]),
        ("vocoder.upsample_kernel_sizes", [20, 12, 4, 4, 3]),
        ("vocoder.resblock_kernel_sizes", [3, 7, 10]),
        ("vocoder.resblock_dilation_sizes", [[1, 3, 5]]),
        ("vocoder.activation", "snake"),
        ("mel.hop", 500),
        ("mel.sr", 44100),
        ("mel.fmax", 30000),
        ("mel.n_fft", 2047),
        ("audio.sample_rate", 44100),
        ("audio.frame_samples", 245761),
        ("audio.frame_samples", 0),
        ("quantization.mode", "mlx_affine"),
        ("quantization.bits", 5),
        ("quantization.bits", 8),
        ("quantization.group_size", 60),
        ("quantization.bits", ...),
        ("quantized_shapes", [1]),
        ("format", "int2"),
        ("format", 4),
        ("vae.ch", 1 << 40),
        ("vae.num_res_blocks", 10**9),
        ("vae.ch_mult", [1] * 1000),
        ("vocoder.resblock_dilation_sizes", [[10**9]] * 3),
        ("mel.n_fft", 1 << 30),
        ("mel.fmin", 10**400),
        ("audio.frame_samples", 245760 * 1000),
    ],
)
def test_a_wrong_value_is_named(path: str, value: object) -> None:
    with pytest.raises(BundleError) as caught:
        ModelConfig.from_mapping(changed(path, value))
    assert path in str(caught.value), caught.value


def test_a_quantised_format_needs_its_section() -> None:
    with pytest.raises(BundleError, match="format"):
        ModelConfig.from_mapping(changed("quantization", ...))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("timesteps", 200),
        ("diffusion.num_train_timesteps", 1001),
        ("diffusion.schedule", "linear"),
        ("diffusion.beta_schedule", "scaled_linear"),
        ("scheduler.config.prediction_type", "epsilon"),
        ("ldm.parameterization", "eps"),
        ("ldm.extra_sa_layer", False),
        ("ldm.channel_multipliers", [1, 2, 4, 4]),
        ("ldm.scale_factor", 0.18215),
        ("latent_scale", 1.0),
        ("model.sample_rate", 44100),
        ("audio.sampling_rate", 16000),
        ("mel.hop_length", 160),
        ("mel.win", 1024),
        ("mel.center", True),
        ("mel.mel_scale", "htk"),
        ("voc.hop_size", 441),
        ("architecture.vocoder.upsample_rates", [8, 8, 2, 2]),
        ("upstream.vocoder.upsample_kernel_sizes", [16, 16, 4, 4]),
        ("quantization_config.bits", 8),
        ("quantization_config.group_size", 32),
        ("diffusion.num_inference_steps", 50),
        ("sampler.steps", 25),
    ],
)
def test_another_name_for_what_changes_the_sound_is_looked_at_too(path: str, value: object) -> None:
    with pytest.raises(BundleError) as caught:
        ModelConfig.from_mapping(changed(path, value))
    assert path in str(caught.value), caught.value
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("timesteps", 1000),
        ("diffusion", {"timesteps": 1000, "prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}),
        ("diffusion", {"schedule": {"type": "cosine", "s": 0.008}, "steps": 1, "num_inference_steps": 1}),
        ("ldm.scale_factor", 0.3342),
        ("ldm.channel_mults", [1, 2, 3, 5]),
        ("mel.win", 2048),
        ("mel.window", "Hann"),
        ("voc.sampling_rate", 48000.0),
        ("upstream", {"repo": "jakeoneijk/FlashSR_Inference", "teacher": "AudioSR", "commit": "2292814"}),
        ("distillation", {"teacher": {"ddim_steps": 200, "parameterization": "eps"}, "steps": 50_000}),
        ("optimizer", {"schedule": "linear", "steps": 100_000}),
        ("dataset", {"sample_rate": 16000}),
        ("upstream", {"repo": "haoheliu/audiosr_basic", "model": "AudioSR"}),
        ("base_models", ["haoheliu/audiosr"]),
        ("quantization_config", {"bits": 4, "group_size": 64, "mode": "affine"}),
        ("model", "FlashSR (distilled from AudioSR)"),
        ("anything", [[{"at": {"all": [None, 1e999]}}]]),
    ],
)
def test_what_agrees_or_says_nothing_is_noted_alone(path: str, value: object) -> None:
    config = ModelConfig.from_mapping(changed(path, value))
    assert config == ModelConfig.from_mapping(PUBLISHED)
    assert config.unknown_keys == (path,)


@pytest.mark.parametrize(
    "values",
    [
        {"model": "AudioSR"},
        {"model_type": "audiosr", "ddim_steps": 200},
        {"name": "AudioSR-MLX-8bit"},
        {"architecture": {"name": "audio-sr"}},
        {"architectures": ["AudioSR"]},
        {"audiosr": {"steps": 200}},
        {"vae": {"ch": "wrong"}, "model": {"type": "audiosr_basic"}},
    ],
)
def test_an_audiosr_is_refused_by_its_name(values: object) -> None:
    with pytest.raises(BundleError, match=r"AudioSR.*many steps"):
        ModelConfig.from_mapping(values)


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [("mlx", "int4"), ("MLX-4bit", "int4"), ("safetensors", "int4"), ("q4", "int4"), (None, "int4")],
)
def test_another_spelling_of_the_format_follows_the_quantization(spelling: str | None, meant: str) -> None:
    config = ModelConfig.from_mapping(changed("format", spelling))
    assert config == ModelConfig.from_mapping(PUBLISHED)
    assert len(config.oddities) == 1


@pytest.mark.parametrize("spelling", ["mlx-8bit", "q8", "fp8", "mlx 3-bit"])
def test_a_format_that_names_other_bits_is_refused(spelling: str) -> None:
    with pytest.raises(BundleError, match="format"):
        ModelConfig.from_mapping(changed("format", spelling))


def test_quantization_config_stands_in_for_quantization() -> None:
    values = changed("quantization_config", {"bits": 4, "group_size": 64})
    del values["quantization"]
    assert (
        ModelConfig.from_mapping(values).quantization
        == ModelConfig.from_mapping(changed("quantization.rule", "")).quantization
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b'{"vae": {"ch": 128, "ch": 64}}', "vae.ch"),
        (b'{"vae": {}, "vae": {"ch": 64}}', "vae"),
        (b'{"format": "int4", "format": "int8"}', "format"),
        (b'{"quantized_shapes": {"a.b": [1], "a.b": [2]}}', "a.b"),
    ],
)
def test_a_key_that_stands_twice_is_named(text: bytes, word: str) -> None:
    with pytest.raises(BundleError, match=f"{word}.? twice"):
        ModelConfig.from_mapping(json_files.parsed(text))


@pytest.mark.parametrize("values", [None, [], "x", 3])
def test_anything_but_an_object_is_refused(values: object) -> None:
    with pytest.raises(BundleError, match="not a JSON object"):
        ModelConfig.from_mapping(values)


def test_the_vocoder_may_stand_under_both_its_names_where_they_agree() -> None:
    values = {"vocoder": {"upsample_initial_channel": 96}, "voc": {"upsample_initial_channel": 96, "resblock": "1"}}
    assert ModelConfig.from_mapping(values).vocoder.upsample_initial_channel == 96
    assert ModelConfig.from_mapping({"vocoder": {}, "voc": None}) == ModelConfig()


@pytest.mark.parametrize("other", [{"upsample_initial_channel": 192}, [], "bigvgan"])
def test_two_vocoders_that_differ_are_refused(other: object) -> None:
    with pytest.raises(BundleError, match="vocoder"):
        ModelConfig.from_mapping({"vocoder": {"upsample_initial_channel": 96}, "voc": other})


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_bundle_that_is_not_quantised_may_say_so(nothing: object) -> None:
    config = ModelConfig.from_mapping({"format": "float16", "quantization": nothing, "quantized_shapes": nothing})
    assert config == ModelConfig(format="float16")
