"""Perturbed-attention guidance: a third part of the batch runs with its self-attention replaced by the identity."""

from __future__ import annotations

from typing import Any

import diffusers as df

from . import controlnet, sdxl, stable_diffusion
from .stable_diffusion import UNCHECKED
from .tiny import Specimen, call

FAMILY = "pag"


def build(name: str) -> Any:
    """A U-Net pipeline with perturbed attention in its middle block."""
    made = sdxl.parts() if "XL" in name else stable_diffusion.parts() | UNCHECKED
    if "ControlNet" in name:
        made["controlnet"] = controlnet.net(**(sdxl.ADDED if "XL" in name else {}))
    return getattr(df, name)(**made, pag_applied_layers=["mid"])


def inputs(name: str) -> dict[str, Any]:
    """The arguments of a text, image or inpainting pipeline, with or without control."""
    kind = "EDIT" if "Img2Img" in name else "PAINT" if "Inpaint" in name else "TEXT"
    given: dict[str, Any] = dict(getattr(controlnet, kind))
    if "ControlNet" not in name:
        del given["control_image" if "control_image" in given else "image"]
    if "Img2Img" in name and "ControlNet" not in name:
        del given["height"], given["width"]
    return given | {"pag_scale": 2.0}


def specimen(case: str, **changes: Any) -> Specimen:
    """A PAG pipeline by its name."""
    name = case.partition("+")[0]
    return Specimen(case, FAMILY, lambda: build(name), call(**inputs(name) | changes))


SPECIMENS = (
    specimen("StableDiffusionPAGPipeline"),
    specimen("StableDiffusionPAGPipeline+adaptive", pag_adaptive_scale=0.002, guidance_rescale=0.3),
    specimen("StableDiffusionPAGPipeline+unguided", guidance_scale=1.0),
    specimen("StableDiffusionPAGImg2ImgPipeline"),
    specimen("StableDiffusionPAGInpaintPipeline"),
    specimen("StableDiffusionControlNetPAGPipeline"),
    specimen("StableDiffusionControlNetPAGInpaintPipeline"),
    specimen("StableDiffusionXLPAGPipeline"),
    specimen("StableDiffusionXLPAGImg2ImgPipeline"),
    specimen("StableDiffusionXLPAGInpaintPipeline"),
    specimen("StableDiffusionXLControlNetPAGPipeline"),
    specimen("StableDiffusionXLControlNetPAGImg2ImgPipeline"),
)
