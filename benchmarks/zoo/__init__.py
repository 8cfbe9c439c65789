"""A zoo of tiny diffusers pipelines: one specimen a class, so that a loop can be tested on every kind there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import (
    animate,
    audio,
    cascades,
    controlnet,
    edits,
    flux,
    guided,
    modern,
    modular,
    pag,
    priors,
    sdxl,
    stable_diffusion,
    transformers2d,
    unconditional,
    video,
    worlds,
)
from .tiny import Specimen, seed

__all__ = ["ZOO", "Specimen", "run"]

IMAGES = (stable_diffusion, edits, guided, sdxl, controlnet, pag, unconditional, priors, cascades, transformers2d)
GROUPS = (*IMAGES, flux, modern, animate, video, worlds, audio, modular)
ZOO: tuple[Specimen, ...] = tuple(specimen for group in GROUPS for specimen in group.SPECIMENS)


def tensors(out: Any) -> list[Tensor]:
    """Every tensor and array in a pipeline's output, however nested."""
    if isinstance(out, Tensor):
        return [out]
    if isinstance(out, np.ndarray):
        return [torch.from_numpy(out)]
    if isinstance(out, dict):
        out = list(out.values())
    if isinstance(out, list | tuple):
        return [t for part in out for t in tensors(part)]
    return []


def run(specimen: Specimen, pipe: Any) -> Tensor:
    """Call the pipeline once as the specimen says: its output as one flat float tensor.

    The global generator starts from seed 0, because some pipelines draw from it beside the given one, and is put back.
    Raises ValueError where the output holds no numbers.
    """
    pipe.set_progress_bar_config(disable=True)
    with seed(0):
        found = tensors(pipe(**specimen.inputs()))
    if not found:
        raise ValueError(f"{specimen.name} returned no tensor: give its inputs output='pt', 'np' or 'latent'")
    return torch.cat([t.detach().float().flatten() for t in found])
