"""What a table says of its rows before anything is evaluated.

    level[n] = log(alpha / sigma)                              e is interpolated in it
    place[n] = (1 - BLEND) n / (N - 1) + BLEND (level[n] - level[0]) / (level[N-1] - level[0])    nodes lie evenly in it
    alike[n, m] = (1 + (level[n] - level[m])^2 / width^2)^-2   what row m says of the Jacobian of row n
    near[n, m] = exp(-|place[n] - place[m]| / NEAR)            what row m says of the secant error of row n
    caution[n] = CAUTION where alpha < sigma                   modes are decided there, before growth is in sight
    weight[n] = max_j |sum_(k <= j) b[n + k, k]|               what D[n] counts for in any state after it

All of it is scalars, (N, N) at most, and kept on the CPU in float64, where the decisions of a round are made; `row` has
those of a row as plain numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from ..methods.spectrum import Spectrum
from ..stopping.error_growth import gaussian_slope
from ..stopping.table_facts import gaussian_growth, tolerance_share
from ..system import System

# Of the prototypes: tuned on mixture-64, mixture-1024 and digits, DDIM-200 and DDPM-1000, seeds below 1000.
BLEND, NEAR = 0.65, 0.05
LEAST = 1e-3  # alpha and sigma are taken as at least this where their logarithm is: both may be 0 at an end
LOWEST = -3.0  # of level in `place`: more noise than that hides what nodes are for
# Of 1200 samples of chains with modes 8 were beyond 1 % with 1, 3 with 3, none with 5, in 6.7, 7.1 and 7.3 rounds; but
# learned models took 18.6, 19.7 and 23.8. The best of both was not looked for.
CAUTION = 4.0
TIED = 0.25  # of a mean step in level: how far apart rows of one level are put, as the two stages of Heun's rule are


class RowNumbers(NamedTuple):
    """Of each row, as plain numbers: as in `LevelScalars` and in the table; what the coefficients of D add up to.

    weights, levels: sums over the rows before, N + 1 of them, of weight and of weight times level.
    """

    level: list[float]
    place: list[float]
    share: list[float]
    per: list[float]
    caution: list[float]
    a: list[float]
    taken: list[float]
    alpha: list[float]
    sigma: list[float]
    std: list[float]
    weights: list[float]
    levels: list[float]


@dataclass(frozen=True)
class LevelScalars:
    """The scalars of a table of N rows, F bands; float64, on the CPU.

    ode: no row draws noise. J (N, F): the slope of Gaussian data. prior (N, F): alpha J, times the prior's weight; per
    (N,): 1 / alpha, 0 where there is no signal. G (N + 1, F): what a change becomes in the sample, see `becomes`. share
    (N + 1,): of the tolerance, by the end of each row, from 0.
    """

    system: System
    ode: bool
    level: Tensor
    place: Tensor
    alike: Tensor
    near: Tensor
    prior: Tensor
    per: Tensor
    J: Tensor
    G: Tensor
    share: Tensor
    weight: Tensor
    taken: Tensor
    caution: Tensor

    def __len__(self) -> int:
        return len(self.row.level)  # of a tensor it takes ten times as long, and it is asked of every node

    @cached_property
    def row(self) -> RowNumbers:
        """Its rows."""
        t, w = self.system, self.weight
        sums = (list(accumulate(v.tolist(), initial=0.0)) for v in (w, w * self.level))
        of = (self.level, self.place, self.share, self.per, self.caution, t.a, self.taken, t.alpha, t.sigma, t.std)
        return RowNumbers(*(v.tolist() for v in of), *sums)

    @cached_property
    def slopes(self) -> Tensor:
        """J^2 and J of Gaussian data (2, N, F)."""
        return torch.stack([self.J.square(), self.J])

    @cached_property
    def squares(self) -> Tensor:
        """G[n+1]^2 (N, F)."""
        return self.G[1:].square()


def level_scalars(system: System, s: Spectrum, width: float, weight: float) -> LevelScalars:
    """The `Levels` of a table for states of a spectrum; width, weight: of the learned Jacobian, see `jacobian.py`."""
    table, variance = system.to("cpu", torch.float64), s.prior.cpu().double()
    N, alpha, sigma = len(table), table.alpha[:, None], table.sigma[:, None]
    level = (table.alpha.clamp(min=LEAST) / table.sigma.clamp(min=LEAST)).log()
    g = alpha**2 * variance / (alpha**2 * variance + sigma**2).clamp(min=1e-30)
    alike = (1 + ((level[:, None] - level) / width) ** 2) ** -2
    low = level.clamp(min=LOWEST)
    part = ((low - low[0]) / (low[-1] - low[0]).clamp(min=1e-9)).cummax(0).values
    place = (1 - BLEND) * torch.arange(N) / max(N - 1, 1) + BLEND * part
    reach = [torch.cat([table.b[k:, k], table.b.new_zeros(k)]) for k in range(table.taps)]
    per = torch.where(table.alpha > 0, 1 / table.alpha.clamp(min=1e-30), 0)
    return LevelScalars(
        system=table,
        ode=not any(system.drawn),
        level=rising_levels(level),
        place=place,
        alike=alike,
        near=torch.exp(-(place[:, None] - place).abs() / NEAR),
        prior=weight * g,
        per=per,
        J=gaussian_slope(table, variance),
        G=gaussian_growth(table, variance),
        share=torch.cat([torch.zeros(1, dtype=torch.float64), tolerance_share(table)]),
        taken=table.b.sum(1),
        weight=torch.stack(reach).cumsum(0).abs().amax(0),
        caution=torch.where(table.alpha < table.sigma, CAUTION, 1.0).double(),
    )


def rising_levels(level: Tensor) -> Tensor:
    """Levels (N,) that grow from row to row, so that they can be interpolated in; as they are where they do."""
    if len(level) < 2:
        return level
    up = level.cummax(0).values
    mean = ((up[-1] - up[0]) / (len(level) - 1)).clamp(min=1e-6)
    return level if bool((level.diff() > 1e-3 * mean).all()) else up + TIED * mean * torch.arange(len(level))
