"""Cascades and neighbours: Wuerstchen, Stable Cascade, DeepFloyd IF, Shap-E, Marigold, and masked tokens."""

from __future__ import annotations

from typing import Any

import diffusers as df
import torch

from . import stable_diffusion, tiny
from .priors import SIMPLE, prior_net
from .tiny import PROMPT, Specimen, call, image, mask, photo, randn, scheduler


def text() -> dict[str, Any]:
    """A CLIP text encoder and its tokenizer."""
    return {"text_encoder": tiny.clip_text(projected=True), "tokenizer": tiny.clip_tokenizer()}


def paella() -> Any:
    """Wuerstchen's autoencoder, which quarters the image."""
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel

    return tiny.seeded(
        PaellaVQModel, bottleneck_blocks=1, num_vq_embeddings=4, levels=2, embed_dim=8, latent_channels=4
    )


def calm(last: Any, net: Any) -> Any:
    """`net` with smaller weights in its last layer: it divides by |1 - b| with b from there, which must stay off 1."""
    with torch.no_grad():
        for p in last.parameters():
            p.mul_(0.2)
    return net


def wuerstchen_prior() -> Any:
    """WuerstchenPriorPipeline: the first stage, in a very small latent space; noise in each step."""
    from diffusers.pipelines.deprecated.wuerstchen import WuerstchenPrior

    net = tiny.seeded(WuerstchenPrior, c_in=4, c=8, depth=2, c_cond=8, c_r=8, nhead=2)
    made = {"text_encoder": tiny.clip_text(), "tokenizer": tiny.clip_tokenizer()}
    return df.WuerstchenPriorPipeline(**made, prior=calm(net.out, net), scheduler=df.DDPMWuerstchenScheduler())


def wuerstchen_decoder() -> Any:
    """WuerstchenDecoderPipeline: the second stage."""
    from diffusers.pipelines.deprecated.wuerstchen import WuerstchenDiffNeXt

    net = tiny.seeded(
        WuerstchenDiffNeXt, c_in=4, c_out=4, c_cond=8, c_r=8, c_hidden=[16], nhead=[-1], blocks=[2],
        level_config=["CT"], clip_embd=8, inject_effnet=[True], effnet_embd=4,
    )  # fmt: skip
    made = {"text_encoder": tiny.clip_text(), "tokenizer": tiny.clip_tokenizer()}
    return df.WuerstchenDecoderPipeline(
        **made, decoder=calm(net.clf, net), vqgan=paella(), scheduler=df.DDPMWuerstchenScheduler(), latent_dim_scale=4.0
    )


def cascade_net(**changes: Any) -> Any:
    """Stable Cascade's U-Net of two levels."""
    config: dict[str, Any] = dict(
        in_channels=4, out_channels=4, conditioning_dim=16, block_out_channels=(8, 16), num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1), up_num_layers_per_block=(1, 1), down_blocks_repeat_mappers=(1, 1),
        up_blocks_repeat_mappers=(1, 1), switch_level=(False,), clip_text_in_channels=8, timestep_ratio_embedding_dim=8,
        clip_text_pooled_in_channels=8, clip_image_in_channels=8, dropout=(0.1, 0.1), clip_seq=4,
        block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 2,
    )  # fmt: skip
    return tiny.seeded(df.StableCascadeUNet, **config | changes)


def cascade_prior() -> Any:
    """StableCascadePriorPipeline: the text's stage."""
    own = {"image_encoder": None, "feature_extractor": None, "scheduler": df.DDPMWuerstchenScheduler()}
    return df.StableCascadePriorPipeline(**text(), **own, prior=cascade_net())


def cascade_decoder() -> Any:
    """StableCascadeDecoderPipeline: the image's stage, conditioned on the text's."""
    net = cascade_net(effnet_in_channels=4, clip_text_in_channels=None, clip_image_in_channels=None)
    own = {"scheduler": df.DDPMWuerstchenScheduler(), "vqgan": paella(), "latent_dim_scale": 4.0}
    return df.StableCascadeDecoderPipeline(**text(), **own, decoder=net)


def deepfloyd(name: str) -> Any:
    """A DeepFloyd IF pipeline: pixels, dynamic thresholding, a learned variance."""
    from diffusers.models.attention_processor import AttnAddedKVProcessor

    upper = "SuperResolution" in name
    kind: dict[str, Any] = dict(
        in_channels=6 if upper else 3, out_channels=6, encoder_hid_dim=16, addition_embed_type="text",
        addition_embed_type_num_heads=2, cross_attention_norm="group_norm", act_fn="gelu",
    )  # fmt: skip
    unet = tiny.unet(
        **SIMPLE | {"cross_attention_dim": 32}, **kind, **({"class_embed_type": "timestep"} if upper else {})
    )
    unet.set_attn_processor(AttnAddedKVProcessor())
    levels = {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range", "thresholding": True}
    own: dict[str, Any] = {
        "scheduler": df.DDPMScheduler(**levels, dynamic_thresholding_ratio=0.95, sample_max_value=1.0)
    }
    if upper:
        own["image_noising_scheduler"] = df.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    made = {"text_encoder": tiny.t5(), "tokenizer": tiny.word_tokenizer(), "unet": unet, "watermarker": None}
    return getattr(df, name)(**made, **own, **stable_diffusion.UNCHECKED)


def shap_e(name: str = "ShapEPipeline") -> Any:
    """A Shap-E pipeline: the latents of a three-dimensional shape, by Heun's rule; the renderer is not run."""
    net = prior_net(
        8, embedding_dim=8, embedding_proj_dim=8, time_embed_dim=16, clip_embed_dim=16, additional_embeddings=0,
        time_embed_act_fn="gelu", norm_in_type="layer", encoder_hid_proj_type=None, added_emb_type=None,
    )  # fmt: skip
    levels = df.HeunDiscreteScheduler(
        beta_schedule="exp", num_train_timesteps=1024, prediction_type="sample", use_karras_sigmas=True,
        clip_sample=True, clip_sample_range=1.0,
    )  # fmt: skip
    shapes = ((8, 93), (8, 8), (8, 8), (8, 8))
    renderer = tiny.seeded(
        df.pipelines.shap_e.ShapERenderer,
        param_shapes=shapes,
        d_latent=8,
        d_hidden=8,
        n_output=12,
        background=(0.1,) * 3,
    )
    picture = {"image_encoder": tiny.clip_vision().vision_model, "image_processor": tiny.clip_images()}
    given = picture if "Img2Img" in name else text()
    return getattr(df, name)(**given, prior=net, scheduler=levels, shap_e_renderer=renderer)


def marigold(name: str) -> Any:
    """A Marigold pipeline: depth, normals or albedo of an image, denoised beside its latents."""
    shape: dict[str, Any] = {"in_channels": 12, "out_channels": 8} if "Intrinsics" in name else {"in_channels": 8}
    made = stable_diffusion.parts(**shape) | {"scheduler": scheduler(prediction_type="v_prediction")}
    own: dict[str, Any] = {"scale_invariant": True, "shift_invariant": True} if "Depth" in name else {}
    if "Intrinsics" in name:
        own["target_properties"] = {"target_names": ["albedo", "material"]} | INTRINSIC
    return getattr(df, name)(**made, **own)


def cascade() -> Any:
    """StableCascadeCombinedPipeline: both stages in one call."""
    first = {f"prior_{k}": v for k, v in cascade_prior().components.items()}
    return df.StableCascadeCombinedPipeline(**cascade_decoder().components, **first)


def wuerstchen() -> Any:
    """WuerstchenCombinedPipeline: both stages in one call."""
    first = {f"prior_{k}": v for k, v in wuerstchen_prior().components.items()}
    return df.WuerstchenCombinedPipeline(**wuerstchen_decoder().components, **first)


INTRINSIC: dict[str, Any] = {
    "albedo": {"prediction_space": "srgb", "up_to_scale": False},
    "material": {"prediction_space": "stack", "sub_target_names": ["roughness", "metallicity", None]},
}


def amused(name: str = "AmusedPipeline") -> Any:
    """An Amused pipeline: masked tokens; the state of the loop is a grid of integers."""
    net = tiny.seeded(
        df.UVit2DModel, hidden_size=8, use_bias=False, hidden_dropout=0.0, cond_embed_dim=8, micro_cond_encode_dim=2,
        micro_cond_embed_dim=10, encoder_hidden_size=8, vocab_size=32, codebook_size=31, in_channels=8,
        block_out_channels=8, num_res_blocks=1, downsample=True, upsample=True, block_num_heads=1, num_hidden_layers=1,
        num_attention_heads=1, attention_dropout=0.0, intermediate_size=8, layer_norm_eps=1e-6,
        ln_elementwise_affine=True,
    )  # fmt: skip
    vq = tiny.seeded(
        df.VQModel, block_out_channels=(8, 8), latent_channels=8, layers_per_block=1, norm_num_groups=4,
        num_vq_embeddings=32, sample_size=8, mid_block_add_attention=False, lookup_from_codebook=True,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    return getattr(df, name)(**text(), vqvae=vq, transformer=net, scheduler=df.AmusedScheduler(mask_token_id=31))


def at(name: str, family: str, build: Any, **inputs: Any) -> Specimen:
    """A specimen of this file."""
    return Specimen(name, family, build, call(**inputs))


IF: dict[str, Any] = {"prompt": PROMPT, "guidance_scale": 3.0, "clean_caption": False, "output": "pt"}
SPECIMENS = (
    at("WuerstchenPriorPipeline", "wuerstchen", wuerstchen_prior, prompt=PROMPT, guidance_scale=3.0, height=128,
       width=128, output="pt"),
    at("WuerstchenDecoderPipeline", "wuerstchen", wuerstchen_decoder, prompt=PROMPT, guidance_scale=2.0,
       image_embeddings=randn(1, 4, 2, 2)),
    at("StableCascadePriorPipeline", "stable_cascade", cascade_prior, prompt=PROMPT, guidance_scale=3.0, height=256,
       width=256, output="pt"),
    at("StableCascadeDecoderPipeline", "stable_cascade", cascade_decoder, prompt=PROMPT, guidance_scale=2.0,
       image_embeddings=randn(1, 4, 2, 2)),
    at("IFPipeline", "deepfloyd_if", lambda: deepfloyd("IFPipeline"), **IF, height=8, width=8),
    at("IFImg2ImgPipeline", "deepfloyd_if", lambda: deepfloyd("IFImg2ImgPipeline"), **IF, image=image(8), strength=0.8,
       steps=6),
    at("IFInpaintingPipeline", "deepfloyd_if", lambda: deepfloyd("IFInpaintingPipeline"), **IF, image=image(8),
       mask_image=mask(8)[0], strength=0.9, steps=6),
    at("IFSuperResolutionPipeline", "deepfloyd_if", lambda: deepfloyd("IFSuperResolutionPipeline"), **IF,
       image=image(8), height=16, width=16, noise_level=100),
    at("IFImg2ImgSuperResolutionPipeline", "deepfloyd_if", lambda: deepfloyd("IFImg2ImgSuperResolutionPipeline"), **IF,
       image=image(8), original_image=image(16), strength=0.8, noise_level=100, steps=6),
    at("IFInpaintingSuperResolutionPipeline", "deepfloyd_if",
       lambda: deepfloyd("IFInpaintingSuperResolutionPipeline"), **IF, image=image(8), original_image=image(16),
       mask_image=mask()[0], strength=0.8, noise_level=100, steps=6),
    at("ShapEPipeline", "shap_e", shap_e, prompt=PROMPT, guidance_scale=3.0),
    at("MarigoldDepthPipeline", "marigold", lambda: marigold("MarigoldDepthPipeline"), image=image(),
       processing_resolution=0, output="np", ensemble_size=1),
    at("ShapEImg2ImgPipeline", "shap_e", lambda: shap_e("ShapEImg2ImgPipeline"), image=photo(8), guidance_scale=3.0),
    at("MarigoldIntrinsicsPipeline", "marigold", lambda: marigold("MarigoldIntrinsicsPipeline"), image=image(),
       processing_resolution=0, output="np"),
    at("MarigoldNormalsPipeline", "marigold", lambda: marigold("MarigoldNormalsPipeline"), image=photo(),
       processing_resolution=0, output="np", ensemble_size=3, batch_size=2),
    at("AmusedImg2ImgPipeline", "amused", lambda: amused("AmusedImg2ImgPipeline"), prompt=PROMPT, guidance_scale=3.0,
       image=image(8), strength=0.9, steps=6, output="np"),
    at("StableCascadeCombinedPipeline", "stable_cascade", cascade, prompt=PROMPT, height=128, width=128,
       prior_guidance_scale=3.0, prior_num_inference_steps=4),
    at("WuerstchenCombinedPipeline", "wuerstchen", wuerstchen, prompt=PROMPT, height=128, width=128,
       prior_guidance_scale=3.0, prior_num_inference_steps=4),
    at("AmusedPipeline", "amused", amused, prompt=PROMPT, guidance_scale=3.0, height=8, width=8, output="np"),
)  # fmt: skip
