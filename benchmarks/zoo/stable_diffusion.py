"""Stable Diffusion: a U-Net on latents that attends to text; the plain pipeline under many schedulers and options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers as df

from . import tiny
from .tiny import PROMPT, Specimen, call, randn, scheduler

FAMILY = "stable_diffusion"
BASE: dict[str, Any] = {"prompt": PROMPT, "guidance_scale": 4.0, "height": 16, "width": 16}
UNCHECKED: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def parts(scheduling: str = "DDIMScheduler", **unet: Any) -> dict[str, Any]:
    """The components that every Stable Diffusion pipeline has; `unet` changes its config."""
    return {
        "vae": tiny.vae(), "text_encoder": tiny.clip_text(), "tokenizer": tiny.clip_tokenizer(),
        "unet": tiny.unet(**unet), "scheduler": scheduler(scheduling),
    }  # fmt: skip


def named(name: str, scheduling: str = "DDIMScheduler", **unet: Any) -> Any:
    """The pipeline class `name` on the usual components, without a safety checker."""
    return getattr(df, name)(**parts(scheduling, **unet), **UNCHECKED)


def text2image(scheduling: str = "DDIMScheduler", **levels: Any) -> Any:
    """StableDiffusionPipeline with a scheduler of the given class and options."""
    pipe = named("StableDiffusionPipeline")
    pipe.scheduler = scheduler(scheduling, **levels)  # given at once, its clip_sample would be taken from it
    return pipe


def with_ip_adapter() -> Any:
    """StableDiffusionPipeline with an IP-Adapter: an image embedding of width 8 becomes 4 tokens of width 8."""
    attention, embeddings = df.models.attention_processor, df.models.embeddings
    pipe = text2image()
    processors: dict[str, Any] = {}
    for name in pipe.unet.attn_processors:
        query = pipe.unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        adapter = attention.IPAdapterAttnProcessor2_0
        processors[name] = (
            attention.AttnProcessor2_0() if "attn1" in name else tiny.seeded(adapter, query, 8, num_tokens=(4,))
        )
    pipe.unet.set_attn_processor(processors)
    project = tiny.seeded(embeddings.ImageProjection, image_embed_dim=8, cross_attention_dim=8, num_image_text_embeds=4)
    pipe.unet.encoder_hid_proj = embeddings.MultiIPAdapterImageProjection([project])
    pipe.unet.register_to_config(encoder_hid_dim_type="ip_image_proj")
    return pipe


def with_lora() -> Any:
    """StableDiffusionPipeline with a LoRA of rank 2 on the U-Net's attention."""
    from peft import LoraConfig

    pipe = text2image()

    def adapted() -> Any:
        pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"]))
        return pipe.unet

    tiny.seeded(adapted)
    return pipe


def with_freeu() -> Any:
    """StableDiffusionPipeline with FreeU, which filters the U-Net's skips."""
    pipe = text2image()
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    return pipe


def cool(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """A callback that lowers the guidance after the third step and damps the latents at each."""
    if step == 2:
        pipe._guidance_scale = 1.5
    return {"latents": tensors["latents"] * 0.95}


def case(name: str, build: Callable[[], Any] = text2image, **changes: Any) -> Specimen:
    """A further case of StableDiffusionPipeline."""
    return Specimen(f"StableDiffusionPipeline+{name}", FAMILY, build, call(**BASE | changes))


def under(name: str, scheduling: str, steps: int = 5, **levels: Any) -> Specimen:
    """StableDiffusionPipeline under another scheduler."""
    return case(name, lambda: text2image(scheduling, **levels), steps=steps)


SCHEDULERS = (
    under("pndm", "PNDMScheduler", skip_prk_steps=True, steps_offset=1),
    under("pndm_prk", "PNDMScheduler", skip_prk_steps=False),
    under("lms", "LMSDiscreteScheduler"),
    under("euler_karras", "EulerDiscreteScheduler", use_karras_sigmas=True),
    under("euler_ancestral", "EulerAncestralDiscreteScheduler"),
    under("heun", "HeunDiscreteScheduler"),
    under("kdpm2_ancestral", "KDPM2AncestralDiscreteScheduler"),
    under("dpmpp_2m", "DPMSolverMultistepScheduler"),
    under("dpmpp_2m_sde", "DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++"),
    under("dpmpp_single", "DPMSolverSinglestepScheduler", solver_order=2),
    under("unipc", "UniPCMultistepScheduler", steps=6),
    under("deis", "DEISMultistepScheduler"),
    under("sa_solver", "SASolverScheduler"),
    under("lcm", "LCMScheduler"),
    under("tcd", "TCDScheduler"),
    under("ddpm", "DDPMScheduler"),
    under("ddim_clipped", "DDIMScheduler", clip_sample=True, clip_sample_range=2.0),
    under("ddim_v", "DDIMScheduler", prediction_type="v_prediction", rescale_betas_zero_snr=True),
)

OPTIONS = (
    case("eta", eta=1.0),
    case("unguided", guidance_scale=1.0),
    case("prompts", prompt=[PROMPT, "blue sea"], negative_prompt=["sea", "fox"]),
    case("images_per_prompt", num_images_per_prompt=2),
    case("generators", prompt=[PROMPT, "blue sea"], eta=0.5, seeds=[3, 4]),
    case("rescale", guidance_rescale=0.7),
    case("timesteps", lambda: text2image("DDPMScheduler"), timesteps=[900, 700, 500, 200, 10]),
    case("callback", callback_on_step_end=cool),
    case("guidance_embedded", lambda: named("StableDiffusionPipeline", time_cond_proj_dim=32)),
    case("ip_adapter", with_ip_adapter, ip_adapter_image_embeds=[randn(2, 1, 8)]),
    case("lora", with_lora, cross_attention_kwargs={"scale": 0.5}),
    case("freeu", with_freeu),
    case("decoded", output="pt"),
)

SPECIMENS = (Specimen("StableDiffusionPipeline", FAMILY, text2image, call(**BASE)), *SCHEDULERS, *OPTIONS)
