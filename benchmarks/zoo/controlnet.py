"""Steering a U-Net by an image: ControlNet (two networks a step), ControlNet-XS (one), T2I-Adapter (none)."""

from __future__ import annotations

from typing import Any

import diffusers as df

from . import sdxl, stable_diffusion, tiny
from .stable_diffusion import UNCHECKED
from .tiny import PROMPT, Specimen, call, image, mask

FAMILY = "controlnet"
BASE: dict[str, Any] = {"prompt": PROMPT, "guidance_scale": 4.0, "height": 16, "width": 16}
TEXT: dict[str, Any] = BASE | {"image": image(seed=1)}
EDIT: dict[str, Any] = BASE | {
    "image": image(),
    "control_image": image(seed=1),
    "strength": 0.8,
    "steps": 6,
}
PAINT: dict[str, Any] = EDIT | {"mask_image": mask()}
XL: dict[str, Any] = sdxl.ADDED


def net(kind: str = "ControlNetModel", *, draw: int = 0, **changes: Any) -> Any:
    """A ControlNet that fits `tiny.unet`; its zero convolutions are alive."""
    config: dict[str, Any] = dict(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=2, cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), conditioning_embedding_out_channels=(4, 8),
    )  # fmt: skip
    return tiny.seeded(getattr(df, kind), draw=draw, **config | changes)


def union() -> Any:
    """A ControlNet for several kinds of control at once, for SDXL."""
    small = {"num_trans_channel": 8, "num_trans_head": 2, "num_trans_layer": 1, "num_proj_channel": 8}
    return net("ControlNetUnionModel", **XL, **small)


def sd(name: str, *nets: Any, **unet: Any) -> Any:
    """A Stable Diffusion pipeline with one ControlNet or several."""
    controlnet = list(nets) if len(nets) > 1 else (nets or (net(),))[0]
    return getattr(df, name)(**stable_diffusion.parts(**unet), **UNCHECKED, controlnet=controlnet)


def xl(name: str, controlnet: Any = None) -> Any:
    """An SDXL pipeline with a ControlNet."""
    return getattr(df, name)(**sdxl.parts(), controlnet=controlnet or net(**XL))


def slim(name: str) -> Any:
    """A ControlNet-XS pipeline: control and U-Net are one network, which exchange features at every block."""
    made = (sdxl if "XL" in name else stable_diffusion).parts(layers_per_block=2)
    small: dict[str, Any] = {"size_ratio": 0.5, "conditioning_embedding_out_channels": (2, 4)}
    adapter = tiny.seeded(df.ControlNetXSAdapter.from_unet, made["unet"], **small)
    return getattr(df, name)(**made, **({} if "XL" in name else UNCHECKED), controlnet=adapter)


def adapter(name: str) -> Any:
    """A T2I-Adapter pipeline: features of the image are made once and added at each step."""
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    made = (sdxl if "XL" in name else stable_diffusion).parts(down_block_types=down, up_block_types=up)
    t2i = tiny.seeded(df.T2IAdapter, in_channels=3, channels=[8, 16], num_res_blocks=1, downscale_factor=2)
    return getattr(df, name)(**made, **({} if "XL" in name else UNCHECKED), adapter=t2i)


def at(name: str, build: Any, family: str = FAMILY, **inputs: Any) -> Specimen:
    """A specimen whose builder takes the class's name."""
    return Specimen(name, family, lambda: build(name.partition("+")[0]), call(**inputs))


SPECIMENS = (
    at("StableDiffusionControlNetPipeline", sd, **TEXT),
    at("StableDiffusionControlNetPipeline+part", sd, **TEXT, control_guidance_start=0.2, control_guidance_end=0.7),
    at("StableDiffusionControlNetPipeline+guess", sd, **TEXT, guess_mode=True),
    at("StableDiffusionControlNetPipeline+two_nets", lambda name: sd(name, net(), net(draw=1)),
       **BASE, image=[image(seed=1), image(seed=2)], controlnet_conditioning_scale=[1.0, 0.5]),
    at("StableDiffusionControlNetImg2ImgPipeline", sd, **EDIT),
    at("StableDiffusionControlNetInpaintPipeline", sd, **PAINT),
    at("StableDiffusionXLControlNetPipeline", xl, **TEXT),
    at("StableDiffusionXLControlNetImg2ImgPipeline", xl, **EDIT),
    at("StableDiffusionXLControlNetInpaintPipeline", xl, **PAINT),
    at("StableDiffusionXLControlNetUnionPipeline", lambda name: xl(name, union()),
       **BASE, control_image=[image(seed=1)], control_mode=[1]),
    at("StableDiffusionXLControlNetUnionImg2ImgPipeline", lambda name: xl(name, union()),
       **EDIT | {"control_image": [image(seed=1)]}, control_mode=[1]),
    at("StableDiffusionXLControlNetUnionInpaintPipeline", lambda name: xl(name, union()),
       **PAINT | {"control_image": [image(seed=1)]}, control_mode=[1]),
    at("StableDiffusionControlNetXSPipeline", slim, "controlnet_xs", **TEXT),
    at("StableDiffusionXLControlNetXSPipeline", slim, "controlnet_xs", **TEXT),
    at("StableDiffusionAdapterPipeline", adapter, "t2i_adapter", **TEXT),
    at("StableDiffusionXLAdapterPipeline", adapter, "t2i_adapter", **TEXT, adapter_conditioning_factor=0.6),
)  # fmt: skip
