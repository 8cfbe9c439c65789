"""Rectified-flow transformers on packed latents: Flux and its kin, Chroma, Bria, Ovis, Qwen-Image, Z-Image."""

from __future__ import annotations

from typing import Any

import diffusers as df

from . import tiny
from .tiny import Specimen, call, flow, image, mask, randn
from .transformers2d import SIZE, no_text, text


def flow_vae(**changes: Any) -> Any:
    """An autoencoder as Flux uses it: shifted, without the convolutions around the latents."""
    return tiny.vae(shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False, **changes)


def flux_net(kind: str = "FluxTransformer2DModel", **changes: Any) -> Any:
    """Flux's transformer on packed latents (tokens of 4 channels x 2 x 2), or its ControlNet."""
    config: dict[str, Any] = dict(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=8, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    return tiny.seeded(getattr(df, kind), **config | changes)


def flux(name: str, transformer: Any = None, levels: Any = None, **own: Any) -> Any:
    """A Flux pipeline; guidance is an embedding."""
    levels = levels or flow(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    made = no_text("", "_2") | {"transformer": transformer or flux_net(), "vae": flow_vae(), "scheduler": levels}
    return getattr(df, name)(**made, **own)


def flux_lora() -> Any:
    """FluxPipeline with a LoRA of rank 2."""
    from peft import LoraConfig

    pipe = flux("FluxPipeline")
    tiny.seeded(
        lambda: pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"])) or pipe.transformer
    )
    return pipe


def chroma(name: str) -> Any:
    """A Chroma pipeline: Flux without pooled text, its modulations from one small network; true guidance, two calls."""
    transformer = tiny.seeded(
        df.ChromaTransformer2DModel, patch_size=1, in_channels=16, num_layers=1, num_single_layers=1,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=16, approximator_layers=1, approximator_num_channels=16,
    )  # fmt: skip
    return getattr(df, name)(transformer=transformer, vae=flow_vae(), scheduler=flow(), **no_text())


def bria() -> Any:
    """BriaPipeline: Flux's blocks without pooled text."""
    transformer = tiny.seeded(
        df.BriaTransformer2DModel, patch_size=1, in_channels=16, num_layers=1, num_single_layers=1,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=None,
        axes_dims_rope=[0, 4, 4],
    )  # fmt: skip
    vae = tiny.vae(shift_factor=0, force_upcast=False)
    made = {"text_encoder": tiny.t5(), "tokenizer": tiny.word_tokenizer()}
    return df.BriaPipeline(transformer=transformer, vae=vae, scheduler=flow(), **made)


def ovis() -> Any:
    """OvisImagePipeline: Flux's shape with a language model's text; true guidance, two calls a step."""
    transformer = tiny.seeded(
        df.OvisImageTransformer2DModel, patch_size=1, in_channels=16, out_channels=16, num_layers=1,
        num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return df.OvisImagePipeline(transformer=transformer, vae=flow_vae(), scheduler=flow(), **no_text())


def qwen_net(kind: str = "QwenImageTransformer2DModel", **changes: Any) -> Any:
    """Qwen-Image's transformer, or its ControlNet."""
    config: dict[str, Any] = dict(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    return tiny.seeded(getattr(df, kind), **config | changes)


def qwen(name: str, **own: Any) -> Any:
    """A Qwen-Image pipeline on an autoencoder of video that quarters the image."""
    vae = tiny.seeded(
        df.AutoencoderKLQwenImage, base_dim=8, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1,
        temperal_downsample=[False, True], latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    return getattr(df, name)(transformer=qwen_net(), vae=vae, scheduler=flow(), **no_text(), **own)


def z_image(name: str) -> Any:
    """A Z-Image pipeline: a single stream whose network takes lists of images."""
    transformer = tiny.seeded(
        df.ZImageTransformer2DModel, all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=32, n_layers=2,
        n_refiner_layers=1, n_heads=2, n_kv_heads=2, qk_norm=True, cap_feat_dim=16, rope_theta=256.0, t_scale=1000.0,
        axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
    )  # fmt: skip
    vae = tiny.vae(latent_channels=16, shift_factor=0.1, scaling_factor=0.4)
    return getattr(df, name)(transformer=transformer, vae=vae, scheduler=flow(), **no_text())


def at(name: str, family: str, build: Any, **inputs: Any) -> Specimen:
    """A specimen of this file."""
    return Specimen(name, family, build, call(**{"guidance_scale": 3.0} | inputs))


def given(name: str, **inputs: Any) -> Specimen:
    """A Flux pipeline on the usual parts."""
    return at(name, "flux", lambda: flux(name.partition("+")[0]), **FLUX, **inputs)


FLUX: dict[str, Any] = text(16, pooled=8, masks=False, pair=False)
TRUE: dict[str, Any] = text(16, pooled=8, masks=False) | {"true_cfg_scale": 2.0}
CHROMA: dict[str, Any] = {k: v.bool() if "mask" in k else v for k, v in text(16).items()}
QWEN: dict[str, Any] = {k.replace("attention_mask", "embeds_mask"): v for k, v in text(16).items()} | {
    "true_cfg_scale": 3.0,
    "guidance_scale": None,
}
WORDS: dict[str, Any] = {f"{s}prompt_embeds": [randn(6, 16, seed=i)] for i, s in enumerate(("", "negative_"))}
EDIT: dict[str, Any] = {"image": image(), "strength": 0.8, "steps": 6}
SPECIMENS = (
    given("FluxPipeline", **SIZE),
    given("FluxPipeline+images_callback", **SIZE, num_images_per_prompt=2, seeds=[1, 2],
          callback_on_step_end=lambda pipe, step, t, tensors: {"latents": tensors["latents"] * 0.97}),
    at("FluxPipeline+stochastic", "flux", lambda: flux("FluxPipeline", levels=flow(stochastic_sampling=True)),
       **FLUX, **SIZE),
    at("FluxPipeline+lora", "flux", flux_lora, **FLUX, **SIZE, joint_attention_kwargs={"scale": 0.5}),
    at("FluxPipeline+true_cfg", "flux", lambda: flux("FluxPipeline"), **TRUE, **SIZE),
    given("FluxImg2ImgPipeline", **EDIT, **SIZE),
    given("FluxInpaintPipeline", **EDIT, **SIZE, mask_image=mask()),
    at("FluxFillPipeline", "flux", lambda: flux("FluxFillPipeline", flux_net(in_channels=16 * 2 + 16, out_channels=16)),
       **FLUX, **SIZE, image=image(), mask_image=mask()),
    at("FluxControlPipeline", "flux", lambda: flux("FluxControlPipeline", flux_net(in_channels=32, out_channels=16)),
       **FLUX, **SIZE, control_image=image(seed=1)),
    at("FluxControlNetPipeline", "flux",
       lambda: flux("FluxControlNetPipeline", controlnet=flux_net("FluxControlNetModel")),
       **FLUX, **SIZE, control_image=image(seed=1), controlnet_conditioning_scale=0.7),
    at("FluxKontextPipeline", "flux", lambda: flux("FluxKontextPipeline"), **FLUX, **SIZE, image=image(), max_area=256,
       _auto_resize=False),
    at("FluxControlNetImg2ImgPipeline", "flux",
       lambda: flux("FluxControlNetImg2ImgPipeline", controlnet=flux_net("FluxControlNetModel")),
       **FLUX, **SIZE, **EDIT, control_image=image(seed=1)),
    at("FluxControlNetInpaintPipeline", "flux",
       lambda: flux("FluxControlNetInpaintPipeline", controlnet=flux_net("FluxControlNetModel")),
       **FLUX, **SIZE, **EDIT, control_image=image(seed=1), mask_image=mask()),
    at("FluxControlImg2ImgPipeline", "flux",
       lambda: flux("FluxControlImg2ImgPipeline", flux_net(in_channels=32, out_channels=16)),
       **FLUX, **SIZE, **EDIT, control_image=image(seed=1)),
    at("FluxKontextInpaintPipeline", "flux", lambda: flux("FluxKontextInpaintPipeline"), **FLUX, **SIZE, **EDIT,
       mask_image=mask(), max_area=256, _auto_resize=False),
    at("ChromaPipeline", "chroma", lambda: chroma("ChromaPipeline"), **CHROMA, **SIZE),
    at("ChromaImg2ImgPipeline", "chroma", lambda: chroma("ChromaImg2ImgPipeline"), **CHROMA, **EDIT, **SIZE),
    at("BriaPipeline", "bria", bria, prompt=tiny.PROMPT, max_sequence_length=8, **SIZE),
    at("OvisImagePipeline", "ovis", ovis, **text(16, masks=False), **SIZE, negative_prompt=None),
    at("QwenImagePipeline", "qwen_image", lambda: qwen("QwenImagePipeline"), **QWEN, **SIZE),
    at("QwenImageImg2ImgPipeline", "qwen_image", lambda: qwen("QwenImageImg2ImgPipeline"), **QWEN, **SIZE, **EDIT),
    at("QwenImageInpaintPipeline", "qwen_image", lambda: qwen("QwenImageInpaintPipeline"), **QWEN, **SIZE, **EDIT,
       mask_image=mask()),
    at("QwenImageControlNetPipeline", "qwen_image",
       lambda: qwen("QwenImageControlNetPipeline", controlnet=qwen_net("QwenImageControlNetModel", num_layers=1)),
       **QWEN, **SIZE, control_image=image(seed=1)),
    at("QwenImageControlNetInpaintPipeline", "qwen_image",
       lambda: qwen("QwenImageControlNetInpaintPipeline",
                    controlnet=qwen_net("QwenImageControlNetModel", num_layers=1, extra_condition_channels=4)),
       **QWEN, **SIZE, control_image=image(seed=1), control_mask=mask()),
    at("ZImageInpaintPipeline", "z_image", lambda: z_image("ZImageInpaintPipeline"), **WORDS, **EDIT, **SIZE,
       mask_image=mask()),
    at("ZImagePipeline", "z_image", lambda: z_image("ZImagePipeline"), **WORDS, **SIZE),
    at("ZImageImg2ImgPipeline", "z_image", lambda: z_image("ZImageImg2ImgPipeline"), **WORDS, **EDIT, **SIZE),
)  # fmt: skip
