"""A prior makes an image embedding, a decoder the image: unCLIP and the Kandinskys, which learn their variance."""

from __future__ import annotations

from typing import Any

import diffusers as df
import torch

from . import tiny
from .tiny import PROMPT, Specimen, call, image, mask, photo, randn, scheduler

SIMPLE: dict[str, Any] = {
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), "attention_head_dim": 4,
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), "resnet_time_scale_shift": "scale_shift",
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
}  # fmt: skip


def prior_net(embeddings: int = 77, **changes: Any) -> Any:
    """unCLIP's prior: a transformer that predicts an image embedding of width 8."""
    config: dict[str, Any] = dict(
        num_attention_heads=2, attention_head_dim=4, embedding_dim=8, num_layers=1, num_embeddings=embeddings
    )
    net = tiny.seeded(df.PriorTransformer, **config | changes)
    with torch.no_grad():
        for block in net.transformer_blocks:  # the state is one token among many: let it be felt
            block.attn1.to_v.weight.mul_(8.0)
        if net.clip_std is not None:
            net.clip_std.fill_(1.0)
    return net


def prior(name: str) -> Any:
    """A Kandinsky prior pipeline: text to image embedding."""
    levels = df.UnCLIPScheduler(
        variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=10.0
    )
    return getattr(df, name)(
        prior=prior_net(16), image_encoder=tiny.clip_vision(), text_encoder=tiny.clip_text(projected=True),
        tokenizer=tiny.clip_tokenizer(), scheduler=levels, image_processor=tiny.clip_images(),
    )  # fmt: skip


def movq() -> Any:
    """Kandinsky's autoencoder, whose decoder is normalized by the latents."""
    return tiny.seeded(
        df.VQModel, block_out_channels=(32, 32), latent_channels=4, layers_per_block=1, norm_num_groups=8,
        norm_type="spatial", num_vq_embeddings=12, vq_embed_dim=4,
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
    )  # fmt: skip


def decoder_net(added: str, projected: str, **changes: Any) -> Any:
    """The U-Net of Kandinsky 2, which predicts a variance too."""
    kind = {"addition_embed_type": added, "encoder_hid_dim_type": projected, "encoder_hid_dim": 8, "out_channels": 8}
    return tiny.unet(**SIMPLE | kind | changes)


def kandinsky(name: str, channels: int = 4) -> Any:
    """A pipeline of Kandinsky 2.1: text through a multilingual CLIP."""
    from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

    config = MCLIPConfig(
        numDims=8, transformerDimensions=8, hidden_size=8, intermediate_size=16, num_attention_heads=2,
        num_hidden_layers=1, vocab_size=16,
    )  # fmt: skip
    unet = decoder_net("text_image", "text_image_proj", in_channels=channels)
    made = {"text_encoder": tiny.seeded(MultilingualCLIP, config), "tokenizer": tiny.word_tokenizer()}
    return getattr(df, name)(**made, unet=unet, scheduler=kandinsky_levels(), movq=movq())


def kandinsky_levels(**changes: Any) -> Any:
    """Kandinsky's schedule."""
    return scheduler(**{"beta_schedule": "linear"} | changes)


def kandinsky22(name: str, added: str = "image", channels: int = 4) -> Any:
    """A pipeline of Kandinsky 2.2: the image embedding alone."""
    unet = decoder_net(added, "image_proj", in_channels=channels)
    levels = kandinsky_levels(name="DDPMScheduler") if "Img2Img" in name else kandinsky_levels()
    return getattr(df, name)(unet=unet, scheduler=levels, movq=movq())


def combined(name: str) -> Any:
    """A combined Kandinsky pipeline: prior and decoder in one call, each with its loop."""
    version = "V22" if "V22" in name else ""
    first = {f"prior_{k}": v for k, v in prior(f"Kandinsky{version}PriorPipeline").components.items()}
    decoder = name.replace("Combined", "")
    made = kandinsky22(decoder, channels=9 if "Inpaint" in name else 4) if version else kandinsky(decoder)
    return getattr(df, name)(**made.components, **first)


def kandinsky3(name: str) -> Any:
    """A Kandinsky 3 pipeline: T5 text, clipped DDPM steps."""
    unet = tiny.seeded(
        df.Kandinsky3UNet, in_channels=4, time_embedding_dim=8, groups=2, attention_head_dim=4, layers_per_block=3,
        block_out_channels=(8, 16), cross_attention_dim=8, encoder_hid_dim=16,
    )  # fmt: skip
    levels = df.DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=True)
    made = {"text_encoder": tiny.t5(), "tokenizer": tiny.word_tokenizer()}
    return getattr(df, name)(**made, unet=unet, scheduler=levels, movq=movq())


def unclip(name: str = "UnCLIPPipeline") -> Any:
    """An unCLIP pipeline: prior, decoder, super-resolution, three loops; the very last step has its own network."""
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    text = tiny.seeded(UnCLIPTextProjModel, clip_embeddings_dim=8, time_embed_dim=32, cross_attention_dim=8)
    decoder = tiny.unet(**SIMPLE, in_channels=3, out_channels=6, class_embed_type="identity")
    upper: dict[str, Any] = dict(
        sample_size=16, layers_per_block=1, block_out_channels=(8, 16), in_channels=6, out_channels=3,
        norm_num_groups=4, down_block_types=("ResnetDownsampleBlock2D",) * 2, add_attention=False,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
    )  # fmt: skip
    levels = df.UnCLIPScheduler
    first = {"prior": prior_net(16), "prior_scheduler": levels(
        variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0)}  # fmt: skip
    if "Variation" in name:
        first = {"image_encoder": tiny.clip_vision(), "feature_extractor": tiny.clip_images()}
    return getattr(df, name)(
        **first, decoder=decoder, text_encoder=tiny.clip_text(projected=True), text_proj=text,
        tokenizer=tiny.clip_tokenizer(), super_res_first=tiny.seeded(df.UNet2DModel, **upper),
        super_res_last=tiny.seeded(df.UNet2DModel, **upper, draw=1),
        decoder_scheduler=levels(variance_type="learned_range", prediction_type="epsilon"),
        super_res_scheduler=levels(variance_type="fixed_small_log", prediction_type="epsilon"),
    )  # fmt: skip


def at(name: str, family: str, build: Any, **inputs: Any) -> Specimen:
    """A specimen whose builder takes the class's name."""
    return Specimen(name, family, lambda: build(name.partition("+")[0]), call(**{"guidance_scale": 3.0} | inputs))


EMBEDDED: dict[str, Any] = {"image_embeds": randn(1, 8), "negative_image_embeds": randn(1, 8, seed=1)}
OLD: dict[str, Any] = EMBEDDED | {"prompt": PROMPT, "height": 16, "width": 16, "output": "np"}
NEW: dict[str, Any] = EMBEDDED | {"height": 16, "width": 16}
PAINT: dict[str, Any] = {"image": photo(), "mask_image": mask()[0, 0].numpy()}
HINT: dict[str, Any] = {"hint": image(64, seed=2)}
SPECIMENS = (
    at("KandinskyPriorPipeline", "kandinsky", prior, prompt=PROMPT, output="pt"),
    at("KandinskyPipeline", "kandinsky", kandinsky, **OLD),
    at("KandinskyImg2ImgPipeline", "kandinsky", kandinsky, **OLD, image=photo(), strength=0.7, steps=6),
    at("KandinskyInpaintPipeline", "kandinsky", lambda name: kandinsky(name, 9), **OLD, **PAINT),
    at("KandinskyV22PriorPipeline", "kandinsky2_2", prior, prompt=PROMPT, output="pt"),
    at("KandinskyV22PriorEmb2EmbPipeline", "kandinsky2_2", prior, prompt=PROMPT, image=randn(1, 8), strength=0.8,
       steps=6, output="pt"),
    at("KandinskyV22Pipeline", "kandinsky2_2", kandinsky22, **NEW),
    at("KandinskyV22Img2ImgPipeline", "kandinsky2_2", kandinsky22, **NEW, image=photo(), strength=0.7, steps=6),
    at("KandinskyV22InpaintPipeline", "kandinsky2_2", lambda name: kandinsky22(name, channels=9), **NEW, **PAINT),
    at("KandinskyV22ControlnetPipeline", "kandinsky2_2", lambda name: kandinsky22(name, "image_hint", 8),
       **NEW | {"output": "np"}, **HINT),
    at("KandinskyV22CombinedPipeline", "kandinsky2_2", combined, prompt=PROMPT, height=16, width=16,
       prior_num_inference_steps=4),
    at("Kandinsky3Pipeline", "kandinsky3", kandinsky3, prompt=PROMPT, height=16, width=16),
    at("Kandinsky3Img2ImgPipeline", "kandinsky3", kandinsky3, prompt=PROMPT, image=photo(16), strength=0.7, steps=6),
    at("KandinskyV22ControlnetImg2ImgPipeline", "kandinsky2_2", lambda name: kandinsky22(name, "image_hint", 8),
       **NEW | {"output": "np"}, **HINT, image=photo(), strength=0.7, steps=6),
    at("KandinskyV22Img2ImgCombinedPipeline", "kandinsky2_2", combined, prompt=PROMPT, height=16, width=16,
       image=photo(), strength=0.7, prior_num_inference_steps=4, steps=6),
    at("KandinskyV22InpaintCombinedPipeline", "kandinsky2_2", combined, prompt=PROMPT, height=16, width=16, **PAINT,
       prior_num_inference_steps=4),
    at("KandinskyCombinedPipeline", "kandinsky", combined, prompt=PROMPT, height=16, width=16, output="np",
       prior_num_inference_steps=4),
    Specimen("UnCLIPImageVariationPipeline", "unclip", lambda: unclip("UnCLIPImageVariationPipeline"), call(
        image=photo(8), steps=None, output="np", decoder_num_inference_steps=4, super_res_num_inference_steps=4,
        decoder_guidance_scale=4.0)),
    Specimen("UnCLIPPipeline", "unclip", unclip, call(
        prompt=PROMPT, steps=None, output="np", prior_num_inference_steps=4, decoder_num_inference_steps=4,
        super_res_num_inference_steps=4, prior_guidance_scale=3.0, decoder_guidance_scale=4.0)),
)  # fmt: skip
