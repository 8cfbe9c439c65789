"""Diffusion on pixels or waves without text: the first pipelines, score and consistency models, DiT."""

from __future__ import annotations

from typing import Any

import diffusers as df

from . import tiny
from .tiny import PROMPT, Specimen, call, image, mask, scheduler


def unet(**changes: Any) -> Any:
    """An unconditional U-Net of two levels, on images (3, 8, 8)."""
    config: dict[str, Any] = dict(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        in_channels=3, out_channels=3, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return tiny.seeded(df.UNet2DModel, **config | changes)


def pixels(name: str, levels: Any, **changes: Any) -> Any:
    """The pipeline class `name` of a U-Net and a scheduler."""
    return getattr(df, name)(unet=unet(**changes), scheduler=levels)


def consistency() -> Any:
    """ConsistencyModelPipeline: each step jumps to the end and draws noise back; with a class."""
    levels = df.CMStochasticIterativeScheduler(num_train_timesteps=40, sigma_min=0.002, sigma_max=80.0)
    return pixels("ConsistencyModelPipeline", levels, num_class_embeds=10)


def dit() -> Any:
    """DiTPipeline: a transformer on latents with a class; both halves of the guided batch are carried as state."""
    transformer = tiny.seeded(
        df.DiTTransformer2DModel, sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8,
        num_attention_heads=2, in_channels=4, out_channels=8, num_embeds_ada_norm=1000, norm_type="ada_norm_zero",
        attention_bias=True, activation_fn="gelu-approximate", norm_elementwise_affine=False,
    )  # fmt: skip
    return df.DiTPipeline(transformer=transformer, vae=tiny.vae(), scheduler=df.DDIMScheduler())


def dance() -> Any:
    """DanceDiffusionPipeline: a one-dimensional U-Net on a wave."""
    net = tiny.seeded(
        df.UNet1DModel, block_out_channels=(32, 32, 32), extra_in_channels=64, sample_size=64, sample_rate=64,
        in_channels=2, out_channels=2, flip_sin_to_cos=True, use_timestep_embedding=False,
        time_embedding_type="fourier", mid_block_type="UNetMidBlock1D", layers_per_block=1,
        down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"),
        up_block_types=("AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"),
    )  # fmt: skip
    # its own levels start at 1, where it divides by 0
    levels = df.IPNDMScheduler(trained_betas=[0.9, 0.7, 0.5, 0.3, 0.1, 0.0])
    return df.DanceDiffusionPipeline(unet=net, scheduler=levels)


def latent_text() -> Any:
    """LDMTextToImagePipeline: the first text-to-image latent diffusion."""
    made = {"vqvae": tiny.vae(), "bert": tiny.clip_text(), "tokenizer": tiny.clip_tokenizer()}
    return df.LDMTextToImagePipeline(**made, unet=tiny.unet(), scheduler=scheduler())


def super_resolution() -> Any:
    """LDMSuperResolutionPipeline: the small image joins the latents."""
    made = {"vqvae": tiny.vae(latent_channels=3), "unet": unet(in_channels=6)}
    return df.LDMSuperResolutionPipeline(**made, scheduler=scheduler())


def at(name: str, family: str, build: Any, **inputs: Any) -> Specimen:
    """A specimen of this file: output as an array unless told."""
    return Specimen(name, family, build, call(**{"output": "np"} | inputs))


SPECIMENS = (
    at("DDPMPipeline", "ddpm", lambda: pixels("DDPMPipeline", df.DDPMScheduler()), batch_size=2, steps=8),
    at("DDPMPipeline+learned_range", "ddpm",
       lambda: pixels("DDPMPipeline", df.DDPMScheduler(variance_type="learned_range"), out_channels=6)),
    at("DDIMPipeline", "ddim", lambda: pixels("DDIMPipeline", df.DDIMScheduler()), batch_size=2, seeds=[1, 2], eta=1.0),
    at("DDIMPipeline+thresholding", "ddim",
       lambda: pixels("DDIMPipeline", df.DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9))),
    at("PNDMPipeline", "pndm", lambda: pixels("PNDMPipeline", df.PNDMScheduler(beta_end=0.002, steps_offset=1))),
    at("KarrasVePipeline", "karras_ve",
       lambda: pixels("KarrasVePipeline", df.KarrasVeScheduler(sigma_min=0.1, sigma_max=1.0))),
    at("ScoreSdeVePipeline", "score_sde_ve",
       lambda: pixels("ScoreSdeVePipeline", df.ScoreSdeVeScheduler(sigma_max=1.0, correct_steps=2)), output="np"),
    at("RePaintPipeline", "repaint", lambda: pixels("RePaintPipeline", df.RePaintScheduler()), image=image(8),
       mask_image=1 - mask(8), jump_length=2, jump_n_sample=2, eta=0.5),
    at("ConsistencyModelPipeline", "consistency_models", consistency, steps=4, class_labels=3),
    at("DiTPipeline", "dit", dit, class_labels=[1, 7], guidance_scale=3.0),
    at("DanceDiffusionPipeline", "dance_diffusion", dance, output=None, audio_length_in_s=1.0, batch_size=2),
    at("LDMPipeline", "latent_diffusion_uncond",
       lambda: df.LDMPipeline(vqvae=tiny.vae(latent_channels=3), unet=unet(), scheduler=scheduler())),
    at("LDMPipeline+global_noise", "latent_diffusion_uncond",
       lambda: df.LDMPipeline(vqvae=tiny.vae(latent_channels=3), unet=unet(), scheduler=scheduler()), eta=0.5),
    at("LDMTextToImagePipeline", "latent_diffusion", latent_text, prompt=PROMPT, guidance_scale=3.0,
       height=64, width=64),
    at("LDMSuperResolutionPipeline", "latent_diffusion", super_resolution, image=image(8)),
)  # fmt: skip
