"""Whatever name a config gives to a value of this network, it must be the right value; the rest is let pass."""

from __future__ import annotations

import re
from typing import Any

import pytest

from batchsr.errors import BundleError
from batchsr.models.flashsr import config_claims, json_files
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.config_names import ALONE, ANYWHERE, IN_SECTION
from batchsr.models.tools.make import config_of_size

from .test_config import PUBLISHED, changed


def nested(path: str, value: object) -> dict[str, Any]:
    return changed(path, value)


def refused(path: str, value: object) -> BundleError:
    with pytest.raises(BundleError) as caught:
        ModelConfig.from_mapping(nested(path, value))
    assert path.rpartition(".")[2] in str(caught.value), caught.value
    assert caught.value.remedy
    return caught.value


def passes(path: str, value: object) -> None:
    config = ModelConfig.from_mapping(nested(path, value))
    assert config == ModelConfig.from_mapping(PUBLISHED)


SPELLINGS = [
    "sampleRate",
    "sample-rate",
    "Sample Rate",
    " sample_rate ",
    "SAMPLERATE",
    "samplerate",
    "sample\u200b_rate",
]


@pytest.mark.parametrize("where", ["", "audio.", "model.", "voc.", "upstream.config.", "extra.audio.params."])
@pytest.mark.parametrize("name", SPELLINGS)
def test_no_spelling_of_a_name_hides_what_it_says(name: str, where: str) -> None:
    passes(f"{where}{name}", 48000)
    with pytest.raises(BundleError, match="16000"):
        ModelConfig.from_mapping(nested(f"{where}{name}", 16000))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("predictionType", "epsilon"),
        ("betaSchedule", "linear"),
        ("Mel.nFft", 1024),
        ("mel.hopLength", 160),
        ("VAE.chMult", [1, 2, 4]),
        ("vae.scaleFactorZ", 1.0),
        ("voc.upsampleRates", [8, 8, 2, 2]),
        ("model.unet-config.params.channelMult", [1, 2, 4, 4]),
        ("model.firstStageConfig.params.ddconfig.z_channels", 8),
        ("Quantization.groupSize", 32),
    ],
)
def test_a_field_in_another_spelling_is_compared_like_the_field(path: str, value: object) -> None:
    refused(path, value)


WRONG: dict[str, dict[str, list[object]]] = {
    "": {
        "bits": [8, 3, None],
        "group_size": [32, 128],
        "q_bits": [8],
        "objective": ["pred_noise", "pred_x0"],
        "timestep": [600, 0, None],
        "guidance_scale": [3.5],
        "latent_scale": [None, 0.18215, "1"],
        "sample_rate": [None, "16 kHz", "16000", [16000], [16000, 48000], {"value": 16000}],
        "Format": ["int8", "q8"],
        "trained_betas": [[0.1, 0.2]],
    },
    "quantization": {
        "nbits": [8],
        "groupsize": [32],
        "symmetric": [True],
        "sym": [True],
        "quant_method": ["gptq", "awq", "bitsandbytes"],
        "method": ["nf4", "hqq"],
        "zero_point": [False],
        "axis": [0],
        "load_in_8bit": [True],
        "q_group_size": [128],
        "granularity": ["per_channel"],
        "layers.ldm.bits": [8],
    },
    "diffusion": {
        "objective": ["pred_noise"],
        "cosine_s": [0.002],
        "rescale_betas_zero_snr": [True],
        "timestep": [600],
        "unconditional_guidance_scale": [7.5],
        "predict_epsilon": [True],
        "clip_sample": [True],
        "noise_schedule": ["linear", "sigmoid", None],
        "prediction_type": ["sample", "flow", None],
        "num_train_timesteps": [4000, None],
        "noise_schedule.type": ["linear"],
        "schedule.s": [0.02],
        "conditioning_key": ["crossattn"],
        "ddim_sampling_steps": [200, "200"],
        "scale_factor": [0.18],
    },
    "mel": {
        "clip_val": [1e-3, 0, None],
        "log": [False, "log10"],
        "log_base": [10, 2],
        "pad_mode": ["constant", None],
        "norm": [None, "none", "l2"],
        "center": [True],
        "power": [2, 2.0, None],
        "htk": [True],
        "win_length": [1024],
        "num_mels": [80],
        "f_max": [8000],
        "spectrogram_type": ["power"],
        "window_fn": ["hamming", "kaiser"],
        "preemphasis": [0.97],
        "to_db": [True],
        "mel_std": [4.2],
        "normalized": [True],
    },
    "ldm": {
        "num_heads": [8],
        "dim_head": [64],
        "ch_mult": [[1, 2, 4]],
        "context_dim": [768],
        "norm_num_groups": [16],
        "conv_resample": [False],
        "use_linear_projection": [True],
        "attention_head_dim": [8],
        "block_out_channels": [[128, 256, 512]],
        "ff_mult": [2],
        "norm_eps": [1e-6],
        "act_fn": ["gelu", "relu"],
        "flip_sin_to_cos": [False],
        "max_period": [1000],
        "type": ["dit", "transformer"],
        "extra_sa_layer": [None],
        "num_classes": [527],
        "layers_per_block": [3],
    },
    "vae": {
        "subband": [4],
        "attn_type": ["linear", "none"],
        "norm_num_groups": [16],
        "act_fn": ["relu"],
        "ddconfig.ch_mult": [[1, 2, 4]],
        "tanh_out": [True],
        "downsample_time_stride4_levels": [[1]],
        "latent_channels": [8],
        "scaling_factor": [0.18215],
        "shift_factor": [0.1],
        "use_quant_conv": [False],
        "compression_ratio": [4],
        "type": ["vq-vae"],
        "resamp_with_conv": [False],
        "time_shuffle": [2],
        "out_channels": [2],
    },
    "voc": {
        "num_mels": [80, 128],
        "fmax": [12000],
        "type": ["hifigan", "HiFi-GAN"],
        "use_tanh_at_final": [False],
        "use_bias_at_final": [False],
        "leaky_slope": [0.2, 0.01],
        "hop_size": [256],
        "n_fft": [1024],
        "win_size": [1024],
        "anti_alias": [False],
        "upsample_factor": [256],
        "out_channels": [2],
        "snake_type": ["snake"],
    },
    "audio": {
        "channels": [2, "2"],
        "mono": [False],
        "stereo": [True],
        "rate": [44100],
        "window_seconds": [10.24],
        "chunk_samples": [480000],
        "frame_ms": [5000],
        "target_peak": [1.0],
    },
}
"""Section -> name -> values that are not this network's."""
CASES = [(f"{s}.{n}" if s else n, v) for s, names in WRONG.items() for n, values in names.items() for v in values]


@pytest.mark.parametrize(("path", "value"), CASES)
def test_a_wrong_value_is_refused_under_the_names_that_other_programs_use(path: str, value: object) -> None:
    refused(path, value)


@pytest.mark.parametrize("path", sorted({path for path, _ in CASES if path != "trained_betas"}))
def test_the_right_value_passes_under_the_same_name(path: str) -> None:
    """The value that the refusal itself names."""
    value = next(v for p, v in CASES if p == path)
    right = RIGHT.get(path)
    if right is None:
        told = str(refused(path, value))
        right = told.partition("computes with ")[2].partition(" (")[0].partition(";")[0].partition("\n")[0]
        right = right.partition(". ")[0].strip(" .'\"")
    passes(path, right)


RIGHT: dict[str, object] = {
    "objective": "pred_v",
    "diffusion.objective": "pred_v",
    "Format": "int4",
    "quantization.quant_method": "mlx",
    "quantization.method": "affine",
    "quantization.load_in_8bit": False,
    "diffusion.ddim_sampling_steps": 1,
    "mel.spectrogram_type": "magnitude",
    "ldm.type": "unet",
    "vae.type": "AutoencoderKL",
    "voc.type": "bigvgan",
    "vae.downsample_time_stride4_levels": [],
    "ldm.block_out_channels": [128, 256, 384, 640],
    "ldm.ch_mult": [1, 2, 3, 5],
    "vae.ddconfig.ch_mult": [1, 2, 4, 8],
    "diffusion.cosine_s": 8e-3,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("eval", {"sample_rate": 16000, "bits": 16}),
        ("evaluation_params", {"ddim_sampling_steps": 200, "unconditional_guidance_scale": 3.5}),
        ("trainingConfig", {"sampleRate": 16000, "objective": "pred_noise"}),
        ("dataset", [{"sample_rate": 8000}, {"sample_rate": 16000}]),
        ("data", {"sampling_rate": 16000, "channels": 2}),
        ("model.distillation.teacher", {"parameterization": "eps", "timesteps": 200}),
        ("val", {"n_mels": 80}),
        ("augmentation", {"cutoff": {"sample_rate": 4000}}),
        ("inputs", {"sample_rate": 8000, "channels": 2}),
        ("discriminator", {"upsample_rates": [1], "type": "hifigan"}),
        ("vae.downsample_time", False),
        ("vae.downsample_time", True),
        ("linear_start", 0.0015),
        ("diffusion", {"beta_schedule": "cosine", "linear_start": 0.0015, "linear_end": 0.0195, "scale_by_std": True}),
        ("ldm", {**PUBLISHED["ldm"], "image_size": 64, "num_heads": -1, "context_dim": None, "use_checkpoint": True}),
        ("voc", {"fmax_for_loss": None, "segment_size": 65536, "num_mels": 256, "fmax": None, "batch_size": 32}),
        ("mel.win_length", None),
        ("audio.bit_depth", 16),
        ("sample_rate", "48 kHz"),
        ("sample_rate_khz", 48),
        ("ldm.extra_sa_layer", 1),
        ("ldm.attention_resolutions", [8, 4, 2]),
        ("upsample_rates", [10.0, 6.0, 2.0, 2.0, 2.0]),
        ("vae.decoder", {"in_channels": 16, "type": "vq"}),
        ("schema", {"version": 2}),
        ("big", int("9" * 3999)),
        ("guidance_scale", None),
        ("num_inference_steps", None),
        ("quantization.skipped", ["vae.encoder.conv_in.weight"]),
    ],
)
def test_what_speaks_of_something_else_or_changes_nothing_passes(path: str, value: object) -> None:
    config = ModelConfig.from_mapping(nested(path, value))
    assert config.noise_shape == (64, 32, 16)
    assert config.format == "int4"


def test_what_audiosr_s_own_config_says_of_the_same_parts_passes() -> None:
    """FlashSR has AudioSR's VAE and UNet, so a bundle may carry that part of its config."""
    ddconfig = {**PUBLISHED["vae"], "downsample_time": False}
    del ddconfig["embed_dim"], ddconfig["scale_factor_z"]
    unet = {
        "image_size": 64,
        "in_channels": 32,
        "out_channels": 16,
        "model_channels": 128,
        "attention_resolutions": [8, 4, 2],
        "num_res_blocks": 2,
        "channel_mult": [1, 2, 3, 5],
        "num_head_channels": 32,
        "extra_sa_layer": True,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
    }
    upstream = {
        "preprocessing": {
            "audio": {"sampling_rate": 48000, "max_wav_value": 32768, "duration": 10.24},
            "stft": {"filter_length": 2048, "hop_length": 480, "win_length": 2048},
            "mel": {"n_mel_channels": 256, "mel_fmin": 20, "mel_fmax": 24000},
        },
        "model": {
            "params": {
                "first_stage_config": {
                    "params": {"subband": 1, "embed_dim": 16, "time_shuffle": 1, "ddconfig": ddconfig}
                },
                "beta_schedule": "cosine",
                "linear_start": 0.0015,
                "num_timesteps_cond": 1,
                "timesteps": 1000,
                "parameterization": "v",
                "channels": 16,
                "scale_by_std": True,
                "unet_config": {"params": unet},
                "evaluation_params": {"unconditional_guidance_scale": 3.5, "ddim_sampling_steps": 200},
            }
        },
    }
    passes("upstream", upstream)
    unet["channel_mult"] = [1, 2, 4, 4]
    with pytest.raises(BundleError, match="channel_mult"):
        ModelConfig.from_mapping(nested("upstream", upstream))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "whisper"),
        ("model_type", "nu-wave2"),
        ("modelType", "bert"),
        ("model_type", "gizmo"),
        ("architectures", ["WhisperForConditionalGeneration"]),
        ("_class_name", "StableDiffusionPipeline"),
        ("name", "NU-Wave 2"),
        ("model", {"type": "audioldm2"}),
        ("model_name", "LavaSR"),
        ("repo_id", "openai/whisper-tiny"),
    ],
)
def test_the_name_of_another_model_is_refused(key: str, value: object) -> None:
    with pytest.raises(BundleError, match="another model"):
        ModelConfig.from_mapping(changed(key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "flashsr"),
        ("model_type", "audio-super-resolution"),
        ("modelType", "FlashSR"),
        ("architectures", ["FlashSRModel"]),
        ("architecture", "latent diffusion + BigVGAN"),
        ("model_type", None),
        ("name", "anything at all"),
        ("base_model", "openai/whisper"),
        ("description", "unlike NU-Wave 2, one step"),
        ("license", "mit"),
    ],
)
def test_what_may_be_this_model_s_name_passes(key: str, value: object) -> None:
    assert ModelConfig.from_mapping(changed(key, value)) == ModelConfig.from_mapping(PUBLISHED)


def test_a_number_of_thousands_of_digits_is_no_trouble_where_it_says_nothing() -> None:
    values = json_files.parsed(b'{"seed": ' + b"7" * 6000 + b', "x": -' + b"1" * 5000 + b"}")
    assert ModelConfig.from_mapping(values).unknown_keys == ("seed", "x")
    with pytest.raises(BundleError, match=r"vae\.ch"):
        ModelConfig.from_mapping(json_files.parsed(b'{"vae": {"ch": ' + b"7" * 6000 + b"}}"))


SIZES = {"published": ModelConfig.from_mapping(PUBLISHED), "float32": ModelConfig(), "tiny": config_of_size("tiny")}


@pytest.mark.parametrize("size", SIZES)
def test_no_name_of_the_lists_contradicts_the_network_that_has_that_value(size: str) -> None:
    config = SIZES[size]
    tried = 0
    for section, names in {"": {**ANYWHERE, **ALONE}, **IN_SECTION}.items():
        for name, wanted in names.items():
            rights = [right for right in wanted(config) if not isinstance(right, re.Pattern)]
            for right in rights:
                value = list(right) if isinstance(right, tuple) else right
                config_claims.check([((section, name) if section else (name,), value)], config)
                tried += 1
    assert tried > 400
