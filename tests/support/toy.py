"""An exact denoiser: data drawn from a Gaussian mixture, whose posterior mean is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from paradigms import Schedule, linear


class Mixture:
    """An epsilon model of equal Gaussians of width `width` about `means` (J, d), noised by `schedule`."""

    def __init__(
        self, d: int = 6, J: int = 3, width: float = 0.3, schedule: Schedule | None = None, seed: int = 0
    ) -> None:
        g = torch.Generator().manual_seed(seed)
        self.means = torch.randn(J, d, generator=g, dtype=torch.float64)
        self.width, self.schedule = width, schedule or linear()
        self.rows = 0

    def denoise(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """E[data | x = alpha data + sigma noise], x (M, d), alpha and sigma (M, 1)."""
        means = self.means.to(x)
        v = (alpha * self.width) ** 2 + sigma**2
        apart = x[:, None] - alpha[:, None] * means  # (M, J, d)
        weight = torch.softmax(-apart.square().sum(-1) / (2 * v), dim=1)[..., None]  # (M, J, 1)
        return (weight * (means + (alpha * self.width**2 / v)[:, None] * apart)).sum(1)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise in x (M, d) at timesteps t (M,), fractional ones interpolated in sigma / alpha."""
        self.rows += len(x)
        low = t.double().floor().long().clamp(max=len(self.schedule.t) - 2)
        ratio = torch.lerp(self.schedule.ratio[low], self.schedule.ratio[low + 1], t.double() - low)
        alpha = (1 + ratio**2).rsqrt().to(x)[:, None]
        sigma = (1 - alpha**2).sqrt()
        return (x - alpha * self.denoise(x, alpha, sigma)) / sigma
