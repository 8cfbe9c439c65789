"""smalldiffusion: `samples(model, sigmas, gam, mu, ...)` in parallel, the last of what it yields.

from paradigms.integrations.smalldiffusion import parallel_samples
x = parallel_samples(model, schedule.sample_sigmas(100), gam=2)

x' = x - (s - sp) (gam e[n] + (1 - gam) e[n-1]) + (s'^2 - sp^2)^1/2 z,    sp = (s' / s^mu)^(1 / (1 - mu))
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
from ..validate import named_arguments


@named_arguments
@torch.no_grad()
def parallel_samples(
    model: Any,
    sigmas: Tensor,
    gam: float = 1.0,
    mu: float = 0.0,
    cfg_scale: float = 0.0,
    batchsize: int = 1,
    xt: Tensor | None = None,
    cond: Tensor | None = None,
    *,
    tolerance: float | AbstractStop = TOLERANCE,
    window: int | str = "auto",
    report: Callable[[Solution], Any] | None = None,
) -> Tensor:
    """The sample (batchsize, ...) that one seed gives smalldiffusion.

    Args:
        model: of smalldiffusion, which predicts what it likes.
        sigmas: (N + 1,), falling.
        gam, mu, cfg_scale, batchsize, xt, cond: as smalldiffusion's.
        tolerance, window: as `paradigms.sample`'s.
        report: called with the `Solution`.

    Raises:
        ValueError: for arguments that cannot be used.

    Source: Permenter and Yuan 2024, algorithm 2.
    """
    model.eval()
    x = model.rand_input(batchsize) * sigmas[0] if xt is None else xt
    system = from_levels(None, 1.0, sigmas, "gamma", gamma=float(gam), mu=float(mu))
    found = sample(
        _Noise(model, cfg_scale), system, x, condition={} if cond is None else {"cond": cond}, key=id(model),
        tolerance=tolerance, window=window,
    )  # fmt: skip
    if report is not None:
        report(found)
    return found.x.to(x.dtype)


class _Noise:
    """The noise that a model sees in rows of several levels, guided where a scale is given."""

    def __init__(self, model: Any, scale: float) -> None:
        self.model, self.scale = model, scale

    def __call__(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        sigma = sigma.to(x).reshape(-1, *(1,) * (x.ndim - 1))
        if cond is None or not self.scale:
            return self.model.predict_eps(x, sigma, cond=cond)  # type: ignore[no-any-return]
        null = torch.full_like(cond, self.model.cond_embed.null_cond)
        both = self.model.predict_eps(torch.cat([x, x]), torch.cat([sigma, sigma]), torch.cat([cond, null]))
        with_cond, without = both.chunk(2)
        return with_cond + self.scale * (with_cond - without)  # type: ignore[no-any-return]
