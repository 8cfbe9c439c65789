"""Tasks of simulation-based inference, written from their papers: simulate(theta) -> x, and a uniform prior.

Two moons (Greenberg et al. 2019), SLCP (Papamakarios et al. 2019), and Lorenz's equations of 1963 seen with noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def two_moons(theta: Tensor) -> Tensor:
    """x (n, 2) of parameters (n, 2) in [-1, 1]."""
    a, r = (torch.rand(len(theta)) - 0.5) * math.pi, 0.1 + 0.01 * torch.randn(len(theta))
    crescent = torch.stack([r * a.cos() + 0.25, r * a.sin()], 1)
    return crescent + torch.stack([-theta.sum(1).abs(), theta[:, 1] - theta[:, 0]], 1) / 2**0.5


def slcp(theta: Tensor) -> Tensor:
    """x (n, 8), four draws of a Gaussian in the plane, of parameters (n, 5) in [-3, 3]."""
    s, r = theta[:, 2:4].square(), torch.tanh(theta[:, 4])
    z = torch.randn(len(theta), 4, 2)
    first = s[:, None, 0] * z[..., 0]
    second = s[:, None, 1] * (r[:, None] * z[..., 0] + (1 - r.square())[:, None].sqrt() * z[..., 1])
    return (theta[:, None, :2] + torch.stack([first, second], 2)).flatten(1)


def lorenz(theta: Tensor) -> Tensor:
    """x (n, 24): a path at eight times with noise of 0.5, of parameters (n, 3) in [-1, 1].

    They are (sigma - 10) / 3, (rho - 28) / 8 and (beta - 8 / 3) / 1; 0.8 units of time from one point, by Heun's rule.
    """
    sigma, rho, beta = 10 + 3 * theta[:, 0], 28 + 8 * theta[:, 1], 8 / 3 + theta[:, 2]

    def slope(v: Tensor) -> Tensor:
        x, y, z = v.unbind(1)
        return torch.stack([sigma * (y - x), x * (rho - z) - y, x * y - beta * z], 1)

    state, seen, h = torch.tensor([[-3.0, -4.0, 20.0]]).repeat(len(theta), 1), list[Tensor](), 0.005
    for step in range(1, 161):
        first = slope(state)
        state = state + h / 2 * (first + slope(state + h * first))
        seen += [state] if step % 20 == 0 else []
    path = torch.stack(seen, 1).flatten(1)
    return path + 0.5 * torch.randn_like(path)


TASKS: dict[str, tuple[Callable[[Tensor], Tensor], int, float]] = {
    "two moons": (two_moons, 2, 1.0), "SLCP": (slcp, 5, 3.0), "Lorenz": (lorenz, 3, 1.0),
}  # fmt: skip
