"""azula: its samplers in parallel, with the call that they have.

    from paradigms.integrations.azula import parallel
    x0 = parallel(DDIMSampler(denoiser, steps=256))(x1)

DDPMSampler, DDIMSampler, EulerSampler and HeunSampler, on any of its schedules. azula's eta counts variance and ours
standard deviation, so that ours is its square root; its Heun's rule is that of states over alpha.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..rules import from_levels
from ..solution import Solution
from ..solve import TOLERANCE, sample
from ..stopping.base import AbstractStop
from ..system import System
from ..validate import in_words, named_arguments, refusal
from .rows import rows_of

SAMPLERS = ("DDPMSampler", "DDIMSampler", "EulerSampler", "HeunSampler")


@named_arguments
def parallel(
    sampler: Any, *, tolerance: float | AbstractStop = TOLERANCE, window: int | str = "auto"
) -> ParallelSampler:
    """The same sampler, many steps at once.

    Args:
        sampler: azula's DDPMSampler, DDIMSampler, EulerSampler or HeunSampler.
        tolerance, window: as `paradigms.sample`'s.

    Returns:
        What is called as the sampler is, x (B, ...), and keyword arguments for the denoiser, of which tensors (B, ...)
        belong to the samples.

    Raises:
        ValueError: for another sampler.

    Source: Ho et al. 2020; Song et al. 2021; Karras et al. 2022.
    """
    name = type(sampler).__name__
    if name not in SAMPLERS:
        raise refusal(
            "sampler", in_words(sampler), f"azula's {', '.join(SAMPLERS)}", "DDIMSampler(denoiser, steps=256)"
        )
    if name == "DDIMSampler" and not 0 <= sampler.eta <= 1:
        raise refusal("sampler", f"eta = {sampler.eta:g}", "eta from 0 to 1")
    return ParallelSampler(sampler, tolerance, window)


class ParallelSampler:
    """A sampler that `parallel` made; `solution` tells how its last sample was made."""

    solution: Solution | None = None

    def __init__(self, sampler: Any, tolerance: float | AbstractStop, window: int | str) -> None:
        self.sampler, self.tolerance, self.window = sampler, tolerance, window

    def init(self, *args: Any, **kwargs: Any) -> Tensor:
        """As the sampler's."""
        return self.sampler.init(*args, **kwargs)  # type: ignore[no-any-return]

    @torch.no_grad()
    def __call__(self, x: Tensor, **kwargs: Any) -> Tensor:
        """The sample (B, ...) of states x (B, ...) at the first time."""
        condition, rebuilt = rows_of(kwargs, len(x))
        system, first, last = table_of(self.sampler)
        denoiser = self.sampler.denoiser

        def model(x: Tensor, t: Tensor, **rows: Tensor) -> Tensor:
            return denoiser(x, t, **rebuilt(rows)).mean  # type: ignore[no-any-return]

        self.solution = sample(
            model, system, first * x, condition=condition, key=id(denoiser), tolerance=self.tolerance,
            window=self.window,
        )  # fmt: skip
        return last * self.solution.x.to(x.dtype)


def table_of(sampler: Any) -> tuple[System, float, float]:
    """The table of a sampler, and what a state is multiplied by before and after it."""
    times = sampler.timesteps
    alpha, sigma = (v.double().cpu() for v in sampler.denoiser.schedule(times))
    t, name = times.double().cpu(), type(sampler).__name__
    if name == "HeunSampler":
        ratio = sigma / alpha
        system = from_levels(t, 1.0, ratio, "heun", into=alpha, prediction="x0")
        return system, 1 / float(alpha[0]), float(alpha[-1])
    eta = {"DDPMSampler": 1.0, "DDIMSampler": getattr(sampler, "eta", 0.0) ** 0.5}.get(name, 0.0)
    return from_levels(t[:-1], alpha, sigma, eta=eta, prediction="x0"), 1.0, 1.0
