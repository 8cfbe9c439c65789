"""Newer image transformers: Flux.2, Hunyuan-Image, HiDream, PRX, Nucleus; and Kolors."""

from __future__ import annotations

from typing import Any

import diffusers as df

from . import sdxl, tiny
from .flux import QWEN, qwen
from .tiny import Specimen, call, flow, randn
from .transformers2d import LARGE, SIZE, no_text, text


def flux2(name: str, **own: Any) -> Any:
    """A Flux.2 pipeline: one text stream, positions with four axes."""
    transformer = tiny.seeded(
        df.Flux2Transformer2DModel, patch_size=1, in_channels=16, num_layers=1, num_single_layers=1,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16, timestep_guidance_channels=256,
        axes_dims_rope=[4, 4, 4, 4], guidance_embeds="Klein" not in name,
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderKLFlux2, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8), layers_per_block=1, latent_channels=4, norm_num_groups=2, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip
    return getattr(df, name)(transformer=transformer, vae=vae, scheduler=flow(), **no_text(), **own)


def hunyuan_image() -> Any:
    """HunyuanImagePipeline: guidance by a guider object, which runs the network once for each part of it."""
    from diffusers.guiders import AdaptiveProjectedMixGuidance

    transformer = tiny.seeded(
        df.HunyuanImageTransformer2DModel, in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8,
        num_layers=1, num_single_layers=1, num_refiner_layers=1, patch_size=(1, 1), guidance_embeds=False,
        text_embed_dim=16, text_embed_2_dim=16, rope_axes_dim=(4, 4),
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderKLHunyuanImage, in_channels=3, out_channels=3, latent_channels=4, layers_per_block=1,
        block_out_channels=(32, 32), scaling_factor=0.5, spatial_compression_ratio=2, sample_size=16,
    )  # fmt: skip
    guiders = {
        "guider": AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=2),
        "ocr_guider": AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=3),
    }
    made = {"transformer": transformer, "vae": vae, "scheduler": flow(shift=3.0)}
    return df.HunyuanImagePipeline(**made, **guiders, **no_text("", "_2"))


def hidream() -> Any:
    """HiDreamImagePipeline: a mixture of experts, layers of a language model fed to layers of the transformer."""
    transformer = tiny.seeded(
        df.HiDreamImageTransformer2DModel, patch_size=2, in_channels=4, out_channels=4, num_layers=1,
        num_single_layers=1, attention_head_dim=8, num_attention_heads=2, caption_channels=[16, 16], text_emb_dim=16,
        num_routed_experts=4, num_activated_experts=2, axes_dims_rope=(4, 2, 2), max_resolution=(32, 32),
        llama_layers=(0, 1),
    )  # fmt: skip
    vae = tiny.vae(scaling_factor=0.4, shift_factor=0.1)
    none = no_text("", "_2", "_3", "_4")
    pipe = df.HiDreamImagePipeline(transformer=transformer, vae=vae, scheduler=flow(shift=3.0), **none)
    pipe.default_sample_size = 8  # it scales every size to the area of this
    return pipe


def prx() -> Any:
    """PRXPipeline: a single stream with text in its keys and values."""
    transformer = tiny.seeded(
        df.PRXTransformer2DModel, patch_size=1, in_channels=4, context_in_dim=8, hidden_size=16, mlp_ratio=2.0,
        num_heads=2, depth=2, axes_dim=[4, 4],
    )  # fmt: skip
    vae = tiny.vae(shift_factor=0.0, scaling_factor=1.0, use_quant_conv=False, use_post_quant_conv=False)
    return df.PRXPipeline(transformer=transformer, vae=vae, scheduler=flow(), **no_text())


def nucleus() -> Any:
    """NucleusMoEImagePipeline: Qwen-Image's frame with experts, switched off here."""
    transformer = tiny.seeded(
        df.NucleusMoEImageTransformer2DModel, patch_size=2, in_channels=16, out_channels=4, num_layers=2,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
        moe_enabled=False, capacity_factors=[8.0, 8.0],
    )  # fmt: skip
    base = qwen("QwenImagePipeline")
    made = {"vae": base.vae, "scheduler": base.scheduler, "text_encoder": None, "processor": None}
    return df.NucleusMoEImagePipeline(transformer=transformer, **made)


def kolors(name: str, **own: Any) -> Any:
    """A Kolors pipeline: SDXL's U-Net with the embeddings of a language model."""
    kept = {k: v for k, v in sdxl.parts().items() if k in ("vae", "unet", "scheduler")}
    return getattr(df, name)(**kept, **no_text(), **own)


def at(name: str, family: str, build: Any, **inputs: Any) -> Specimen:
    """A specimen whose builder takes the class's name."""
    return Specimen(name, family, lambda: build(name.partition("+")[0]), call(**inputs))


def hunyuan_text() -> dict[str, Any]:
    """Embeddings of both text encoders, with masks, for the prompt and its negative."""
    first = {k.replace("attention_mask", "embeds_mask"): v for k, v in text(16).items()}
    return first | {f"{k}_2": v for k, v in first.items()}


def hidream_text() -> dict[str, Any]:
    """Embeddings of HiDream's four text encoders."""
    given: dict[str, Any] = {}
    for seed, side in enumerate(("", "negative_")):
        given[f"{side}prompt_embeds_t5"] = randn(1, 6, 16, seed=seed)
        given[f"{side}prompt_embeds_llama3"] = randn(2, 1, 6, 16, seed=seed + 2)
        given[f"{side}pooled_prompt_embeds"] = randn(1, 16, seed=seed + 4)
    return given


MASKED: dict[str, Any] = {k: v for k, v in QWEN.items() if "embeds" in k}
PRX: dict[str, Any] = {k: v.bool() if "mask" in k else v for k, v in text(8).items()}
KOLORS: dict[str, Any] = text(16, pooled=8, masks=False) | {"guidance_scale": 3.0}
SPECIMENS = (
    at("Flux2Pipeline", "flux2", flux2, prompt_embeds=randn(1, 6, 16), guidance_scale=3.0, **SIZE),
    at("Flux2Pipeline+reference", "flux2", flux2, prompt_embeds=randn(1, 6, 16), guidance_scale=3.0, **SIZE,
       image=[tiny.photo(64)]),
    at("Flux2KleinPipeline", "flux2", flux2, **text(16, masks=False), guidance_scale=3.0, **SIZE),
    at("HunyuanImagePipeline", "hunyuan_image", lambda name: hunyuan_image(), **hunyuan_text(), **SIZE),
    at("HiDreamImagePipeline", "hidream", lambda name: hidream(), **hidream_text(), guidance_scale=3.0, **SIZE),
    at("PRXPipeline", "prx", lambda name: prx(), **PRX, guidance_scale=3.0, use_resolution_binning=False, **LARGE),
    at("NucleusMoEImagePipeline", "nucleus", lambda name: nucleus(), **MASKED, guidance_scale=3.0, **SIZE),
    at("KolorsPipeline", "kolors", kolors, **KOLORS, **SIZE),
    at("KolorsPAGPipeline", "pag", lambda name: kolors(name, pag_applied_layers=["mid"]), **KOLORS, **SIZE,
       pag_scale=1.5),
)  # fmt: skip
