"""Names under which configs state values of this network, and the one right value of each.

A name is compared without case, blanks and signs, so `sampleRate`, `sample-rate` and `Sample Rate` are `sample_rate`.
What a name means depends on the section that it stands in; a few mean the same anywhere.

Not listed, since the code that reads them gives them no effect here: `downsample_time` (AudioSR's own config says
false of this very VAE, whose encoder ignores it), `linear_start`, `beta_start` and the like beside a cosine schedule,
`scale_by_std`, `image_size`, `latent_t_size`, `segment_size` of a vocoder, `dropout`, `fmax_for_loss`.

Source: the names of AudioLDM's and AudioSR's configs and code, of diffusers' schedulers, UNets and autoencoders, of
BigVGAN's configs, of denoising_diffusion_pytorch, librosa and torchaudio, of MLX's, GPTQ's and AWQ's quantisation; the
values are those of FlashSR (batchsr.models.flashsr: mel, schedule, vae, unet, vocoder).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from batchsr.models.flashsr.config_parts import LDM, MEL, MEL_COMMON, SCALE, VAE, VOCODER
from batchsr.models.flashsr.config_sizes import ModelSizes
from batchsr.models.flashsr.config_wanted import TIMESTEPS, Wanted, folded, named, of, only, size


def _bits(config: ModelSizes) -> tuple[object, ...]:
    return (config.quantization.bits,) if config.quantization else (32, 16, None)


def _in_so_many_bits(bits: int) -> Wanted:
    return lambda config: (config.quantization is not None and config.quantization.bits == bits,)


def _group_size(config: ModelSizes) -> tuple[object, ...]:
    return (config.quantization.group_size,) if config.quantization else ()


def _other_bits(config: ModelSizes) -> tuple[object, ...]:
    """No text that speaks of integers of other bits."""
    bits = config.quantization.bits if config.quantization else 0
    return (
        re.compile(rf"(?:int|nf|q|w)[-_ ]?(?!{bits}(?![0-9]))[0-9]|(?<![0-9])(?!{bits}[-_ ]?bit)[0-9]{{1,2}}[-_ ]?bit"),
    )


_V = only("v", "v_prediction", "velocity", "v_pred", "pred_v", "v_param", "v_parameterization", "predict_v")
_COSINE = only(
    "cosine", "squaredcos_cap_v2", "cosine_clipped", "cos", "cosine_beta_schedule", "cosine_beta", "squaredcos"
)
_RATE = of("audio.sample_rate")
ANYWHERE: dict[str, Wanted] = {
    **MEL_COMMON,
    **named(
        rate=(
            "sample_rate sampling_rate target_sample_rate target_sampling_rate output_sample_rate output_sampling_rate "
            "target_sr output_sr out_sr sr_out hr_sr sr fs sampling_frequency sample_frequency audio_sample_rate "
            "audio_sampling_rate model_sample_rate sample_rate_hz sampling_rate_hz native_sample_rate sr_hz",
            _RATE,
        ),
        khz=("sample_rate_khz sampling_rate_khz sr_khz", lambda config: (config.audio.sample_rate / 1000,)),
        timesteps=(
            "timesteps num_timesteps num_train_timesteps train_timesteps diffusion_timesteps n_timesteps "
            "num_diffusion_timesteps total_timesteps noise_steps n_train_timesteps",
            only(TIMESTEPS),
        ),
        timestep=(
            "timestep student_timestep inference_timestep start_timestep timestep_index t_start sampling_timestep",
            only(TIMESTEPS - 1, TIMESTEPS),
        ),
        prediction=(
            "prediction_type parameterization parametrization pred_type prediction model_mean_type prediction_mode "
            "model_output_type pred_mode diffusion_objective",
            _V,
        ),
        objective=("objective", only(re.compile(r"noise|eps|x_?0|x_?start|flow|rectified|score"))),
        is_v=("predict_v use_v_prediction use_v", only(True)),
        is_not_v=("predict_epsilon predict_eps predict_noise predict_x0 predict_xstart predict_x_start", only(False)),
        schedule=(
            "beta_schedule noise_schedule schedule schedule_type schedule_name noise_schedule_type beta_schedule_type "
            "alpha_schedule alpha_transform_type",
            _COSINE,
        ),
        cosine=("cosine_s cosine_offset cosine_schedule_s", only(0.008)),
        max_beta=("max_beta beta_clip", only(0.999)),
        betas=("trained_betas", only(None)),
        zero_snr=(
            "rescale_betas_zero_snr zero_terminal_snr rescale_zero_snr zero_snr enforce_zero_terminal_snr "
            "zero_terminal_snr_rescale",
            only(False),
        ),
        clipping=("clip_sample clip_denoised thresholding dynamic_thresholding clip_x0", only(False)),
        guidance=(
            "guidance_scale unconditional_guidance_scale cfg_scale classifier_free_guidance_scale "
            "classifier_free_guidance unconditional_scale guidance_weight",
            only(1, 0, None, False),
        ),
        alpha=("set_alpha_to_one", only(True)),
        rates=("upsample_rates", of("vocoder.upsample_rates")),
        kernels=("upsample_kernel_sizes", size("vocoder.upsample_kernel_sizes")),
        initial=("upsample_initial_channel", size("vocoder.upsample_initial_channel")),
        blocks=("resblock_kernel_sizes", size("vocoder.resblock_kernel_sizes")),
        dilations=("resblock_dilation_sizes", of("vocoder.resblock_dilation_sizes")),
        scale=(
            "scale_factor_z latent_scale latent_scale_factor scaling_factor scale_latent vae_scale_factor_z",
            SCALE,
        ),
    ),
}
"""Names that mean the same wherever they stand."""
_DIFFUSION = named(
    type=("type name kind class_name", only(re.compile(r"flow|rectified|\bedm\b|epsilon|linear"))),
    scale=("scale_factor", SCALE),
    s=("s", only(0.008)),
    conditioning=("conditioning_key conditioning condition_type", only("concat", "concatenation", "concatenate")),
    shift=("shift shift_factor snr_shift logsnr_shift", only(0, 1, None)),
)
_SCHEDULE = named(
    type=("type name kind", _COSINE),
    s=("s offset", only(0.008)),
    length=("length n num_steps steps t", only(TIMESTEPS)),
    most=("max clip", only(0.999)),
)
_AUDIO = named(
    rate=("rate output_rate target_rate", _RATE),
    channels=("channels num_channels n_channels audio_channels in_channels out_channels channel_count", only(1)),
    mono=("mono", only(True)),
    stereo=("stereo", only(False)),
    layout=("channel_layout layout", only("mono")),
    samples=(
        "frame_samples window_samples segment_samples segment_size frame_size chunk_samples window_size chunk_size "
        "frame_length window_length segment_length num_samples n_samples chunk_length",
        of("audio.frame_samples"),
    ),
    seconds=(
        "frame_sec frame_seconds window_sec window_seconds chunk_sec chunk_seconds "
        "segment_sec segment_seconds frame_duration window_duration chunk_duration",
        of("audio.frame_sec"),
    ),
    ms=(
        "frame_ms window_ms chunk_ms segment_ms",
        lambda config: (config.audio.frame_samples * 1000 / config.audio.sample_rate,),
    ),
    peak=("peak normalize_to target_peak normalise_to max_abs norm_peak", only(0.5)),
    centred=("mean_center center_mean remove_dc remove_mean", only(True)),
)
_QUANTISATION = named(
    bits=("bits nbits n_bits num_bits q_bits w_bit w_bits wbits weight_bits bit_width bits_width bit", _bits),
    four=("load_in_4bit is_4bit", _in_so_many_bits(4)),
    eight=("load_in_8bit is_8bit", _in_so_many_bits(8)),
    group=("group_size groupsize q_group_size group block_size blocksize group_sz gs", _group_size),
    symmetric=(
        "symmetric sym is_symmetric desc_act act_order signed double_quant bnb_4bit_use_double_quant per_channel "
        "per_tensor",
        only(False),
    ),
    asymmetric=("asymmetric zero_point zero_points has_zero_point unsigned flat flatten has_bias affine", only(True)),
    mode=("mode", only("mlx_affine_flat", "affine", "mlx_affine", "affine_flat", "mlx")),
    method=(
        "method quant_method quantization_method quant_type scheme algorithm type format dtype weight_dtype "
        "bnb_4bit_quant_type kind qtype",
        only(
            re.compile(
                r"gptq|awq|nf4|fp4|fp8|mxfp|nvfp|gguf|ggml|hqq|bitsandbytes|bnb|exl2|eetq|quanto|palett|lut|aqlm|quip|"
                r"smooth|ternary|k[-_ ]?quant|q[0-9]_k|(?<!a)symmetric|(?<!a)\bsym\b|float8|torchao"
            )
        ),
    ),
    granularity=("granularity", only("group", "per_group", "groupwise")),
    axis=("axis quant_axis", only(1, -1, None)),
    activations=("activation_bits a_bits a_bit act_bits", only(None, 16, 32)),
    packing=("pack_dtype packing packed_dtype storage_dtype", only("uint32", "u32", "int32")),
)
IN_SECTION: dict[str, Mapping[str, Wanted]] = {
    "vae": VAE,
    "ldm": LDM,
    "mel": MEL,
    "vocoder": VOCODER,
    "audio": _AUDIO,
    "quantization": _QUANTISATION,
    "diffusion": _DIFFUSION,
    "schedule": _SCHEDULE,
}
"""Names that mean something in one section."""
_SECTIONS = {
    "vae": "vae autoencoder autoencoder_kl first_stage first_stage_model ddconfig dd kl_vae mel_vae",
    "ldm": "ldm unet unet_2d diffusion_model student student_ldm denoiser audiosr_unet latent_diffusion",
    "mel": "mel mel_spectrogram melspec spectrogram stft log_mel mels mel_spec",
    "vocoder": "voc vocoder bigvgan big_vgan sr_vocoder generator vocoder_model",
    "audio": "audio window signal waveform sound",
    "quantization": "quantization quantisation quant quantize q mlx_quantization",
    "diffusion": "diffusion scheduler noise_scheduler sampler ddpm ddim sampling inference",
    "schedule": "schedule noise_schedule beta_schedule betas",
}
SECTIONS = {folded(name): section for section, names in _SECTIONS.items() for name in names.split()}
"""Folded name of a section -> which of IN_SECTION it is."""
TOO_LITTLE = frozenset(
    (
        "type name kind classname s shift scale norm mode method window mean std db c rate depth format dtype "
        "log pad padding eps center centre power model generator architecture arch vocoder group bit axis "
        "groups levels channels layout floor clip base ref act activation heads mono stereo peak compression "
        "hop win scheme algorithm granularity packing signed unsigned flat flatten affine sym magnitude "
        "exponent conditioning glu ch rates strides dilations taps one dims gs modeltype periodic factor "
        "conditiontype downsampling multipliers minval minvalue clamp numsamples nsamples segmentsize "
        "framesize chunksize blocksize segmentlength normalized quant inchannels outchannels inputchannels "
        "outputchannels inch outch numchannels nchannels oversample offset n t max length"
    ).split()
)
"""Words that say too little but in the section itself."""


def _alone() -> dict[str, Wanted]:
    """Return what names mean outside of any section: those that no two sections understand differently."""
    found: dict[str, list[Wanted]] = {}
    for section, names in IN_SECTION.items():
        if section != "schedule":
            for name, wanted in names.items():
                found.setdefault(name, []).append(wanted)
    alone = {name: several[0] for name, several in found.items() if len(several) == 1 and name not in TOO_LITTLE}
    told = named(
        bits=("format precision quantization_format quant weight_format", _other_bits), scale=("scale_factor", SCALE)
    )
    return {**alone, **told}


ALONE = _alone()
"""Names that mean something at the top of a config."""
STEPS = frozenset(
    folded(name)
    for name in "sampling_steps inference_steps num_inference_steps num_sampling_steps denoising_steps ddim_steps "
    "ddim_num_steps ddim_sampling_steps sample_steps sampler_steps num_sample_steps n_sampling_steps nfe "
    "n_inference_steps num_denoising_steps inference_timesteps num_inference_timesteps sampling_timesteps "
    "number_of_steps".split()
)
"""Names of how many steps a window takes."""
STEPS_OR_TRAINING = frozenset({"steps", "numsteps", "nsteps", "diffusionsteps", "numdiffusionsteps"})
"""The same, or of how many steps the schedule has."""
