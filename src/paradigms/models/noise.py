"""The forward process the models were trained on: x_t = a x_0 + s eps with a^2 = abar_t and s^2 = 1 - abar_t.

abar_t = prod_{k <= t} (1 - beta_k) with beta linear from 1e-4 to 0.02 over 1000 steps (Ho, Jain and Abbeel,
2020). A model predicts eps, or the velocity v = a eps - s x_0 (Salimans and Ho, 2022); since a^2 + s^2 = 1,
eps = a v + s x_t and x_0 = a x_t - s v.
"""

from __future__ import annotations

from torch import Tensor

from ..schedule import linear

BETAS: dict[str, str | float | int] = {"kind": "linear", "first": 1e-4, "last": 0.02, "count": 1000}
STEPS = 1000
SCHEDULE = linear(STEPS, 1e-4, 0.02)


def levels(t: Tensor) -> tuple[Tensor, Tensor]:
    """Signal a and noise s at integer timesteps t (M,), each (M, 1, 1, 1), float64."""
    return SCHEDULE.alpha[t.long()].view(-1, 1, 1, 1), SCHEDULE.sigma[t.long()].view(-1, 1, 1, 1)


def diffuse(x0: Tensor, t: Tensor, eps: Tensor, prediction: str) -> tuple[Tensor, Tensor]:
    """x_t and what a model with this `prediction` ('epsilon' or 'v') should answer, both shaped like x0."""
    a, s = (level.to(x0.dtype) for level in levels(t))
    return a * x0 + s * eps, eps if prediction == "epsilon" else a * eps - s * x0
