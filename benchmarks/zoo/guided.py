"""Stable Diffusion with a changed loop: distilled, self-attention guided, panoramas, layouts, semantic, safe."""

from __future__ import annotations

from typing import Any

import diffusers as df
import transformers as tr

from . import tiny
from .priors import prior_net
from .stable_diffusion import BASE, UNCHECKED, named, parts
from .tiny import PROMPT, Specimen, call, image, photo, randn

FAMILY = "stable_diffusion_guided"


def distilled(name: str) -> Any:
    """A latent consistency model: guidance is an embedding beside the timestep, and each step draws noise."""
    return named(name, "LCMScheduler", time_cond_proj_dim=32)


def unclip() -> dict[str, Any]:
    """A U-Net that takes a noised image embedding as its class, and what noises and normalizes embeddings."""
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    own = {
        "unet": tiny.unet(class_embed_type="projection", projection_class_embeddings_input_dim=16),
        "image_normalizer": tiny.seeded(StableUnCLIPImageNormalizer, embedding_dim=8),
        "image_noising_scheduler": df.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    }
    return parts() | own


def stable_unclip() -> Any:
    """StableUnCLIPPipeline: a prior's loop makes the image embedding, then the U-Net's loop the image."""
    levels = {"variance_type": "fixed_small_log", "prediction_type": "sample", "clip_sample_range": 5.0}
    return df.StableUnCLIPPipeline(
        prior=prior_net(16), prior_tokenizer=tiny.clip_tokenizer(), prior_text_encoder=tiny.clip_text(projected=True),
        prior_scheduler=df.UnCLIPScheduler(**levels), **unclip(),
    )  # fmt: skip


def stable_unclip_image() -> Any:
    """StableUnCLIPImg2ImgPipeline: the embedding is an image's."""
    return df.StableUnCLIPImg2ImgPipeline(
        feature_extractor=tiny.clip_images(), image_encoder=tiny.clip_vision(), **unclip()
    )


def ldm3d() -> Any:
    """StableDiffusionLDM3DPipeline: the autoencoder's three further channels are depth."""
    made = parts() | {"vae": tiny.vae(in_channels=6, out_channels=6)}
    return df.StableDiffusionLDM3DPipeline(**made, **UNCHECKED, image_encoder=None)


def gligen() -> Any:
    """StableDiffusionGLIGENPipeline: boxes and phrases enter through gated attention, in the first steps only."""
    return df.StableDiffusionGLIGENPipeline(**parts(attention_type="gated"), **UNCHECKED)


def gligen_image() -> Any:
    """StableDiffusionGLIGENTextImagePipeline: boxes with phrases and pictures."""
    from diffusers.pipelines.stable_diffusion import CLIPImageProjection

    own = {
        "image_encoder": tiny.clip_vision(), "image_project": tiny.seeded(CLIPImageProjection, hidden_size=8),
        "processor": tr.CLIPProcessor(tiny.clip_images(), tiny.clip_tokenizer()),
    }  # fmt: skip
    return df.StableDiffusionGLIGENTextImagePipeline(**parts(attention_type="gated-text-image"), **UNCHECKED, **own)


def pix2pix_zero() -> Any:
    """StableDiffusionPix2PixZeroPipeline: a first loop stores attention maps, a second follows their gradient."""
    own: dict[str, Any] = {"inverse_scheduler": None, "caption_generator": None, "caption_processor": None}
    return df.StableDiffusionPix2PixZeroPipeline(**parts(), **UNCHECKED, **own)


SPECIMENS = (
    Specimen("LatentConsistencyModelPipeline", "latent_consistency",
             lambda: distilled("LatentConsistencyModelPipeline"), call(**BASE)),
    Specimen("LatentConsistencyModelImg2ImgPipeline", "latent_consistency",
             lambda: distilled("LatentConsistencyModelImg2ImgPipeline"),
             call(prompt=PROMPT, image=image(), strength=0.9, guidance_scale=4.0)),
    Specimen("StableUnCLIPPipeline", "stable_unclip", stable_unclip, call(**BASE, prior_num_inference_steps=4)),
    Specimen("StableUnCLIPImg2ImgPipeline", "stable_unclip", stable_unclip_image,
             call(**BASE, image=image(8), noise_level=10)),
    Specimen("StableDiffusionSAGPipeline", FAMILY, lambda: named("StableDiffusionSAGPipeline"),
             call(**BASE, sag_scale=0.75)),
    Specimen("StableDiffusionPanoramaPipeline", FAMILY, lambda: named("StableDiffusionPanoramaPipeline"),
             call(**BASE | {"width": 32, "height": 16}, view_batch_size=2)),
    Specimen("StableDiffusionLDM3DPipeline", FAMILY, ldm3d, call(**BASE, output="np")),
    Specimen("StableDiffusionGLIGENPipeline", FAMILY, gligen,
             call(**BASE, gligen_phrases=["fox"], gligen_boxes=[[0.1, 0.2, 0.6, 0.7]],
                  gligen_scheduled_sampling_beta=0.5)),
    Specimen("StableDiffusionGLIGENTextImagePipeline", FAMILY, gligen_image,
             call(**BASE, gligen_phrases=["fox"], gligen_images=[photo(8)], gligen_boxes=[[0.1, 0.2, 0.6, 0.7]],
                  gligen_scheduled_sampling_beta=0.5)),
    Specimen("StableDiffusionPix2PixZeroPipeline", FAMILY, pix2pix_zero,
             call(**BASE, source_embeds=randn(2, 16, 8), target_embeds=randn(2, 16, 8, seed=1),
                  cross_attention_guidance_amount=0.1)),
    Specimen("StableDiffusionParadigmsPipeline", FAMILY,
             lambda: named("StableDiffusionParadigmsPipeline", "DDIMParallelScheduler"),
             call(**BASE, parallel=3, tolerance=0.0)),
    Specimen("StableDiffusionModelEditingPipeline", FAMILY,
             lambda: named("StableDiffusionModelEditingPipeline"), call(**BASE)),
    Specimen("StableDiffusionPipelineSafe", FAMILY, lambda: named("StableDiffusionPipelineSafe"),
             call(**BASE, sld_guidance_scale=200, sld_warmup_steps=1)),
    Specimen("SemanticStableDiffusionPipeline", FAMILY, lambda: named("SemanticStableDiffusionPipeline"),
             call(**BASE, editing_prompt=["blue", "sea"], edit_warmup_steps=1, edit_threshold=0.8,
                  edit_weights=[1.0, 0.5])),
    Specimen("StableDiffusionAttendAndExcitePipeline", FAMILY,
             lambda: named("StableDiffusionAttendAndExcitePipeline"),
             call(**BASE, token_indices=[2, 3], max_iter_to_alter=2, attn_res=(4, 4), thresholds={0: 0.5})),
)  # fmt: skip
