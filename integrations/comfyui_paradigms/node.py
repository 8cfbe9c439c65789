"""The node, and what it gives to ComfyUI's KSAMPLER: a function with k-diffusion's signature.

sample(model, x, sigmas, extra_args, callback, disable)
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from paradigms.integrations.k_diffusion import SAMPLERS, sample_paradigms

from .rows import ComfyRows

LOG = logging.getLogger("comfyui_paradigms")


def sample(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Any = None,
    disable: bool | None = None,
    *,
    sampler: str = "dpmpp_2m",
    window: int = 0,
    tolerance: float = 0.003,
) -> Tensor:
    """A latent (B, ...), as ComfyUI's own sampler of that name makes it; raises ValueError for what is refused."""
    args = dict(extra_args or {})
    ancestral = sampler == "euler_ancestral"
    if ancestral and is_flow(model):
        raise ValueError("sampler: given euler_ancestral and a flow model; needed: another sampler; type euler")
    return sample_paradigms(
        ComfyRows(model, len(x), args), x, sigmas, {"sample": torch.arange(len(x), device=x.device)}, callback, disable,
        sampler=sampler, window=window or "auto", tolerance=tolerance,
        noise_sampler=noise_of(x, args.get("seed")) if ancestral else None, report=LOG.info,
    )  # fmt: skip


def is_flow(model: Any) -> bool:
    """Whether a model's states are (1 - sigma) data + sigma noise, as ComfyUI's CONST says."""
    inner = model
    while inner is not None and not hasattr(inner, "model_sampling"):
        inner = getattr(inner, "inner_model", None)
    return any(kind.__name__ == "CONST" for kind in type(getattr(inner, "model_sampling", None)).__mro__)


def noise_of(x: Tensor, seed: int | None) -> Any:
    """The noise that ComfyUI draws for a seed."""
    from comfy.k_diffusion.sampling import default_noise_sampler

    return default_noise_sampler(x, seed=seed)


class ParadigmsSampler:
    """The node."""

    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "get_sampler"
    CATEGORY = "sampling/custom_sampling/samplers"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What ComfyUI shows."""
        return {
            "required": {
                "sampler": (sorted(SAMPLERS), {"default": "dpmpp_2m"}),
                "window": ("INT", {"default": 0, "min": 0, "max": 1000}),
                "tolerance": ("FLOAT", {"default": 0.003, "min": 0.0, "max": 1.0, "step": 0.001}),
            }
        }

    def get_sampler(self, sampler: str, window: int, tolerance: float) -> tuple[Any]:
        """The SAMPLER."""
        from comfy.samplers import KSAMPLER

        return (KSAMPLER(sample, extra_options={"sampler": sampler, "window": window, "tolerance": tolerance}),)


NODE_CLASS_MAPPINGS = {"ParadigmsSampler": ParadigmsSampler}
NODE_DISPLAY_NAME_MAPPINGS = {"ParadigmsSampler": "Sampler (parallel in time)"}
