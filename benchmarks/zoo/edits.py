"""Stable Diffusion that starts from an image: variation, upscaling, inpainting, instruction, inversion."""

from __future__ import annotations

from typing import Any

import diffusers as df
import torch

from . import tiny
from .stable_diffusion import UNCHECKED, named, parts
from .tiny import PROMPT, Specimen, call, image, mask, photo, randn, scheduler

FAMILY = "stable_diffusion_edit"
EDIT: dict[str, Any] = {"prompt": PROMPT, "guidance_scale": 4.0, "image": image()}
PAINT: dict[str, Any] = EDIT | {"mask_image": mask(), "height": 16, "width": 16}


def upscale() -> Any:
    """StableDiffusionUpscalePipeline: the small image, noised to a level that is a class, joins the latents."""
    own = {"unet": tiny.unet(in_channels=7, num_class_embeds=1000), "low_res_scheduler": scheduler("DDPMScheduler")}
    return df.StableDiffusionUpscalePipeline(**parts() | own, max_noise_level=350)


def latent_upscale() -> Any:
    """StableDiffusionLatentUpscalePipeline: the Karras U-Net, which predicts a sample and its variance."""
    unet = tiny.seeded(
        df.UNet2DConditionModel, act_fn="gelu", attention_head_dim=4, norm_num_groups=None,
        block_out_channels=(32, 32, 64, 64), time_cond_proj_dim=136,
        conv_in_kernel=1, conv_out_kernel=1, cross_attention_dim=8, in_channels=8,
        out_channels=5, down_block_types=("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3), mid_block_type=None,
        up_block_types=(*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"), resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier", timestep_post_act="gelu",
    )  # fmt: skip
    own = {"unet": unet, "scheduler": scheduler("EulerDiscreteScheduler", prediction_type="sample")}
    return df.StableDiffusionLatentUpscalePipeline(**parts() | own)


def variation() -> Any:
    """StableDiffusionImageVariationPipeline: the prompt is a CLIP image embedding."""
    own = {"image_encoder": tiny.clip_vision(), "feature_extractor": tiny.clip_images(), "safety_checker": None}
    kept = {k: v for k, v in parts().items() if k in ("vae", "unet", "scheduler")}
    return df.StableDiffusionImageVariationPipeline(**kept, **own, requires_safety_checker=False)


def depth() -> Any:
    """StableDiffusionDepth2ImgPipeline: a depth map joins the latents."""
    return df.StableDiffusionDepth2ImgPipeline(**parts(in_channels=5), depth_estimator=None, feature_extractor=None)


def example() -> Any:
    """PaintByExamplePipeline: inpainting after an example picture."""
    from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder

    config = tiny.clip_vision().config
    own = {"image_encoder": tiny.seeded(PaintByExampleImageEncoder, config, proj_size=8)}
    kept = {k: v for k, v in parts(in_channels=9).items() if k in ("vae", "unet", "scheduler")}
    checks = UNCHECKED | {"feature_extractor": tiny.clip_images()}
    return df.PaintByExamplePipeline(**kept, **own, **checks)


def diffedit() -> Any:
    """StableDiffusionDiffEditPipeline: latents of the inversion guide the part outside the mask."""
    own = {"inverse_scheduler": scheduler("DDIMInverseScheduler", clip_sample=False, steps_offset=1)}
    return df.StableDiffusionDiffEditPipeline(**parts(), **own, **UNCHECKED)


def ledits() -> Any:
    """LEditsPPPipelineStableDiffusion after its inversion of an image."""
    down, up = ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2), (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D")
    made = parts(block_out_channels=(8, 16, 16), down_block_types=down, up_block_types=up)
    levels = scheduler("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++")
    pipe = df.LEditsPPPipelineStableDiffusion(**made | {"scheduler": levels}, **UNCHECKED)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    pipe.invert(image=photo(32), num_inversion_steps=5, skip=0.2, generator=generator, source_prompt="sea")
    return pipe


SPECIMENS = (
    Specimen("StableDiffusionImg2ImgPipeline", FAMILY, lambda: named("StableDiffusionImg2ImgPipeline"),
             call(**EDIT, strength=0.7, steps=7)),
    Specimen("StableDiffusionImg2ImgPipeline+dpmpp_2m", FAMILY,
             lambda: named("StableDiffusionImg2ImgPipeline", "DPMSolverMultistepScheduler"),
             call(**EDIT, strength=0.7, steps=7)),
    Specimen("StableDiffusionInpaintPipeline", FAMILY, lambda: named("StableDiffusionInpaintPipeline"),
             call(**PAINT, strength=0.9, steps=6)),
    Specimen("StableDiffusionInpaintPipeline+nine_channels", FAMILY,
             lambda: named("StableDiffusionInpaintPipeline", in_channels=9), call(**PAINT)),
    Specimen("StableDiffusionInstructPix2PixPipeline", FAMILY,
             lambda: named("StableDiffusionInstructPix2PixPipeline", "EulerAncestralDiscreteScheduler", in_channels=8),
             call(**EDIT, image_guidance_scale=1.5)),
    Specimen("StableDiffusionUpscalePipeline", FAMILY, upscale, call(**EDIT | {"image": image(8)}, noise_level=20)),
    Specimen("StableDiffusionLatentUpscalePipeline", FAMILY, latent_upscale,
             call(**EDIT | {"image": randn(1, 4, 8, 8)})),
    Specimen("StableDiffusionDepth2ImgPipeline", FAMILY, depth,
             call(**EDIT, depth_map=randn(1, 16, 16), strength=0.8, steps=6)),
    Specimen("StableDiffusionImageVariationPipeline", FAMILY, variation,
             call(image=photo(), guidance_scale=3.0, height=16, width=16)),
    Specimen("PaintByExamplePipeline", "paint_by_example", example,
             call(example_image=photo(), image=image() * 2 - 1, mask_image=mask(), guidance_scale=3.0,
                  height=16, width=16)),
    Specimen("CycleDiffusionPipeline", FAMILY, lambda: named("CycleDiffusionPipeline"),
             call(**EDIT, source_prompt="blue sea", source_guidance_scale=2.0, eta=0.1, strength=0.8, steps=6)),
    Specimen("StableDiffusionDiffEditPipeline", FAMILY, diffedit,
             call(prompt=PROMPT, guidance_scale=4.0, mask_image=mask(8)[0], image_latents=randn(1, 4, 4, 8, 8),
                  inpaint_strength=0.8, steps=6)),
    Specimen("LEditsPPPipelineStableDiffusion", "ledits_pp", ledits,
             call(editing_prompt=["fox", "sea"], reverse_editing_direction=[False, True],
                  edit_guidance_scale=[5.0, 4.0], steps=None)),
)  # fmt: skip
