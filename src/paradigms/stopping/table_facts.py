"""What follows from a table alone about how errors travel: computed once a table, looked up once a round.

G[m,f]    what a change of x[m] in frequency band f becomes in the sample, for Gaussian data of spectrum lambda_f
j[n,f]    the slope of that model: row n multiplies a change by a + b j
share[n]  the share of the tolerance that may be spent by the end of row n
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..methods.scan import recur_rows
from ..methods.spectrum import Spectrum
from ..methods.work import WindowState
from ..system import System
from .error_growth import gaussian_slope

# The largest G, a factor: where the levels of a table do not belong to its rows, G can be any number. Chosen by hand.
LARGEST_GROWTH = 100.0
# Share of the tolerance that is given out by noise level; the rest is given out by row, evenly. Chosen by hand.
LEVEL_SHARE = 0.7


class RowFacts(NamedTuple):
    """Plain numbers of one row.

    Attributes:
        share: The share of the tolerance that may be spent by its end.
        early: Whether its state is more noise than data.
        std, a: As in `System`.
        b: As in `System`, added up over the taps.
        least: The smallest alpha dD/dx, as in `Denoiser`.
        alpha, sigma: As in `System`.
    """

    share: float
    early: bool
    std: float
    a: float
    b: float
    least: float
    alpha: float
    sigma: float


@dataclass(frozen=True)
class TableFacts:
    """What is looked up of a table.

    Attributes:
        spectrum: Of the states.
        weights: Three weights of each band (N, F, 3): 1, G^2 at row n + 1, and (a + b j)^2.
        rows: Of each row its numbers.
        within: Moves a denoised estimate into the limits of the data.
    """

    spectrum: Spectrum
    weights: Tensor
    rows: tuple[RowFacts, ...]
    within: Callable[[Tensor], Tensor]

    @cached_property
    def columns(self) -> Tensor:
        """The numbers of all rows (of a row, N), on the CPU."""
        return torch.tensor(self.rows, dtype=torch.float64).T

    def sums(self, work: WindowState, square: Tensor) -> tuple[Tensor, ...]:
        """Squares by band (k, B, F) of the window's first k rows, summed with each of the weights, (k, B) each."""
        k = len(square)
        if work.first is None:
            return (square[:, :, None] @ self.weights[work.n[:k]])[:, :, 0].unbind(2)
        return torch.bmm(square, self.weights[work.first : work.first + k]).unbind(2)


def table_facts(system: System, s: Spectrum) -> TableFacts:
    """The facts of a table for states of a spectrum."""
    G2, a, b = row_weight(system, s.prior) ** 2, system.a, system.b.sum(1)
    usual = (a[:, None] + b[:, None] * gaussian_slope(system, s.prior)) ** 2
    weights = torch.stack([torch.ones_like(G2), G2, usual], 2)
    levels = system.alpha, system.sigma
    numbers = tolerance_share(system), levels[0] < levels[1], system.std, a, b, system.denoiser.least, *levels
    rows = tuple(RowFacts(*each) for each in zip(*(v.tolist() for v in numbers), strict=True))
    return TableFacts(s, weights, rows, system.denoiser.within)


def gaussian_growth(system: System, variance: Tensor) -> Tensor:
    """G (N + 1, F): what a change of x[m] becomes in x[N] for Gaussian data of `variance` (F,), the noise held."""
    N, J = len(system), gaussian_slope(system, variance)  # (N, F)
    # G is found from the last row backwards: place j is row N - j.
    P = J.new_zeros(system.taps, N + 1, 1, len(variance))
    for k in range(system.taps):
        P[k, k + 1 :, 0] = (system.b[k:, k, None] * J[: N - k]).flip(0)
    P[0, 1:, 0] += system.a.flip(0)[:, None]
    last = J.new_zeros(N + 1, 1, len(variance))
    last[0] = P[0, 0] = 1
    G = recur_rows(last, P) if system.taps > 1 else P[0].cumprod(0)
    return G[:, 0].flip(0).abs().nan_to_num(1.0).clamp(max=LARGEST_GROWTH)


def row_weight(system: System, variance: Tensor) -> Tensor:
    """G (N, F) of x[n+1], or, where that is more, what a change of its D becomes through the taps of later rows.

    In G the two effects can cancel, in Heun's rows of a steep grid by 7 to 1. But that is so only while they agree, and
    the error that a correction leaves in one does not depend on the error that it leaves in the other.
    """
    G, N = gaussian_growth(system, variance), len(system)
    alone = torch.zeros_like(G)
    for k in range(1, min(system.taps, N)):  # D[m] in row m + k
        alone[: N - k] += system.b[k:, k, None].abs() * G[k + 1 :]
    alone[:-1] *= gaussian_slope(system, variance)
    return G.maximum(alone.clamp(max=LARGEST_GROWTH))[1:]


def tolerance_share(system: System) -> Tensor:
    """The share (N,) of the tolerance that may be spent by the end of each row, 1 at the last."""
    N = len(system)
    even = torch.arange(1, N + 1, device=system.a.device, dtype=system.a.dtype) / N
    level = (system.alpha.clamp(min=0.05) / system.sigma.clamp(min=0.01)).log().cummax(0).values
    after = torch.cat([level[1:], 2 * level[-1:] - level[-2:-1] if N > 1 else level]) - level[0]
    return even if after[-1] <= 0 else even + LEVEL_SHARE * (after / after[-1] - even)
