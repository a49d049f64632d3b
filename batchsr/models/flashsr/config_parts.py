"""Names under which configs state values of the three networks and of the mel spectrogram, and the right values.

Source: see batchsr.models.flashsr.config_names.
"""

from __future__ import annotations

import math
import re

from batchsr.models.flashsr.config_sizes import ModelSizes
from batchsr.models.flashsr.config_wanted import named, of, only, proven, size


def _top_hz(config: ModelSizes) -> tuple[object, ...]:
    return (config.mel.fmax, *((None,) if config.mel.fmax == config.mel.sr / 2 else ()))


_SILU = only("silu", "swish")
SCALE = of("vae.scale_factor_z")
MEL_COMMON = named(
    hop=("hop_length hop_size hop_samples hop_len hop_length_samples", of("mel.hop")),
    n_fft=("n_fft num_fft fft_size fft_length filter_length fft_len", of("mel.n_fft")),
    win=("win_length win_size win_len", of("mel.n_fft", None)),
    n_mels=(
        "n_mels num_mels n_mel mel_bins n_mel_channels num_mel_bins mel_channels n_mel_bins mel_dim",
        size("mel.n_mels"),
    ),
    fmin=("fmin f_min mel_fmin mel_f_min fmin_hz", of("mel.fmin")),
    fmax=("fmax f_max mel_fmax mel_f_max fmax_hz", _top_hz),
)
LDM = named(
    scale=("scale_factor", SCALE),
    in_channels=("in_channels in_ch input_channels", size("ldm.in_channels")),
    out_channels=("out_channels out_ch output_channels noise_channels cond_channels", size("ldm.out_channels")),
    width=("model_channels ch base_channels model_dim base_dim", size("ldm.model_channels")),
    widths=(
        "block_out_channels level_channels",
        proven(lambda config: tuple(config.ldm.model_channels * m for m in config.ldm.channel_mult)),
    ),
    mult=(
        "channel_mult channel_mults channel_multipliers channel_multiplier ch_mult ch_mults dim_mults multipliers",
        size("ldm.channel_mult"),
    ),
    levels=("num_levels levels num_resolutions", proven(lambda config: len(config.ldm.channel_mult))),
    blocks=("num_res_blocks num_resblocks n_res_blocks layers_per_block res_blocks", size("ldm.num_res_blocks")),
    attention=(
        "attention_resolutions attn_resolutions attention_ds attention_levels_ds",
        lambda config: tuple(
            order
            for own in (config.ldm.attention_resolutions, ModelSizes().ldm.attention_resolutions)
            for order in (own, tuple(sorted(own, reverse=True)))
        ),
    ),
    head=(
        "num_head_channels dim_head d_head head_dim head_channels attention_head_dim head_width channels_per_head",
        of("ldm.num_head_channels"),
    ),
    heads=("num_heads n_heads num_heads_upsample num_attention_heads attention_heads heads", only(-1, None)),
    self_attention=(
        "extra_sa_layer double_self_attention use_spatial_transformer conv_resample gated_ff glu",
        only(True),
    ),
    none=(
        "use_scale_shift_norm resblock_updown use_new_attention_order use_linear use_linear_in_transformer "
        "use_linear_projection disable_self_attentions only_cross_attention extra_film_use_concat "
        "predict_codebook_ids attention_bias qkv_bias",
        only(False),
    ),
    context=(
        "context_dim cross_attention_dim cross_attn_dim encoder_hid_dim num_classes class_embed_type n_embed "
        "extra_film_condition_dim film_dim time_cond_proj_dim addition_embed_type",
        only(None, False),
    ),
    groups=("norm_num_groups num_groups groups group_norm_groups num_norm_groups", only(32)),
    eps=("norm_eps group_norm_eps eps", only(1e-5)),
    dims=("dims", only(2)),
    depth=("transformer_depth depth transformer_layers_per_block num_transformer_blocks", only(1)),
    silu=("act_fn activation act nonlinearity activation_fn", _SILU),
    feed_forward=("ff_activation ff_act ff_act_fn feed_forward_activation", only("geglu")),
    inner=("ff_mult ff_multiplier mlp_ratio ff_factor", only(4)),
    time=("time_embed_dim time_embedding_dim temb_channels", proven(lambda config: 4 * config.ldm.model_channels)),
    period=("max_period time_max_period", only(10_000)),
    cosine_first=("flip_sin_to_cos", only(True)),
    shift=("freq_shift downscale_freq_shift", only(0)),
    embedding=("time_embedding_type", only("positional", "sinusoidal")),
    latent=("latent_channels latent_dim z_channels embed_dim", size("vae.embed_dim")),
    conditioning=("conditioning_key conditioning condition_type", only("concat", "concatenation", "concatenate")),
    type=("type name kind class_name arch architecture", only(re.compile(r"\bdi?t\b|transformer|mamba|1d|wavenet"))),
)
VAE = named(
    scale=("scale_factor", SCALE),
    shift=("shift_factor latent_shift", only(0, None)),
    in_channels=("in_channels in_ch input_channels", size("vae.in_channels")),
    out_channels=("out_ch out_channels output_channels", size("vae.out_ch")),
    width=("ch base_channels channels", size("vae.ch")),
    mult=("ch_mult channel_mult channel_mults channel_multipliers ch_mults multipliers", size("vae.ch_mult")),
    widths=(
        "block_out_channels level_channels",
        proven(lambda config: tuple(config.vae.ch * m for m in config.vae.ch_mult)),
    ),
    levels=("num_resolutions num_levels levels", proven(lambda config: len(config.vae.ch_mult))),
    blocks=("num_res_blocks num_resblocks n_res_blocks layers_per_block res_blocks", size("vae.num_res_blocks")),
    z=("z_channels latent_z_channels", size("vae.z_channels")),
    latent=("embed_dim latent_channels latent_dim", size("vae.embed_dim")),
    double=("double_z", of("vae.double_z")),
    attention=("attn_resolutions attention_resolutions", of("vae.attn_resolutions", None)),
    bins=("mel_bins n_mels num_mels", size("vae.mel_bins")),
    one=("subband subbands sub_band time_shuffle", only(1, None, False)),
    attn=("attn_type attention_type", only("vanilla")),
    yes=(
        "resamp_with_conv resample_with_conv conv_resample mid_block_add_attention use_quant_conv use_post_quant_conv "
        "mid_attention mid_attn",
        only(True),
    ),
    no=("tanh_out use_linear_attn give_pre_end", only(False)),
    stride=("downsample_time_stride4_levels downsample_time_stride_4_levels", only((), None)),
    factor=(
        "downsample_factor downsampling_factor downsampling compression_ratio downscale_factor compression ds_factor",
        of("vae.downsampling"),
    ),
    temb=("temb_channels", only(0, None)),
    groups=("norm_num_groups num_groups groups group_norm_groups num_norm_groups", only(32)),
    eps=("norm_eps group_norm_eps eps", only(1e-6)),
    silu=("act_fn activation act nonlinearity activation_fn", _SILU),
    type=(
        "type name kind class_name arch architecture",
        only(re.compile(r"\bvq|vqvae|rvq|\bdac\b|encodec|fsq|oobleck")),
    ),
)
MEL = {
    **MEL_COMMON,
    **named(
        hop=("hop", of("mel.hop")),
        win=("win window_size window_length win_samples", of("mel.n_fft", None)),
        min_hz=("min_freq low_freq freq_min lowest_hz min_hz", of("mel.fmin")),
        max_hz=("max_freq high_freq freq_max highest_hz max_hz", _top_hz),
        no=(
            "center centre htk normalized norm_stft power_spectrogram use_power to_db db in_db use_db log10 "
            "preemphasis pre_emphasis use_preemphasis dither normalize_mel mel_normalize",
            only(False, 0),
        ),
        yes=(
            "log log_mel use_log onesided periodic magnitude use_magnitude natural_log",
            only(True, "log", "natural", "ln", "e"),
        ),
        power=("power mag_power exponent", only(1)),
        window=(
            "window window_fn window_type win_type window_function",
            only("hann", "hanning", "hann_window", "hann_periodic"),
        ),
        norm=("norm mel_norm filter_norm area_norm slaney_norm norm_mel", only("slaney", "area", True)),
        scale=("mel_scale mel_type scale mel_formula", only("slaney", "librosa")),
        base=("log_base base", only("e", math.e, "natural", "ln")),
        compression=(
            "log_type compression log_fn log_function compression_type",
            only("log", "ln", "natural", "natural_log", "e"),
        ),
        floor=(
            "clip_val clip_value log_eps eps floor amin mel_floor log_floor clamp_min min_clip log_clip clip min_val "
            "min_value log_clamp clamp clamp_value log_offset_min log_guard log_zero_guard_value",
            only(1e-5),
        ),
        factor=("c compression_factor log_multiplier", only(1)),
        pad_mode=("pad_mode padding_mode pad_type", only("reflect")),
        pad=("pad padding pad_samples", lambda config: ((config.mel.n_fft - config.mel.hop) // 2, "reflect", True)),
        kind=("spectrogram_type spec_type type kind", only(re.compile(r"power|\bdb\b|mfcc|linear|cqt|complex"))),
        mean=("mean mel_mean", only(0, None)),
        std=("std mel_std", only(1, None)),
        db=("ref_db ref_level_db top_db min_level_db min_db max_db ref", only(None)),
    ),
}
_OTHER_VOCODERS = re.compile(
    r"hifi[-_ ]?gan|mel[-_ ]?gan|wavenet|waveglow|univnet|vocos|istft|griffin|wavegrad|diffwave|parallel[-_ ]?wave"
    r"|wavernn|nsf|encodec"
)
VOCODER = {
    **MEL_COMMON,
    **named(
        type=("type name kind class_name arch architecture model generator vocoder model_type", only(_OTHER_VOCODERS)),
        tanh=(
            "use_tanh_at_final use_bias_at_final snake_logscale alpha_logscale anti_alias use_alias_free alias_free "
            "antialias audio_conditioning condition_on_audio use_audio_block",
            only(True),
        ),
        final=("final_activation output_activation last_activation", only("tanh")),
        slope=("leaky_slope lrelu_slope leaky_relu_slope negative_slope relu_slope", only(0.1)),
        resblock=("resblock resblock_type", only("1", 1, "amp1", "ampblock1")),
        activation=("activation act act_fn snake_type activation_fn", only("snakebeta")),
        factor=("upsample_factor total_upsample hop upsampling_factor", of("mel.hop")),
        levels=("num_upsamples num_levels levels", proven(lambda config: len(config.vocoder.upsample_rates))),
        kernels=("num_kernels", proven(lambda config: len(config.vocoder.resblock_kernel_sizes))),
        taps=("filter_taps filter_size up_kernel_size down_kernel_size filter_kernel_size taps", only(12)),
        twice=("up_ratio down_ratio oversample oversampling oversampling_factor", only(2)),
        seven=("conv_pre_kernel_size conv_post_kernel_size pre_kernel_size post_kernel_size", only(7)),
        rates=("rates upsampling_rates upsample_scales upsample_strides strides", of("vocoder.upsample_rates")),
        kernel_sizes=("upsample_kernels upsampling_kernel_sizes", size("vocoder.upsample_kernel_sizes")),
        blocks=("resblock_kernels res_kernel_sizes", size("vocoder.resblock_kernel_sizes")),
        dilations=("resblock_dilations dilations dilation_sizes", of("vocoder.resblock_dilation_sizes")),
        initial=(
            "initial_channel upsample_initial_channels initial_channels channels",
            size("vocoder.upsample_initial_channel"),
        ),
        in_channels=("in_channels input_channels", size("mel.n_mels")),
        out_channels=("out_channels output_channels", only(1)),
    ),
}
