"""One small problem for each rule, on the exact mixture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import paradigms as pd
from toy import Mixture

LINEAR = pd.linear()
RULES: dict[str, Callable[[int], pd.System]] = {
    "ddpm": lambda N: pd.ddpm(LINEAR, N),
    "ddpm, clipped": lambda N: pd.ddpm(LINEAR, N, clip=1.0),
    "ddim": lambda N: pd.ddim(LINEAR, N),
    "ddim, clipped": lambda N: pd.ddim(LINEAR, N, clip=1.0),
    "ddim, eta 0.5": lambda N: pd.ddim(LINEAR, N, eta=0.5),
    "dpmsolver": lambda N: pd.dpmsolver(LINEAR, N),
    "dpmsolver, thresholded": lambda N: pd.dpmsolver(LINEAR, N, threshold=(0.95, 1.5)),
    "dpmsolver_single": lambda N: pd.dpmsolver_single(LINEAR, N),
    "heun": lambda N: pd.heun(LINEAR, N),
    "flow": lambda N: pd.flow(N, schedule=LINEAR, prediction="epsilon"),
    "flow_heun": lambda N: pd.flow_heun(N, schedule=LINEAR, prediction="epsilon"),
}
METHODS: list[pd.AbstractMethod] = [
    pd.Jacobi(),
    pd.Jacobi(pd.Extrapolate()),
    pd.Picard(),
    pd.Picard(pd.Extrapolate()),
    pd.ExponentialPicard(),
    pd.Anderson(),
    pd.QuasiNewton(),
    pd.Spectral(),
]


def seeded(seed: int) -> torch.Generator:
    """A generator at `seed`."""
    return torch.Generator().manual_seed(seed)


def start(system: pd.System, B: int = 3, dtype: torch.dtype = torch.float64, d: int = 6) -> Tensor:
    """Starting noise (B, d)."""
    return system.noise((B, d), seeded(0), dtype=dtype)


def solve(
    system: pd.System, method: pd.AbstractMethod | None = None, model: Mixture | None = None, **how: Any
) -> pd.Solution:
    """`sample` on the mixture, from a fixed start and noise, beside `sequential`; 32 rows unless told otherwise."""
    how = {"window": 32} | how
    B, dtype = how.pop("B", 3), how.pop("dtype", torch.float64)
    return pd.sample(
        model or Mixture(), system, start(system, B, dtype), method, generator=seeded(1), compare=True, **how
    )


def gaussians(apart: float, width: float, d: int, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact epsilon of two Gaussians whose means are `apart` times standard noise."""
    means = apart * torch.randn(2, d, generator=seeded(seed), dtype=torch.float64)
    level = (LINEAR.sigma / LINEAR.alpha).log()

    def model(x: Tensor, t: Tensor) -> Tensor:
        low = t.double().floor().long().clamp(max=len(level) - 2)
        a = (1 + (2 * torch.lerp(level[low], level[low + 1], t.double() - low)).exp()).rsqrt()[:, None]
        s = (1 - a**2).sqrt()
        v = (width * a) ** 2 + s**2
        off = x[:, None] - a[:, None] * means
        share = torch.softmax(-off.square().sum(-1) / (2 * v), 1)[..., None]
        return (x - a * (share * (means + (a * width**2 / v)[:, None] * off)).sum(1)) / s

    return model
