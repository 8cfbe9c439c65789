"""Image transformers that attend to text: PixArt, SD3, Sana, Lumina, AuraFlow, Hunyuan-DiT, CogView."""

from __future__ import annotations

from typing import Any

import diffusers as df
import torch

from . import tiny
from .tiny import PROMPT, Specimen, call, flow, image, mask, randn, scheduler

SIZE: dict[str, Any] = {"height": 16, "width": 16}
LARGE: dict[str, Any] = {"height": 32, "width": 32}


def text(width: int, length: int = 6, *, pooled: int = 0, masks: bool = True, pair: bool = True) -> dict[str, Any]:
    """Embeddings of a prompt and of its negative, with masks and pooled vectors where the pipeline wants them."""
    given: dict[str, Any] = {}
    for seed, side in enumerate(("", "negative_") if pair else ("",)):
        given[f"{side}prompt_embeds"] = randn(1, length, width, seed=seed)
        if masks:
            given[f"{side}prompt_attention_mask"] = (torch.arange(length) < length - seed).long()[None]
        if pooled:
            given[f"{side}pooled_prompt_embeds"] = randn(1, pooled, seed=seed + 2)
    return given


def no_text(*numbers: str) -> dict[str, None]:
    """No text encoder and no tokenizer: the call brings embeddings."""
    return {f"{part}{n}": None for n in numbers or ("",) for part in ("text_encoder", "tokenizer")}


def pixart(name: str, levels: Any, **own: Any) -> Any:
    """A PixArt pipeline: the transformer predicts a variance, which is dropped."""
    transformer = tiny.seeded(
        df.PixArtTransformer2DModel, sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8,
        num_attention_heads=2, caption_channels=16, in_channels=4, cross_attention_dim=16, out_channels=8,
        attention_bias=True, activation_fn="gelu-approximate", norm_type="ada_norm_single", num_embeds_ada_norm=1000,
        norm_elementwise_affine=False, norm_eps=1e-6,
    )  # fmt: skip
    made = {"text_encoder": tiny.t5(), "tokenizer": tiny.word_tokenizer(), "vae": tiny.vae()}
    return getattr(df, name)(transformer=transformer, scheduler=levels, **made, **own)


def sd3_net(kind: str = "SD3Transformer2DModel", layers: int = 2, **changes: Any) -> Any:
    """Stable Diffusion 3's joint-attention transformer, or its ControlNet."""
    config: dict[str, Any] = dict(
        sample_size=8, patch_size=1, in_channels=4, num_layers=layers, attention_head_dim=8, num_attention_heads=2,
        caption_projection_dim=16, joint_attention_dim=16, pooled_projection_dim=8, out_channels=4,
        pos_embed_max_size=8,
    )  # fmt: skip
    return tiny.seeded(getattr(df, kind), **config | changes)


def sd3(name: str, channels: int = 4, **own: Any) -> Any:
    """A Stable Diffusion 3 pipeline, flow matching."""
    vae = tiny.vae(shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, latent_channels=channels)
    net = sd3_net(in_channels=channels, out_channels=channels)
    made = no_text("", "_2", "_3") | {"transformer": net, "vae": vae, "scheduler": flow(shift=3.0)}
    return getattr(df, name)(**made | own)


def sana_net(kind: str = "SanaTransformer2DModel", **changes: Any) -> Any:
    """Sana's linear-attention transformer, or its ControlNet."""
    config: dict[str, Any] = dict(
        patch_size=1, in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8,
        sample_size=8,
    )  # fmt: skip
    return tiny.seeded(getattr(df, kind), **config | changes)


def sana(name: str, levels: Any = None, transformer: Any = None, **own: Any) -> Any:
    """A Sana pipeline on the deep-compression autoencoder."""
    vae = tiny.seeded(
        df.AutoencoderDC, in_channels=3, latent_channels=4, attention_head_dim=2, scaling_factor=0.4,
        encoder_block_types=("ResBlock", "EfficientViTBlock"), decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        downsample_block_type="conv", upsample_block_type="interpolate", decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )  # fmt: skip
    made = no_text() | {"vae": vae, "transformer": transformer or sana_net(), "scheduler": levels or flow(shift=3.0)}
    return getattr(df, name)(**made | own)


def lumina() -> Any:
    """LuminaPipeline: Next-DiT, whose rotary positions are rescaled early in the loop."""
    transformer = tiny.seeded(
        df.LuminaNextDiT2DModel, sample_size=8, patch_size=2, in_channels=4, hidden_size=16, num_layers=2,
        num_attention_heads=2, num_kv_heads=1, multiple_of=16, norm_eps=1e-5, learn_sigma=True, qk_norm=True,
        cross_attention_dim=8, scaling_factor=1.0,
    )  # fmt: skip
    return df.LuminaPipeline(transformer=transformer, scheduler=flow(), vae=tiny.vae(), **no_text())


def lumina2() -> Any:
    """Lumina2Pipeline: a unified transformer; guidance makes two calls a step and renormalizes."""
    transformer = tiny.seeded(
        df.Lumina2Transformer2DModel, sample_size=8, patch_size=2, in_channels=4, hidden_size=16, num_layers=2,
        num_refiner_layers=1, num_attention_heads=2, num_kv_heads=1, multiple_of=16, norm_eps=1e-5,
        scaling_factor=1.0, axes_dim_rope=(4, 2, 2), axes_lens=(32, 16, 16), cap_feat_dim=8,
    )  # fmt: skip
    return df.Lumina2Pipeline(transformer=transformer, scheduler=flow(), vae=tiny.vae(shift_factor=0.1), **no_text())


def aura_flow() -> Any:
    """AuraFlowPipeline: joint and single blocks, flow matching."""
    transformer = tiny.seeded(
        df.AuraFlowTransformer2DModel, sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=1,
        num_single_dit_layers=1, attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16,
        joint_attention_dim=16, pos_embed_max_size=64,
    )  # fmt: skip
    return df.AuraFlowPipeline(transformer=transformer, scheduler=flow(), vae=tiny.vae(), **no_text())


def hunyuan_net(kind: str = "HunyuanDiT2DModel", **changes: Any) -> Any:
    """Hunyuan-DiT's transformer with long skips, or its ControlNet."""
    config: dict[str, Any] = dict(
        sample_size=8, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4, cross_attention_dim=16,
        cross_attention_dim_t5=16, pooled_projection_dim=8, hidden_size=16, activation_fn="gelu-approximate",
        text_len=6, text_len_t5=8,
    )  # fmt: skip
    return tiny.seeded(getattr(df, kind), **config | changes)


def hunyuan(name: str, **own: Any) -> Any:
    """A Hunyuan-DiT pipeline: two text encoders' embeddings side by side, DDPM noise in each step."""
    made = no_text("", "_2") | {"vae": tiny.vae(), "scheduler": scheduler("DDPMScheduler")}
    made |= {"transformer": hunyuan_net(num_layers=4), "safety_checker": None, "feature_extractor": None}
    return getattr(df, name)(**made, **own, requires_safety_checker=False)


def hunyuan_text() -> dict[str, Any]:
    """The embeddings of both of Hunyuan-DiT's text encoders, guided."""
    second = {f"{k}_2": v for k, v in text(16, 8).items()}
    return text(16, 6) | second | SIZE | {"guidance_scale": 3.0, "use_resolution_binning": False}


def cogview3() -> Any:
    """CogView3PlusPipeline: joint attention, DDIM of CogVideoX."""
    transformer = tiny.seeded(
        df.CogView3PlusTransformer2DModel, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, out_channels=4, text_embed_dim=16, time_embed_dim=8, condition_dim=2,
        pos_embed_max_size=8, sample_size=8,
    )  # fmt: skip
    levels = df.CogVideoXDDIMScheduler()
    return df.CogView3PlusPipeline(transformer=transformer, vae=tiny.vae(), scheduler=levels, **no_text())


def cogview4() -> Any:
    """CogView4Pipeline: flow matching with a shift by resolution; guidance makes two calls a step."""
    transformer = tiny.seeded(
        df.CogView4Transformer2DModel, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, out_channels=4, text_embed_dim=16, time_embed_dim=8, condition_dim=4,
    )  # fmt: skip
    shift = {"use_dynamic_shifting": True, "base_shift": 0.25, "max_shift": 0.75, "time_shift_type": "linear"}
    return df.CogView4Pipeline(
        transformer=transformer, vae=tiny.vae(), scheduler=flow(base_image_seq_len=256, **shift), **no_text()
    )


def at(name: str, family: str, build: Any, **inputs: Any) -> Specimen:
    """A specimen of this file."""
    return Specimen(name, family, build, call(**{"guidance_scale": 3.0} | inputs))


PIXART: dict[str, Any] = {"prompt": PROMPT, "use_resolution_binning": False, "clean_caption": False} | SIZE
SD3: dict[str, Any] = text(16, pooled=8, masks=False)
SANA: dict[str, Any] = text(8) | LARGE | {"negative_prompt": None, "use_resolution_binning": False}
SPECIMENS = (
    at("PixArtAlphaPipeline", "pixart", lambda: pixart("PixArtAlphaPipeline", scheduler()), **PIXART),
    at("PixArtAlphaPipeline+dpmpp", "pixart",
       lambda: pixart("PixArtAlphaPipeline", scheduler("DPMSolverMultistepScheduler")), **PIXART,
       num_images_per_prompt=2),
    at("PixArtSigmaPipeline", "pixart", lambda: pixart("PixArtSigmaPipeline", scheduler()), **PIXART, eta=1.0),
    at("PixArtSigmaPAGPipeline", "pag",
       lambda: pixart("PixArtSigmaPAGPipeline", scheduler(), pag_applied_layers=["blocks.1"]), **PIXART, pag_scale=2.0),
    at("StableDiffusion3Pipeline", "stable_diffusion_3", lambda: sd3("StableDiffusion3Pipeline"), **SD3, **SIZE),
    at("StableDiffusion3Pipeline+heun", "stable_diffusion_3",
       lambda: sd3("StableDiffusion3Pipeline", scheduler=df.FlowMatchHeunDiscreteScheduler(shift=3.0)), **SD3, **SIZE),
    at("StableDiffusion3Pipeline+skip_layers", "stable_diffusion_3", lambda: sd3("StableDiffusion3Pipeline"),
       **SD3, **SIZE, skip_guidance_layers=[1], skip_layer_guidance_start=0.2, skip_layer_guidance_stop=0.7),
    at("StableDiffusion3Img2ImgPipeline", "stable_diffusion_3", lambda: sd3("StableDiffusion3Img2ImgPipeline"),
       **SD3, image=image(), strength=0.8, steps=6),
    at("StableDiffusion3InpaintPipeline", "stable_diffusion_3", lambda: sd3("StableDiffusion3InpaintPipeline", 16),
       **SD3, **SIZE, image=image(), mask_image=mask(), strength=0.8, steps=6),
    at("StableDiffusion3ControlNetPipeline", "stable_diffusion_3",
       lambda: sd3("StableDiffusion3ControlNetPipeline", controlnet=sd3_net("SD3ControlNetModel", 1)),
       **SD3, **SIZE, control_image=image(seed=1)),
    at("StableDiffusion3PAGPipeline", "pag",
       lambda: sd3("StableDiffusion3PAGPipeline", pag_applied_layers=["blocks.1"]), **SD3, **SIZE, pag_scale=1.5),
    at("StableDiffusion3ControlNetInpaintingPipeline", "stable_diffusion_3",
       lambda: sd3("StableDiffusion3ControlNetInpaintingPipeline",
                   controlnet=sd3_net("SD3ControlNetModel", 1, extra_conditioning_channels=1)),
       **SD3, **SIZE, control_image=image(seed=1), control_mask=mask()),
    at("StableDiffusion3PAGImg2ImgPipeline", "pag",
       lambda: sd3("StableDiffusion3PAGImg2ImgPipeline", pag_applied_layers=["blocks.1"]), **SD3, pag_scale=1.5,
       image=image(), strength=0.8, steps=6),
    at("SanaPipeline", "sana", lambda: sana("SanaPipeline", df.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)), **SANA),
    at("SanaPipeline+euler", "sana", lambda: sana("SanaPipeline"), **SANA),
    at("SanaSprintPipeline", "sana",
       lambda: sana("SanaSprintPipeline", df.SCMScheduler(),
                    sana_net(guidance_embeds=True, qk_norm="rms_norm_across_heads")),
       **text(8, pair=False), **LARGE, use_resolution_binning=False, intermediate_timesteps=None, steps=4),
    at("SanaSprintImg2ImgPipeline", "sana",
       lambda: sana("SanaSprintImg2ImgPipeline", df.SCMScheduler(),
                    sana_net(guidance_embeds=True, qk_norm="rms_norm_across_heads")),
       **text(8, pair=False), **LARGE, use_resolution_binning=False, intermediate_timesteps=None,
       image=image(32), strength=0.8),
    at("SanaPAGPipeline", "pag", lambda: sana("SanaPAGPipeline", pag_applied_layers=["transformer_blocks.1"]),
       **SANA, pag_scale=1.5),
    at("SanaControlNetPipeline", "sana",
       lambda: sana("SanaControlNetPipeline", controlnet=sana_net("SanaControlNetModel", num_layers=1)),
       **SANA, control_image=image(32, seed=1)),
    at("LuminaPipeline", "lumina", lumina, **text(8), **LARGE, scaling_watershed=0.5),
    at("Lumina2Pipeline", "lumina2", lumina2, **text(8), **LARGE),
    at("Lumina2Pipeline+truncated", "lumina2", lumina2, **text(8), **LARGE, cfg_trunc_ratio=0.6,
       cfg_normalization=False),
    at("AuraFlowPipeline", "aura_flow", aura_flow, **text(16), **SIZE),
    at("HunyuanDiTPipeline", "hunyuan_dit", lambda: hunyuan("HunyuanDiTPipeline"), **hunyuan_text(),
       guidance_rescale=0.2),
    at("HunyuanDiTPAGPipeline", "pag", lambda: hunyuan("HunyuanDiTPAGPipeline", pag_applied_layers=["blocks.1"]),
       **hunyuan_text(), pag_scale=1.5),
    at("HunyuanDiTControlNetPipeline", "hunyuan_dit",
       lambda: hunyuan("HunyuanDiTControlNetPipeline",
                       controlnet=hunyuan_net("HunyuanDiT2DControlNetModel", transformer_num_layers=4)),
       **hunyuan_text(), control_image=image(seed=1)),
    at("CogView3PlusPipeline", "cogview3", cogview3, **text(16, masks=False), **SIZE),
    at("CogView4Pipeline", "cogview4", cogview4, **text(16, 16, masks=False), **SIZE),
)  # fmt: skip
