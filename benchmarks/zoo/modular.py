"""Modular pipelines: blocks put together at run time; the loop is itself a block, whose body is made of blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers as df

from . import sdxl, tiny
from .controlnet import net
from .flux import flux
from .tiny import PROMPT, Specimen, call, image, mask
from .transformers2d import LARGE, SIZE, sd3
from .video import ltx, wan, wan_two

FAMILY = "modular"


def assembled(blocks: str, parts: dict[str, Any]) -> Any:
    """The pipeline of the named blocks, given those of the parts that it has a place for."""
    pipe = getattr(df.modular_pipelines, blocks)().init_pipeline()
    pipe.update_components(**{k: v for k, v in parts.items() if k in pipe.component_names and v is not None})
    return pipe


def guided(scale: float = 3.0) -> dict[str, Any]:
    """The guider of classifier-free guidance, which calls the network once for each part."""
    from diffusers.guiders import ClassifierFreeGuidance

    return {"guider": ClassifierFreeGuidance(guidance_scale=scale)}


def words() -> dict[str, Any]:
    """CLIP and T5, as Flux has them."""
    return {
        "text_encoder": tiny.clip_text(), "tokenizer": tiny.clip_tokenizer(),
        "text_encoder_2": tiny.t5(), "tokenizer_2": tiny.word_tokenizer(),
    }  # fmt: skip


def xl(*, control: bool = False, **unet: Any) -> Any:
    """Modular SDXL, with or without a ControlNet."""
    extra = {"controlnet": net(**sdxl.ADDED)} if control else {}
    return assembled("StableDiffusionXLAutoBlocks", sdxl.parts(**unet) | guided() | extra)


def modular_flux() -> Any:
    """Modular Flux."""
    return assembled("FluxAutoBlocks", flux("FluxPipeline").components | words())


def t5_words() -> dict[str, Any]:
    """T5 alone."""
    return {"text_encoder": tiny.t5(), "tokenizer": tiny.word_tokenizer()}


def modular_wan(name: str = "WanBlocks", **own: Any) -> Any:
    """Modular Wan."""
    return assembled(name, wan("WanPipeline", **own).components | t5_words() | guided())


def modular_wan22() -> Any:
    """Modular Wan 2.2: two transformers, each with its guider."""
    from diffusers.guiders import ClassifierFreeGuidance

    parts = wan_two().components | t5_words() | guided()
    pipe = assembled("Wan22Blocks", parts | {"guider_2": ClassifierFreeGuidance(guidance_scale=1.5)})
    pipe.update_components(boundary_ratio=0.6)
    return pipe


def modular_ltx() -> Any:
    """Modular LTX."""
    return assembled("LTXAutoBlocks", ltx("LTXPipeline").components | t5_words() | guided())


def modular_sd3() -> Any:
    """Modular Stable Diffusion 3: two CLIPs of width 4 each for the pooled text, and T5."""
    clips = {f"text_encoder{n}": tiny.clip_text(4, projected=True) for n in ("", "_2")}
    tokens = {f"tokenizer{n}": tiny.clip_tokenizer() for n in ("", "_2")} | {"tokenizer_3": tiny.word_tokenizer()}
    made = sd3("StableDiffusion3Pipeline").components | clips | tokens | {"text_encoder_3": tiny.t5()}
    return assembled("StableDiffusion3AutoBlocks", made | guided())


def at(name: str, build: Callable[[], Any], **inputs: Any) -> Specimen:
    """A modular specimen: it returns the latents by themselves."""
    usual = call(output=None, **inputs)
    return Specimen(name, FAMILY, build, lambda: usual() | {"output": "latents"})


BASE: dict[str, Any] = {"prompt": PROMPT} | SIZE
EDIT: dict[str, Any] = BASE | {"image": image(), "strength": 0.8, "steps": 6}
SPECIMENS = (
    at("StableDiffusionXLModularPipeline", xl, **BASE),
    at("StableDiffusionXLModularPipeline+image", xl, **EDIT),
    at("StableDiffusionXLModularPipeline+inpaint", xl, **EDIT, mask_image=mask()),
    at("StableDiffusionXLModularPipeline+control", lambda: xl(control=True), **BASE, control_image=image(seed=1)),
    at("FluxModularPipeline", modular_flux, **BASE, max_sequence_length=8, guidance_scale=3.0),
    at("FluxModularPipeline+image", modular_flux, **EDIT, max_sequence_length=8, guidance_scale=3.0),
    at("WanModularPipeline", modular_wan, **BASE, num_frames=9, max_sequence_length=8),
    at("Wan22ModularPipeline", modular_wan22, **BASE, num_frames=9, max_sequence_length=8),
    at("LTXModularPipeline", modular_ltx, prompt=PROMPT, **LARGE, num_frames=9, max_sequence_length=8),
    at("StableDiffusion3ModularPipeline", modular_sd3, **BASE, negative_prompt="sea", max_sequence_length=8),
)  # fmt: skip
