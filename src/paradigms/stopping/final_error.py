"""The error of the finished sample, as far as it can be known while the rows are settled.

`FinalError` adds up what the accepted rows are off by, in terms of the finished sample:

    E[n+1] = margin eps sum_{m <= n} bent[m] moved[m],    moved[m] = |x[m] - x_seen[m]|_m
    eps = (sum |change of x[n+1]| + tiny eps) / (sum_{m <= n} moved[m] + tiny)    over the rows evaluated again
    |v|_m^2 = sum_f G[m,f]^2 |v_f|^2 / sum_f lambda_f
    share[n] = 0.3 (n + 1) / N + 0.7 (l[n+1] - l[0]) / (l[N] - l[0]),    l = log(alpha / sigma)

x_seen is the state that the model last saw, x where the method has moved it since. So eps is how far the states before
were found to be off, for what the rows before them had moved: 1 for `Jacobi`, 0.0003 for a good carry on a long chain.
bent[m] is how much more rows have moved now than those that eps was measured on, from 1 to `BENT`: what a carry leaves
grows with the square of a change, for models are not linear, and rows evaluated for the first time move most. It falls
to a tenth of what it was at most in a round, and not on what is too little to tell, for a model may be flat for a
while. Rows evaluated for the first time keep FIRST at least: what others moved by says nothing of kinks and narrow
modes that lie there. G is what a change of frequency f at row m becomes in the sample: the table itself, run on with
the model of Gaussian data of spectrum lambda_f. An ODE carries the coarse structure of early rows on, noise forgets it,
and a plain RMS would hide it among the fine. share gives most of what may be off to the last part of the chain, where
noise levels change fast and rounds are spent. At least every other round, some last rows of a window are left to be
evaluated again.

At tolerance 0, and at any that the numbers cannot hold, nothing is estimated: rows must be exact, see `rounding.py`.

Data have modes, and near the boundary between two of them a change grows more than G says. Three rules guard that:

  1. While a state is more noise than data (alpha < sigma), where modes are decided, a row that still moves by more
     than `early` of its state is not settled, however small its E.
  2. A row whose state lies `FAR` steps' noise from the step that the model gave it is not settled.
  3. The growth that was seen is carried along the accepted rows, and the largest value is the `estimate` of the error:

         S[n+1] = rho[n] (S[n] + margin eps moved[n]),    rho = |a dX + b dD| / |a dX + b j dX|

     dX and dD are what state and answer of row n moved by, j is the slope of Gaussian data, see `growth.py`. A window
     is past a row before a boundary further on is seen, so `sample` makes samples again whose estimate is beyond
     `DOUBT` times the tolerance, see `retry.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..methods.scan import leading_rows, rms
from ..methods.spectrum import Spectrum, check_grid, spectrum_of
from ..methods.work import Memory, Update, WindowState, partial_mask
from ..system import System, masked_rows
from ..validate import named_arguments
from .base import AbstractStop
from .error_growth import carried_errors, measured_growth, observed_secants
from .rounding import distance_from_exact, finer_than_numbers, unmoved_rounding
from .table_facts import RowFacts, TableFacts, table_facts

TOLERANCE = 0.003  # relative error of the finished sample, where none is given
LEAST = 1e-6  # of eps: a carry is never believed to be perfect
# FIRST: eps of a row that was evaluated once. Of 6,912 samples of narrow modes (width 0.1) 80 were beyond the tolerance
# without it, up to 4.4 times; with it and `weight` none of 17,280, in 1.02 times the rounds.
FIRST, FALL = 0.1, 0.1  # FALL: what a round leaves of eps at least
TINY = 0.01  # of the tolerance: states that moved less say nothing of the next
# Chosen on 16 chains of problems with modes and 8,448 samples: a margin of 5 without the rules below kept 96 % of them,
# 25 kept 99 % in 1.14 times the rounds; with the rules and the retry 14 keeps all but 2 in a thousand in 1.2 times.
MARGIN, EARLY = 14.0, 1e-3
# Of 18,600 samples (`python -m benchmarks kept`, seeds 11000 on: mixture-64, two Gaussians, some of mixture-1024) 2.2 %
# have an estimate above 2.5 times the tolerance, 1.1 % above 4, 6.0 % above 1.2. At 4 one of them was 2.4 times off.
DOUBT = 2.5
BENT = 30.0  # without it DPM-Solver of 20 steps with a window of 8 was up to 41 times the tolerance off, with it 2.7
FAR = 3.0  # steps' noise; accepted rows of trained models lie within 0.4, of tables that are no denoiser's at 1300


class ErrorSoFar(NamedTuple):
    """What `FinalError` remembers, in the letters of this file.

    Of the rows of the window, moved (W, B) and rho (W, B). Of each sample (1, B): eps; E spent by the accepted rows; S
    that they have grown to, and the largest S so far, which is the estimate. Of the table, `known`.
    """

    moved: Tensor
    rho: Tensor
    eps: Tensor
    spent: Tensor
    grown: Tensor
    worst: Tensor
    known: TableFacts


@named_arguments
@dataclass(frozen=True)
class FinalError(AbstractStop):
    """The default: the relative error of the finished sample, ``|x - sequential| / |sequential|``, as it is estimated.

    It is an estimate and no bound. `sample` makes samples again whose estimate is far above the tolerance.

    Args:
        tolerance: Relative error, 0 for none beyond rounding.
        margin: Estimated errors are multiplied by it.
        overlap: Share of a window that is evaluated once more before it counts as finished.
        grid: Height and width of the picture that tokens (L, C) make, for states of that form.
        early: Largest relative change of a state that is more noise than data; infinity for no limit.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Ours; the equations are in the file.

    Example:
        >>> import paradigms as pd
        >>> pd.FinalError(0.003).tolerance
        0.003
    """

    tolerance: float = TOLERANCE
    margin: float = MARGIN
    overlap: float = 1 / 32
    grid: Sequence[int] | None = None
    early: float = EARLY

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.margin > 0 and math.isfinite(self.margin)):
            raise ValueError(
                f"margin: given {self.margin!r}; needed: a positive number; 1 trusts the estimate as it is"
            )
        if not 0 < self.overlap <= 1:
            raise ValueError(f"overlap: given {self.overlap!r}; needed: a share of the window, above 0 and at most 1")
        if not self.early > 0:
            raise ValueError(f"early: given {self.early!r}; needed: a positive number, inf for no limit")
        check_grid(self.grid)

    def check(self, x: Tensor) -> None:
        check_grid(self.grid, x.shape[1])

    def init(self, system: System, work: WindowState) -> Memory:
        s = spectrum_of(work.x[0], self.grid)
        moved, one = torch.zeros_like(work.n, dtype=work.x.dtype), work.x.new_ones(1, work.x.shape[1])
        known = system.once(("final error", s.shape, s.places), lambda: table_facts(system, s))
        return ErrorSoFar(moved, torch.ones_like(moved), FIRST * one, 0 * one, 0 * one, 0 * one, known)

    def judge(self, system: System, work: WindowState, sweep: Update, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        if finer_than_numbers(self.tolerance, work):  # nothing is estimated
            size = distance_from_exact(work, sweep)
            return size, leading_rows(size <= 1).clamp(min=1), memory
        moved, rho, eps, spent, grown, worst, known = memory
        rows, k, usual = known.rows(work), work.revisited_rows, sweep.live is work.live
        square = self.square(work, sweep, known.spectrum)
        mean, weighted = rows.sums(square).sqrt_().unbind(2)
        plain = mean / rms(sweep.x).clamp_(min=1e-30)
        change = (weighted / self.unit(sweep, known)).mul_(plain > unmoved_rounding(work))  # of x[n+1]
        again = work.revisited if usual else ((work.seen > 0) & sweep.live)[:k]
        off, of = (masked_rows(again, v).sum(0) for v in (change[:k], moved[:k].cumsum(0)))
        tiny = max(TINY * self.tolerance, torch.finfo(of.dtype).tiny)
        least = FALL * eps
        eps = (torch.add(off, eps, alpha=tiny) / (of + tiny)).nan_to_num_(1.0, 1.0).maximum(least).clamp_(min=LEAST)
        before, moved = moved, torch.nn.functional.pad(change[:-1], (0, 0, 1, 0))  # of x[n]
        if not usual or work.on is not None:
            moved = moved + masked_rows(~sweep.live, before)
        secant = sweep.secant or observed_secants(work, sweep, known.spectrum)
        rho = measured_growth(system, work, secant, rho, again, rows)
        measured = max(k, 1) if again is None else again.sum(0).clamp(min=1).to(of)
        bent = (moved.cumsum(0) / (of / measured).add_(tiny)).clamp_(1, BENT)
        if sweep.stride is None:
            each = self.left(work, self.margin * eps, bent.mul_(moved))
        else:
            each = self.margin * self.left_behind(work, sweep, known)
        E = spent + each.cumsum(0)
        size = (E / self.limit(rows)).maximum(plain.mul_(rows.early / self.early))
        size = size.maximum(sweep.apart / (FAR * rows.std))
        settled = size <= 1 if usual else masked_rows(sweep.live | (work.seen > 0), size <= 1, False)
        count = self.most(system, work, again, leading_rows(settled)).clamp_(min=1)
        S = carried_errors(each, rho, grown)
        last = (count if sweep.stride is None else sweep.stride.to(count.device).clamp(min=1))[None] - 1
        inside = None if work.on is None else partial_mask(work.inside[None] > 0)
        grown, spent = (masked_rows(inside, now.gather(0, last), was) for now, was in ((S, grown), (E, spent)))
        return size, count, ErrorSoFar(moved, rho, eps, spent, grown, worst.maximum(grown), known)

    def estimate(self, memory: Memory) -> Tensor | None:
        return ErrorSoFar(*memory).worst[0]

    def square(self, work: WindowState, sweep: Update, s: Spectrum) -> Tensor:
        """The squared change of x[n+1] by band (W, B, F)."""
        if sweep.change is not None and sweep.change[0].alike(s):
            return sweep.change[1]
        c = s.forward(sweep.x - work.x[1:])
        return s.sums(c, c)

    def left(self, work: WindowState, eps: Tensor, moved: Tensor) -> Tensor:
        """eps moved (W, B), eps (1, B) times the margin; rows that were never evaluated before keep FIRST at least."""
        k, first = work.revisited_rows, eps.clamp(min=FIRST * self.margin)
        if work.first is None or work.revisited is not None:
            return torch.where((work.seen > 0).to(eps.device, non_blocking=True), eps, first) * moved
        moved[:k].mul_(eps)
        moved[k:].mul_(first)
        return moved

    def limit(self, rows: RowFacts) -> Tensor:
        """What may be spent by the end of each row (W, B) or (W, 1)."""
        return (self.tolerance * rows.share).clamp_(min=1e-30)

    def left_behind(self, work: WindowState, sweep: Update, known: TableFacts) -> Tensor:
        """|x[n+1] - y[n]|_{n+1} (W, B), how far each state is from the model's step, where a method accepts by that."""
        c = known.spectrum.forward(sweep.x - sweep.y)
        return self.norm(known.spectrum.sums(c, c), work, sweep, known)

    def norm(self, square: Tensor, work: WindowState, sweep: Update, known: TableFacts) -> Tensor:
        """|change of x[n+1]|_{n+1} (W, B) of its square by band (W, B, F)."""
        return known.rows(work).sums(square)[..., 1].sqrt() / self.unit(sweep, known)

    def unit(self, sweep: Update, known: TableFacts) -> Tensor:
        """The size (B,) of the sample that the window's first row leads to."""
        return torch.linalg.vector_norm(known.within(sweep.D[0]).flatten(1), dim=1).clamp_(min=known.spectrum.size)

    def most(self, system: System, work: WindowState, again: Tensor | None, settled: Tensor) -> Tensor:
        """How many of the settled rows (B,) are accepted: all where this round told eps or the chain ends, else some
        last ones are left."""
        if work.revisited_rows and again is None:
            return settled if work.on is None else settled.minimum(work.inside.to(settled.device, non_blocking=True))
        inside = work.inside
        told = (work.begin + inside == len(system)) | (False if again is None else again.any(0))
        most = torch.where(told, inside, inside - (inside * self.overlap).ceil().long())
        return settled.minimum(most.to(settled.device, non_blocking=True))
