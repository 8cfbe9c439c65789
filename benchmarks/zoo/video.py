"""Video transformers: CogVideoX, LTX, Wan, Hunyuan-Video, Mochi, Latte, Allegro and their kin."""

from __future__ import annotations

from typing import Any

import diffusers as df

from . import tiny
from .tiny import Specimen, call, flow, image, photo, scheduler
from .transformers2d import no_text, text

SIZE: dict[str, Any] = {"height": 16, "width": 16}
FILM: list[Any] = [photo(seed=s) for s in range(9)]


def cogvideo(name: str, channels: int = 4, levels: Any = None, **changes: Any) -> Any:
    """A CogVideoX pipeline."""
    transformer = tiny.seeded(
        df.CogVideoXTransformer3DModel, num_attention_heads=2, attention_head_dim=16, in_channels=channels,
        out_channels=4, time_embed_dim=8, text_embed_dim=16, num_layers=1, sample_width=2, sample_height=2,
        sample_frames=9, patch_size=2, temporal_compression_ratio=4, max_text_seq_length=6, **changes,
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderKLCogVideoX, down_block_types=("CogVideoXDownBlock3D",) * 4, latent_channels=4,
        up_block_types=("CogVideoXUpBlock3D",) * 4, block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=4,
    )  # fmt: skip
    made = {"transformer": transformer, "vae": vae, "scheduler": levels or df.CogVideoXDDIMScheduler()}
    return getattr(df, name)(**made, **no_text())


def ltx(name: str) -> Any:
    """An LTX pipeline; latents are packed into tokens."""
    transformer = tiny.seeded(
        df.LTXVideoTransformer3DModel, in_channels=8, out_channels=8, patch_size=1, patch_size_t=1,
        num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16, num_layers=1, caption_channels=16,
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderKLLTXVideo, latent_channels=8, block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False), decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4, upsample_factor=(1,) * 4, timestep_conditioning=False, patch_size=1,
        patch_size_t=1, encoder_causal=True, decoder_causal=False,
    )  # fmt: skip
    return getattr(df, name)(transformer=transformer, vae=vae, scheduler=flow(), **no_text())


def wan_net(kind: str = "WanTransformer3DModel", **changes: Any) -> Any:
    """Wan's transformer, or one of its descendants."""
    config: dict[str, Any] = dict(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16,
        text_dim=16, freq_dim=16, ffn_dim=32, num_layers=1, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )  # fmt: skip
    return tiny.seeded(getattr(df, kind), **config | changes)


def wan_vae() -> Any:
    """Wan's autoencoder: 8 pixels and 4 frames become one."""
    return tiny.seeded(
        df.AutoencoderKLWan, base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )  # fmt: skip


def wan(name: str, levels: Any = None, **own: Any) -> Any:
    """A Wan pipeline; guidance makes two calls a step."""
    made = {"transformer": wan_net(), "vae": wan_vae(), "scheduler": levels or flow(shift=3.0)} | no_text()
    return getattr(df, name)(**made | own)


def wan_two() -> Any:
    """WanPipeline of version 2.2: one transformer for the noisy steps, another for the rest."""
    return wan("WanPipeline", transformer_2=tiny.alive(wan_net(num_layers=2)), boundary_ratio=0.6)


def wan_image() -> Any:
    """WanImageToVideoPipeline: a masked first frame joins the latents, the image's features the text."""
    own = {"image_encoder": tiny.clip_vision(), "image_processor": tiny.clip_images()}
    return wan("WanImageToVideoPipeline", transformer=wan_net(in_channels=36, image_dim=8), **own)


def hunyuan_vae() -> Any:
    """Hunyuan-Video's autoencoder: 8 pixels and 4 frames become one."""
    return tiny.seeded(
        df.AutoencoderKLHunyuanVideo, latent_channels=4, down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4, block_out_channels=(8,) * 4, layers_per_block=1,
        norm_num_groups=4, spatial_compression_ratio=8, temporal_compression_ratio=4,
    )  # fmt: skip


def hunyuan_video() -> Any:
    """HunyuanVideoPipeline."""
    transformer = tiny.seeded(
        df.HunyuanVideoTransformer3DModel, in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10,
        num_layers=1, num_single_layers=1, num_refiner_layers=1, patch_size=1, patch_size_t=1, guidance_embeds=True,
        text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4),
    )  # fmt: skip
    return df.HunyuanVideoPipeline(
        transformer=transformer, vae=hunyuan_vae(), scheduler=flow(shift=7.0), **no_text("", "_2")
    )


def mochi() -> Any:
    """MochiPipeline: asymmetric joint attention, a network that is told 1000 - t."""
    transformer = tiny.seeded(
        df.MochiTransformer3DModel, patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2,
        pooled_projection_dim=16, in_channels=12, qk_norm="rms_norm", text_embed_dim=16, time_embed_dim=4,
        activation_fn="swiglu", max_sequence_length=16,
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderKLMochi, latent_channels=12, out_channels=3, encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4, layers_per_block=(1,) * 5,
    )  # fmt: skip
    return df.MochiPipeline(transformer=transformer, vae=vae, scheduler=flow(invert_sigmas=True), **no_text())


def latte() -> Any:
    """LattePipeline: spatial and temporal blocks in turn."""
    transformer = tiny.seeded(
        df.LatteTransformer3DModel, sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8,
        num_attention_heads=2, caption_channels=16, in_channels=4, cross_attention_dim=16, out_channels=8,
        attention_bias=True, activation_fn="gelu-approximate", norm_type="ada_norm_single", num_embeds_ada_norm=1000,
        norm_elementwise_affine=False, norm_eps=1e-6, video_length=3,
    )  # fmt: skip
    return df.LattePipeline(transformer=transformer, vae=tiny.vae(), scheduler=scheduler(), **no_text())


def allegro() -> Any:
    """AllegroPipeline."""
    transformer = tiny.seeded(
        df.AllegroTransformer3DModel, num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
        num_layers=1, cross_attention_dim=24, sample_width=8, sample_height=8, sample_frames=8, caption_channels=16,
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderKLAllegro, down_block_types=("AllegroDownBlock3D",) * 4, latent_channels=4,
        up_block_types=("AllegroUpBlock3D",) * 4, block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=2,
    )  # fmt: skip
    levels = scheduler("EulerAncestralDiscreteScheduler")
    return df.AllegroPipeline(transformer=transformer, vae=vae, scheduler=levels, **no_text())


def at(name: str, family: str, build: Any, **inputs: Any) -> Specimen:
    """A specimen of this file: 9 frames unless it starts from a film or counts otherwise."""
    frames = {} if {"video", "video_length", "frames"} & set(inputs) else {"num_frames": 9}
    return Specimen(name, family, build, call(**{"guidance_scale": 3.0} | frames | SIZE | inputs))


COG: dict[str, Any] = text(16, masks=False) | {"max_sequence_length": 6}
WAN: dict[str, Any] = text(16, masks=False)
HUNYUAN: dict[str, Any] = text(16, pooled=8, pair=False)
SPECIMENS = (
    at("CogVideoXPipeline", "cogvideox", lambda: cogvideo("CogVideoXPipeline"), **COG),
    at("CogVideoXPipeline+dpm", "cogvideox",
       lambda: cogvideo("CogVideoXPipeline", levels=df.CogVideoXDPMScheduler()), **COG, use_dynamic_cfg=True),
    at("CogVideoXImageToVideoPipeline", "cogvideox",
       lambda: cogvideo("CogVideoXImageToVideoPipeline", 8, use_rotary_positional_embeddings=True), **COG,
       image=photo()),
    at("CogVideoXVideoToVideoPipeline", "cogvideox", lambda: cogvideo("CogVideoXVideoToVideoPipeline"),
       **COG, video=FILM, strength=0.8, steps=6),
    at("LTXPipeline", "ltx", lambda: ltx("LTXPipeline"), **text(16), height=32, width=32, guidance_rescale=0.3),
    at("LTXImageToVideoPipeline", "ltx", lambda: ltx("LTXImageToVideoPipeline"), **text(16), height=32, width=32,
       image=image(32)),
    at("LTXConditionPipeline", "ltx", lambda: ltx("LTXConditionPipeline"), **text(16), height=32, width=32,
       image=photo(32), image_cond_noise_scale=0.15),
    at("WanPipeline", "wan", lambda: wan("WanPipeline"), **WAN),
    at("WanPipeline+unipc", "wan", lambda: wan("WanPipeline", df.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)), **WAN),
    at("WanPipeline+two_stages", "wan", wan_two, **WAN, guidance_scale_2=1.5),
    at("WanImageToVideoPipeline", "wan", wan_image, **WAN, image=photo()),
    at("WanVideoToVideoPipeline", "wan", lambda: wan("WanVideoToVideoPipeline"), **WAN, video=FILM, strength=0.8,
       steps=6),
    at("HunyuanVideoPipeline", "hunyuan_video", hunyuan_video, **HUNYUAN),
    at("HunyuanVideoPipeline+true_cfg", "hunyuan_video", hunyuan_video, **text(16, pooled=8), true_cfg_scale=2.0),
    at("MochiPipeline", "mochi", mochi, **text(16), num_frames=7),
    at("LattePipeline", "latte", latte, **text(16, masks=False), video_length=3, negative_prompt=None,
       clean_caption=False, mask_feature=False),
    at("AllegroPipeline", "allegro", allegro, **text(16), negative_prompt=None, num_frames=8, clean_caption=False),
)  # fmt: skip
