"""When a row is settled: the measure that a tolerance bounds.

| criterion    | row n + 1 is settled, as all before it, when | a tolerance of 0.01 means                  |
| `FinalError` | E[n+1] <= tolerance (n + 1) / N              | the finished sample is about 1 % off       |
| `StepNoise`  | RMS(change of x[n+1]) <= tolerance std[n]    | a hundredth of a step's noise in one state |

`FinalError` adds up what the accepted rows are off by, in terms of the finished sample:

    E[n+1] = margin eps sum_{m <= n} moved[m],    moved[m] = |x[m] - x_seen[m]|_m
    eps = sum |change of x[n+1]| / sum_{m <= n} moved[m]  over the rows looked at again in this round
    |v|_m^2 = sum_f w[m,f]^2 |v_f|^2 / sum_f lambda_f,    w[m,f]^2 = lambda_f / (alpha[m]^2 lambda_f + sigma[m]^2)

x_seen is the state that the model last saw, x where the method has moved it since. So eps is how far the states before
were found to be off, for what the rows before them had moved: 1 for `Jacobi`, 0.0003 for a good carry on a long chain.
w is how a change of frequency f at row m grows on its way to the sample, exact for the ODE of Gaussian data of spectrum
lambda_f. It is large for the coarse structure of early rows, which a plain RMS hides among the fine. Some last rows of
a window are never accepted at the first look, or eps would not be known. True samples have forks, where changes grow
more than Gaussian ones do; margin is for those, and was fitted once to the largest errors of bench/frontier.md.

`StepNoise` is the paper's, and accepts the first state that still moved, for it came of settled ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .method import Memory, Sweep, Work
from .spectrum import Spectrum, spectrum
from .system import System

LEAST = 1e-6  # of eps: a carry is never believed to be perfect, so at tolerance 0 nothing that moved is settled


@dataclass(frozen=True)
class AbstractStop(ABC):
    """A criterion and its tolerance; raises ValueError unless the tolerance is finite and not negative."""

    tolerance: float

    def __post_init__(self) -> None:
        if not (isinstance(self.tolerance, int | float) and math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"tolerance: given {self.tolerance!r}; needed: a finite number, 0 (exact) or more")

    def init(self, system: System, work: Work) -> Memory:
        """What the criterion remembers before the first sweep; slides as a method's memory does."""
        return ()

    @abstractmethod
    def judge(self, system: System, work: Work, sweep: Sweep, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        """How far each row is from settled, 1 being the limit (W, B); how many may be accepted (B,); its memory."""


@dataclass(frozen=True)
class StepNoise(AbstractStop):
    """RMS change of a state in units of the noise of its row. Source: Shih et al. 2023, algorithm 1, lines 8, 9."""

    def judge(self, system: System, work: Work, sweep: Sweep, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        change = rms(sweep.x - work.x[1:]) / system.std[work.n]
        settled = (change <= self.tolerance) & work.live
        return change / max(self.tolerance, 1e-30), leading(settled) + 1, memory


@dataclass(frozen=True)
class FinalError(AbstractStop):
    """Relative error of the finished sample, |x - sequential| / |sequential|, as it can be known. Source: ours.

    margin: what estimated errors are multiplied by. overlap: the part of a window that is looked at again. grid: the
    picture that the tokens of a state (L, C) make. Raises ValueError.
    """

    margin: float = 5.0
    overlap: float = 1 / 16
    grid: Sequence[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.margin > 0 and math.isfinite(self.margin)):
            raise ValueError(
                f"margin: given {self.margin!r}; needed: a positive number; 1 trusts the estimate as it is"
            )
        if not 0 < self.overlap <= 1:
            raise ValueError(f"overlap: given {self.overlap!r}; needed: a share of the window, above 0 and at most 1")

    def init(self, system: System, work: Work) -> Memory:
        s = spectrum(work.x[0], self.grid)
        grows = (s.prior / (system.alpha[:, None] ** 2 * s.prior + system.sigma[:, None] ** 2)).sqrt()
        weights = torch.cat([grows, torch.ones_like(grows[:1])])  # (N + 1, F)
        B = work.x.shape[1]
        eps, spent = work.x.new_ones(1, B), work.x.new_zeros(1, B)
        return torch.zeros_like(work.n, dtype=work.x.dtype), eps, spent, (s, weights)

    def judge(self, system: System, work: Work, sweep: Sweep, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        moved, eps, spent, how = memory
        norm = self.norm(work, sweep, *how)
        change = norm(sweep.x - work.x[1:])  # of x[n+1]
        if k := work.again:
            again = ((work.seen > 0) & sweep.live)[:k]
            off, of = (torch.where(again, v, 0).sum(0) for v in (change[:k], moved[:k].cumsum(0)))
            eps = torch.where(of > 0, off / of.clamp(min=1e-30), eps).clamp(min=LEAST)
        moved = torch.cat([0 * change[:1], change[:-1]]) + torch.where(sweep.live, 0, moved)  # of x[n]
        E = spent + self.margin * eps * moved.cumsum(0)
        limit = self.tolerance * (work.n + 1) / len(system)
        seen = sweep.live | (work.seen > 0)
        count = leading((limit >= E) & seen & work.live).minimum(self.most(system, work)).clamp(min=1)
        return E / limit.clamp(min=1e-30), count, (moved, eps, E.gather(0, count[None] - 1), how)

    def norm(self, work: Work, sweep: Sweep, s: Spectrum, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """The norm |v|_{n+1} (k, B) of differences v (k, B, ...) of the first k states x[n+1]."""
        w2 = weights[work.n + 1] ** 2
        data = torch.linalg.vector_norm(sweep.D[0].flatten(1), dim=1)
        unit = data.maximum((s.count * s.prior).sum().sqrt())  # (B,)

        def norm(v: Tensor) -> Tensor:
            c = s.forward(v)
            return (s.sums(c, c) * w2[: len(v)]).sum(2).sqrt() / unit

        return norm

    def most(self, system: System, work: Work) -> Tensor:
        """How many rows (B,) may be accepted so that some are looked at again, unless the chain ends here."""
        inside = work.live.sum(0)
        last = work.n.gather(0, inside[None].clamp(min=1) - 1)[0] == len(system) - 1
        return torch.where(last, inside, inside - (inside * self.overlap).ceil().long())


def leading(settled: Tensor) -> Tensor:
    """How many rows (B,) of settled (W, B) are, before the first that is not."""
    return settled.long().cumprod(0).sum(0)


def rms(v: Tensor) -> Tensor:
    """Root mean square of v (W, B, ...) over each state (W, B)."""
    return torch.linalg.vector_norm(v.flatten(2), dim=2) / v[0, 0].numel() ** 0.5
