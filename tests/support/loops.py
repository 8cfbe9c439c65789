"""Sampling loops whose steps are no table, on networks that are small: what `sample_loop` is tested on.

`structure` is the loop of AlphaFold 3 (Abramson et al. 2024, algorithm 18) as Boltz runs it: in each step the state is
centred, turned and moved at random, noised up to t_hat, denoised, aligned to the estimate, and taken down to the next
level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import paradigms as pd

MEANS = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))
WIDTH = 0.05


@dataclass
class Toy:
    """A loop: what `sample_loop` takes."""

    model: Callable[..., Tensor]
    step: Callable[..., Any]
    system: pd.System
    x: Any

    @torch.no_grad()
    def stepped(self) -> Tensor:
        """The sample of the loop as anybody writes it."""
        x = self.x

        def model(x: Tensor, t: Any, **condition: Tensor) -> Tensor:
            return self.model(x, torch.as_tensor(t, dtype=x.dtype).expand(len(x)), **condition)

        for n in range(len(self.system)):
            x = self.step(x, model, n)
        return x[0] if isinstance(x, tuple) else x


def mixture(x: Tensor, t: Tensor) -> Tensor:
    """The denoiser of eight Gaussians of width WIDTH^1/2 in 16 dimensions."""
    v = t[:, None] ** 2 + WIDTH
    w = torch.softmax(-(x[:, None] - MEANS).square().sum(-1) / (2 * v), 1)
    D = w @ MEANS
    return D + WIDTH / v * (x - D)


def levels(N: int) -> Tensor:
    """EDM's noise levels and 0 (N + 1,)."""
    return torch.cat([pd.edm(N, rule="ddim", sigma_max=10.0).sigma, torch.zeros(1)]).float()


def euler(x: Tensor, D: Tensor, s: Tensor, n: int) -> Tensor:
    """DDIM's step."""
    return D + s[n + 1] / s[n] * (x - D)


def first(s: Tensor, B: int = 2) -> Tensor:
    """The first state (B, 16)."""
    return s[0] * torch.randn(B, 16, generator=torch.Generator().manual_seed(0))


def plain(N: int = 40) -> Toy:
    """DDIM, which is a table."""
    s = levels(N)
    return Toy(
        mixture, lambda x, model, n: euler(x, model(x, s[n]), s, n), pd.from_levels(None, 1.0, s, prediction="x0"),
        first(s),
    )  # fmt: skip


def self_conditioned(N: int = 40) -> Toy:
    """The model is shown its last answer: Chen et al. 2023."""
    s = levels(N)

    def model(x: Tensor, t: Tensor, last: Tensor) -> Tensor:
        return mixture(x + 0.3 * (t / (1 + t))[:, None] * torch.tanh(last), t)

    def step(state: tuple[Tensor, Tensor], model: Any, n: int) -> tuple[Tensor, Tensor]:
        x, last = state
        D = model(x, s[n], last=last)
        return euler(x, D, s, n), D

    x = first(s)
    return Toy(model, step, pd.from_levels(None, 1.0, s, prediction="x0"), (x, torch.zeros_like(x)))


def corrected(N: int = 40) -> Toy:
    """Predictor and Langevin corrector: Song et al. 2021b."""
    s = levels(N)

    def step(x: Tensor, model: Any, n: int) -> Tensor:
        x = euler(x, model(x, s[n]), s, n)
        if n < N - 1:
            e = 0.1 * s[n + 1] ** 2
            score = (model(x, s[n + 1]) - x) / s[n + 1] ** 2
            x = x + e * score + (2 * e).sqrt() * torch.randn_like(x)
        return x

    return Toy(mixture, step, pd.from_levels(None, 1.0, s, prediction="x0"), first(s))


def guided(N: int = 40) -> Toy:
    """Posterior sampling, whose gradient goes through the model: Chung et al. 2023."""
    s, g = levels(N), torch.Generator().manual_seed(3)
    A, observed = torch.randn(16, 4, generator=g), torch.randn(1, 4, generator=g)

    def model(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            D = mixture(x, t)
            (gradient,) = torch.autograd.grad((D @ A - observed).norm(dim=1).sum(), x)
        return torch.cat([D, gradient], 1)

    def step(x: Tensor, model: Any, n: int) -> Tensor:
        D, gradient = model(x, s[n]).chunk(2, 1)
        return euler(x, D, s, n) - 0.05 * s[n].clamp(max=1) * gradient

    return Toy(model, step, pd.from_levels(None, 1.0, s, prediction="x0"), first(s))


# ------------------------------------------------------------------------------------------- structures


class Folds(torch.nn.Module):
    """A small equivariant network: a target turned as x is, and differences weighed by distances."""

    def __init__(self, atoms: int = 12, data: float = 16.0) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.data, self.target = data, data * torch.randn(atoms, 3, generator=g)
        self.weights = torch.randn(16, 2, generator=g), torch.randn(16, generator=g), torch.randn(16, generator=g) / 4

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """D (M, atoms, 3)."""
        t, centre = t[:, None, None], x.mean(1, keepdim=True)
        near = align(self.target.expand_as(x), x)
        apart = x[:, :, None] - x[:, None]
        seen = torch.cat([apart.norm(dim=-1, keepdim=True) / (t[..., None] + self.data),
                          (t.log() / 4)[..., None].expand(*apart.shape[:-1], 1)], -1)  # fmt: skip
        into, shift, out = self.weights
        weight = torch.tanh(torch.nn.functional.silu(seen @ into.T + shift) @ out)
        moved = (weight[..., None] * apart).mean(2)
        skip = self.data**2 / (self.data**2 + t**2)
        return centre + 0.9 * (1 - skip) * (near - centre) + skip * (x - centre) + 0.1 * skip.sqrt() * moved


def align(x: Tensor, to: Tensor) -> Tensor:
    """x (B, atoms, 3) turned and moved onto `to`: Kabsch 1976."""
    centre, place = x.mean(1, keepdim=True), to.mean(1, keepdim=True)
    U, _, V = torch.linalg.svd((to - place).mT @ (x - centre))
    sign = torch.ones(len(x), 3)
    sign[:, 2] = torch.det(U @ V)
    return (x - centre) @ ((U * sign[:, None]) @ V).mT + place


def rotations(B: int) -> Tensor:
    """Random rotations (B, 3, 3), of random quaternions."""
    a, b, c, d = torch.nn.functional.normalize(torch.randn(B, 4), dim=1).unbind(1)
    rows = [
        1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c),
        2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b),
        2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c),
    ]  # fmt: skip
    return torch.stack(rows, 1).reshape(B, 3, 3)


def structure(N: int = 40, atoms: int = 12) -> Toy:
    """Boltz's loop, with its constants: sigma_min, sigma_max, rho, gamma, noise scale, step scale."""
    k, data = torch.arange(N), 16.0
    low, high, rho = 4e-4, 160.0, 7.0
    sigma = data * (high ** (1 / rho) + k / (N - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    sigma = torch.cat([sigma, torch.zeros(1)])
    hat = sigma[:-1] * (1 + torch.where(sigma[1:] > 1.0, 0.8, 0.0))

    def step(x: Tensor, model: Any, n: int) -> Tensor:
        now, then, t = float(sigma[n]), float(sigma[n + 1]), float(hat[n])
        R, moved = rotations(len(x)), torch.randn(len(x), 1, 3)
        x = (x - x.mean(1, keepdim=True)) @ R + moved
        noisy = x + 1.003 * math.sqrt(t**2 - now**2) * torch.randn_like(x)
        D = model(noisy, t)
        noisy = align(noisy, D)
        return noisy + 1.5 * (then - t) * (noisy - D) / t

    system = pd.from_levels(None, 1.0, torch.cat([hat, torch.zeros(1)]), prediction="x0")
    x = sigma[0] * torch.randn(2, atoms, 3, generator=torch.Generator().manual_seed(5))
    return Toy(Folds(atoms, data), step, system, x)


TOYS = {
    "plain": plain, "self-conditioned": self_conditioned, "corrected": corrected, "guided": guided,
    "structure": structure,
}  # fmt: skip


def measure(N: int) -> None:
    """Prints rounds and, in brackets, evaluations a step of each loop, and the largest error, over three seeds."""
    for name, toy in TOYS.items():
        made = toy(N)
        for tolerance in (0.0, 0.003, 0.01):
            runs = []
            for seed in range(3):
                torch.manual_seed(seed)
                runs.append(
                    pd.sample_loop(made.model, made.step, made.system, made.x, tolerance=tolerance, compare=True)
                )
            rounds = sum(run.rounds for run in runs) / 3
            each = sum(run.evaluations for run in runs) / 3 / N / 2
            error = max(run.max_error or 0.0 for run in runs)
            again = sum(bool(run.retries) for run in runs)
            print(f"{name}, {N} steps, {tolerance:g}: {rounds:.1f} ({each:.1f}), error {error:.1g}, {again} made again")


if __name__ == "__main__":
    measure(100)
