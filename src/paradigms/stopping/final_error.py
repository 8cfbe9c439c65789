"""The stopping rule `FinalError`: settle a row when the finished sample is estimated to be within the tolerance.

The estimate adds up the errors of the accepted rows, each in units of the finished sample:

    E[n+1] = margin eps sum_{m <= n} excess[m] moved[m],    moved[m] = |x[m] - x_seen[m]|_m
    eps = (sum |change of x[n+1]| + tiny eps) / (sum_{m <= n} moved[m] + tiny)    over the rows evaluated again
    |v|_m^2 = sum_f G[m,f]^2 |v_f|^2 / sum_f lambda_f
    share[n] = 0.3 (n + 1) / N + 0.7 (l[n+1] - l[0]) / (l[N] - l[0]),    l = log(alpha / sigma)

x_seen[m] is the state that the model was last evaluated at. It is x[m] unless the method has moved x[m] since.

eps is a measured ratio: how far the states of the last round were off, relative to how far the rows before them had
moved. It is 1 for `Jacobi`, and 0.0003 for a method whose correction is good on a long chain. Three limits apply:

  - In one round eps falls to a tenth at most.
  - If the rows moved too little, eps keeps its value: the model may be flat for a while.
  - For rows that were evaluated once only, eps is at least `FIRST_EPS`. How far other rows moved says nothing of kinks
    and narrow modes that lie there.

excess[m], from 1 to `LARGEST_EXCESS`, is how much further the rows have moved now than the rows that eps was measured
on. It is needed because models are not linear: the error of a correction grows with the square of the change, and rows
that are evaluated for the first time move most.

G[m,f] is what a change of frequency band f at row m becomes in the sample. It is found by running the table itself with
the model of Gaussian data of spectrum lambda_f. An ODE carries the coarse structure of early rows to the end, while
noise forgets it; a plain RMS would hide the coarse structure among the fine.

share[n] is the share of the tolerance that may be spent by the end of row n. Most of it goes to the last part of the
chain, where noise levels change fast and most rounds are spent. At least every other round, some last rows of a window
are not accepted, so that they are evaluated again.

At tolerance 0, and at any tolerance that the numbers cannot hold, nothing is estimated: rows must be exact, see
`rounding.py`.

Data have modes, and near the boundary between two of them a change grows more than G says. Three rules guard that:

  1. While a state is more noise than data (alpha < sigma), where modes are decided, a row is not settled if it still
     moves by more than `early` of its state, however small its E.
  2. A row is not settled if its state is further than `LARGEST_GAP` from the step that the model gave it, in units of
     the noise of that step.
  3. The growth that was measured is carried along the accepted rows. The largest value is the `estimate` of the error:

         S[n+1] = rho[n] (S[n] + margin eps moved[n]),    rho = |a dX + b dD| / |a dX + b j dX|

     dX and dD are the changes of state and answer of row n, j is the slope of Gaussian data, see `error_growth.py`. The
     boundary may lie ahead of a window, and is seen only after the window has passed the rows before it. So `sample`
     makes samples again whose estimate is beyond `DOUBT` times the tolerance, see `retry.py`.
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
from .table_facts import TableFacts, table_facts

# The relative error of the finished sample that is allowed where the user gives no tolerance. Chosen by hand.
TOLERANCE = 0.003
# The smallest eps: no correction is ever believed to be perfect. Chosen by hand.
LEAST_EPS = 1e-6
# The smallest eps of a row that was evaluated once only. Of 6,912 samples of narrow modes (width 0.1) 80 were beyond
# the tolerance without it, by up to 4.4 times; with it and `row_weight` none of 17,280, in 1.02 times the rounds.
FIRST_EPS = 0.1
# The smallest ratio of eps to its value in the round before, so that one lucky round says little. Chosen by hand.
LEAST_EPS_RATIO = 0.1
# States that moved by less than this share of the tolerance leave eps nearly as it was: they moved too little to
# measure it. Chosen by hand.
NEGLIGIBLE_CHANGE = 0.01
# The factor on the estimate (no unit). Chosen on 16 chains of problems with modes and 8,448 samples: a factor of 5
# without the three rules above kept 96 % of them within the tolerance, 25 kept 99 % in 1.14 times the rounds; with the
# rules and the retry, 14 keeps all but 2 in a thousand in 1.2 times the rounds.
MARGIN = 14.0
# The largest relative change of a settled state that is more noise than data (rule 1), chosen on the same samples.
EARLY = 1e-3
# Samples are made again if their estimate is above this many times the tolerance. Of 18,600 samples
# (`python -m benchmarks kept`, seeds 11000 on: mixture-64, two Gaussians, some of mixture-1024) 2.2 % have an estimate
# above 2.5 times the tolerance, 1.1 % above 4, 6.0 % above 1.2. At 4 one of them was 2.4 times off.
DOUBT = 2.5
# The largest `excess`, a factor on the estimate. Without the factor, DPM-Solver of 20 steps with a window of 8 was up
# to 41 times the tolerance off; with it 2.7 times.
LARGEST_EXCESS = 30.0
# The largest distance of a settled state from the model's own step (rule 2), in units of that step's noise. Accepted
# rows of trained models lie within 0.4; rows of tables whose levels are those of no denoiser lie at 1300.
LARGEST_GAP = 3.0


class ErrorSoFar(NamedTuple):
    """What `FinalError` remembers from round to round, in the letters of this file.

    Attributes:
        moved: Of the rows of the window (W, B).
        rho: Of the rows of the window (W, B).
        eps: Of each sample (1, B).
        spent: E of the accepted rows of each sample (1, B).
        grown: S of the accepted rows of each sample (1, B).
        worst: The largest S so far of each sample (1, B), which is the estimate.
        known: What the table alone says.
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
        return ErrorSoFar(moved, torch.ones_like(moved), FIRST_EPS * one, 0 * one, 0 * one, 0 * one, known)

    def judge(self, system: System, work: WindowState, sweep: Update, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        if finer_than_numbers(self.tolerance, work):  # nothing is estimated
            size = distance_from_exact(work, sweep)
            return size, leading_rows(size <= 1).clamp(min=1), memory
        moved, rho, eps, spent, grown, worst, known = memory
        rows, k, usual = known.rows(work), work.revisited_rows, sweep.live is work.live
        square = squared_change(work, sweep, known.spectrum)
        mean, weighted = rows.sums(square).sqrt_().unbind(2)
        plain = mean / rms(sweep.x).clamp_(min=1e-30)
        change = (weighted / sample_size(sweep, known)).mul_(plain > unmoved_rounding(work))  # of x[n+1]
        again = work.revisited if usual else ((work.seen > 0) & sweep.live)[:k]
        off, of = (masked_rows(again, v).sum(0) for v in (change[:k], moved[:k].cumsum(0)))
        tiny = max(NEGLIGIBLE_CHANGE * self.tolerance, torch.finfo(of.dtype).tiny)
        least = LEAST_EPS_RATIO * eps
        eps = (torch.add(off, eps, alpha=tiny) / (of + tiny)).nan_to_num_(1.0, 1.0).maximum(least).clamp_(min=LEAST_EPS)
        before, moved = moved, torch.nn.functional.pad(change[:-1], (0, 0, 1, 0))  # of x[n]
        if not usual or work.on is not None:
            moved = moved + masked_rows(~sweep.live, before)
        secant = sweep.secant or observed_secants(work, sweep, known.spectrum)
        rho = measured_growth(system, work, secant, rho, again, rows)
        measured = max(k, 1) if again is None else again.sum(0).clamp(min=1).to(of)
        excess = (moved.cumsum(0) / (of / measured).add_(tiny)).clamp_(1, LARGEST_EXCESS)
        if sweep.stride is None:
            each = remaining_error(work, self.margin * eps, excess.mul_(moved), FIRST_EPS * self.margin)
        else:
            each = self.margin * distance_from_step(work, sweep, known)
        E = spent + each.cumsum(0)
        size = (E / (self.tolerance * rows.share).clamp_(min=1e-30)).maximum(plain.mul_(rows.early / self.early))
        size = size.maximum(sweep.apart / (LARGEST_GAP * rows.std))
        settled = size <= 1 if usual else masked_rows(sweep.live | (work.seen > 0), size <= 1, False)
        count = accepted_of_settled(system, work, again, leading_rows(settled), self.overlap).clamp_(min=1)
        S = carried_errors(each, rho, grown)
        last = (count if sweep.stride is None else sweep.stride.to(count.device).clamp(min=1))[None] - 1
        inside = None if work.on is None else partial_mask(work.inside[None] > 0)
        grown, spent = (masked_rows(inside, now.gather(0, last), was) for now, was in ((S, grown), (E, spent)))
        return size, count, ErrorSoFar(moved, rho, eps, spent, grown, worst.maximum(grown), known)

    def estimate(self, memory: Memory) -> Tensor | None:
        return ErrorSoFar(*memory).worst[0]


def squared_change(work: WindowState, sweep: Update, s: Spectrum) -> Tensor:
    """The squared change of x[n+1] by band (W, B, F)."""
    if sweep.change is not None and sweep.change[0].alike(s):
        return sweep.change[1]
    c = s.forward(sweep.x - work.x[1:])
    return s.sums(c, c)


def sample_size(sweep: Update, known: TableFacts) -> Tensor:
    """The norm (B,) of the sample that the window's first row leads to."""
    return torch.linalg.vector_norm(known.within(sweep.D[0]).flatten(1), dim=1).clamp_(min=known.spectrum.size)


def weighted_norm(square: Tensor, work: WindowState, sweep: Update, known: TableFacts) -> Tensor:
    """|change of x[n+1]|_{n+1} (W, B) of its square by band (W, B, F)."""
    return known.rows(work).sums(square)[..., 1].sqrt() / sample_size(sweep, known)


def distance_from_step(work: WindowState, sweep: Update, known: TableFacts) -> Tensor:
    """|x[n+1] - y[n]|_{n+1} (W, B), the error of each row where a method accepts rows by their distance from the
    model's step y[n]."""
    c = known.spectrum.forward(sweep.x - sweep.y)
    return weighted_norm(known.spectrum.sums(c, c), work, sweep, known)


def remaining_error(work: WindowState, eps: Tensor, moved: Tensor, first: float) -> Tensor:
    """eps moved (W, B), where eps (1, B) is at least `first` for rows that were never evaluated before."""
    k, new = work.revisited_rows, eps.clamp(min=first)
    if work.first is None or work.revisited is not None:
        return torch.where((work.seen > 0).to(eps.device, non_blocking=True), eps, new) * moved
    moved[:k].mul_(eps)
    moved[k:].mul_(new)
    return moved


def accepted_of_settled(
    system: System, work: WindowState, again: Tensor | None, settled: Tensor, overlap: float
) -> Tensor:
    """How many of the settled rows (B,) are accepted: all if eps was measured this round or the chain ends, and else
    all but some last ones, a share `overlap` of the window."""
    if work.revisited_rows and again is None:
        return settled if work.on is None else settled.minimum(work.inside.to(settled.device, non_blocking=True))
    inside = work.inside
    all_of_them = (work.begin + inside == len(system)) | (False if again is None else again.any(0))
    most = torch.where(all_of_them, inside, inside - (inside * overlap).ceil().long())
    return settled.minimum(most.to(settled.device, non_blocking=True))
