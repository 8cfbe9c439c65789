"""Newer video and sound: Cosmos, SkyReels, VACE, Framepack, Hunyuan-Video 1.5, Kandinsky 5, Sana-Video, EasyAnimate."""

from __future__ import annotations

from typing import Any

import diffusers as df
import torch
from torch import nn

from . import tiny
from .tiny import PROMPT, Specimen, call, flow, photo, randn
from .transformers2d import LARGE, SIZE, no_text, text
from .video import COG, FILM, WAN, cogvideo, hunyuan_vae, wan, wan_net, wan_vae


class Harmless(nn.Module):
    """In place of Cosmos's safety checker, which would be a download: it lets all pass."""

    @property
    def device(self) -> torch.device:
        """Where the pipeline looks first for its device."""
        return torch.device("cpu")

    def check_text_safety(self, prompt: str) -> bool:
        """Every prompt is safe."""
        return True

    def check_video_safety(self, video: Any) -> Any:
        """Every video is safe, and stays as it is."""
        return video


def cosmos(name: str, levels: Any, vae: Any = None) -> Any:
    """A Cosmos pipeline: a latent of its own scale at each noise level, as EDM has it."""
    channels = 16 if vae else 4
    transformer = tiny.seeded(
        df.CosmosTransformer3DModel, in_channels=channels, out_channels=channels, num_attention_heads=2,
        attention_head_dim=16, num_layers=1, mlp_ratio=2, text_embed_dim=16, adaln_lora_dim=4, max_size=(4, 32, 32),
        patch_size=(1, 2, 2), rope_scale=(2.0, 1.0, 1.0), concat_padding_mask=False, extra_pos_embed_type="learnable",
    )  # fmt: skip
    vae = vae or tiny.seeded(
        df.AutoencoderKLCosmos, latent_channels=4, encoder_block_out_channels=(8,) * 4,
        decode_block_out_channels=(8,) * 4, attention_resolutions=(8,), resolution=64, num_layers=1, patch_size=4,
        patch_type="haar", scaling_factor=1.0, spatial_compression_ratio=4, temporal_compression_ratio=4,
    )  # fmt: skip
    made = {"transformer": transformer, "vae": vae, "scheduler": levels, "safety_checker": Harmless()}
    return getattr(df, name)(**made, **no_text())


def skyreels(name: str) -> Any:
    """A SkyReels-V2 pipeline; diffusion forcing gives each frame a noise level of its own."""
    levels = df.UniPCMultistepScheduler(flow_shift=8.0, use_flow_sigmas=True, prediction_type="flow_prediction")
    return wan(name, levels, transformer=wan_net("SkyReelsV2Transformer3DModel"))


def vace() -> Any:
    """WanVACEPipeline: a side network inside the transformer sees video and mask."""
    net = wan_net("WanVACETransformer3DModel", num_layers=2, vace_layers=[0, 1], vace_in_channels=96)
    return wan("WanVACEPipeline", transformer=net)


def framepack() -> Any:
    """HunyuanVideoFramepackPipeline: sections of the video one after the other, each with its own loop."""
    transformer = tiny.seeded(
        df.HunyuanVideoFramepackTransformer3DModel, in_channels=4, out_channels=4, num_attention_heads=2,
        attention_head_dim=10, num_layers=1, num_single_layers=1, num_refiner_layers=1, patch_size=2, patch_size_t=1,
        guidance_embeds=True, text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4),
        image_condition_type=None, has_image_proj=True, image_proj_dim=8, has_clean_x_embedder=True,
    )  # fmt: skip
    encoder = {"image_encoder": tiny.clip_vision(), "feature_extractor": tiny.clip_images()}
    made = {"transformer": transformer, "vae": hunyuan_vae(), "scheduler": flow(shift=7.0)}
    return df.HunyuanVideoFramepackPipeline(**made, **encoder, **no_text("", "_2"))


def hunyuan15() -> Any:
    """HunyuanVideo15Pipeline: guidance by a guider object."""
    from diffusers.guiders import ClassifierFreeGuidance

    transformer = tiny.seeded(
        df.HunyuanVideo15Transformer3DModel, in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=8,
        num_layers=1, num_refiner_layers=1, mlp_ratio=2.0, patch_size=1, patch_size_t=1, text_embed_dim=16,
        text_embed_2_dim=16, image_embed_dim=12, rope_axes_dim=(2, 2, 4), target_size=16, task_type="t2v",
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderKLHunyuanVideo15, latent_channels=4, block_out_channels=(16, 16), layers_per_block=1,
        spatial_compression_ratio=4, temporal_compression_ratio=2, downsample_match_channel=False,
        upsample_match_channel=False,
    )  # fmt: skip
    made = {"transformer": transformer, "vae": vae, "scheduler": flow(shift=7.0)}
    guider = ClassifierFreeGuidance(guidance_scale=3.0)
    return df.HunyuanVideo15Pipeline(**made, guider=guider, **no_text("", "_2"))


def kandinsky5() -> Any:
    """Kandinsky5T2VPipeline."""
    transformer = tiny.seeded(
        df.Kandinsky5Transformer3DModel, in_visual_dim=4, in_text_dim=16, in_text_dim2=8, time_dim=16, out_visual_dim=4,
        patch_size=(1, 2, 2), model_dim=16, ff_dim=32, num_text_blocks=1, num_visual_blocks=2, axes_dims=(4, 2, 2),
        visual_cond=False, attention_type="regular",
    )  # fmt: skip
    made = {"transformer": transformer, "vae": hunyuan_vae(), "scheduler": flow(shift=5.0)}
    return df.Kandinsky5T2VPipeline(**made, **no_text("", "_2"))


def sana_video() -> Any:
    """SanaVideoPipeline: linear attention on Wan's latents, DPM-Solver on flow levels."""
    transformer = tiny.seeded(
        df.SanaVideoTransformer3DModel, in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=12,
        num_layers=1, num_cross_attention_heads=2, cross_attention_head_dim=12, cross_attention_dim=24,
        caption_channels=8, mlp_ratio=2.0, sample_size=8, patch_size=(1, 2, 2), norm_elementwise_affine=False,
        qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
    )  # fmt: skip
    levels = df.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return df.SanaVideoPipeline(transformer=transformer, vae=wan_vae(), scheduler=levels, **no_text())


def easy_animate() -> Any:
    """EasyAnimatePipeline."""
    transformer = tiny.seeded(
        df.EasyAnimateTransformer3DModel, num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4,
        time_embed_dim=8, text_embed_dim=16, num_layers=1, sample_width=16, sample_height=16, patch_size=2,
    )  # fmt: skip
    down, up = ("SpatialDownBlock3D", "SpatialTemporalDownBlock3D"), ("SpatialUpBlock3D", "SpatialTemporalUpBlock3D")
    vae = tiny.seeded(
        df.AutoencoderKLMagvit, down_block_types=(down[0], *down[1:] * 3), up_block_types=(up[0], *up[1:] * 3),
        block_out_channels=(8,) * 4, latent_channels=4, layers_per_block=1, norm_num_groups=2, spatial_group_norm=False,
    )  # fmt: skip
    return df.EasyAnimatePipeline(transformer=transformer, vae=vae, scheduler=flow(), **no_text())


def stable_audio3() -> Any:
    """StableAudio3Pipeline: flow matching on a semantic autoencoder's latents."""
    transformer = tiny.seeded(
        df.StableAudio3DiTModel, io_channels=8, patch_size=1, embed_dim=32, depth=2, num_heads=4, cond_token_dim=16,
        global_cond_dim=16, local_add_cond_dim=5, timestep_features_dim=16, ff_mult=2, num_memory_tokens=3,
        use_differential_attention=False,
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderSAME, audio_channels=2, patch_size=2, encoder_channels=8, encoder_c_mults=(2,),
        encoder_strides=(2,), encoder_transformer_depths=(1,), latent_dim=8, use_differential_attention=False,
        dim_heads=4, ff_mult=2, sampling_rate=16,
    )  # fmt: skip
    from diffusers.pipelines.stable_audio_3 import StableAudio3DurationEmbedder

    duration = tiny.seeded(StableAudio3DurationEmbedder, output_dim=16, fourier_dim=16)
    levels = flow(num_train_timesteps=1, shift=1.0, stochastic_sampling=False)
    made = {"text_encoder": tiny.t5(), "tokenizer": tiny.word_tokenizer(), "duration_embedder": duration}
    return df.StableAudio3Pipeline(transformer=transformer, vae=vae, scheduler=levels, **made)


def ltx2() -> Any:
    """LTX2Pipeline: video and sound in one call of the network, each with its own scheduler and several guidances."""
    from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder

    transformer = tiny.seeded(
        df.LTX2VideoTransformer3DModel, in_channels=4, out_channels=4, patch_size=1, patch_size_t=1,
        num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16, audio_in_channels=4, audio_out_channels=4,
        audio_num_attention_heads=2, audio_attention_head_dim=4, audio_cross_attention_dim=8, num_layers=2,
        qk_norm="rms_norm_across_heads", caption_channels=16, rope_double_precision=False, rope_type="split",
    )  # fmt: skip
    heads: dict[str, Any] = {
        f"{k}_connector_{n}": v
        for k in ("video", "audio")
        for n, v in (
            ("num_attention_heads", 2),
            ("attention_head_dim", 8),
            ("num_layers", 1),
            ("num_learnable_registers", None),
        )
    }
    connectors = tiny.seeded(
        LTX2TextConnectors, caption_channels=16, text_proj_in_factor=2, connector_rope_base_seq_len=32,
        rope_theta=10000.0, rope_double_precision=False, causal_temporal_positioning=False, rope_type="split", **heads,
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderKLLTX2Video, latent_channels=4, block_out_channels=(8,), decoder_block_out_channels=(8,),
        layers_per_block=(1,), decoder_layers_per_block=(1, 1), spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,), decoder_inject_noise=(False, False), downsample_type=("spatial",),
        upsample_residual=(False,), upsample_factor=(1,), timestep_conditioning=False, patch_size=1, patch_size_t=1,
    )  # fmt: skip
    sound = tiny.seeded(
        df.AutoencoderKLLTX2Audio, base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, in_channels=2,
        attn_resolutions=None, resolution=32, latent_channels=2, norm_type="pixel", causality_axis="height",
        dropout=0.0, mid_block_add_attention=False, sample_rate=16000, mel_hop_length=160, is_causal=True, mel_bins=8,
    )  # fmt: skip
    vocoder = tiny.seeded(
        LTX2Vocoder, in_channels=16, hidden_channels=8, out_channels=2, upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2], resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], output_sampling_rate=16000,
    )  # fmt: skip
    made = {"transformer": transformer, "connectors": connectors, "vae": vae, "audio_vae": sound, "vocoder": vocoder}
    return df.LTX2Pipeline(**made, scheduler=flow(), **no_text(), processor=None)


def at(name: str, family: str, build: Any, **inputs: Any) -> Specimen:
    """A specimen of this file: 9 frames unless told."""
    return Specimen(name, family, build, call(**{"guidance_scale": 3.0, "num_frames": 9} | SIZE | inputs))


def edm() -> Any:
    """EDM's levels, as Cosmos has them."""
    return df.EDMEulerScheduler(sigma_min=0.02, sigma_max=20, sigma_data=0.5, final_sigmas_type="zero")


TWO: dict[str, Any] = {k.replace("attention_mask", "embeds_mask"): v for k, v in text(16).items()}
FIVE: dict[str, Any] = {
    f"{side}prompt_{what}": value
    for seed, side in enumerate(("", "negative_"))
    for what, value in (
        ("embeds_qwen", randn(1, 6, 16, seed=seed)),
        ("embeds_clip", randn(1, 8, seed=seed + 2)),
        ("cu_seqlens", torch.tensor([0, 6], dtype=torch.int32)),
    )
}
SPECIMENS = (
    at("CosmosTextToWorldPipeline", "cosmos", lambda: cosmos("CosmosTextToWorldPipeline", edm()),
       **text(16, masks=False), **LARGE),
    Specimen("Cosmos2TextToImagePipeline", "cosmos",
             lambda: cosmos("Cosmos2TextToImagePipeline", flow(use_karras_sigmas=True), wan_vae()),
             call(**text(16, masks=False), **LARGE, guidance_scale=3.0)),
    at("SkyReelsV2Pipeline", "skyreels_v2", lambda: skyreels("SkyReelsV2Pipeline"), **WAN),
    at("SkyReelsV2DiffusionForcingPipeline", "skyreels_v2", lambda: skyreels("SkyReelsV2DiffusionForcingPipeline"),
       **WAN, prompt=None, base_num_frames=9),
    at("SkyReelsV2DiffusionForcingPipeline+staggered", "skyreels_v2",
       lambda: skyreels("SkyReelsV2DiffusionForcingPipeline"), **WAN, prompt=None, base_num_frames=9, ar_step=2,
       causal_block_size=1),
    at("WanVACEPipeline", "wan", vace, **WAN, video=FILM, mask=[photo(seed=9)] * 9),
    at("HunyuanVideoFramepackPipeline", "hunyuan_video", framepack, **text(16, pooled=8, pair=False), **LARGE,
       image=photo(32), latent_window_size=2),
    Specimen("HunyuanVideo15Pipeline", "hunyuan_video_15", hunyuan15,
             call(**TWO, **{f"{k}_2": v for k, v in TWO.items()}, **SIZE, num_frames=5)),
    at("Kandinsky5T2VPipeline", "kandinsky5", kandinsky5, **FIVE, **LARGE, num_frames=5),
    Specimen("SanaVideoPipeline", "sana_video", sana_video,
             call(**text(8), **LARGE, frames=9, guidance_scale=3.0, negative_prompt=None,
                  use_resolution_binning=False)),
    at("EasyAnimatePipeline", "easy_animate", easy_animate, **text(16), num_frames=5),
    Specimen("CogVideoXFunControlPipeline", "cogvideox", lambda: cogvideo("CogVideoXFunControlPipeline", 8),
             call(**COG, **SIZE, control_video=FILM, guidance_scale=3.0)),
    Specimen("LTX2Pipeline", "ltx2", ltx2,
             call(**text(32), **LARGE, num_frames=5, frame_rate=25.0, guidance_scale=3.0, stg_scale=1.0,
                  modality_scale=1.0, audio_guidance_scale=3.0, audio_stg_scale=0.0, audio_modality_scale=1.0,
                  spatio_temporal_guidance_blocks=[1], use_cross_timestep=False)),
    Specimen("StableAudio3Pipeline", "stable_audio_3", stable_audio3,
             call(prompt=PROMPT, duration=2.0, guidance_scale=3.0)),
)  # fmt: skip
