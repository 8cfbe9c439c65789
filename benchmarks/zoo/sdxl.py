"""Stable Diffusion XL: two text encoders, pooled text and image sizes as an added embedding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers as df
import torch

from . import tiny
from .stable_diffusion import cool
from .tiny import PROMPT, Specimen, call, image, mask, photo, scheduler

FAMILY = "stable_diffusion_xl"
BASE: dict[str, Any] = {"prompt": PROMPT, "guidance_scale": 4.0, "height": 16, "width": 16}
EDIT: dict[str, Any] = {"prompt": PROMPT, "guidance_scale": 4.0, "image": image()}
PAINT: dict[str, Any] = EDIT | {"mask_image": mask(), "height": 16, "width": 16}
ADDED: dict[str, Any] = {
    "cross_attention_dim": 16, "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4, "transformer_layers_per_block": (1, 2), "projection_class_embeddings_input_dim": 32,
}  # fmt: skip


def parts(scheduling: str = "EulerDiscreteScheduler", *, sizes: int = 6, **unet: Any) -> dict[str, Any]:
    """The components of an SDXL pipeline whose added embedding holds `sizes` numbers beside the pooled text."""
    width = {"projection_class_embeddings_input_dim": 4 * sizes + 8}
    return {
        "vae": tiny.vae(), "text_encoder": tiny.clip_text(), "text_encoder_2": tiny.clip_text(projected=True),
        "tokenizer": tiny.clip_tokenizer(), "tokenizer_2": tiny.clip_tokenizer(),
        "unet": tiny.unet(**ADDED | width | unet), "scheduler": scheduler(scheduling),
    }  # fmt: skip


def named(name: str, scheduling: str = "EulerDiscreteScheduler", **changes: Any) -> Any:
    """The pipeline class `name` on the usual components."""
    return getattr(df, name)(**parts(scheduling, **changes))


def ledits() -> Any:
    """LEditsPPPipelineStableDiffusionXL after its inversion of an image."""
    levels = scheduler("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++")
    pipe = df.LEditsPPPipelineStableDiffusionXL(**parts() | {"scheduler": levels})
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    pipe.invert(image=photo(32), num_inversion_steps=5, skip=0.2, generator=generator, source_prompt="sea")
    return pipe


def plain(case: str = "", scheduling: str = "EulerDiscreteScheduler", **changes: Any) -> Specimen:
    """StableDiffusionXLPipeline or a further case of it."""
    name = "StableDiffusionXLPipeline"
    return Specimen(name + case, FAMILY, lambda: named(name, scheduling), call(**BASE | changes))


def usual(name: str, build: Callable[[], Any] | None = None, family: str = FAMILY, **inputs: Any) -> Specimen:
    """Another SDXL pipeline."""
    return Specimen(name, family, build or (lambda: named(name.partition("+")[0])), call(**inputs))


SPECIMENS = (
    plain(),
    plain("+two_prompts", prompt=[PROMPT, "blue sea"], prompt_2=["sea", "fox"], seeds=[1, 2]),
    plain("+ddim_rescale", "DDIMScheduler", guidance_rescale=0.5, eta=1.0),
    plain("+unipc_callback", "UniPCMultistepScheduler", callback_on_step_end=cool),
    plain("+denoising_end", denoising_end=0.8, steps=6),
    plain("+negative_sizes", negative_original_size=(8, 8), negative_target_size=(32, 32), num_images_per_prompt=2),
    usual("StableDiffusionXLImg2ImgPipeline", **EDIT, strength=0.7, steps=7),
    usual("StableDiffusionXLImg2ImgPipeline+refiner",
          lambda: df.StableDiffusionXLImg2ImgPipeline(**parts(sizes=5), requires_aesthetics_score=True),
          **EDIT, denoising_start=0.4, steps=8),
    usual("StableDiffusionXLInpaintPipeline", **PAINT, strength=0.9, steps=6),
    usual("StableDiffusionXLInpaintPipeline+nine_channels",
          lambda: named("StableDiffusionXLInpaintPipeline", in_channels=9), **PAINT, strength=0.9, steps=6),
    usual("StableDiffusionXLInstructPix2PixPipeline",
          lambda: named("StableDiffusionXLInstructPix2PixPipeline", in_channels=8),
          **EDIT, height=16, width=16, image_guidance_scale=1.5),
    usual("LEditsPPPipelineStableDiffusionXL", ledits, "ledits_pp", steps=None,
          editing_prompt=["fox", "sea"], reverse_editing_direction=[False, True], edit_guidance_scale=[5.0, 4.0]),
)  # fmt: skip
