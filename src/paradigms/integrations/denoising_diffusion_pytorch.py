"""denoising-diffusion-pytorch: `GaussianDiffusion.sample` in parallel.

    from paradigms.integrations.denoising_diffusion_pytorch import parallel_sample
    images = parallel_sample(diffusion, batch_size=4)

DDPM over all its timesteps, or DDIM where `sampling_timesteps` are fewer, with its clip: the data are limited to
[-1, 1], and DDIM's noise is derived from what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..rules import from_levels
from ..solution import Solution
from ..solve import TOLERANCE, sample
from ..stopping.base import AbstractStop
from ..system import System
from ..validate import in_words, named_arguments, refusal

PREDICTIONS = {"pred_noise": "epsilon", "pred_x0": "x0", "pred_v": "v"}


def system_of(diffusion: Any) -> System:
    """The sampler of a `GaussianDiffusion`, for states in [-1, 1] and its `model`.

    Raises ValueError for what is none, and for self-conditioning, where the model is shown its last answer.
    """
    if not all(hasattr(diffusion, name) for name in ("betas", "objective", "is_ddim_sampling", "model")):
        raise refusal("diffusion", in_words(diffusion), "a GaussianDiffusion of denoising-diffusion-pytorch")
    if diffusion.self_condition:
        needed = "a model of x and t alone; one that is shown its last answer is not sampled in parallel yet"
        raise refusal("diffusion", "one with self_condition=True", needed, "self_condition=False")
    level = torch.cumprod(1 - diffusion.betas.double().cpu(), 0)
    T = len(level)
    if diffusion.is_ddim_sampling:
        times = torch.linspace(-1, T - 1, steps=diffusion.sampling_timesteps + 1).int().flip(0).long()
        how: dict[str, Any] = {"eta": float(diffusion.ddim_sampling_eta), "clip": "rederive"}
    else:
        times, how = torch.arange(-1, T).flip(0), {"rule": "ddpm", "clip": 1.0}
    level = torch.cat([level, torch.ones(1, dtype=torch.float64)])[times]  # times[-1] is -1: the data
    return from_levels(times[:-1], level.sqrt(), (1 - level).sqrt(), prediction=PREDICTIONS[diffusion.objective], **how)


@named_arguments
@torch.no_grad()
def parallel_sample(
    diffusion: Any,
    batch_size: int = 16,
    *,
    tolerance: float | AbstractStop = TOLERANCE,
    window: int | str = "auto",
    report: Callable[[Solution], Any] | None = None,
) -> Tensor:
    """Pictures (batch_size, channels, height, width) in the range of the data, those that one seed gives the library.

    Args:
        diffusion: a `GaussianDiffusion`, in eval mode.
        batch_size: pictures.
        tolerance, window: as `paradigms.sample`'s.
        report: called with the `Solution`.

    Raises:
        ValueError: for what it is not for, see `system_of`.

    Source: Ho et al. 2020; Song et al. 2021.
    """
    system = system_of(diffusion)
    x = torch.randn((batch_size, diffusion.channels, *diffusion.image_size), device=diffusion.device)
    found = sample(diffusion.model, system, x, tolerance=tolerance, window=window)
    if report is not None:
        report(found)
    return diffusion.unnormalize(found.x)  # type: ignore[no-any-return]
