"""When a row is settled: the measure that a tolerance bounds.

| criterion    | row n + 1 is settled, as all before it, when | a tolerance of 0.01 means                  |
| `FinalError` | E[n+1] <= tolerance (n + 1) / N              | the finished sample is about 1 % off       |
| `StepNoise`  | RMS(change of x[n+1]) <= tolerance std[n]    | a hundredth of a step's noise in one state |

`FinalError` adds up what the accepted rows are off by, in terms of the finished sample:

    E[n+1] = sum_{m <= n} eps |x[m] - x_seen[m]|_m,    |v|_m^2 = sum_f w[m,f]^2 |v_f|^2 / sum_f lambda_f
    eps = sum |r| / sum |x - x_seen|  over the rows looked at again in this round,    r[n] = step(x)[n] - x[n+1]
    w[m,f]^2 = lambda_f / (alpha[m]^2 lambda_f + sigma[m]^2)

x_seen is the state that the model last saw and x where the method has moved it since, so eps |x - x_seen| is what the
answer there is off by: eps is how wrong the method's carry was found to be, 1 for `Jacobi`, 0.001 for a good carry on a
long chain. w is how a change of frequency f at row m grows on its way to the sample, exact for the ODE of Gaussian data
of spectrum lambda_f and more than enough for an SDE, which forgets. It is large for the coarse structure of early rows,
which a plain RMS hides among the fine. The last rows of a window are never accepted at the first look, or eps would
not be known. `StepNoise` is the paper's, and accepts the first state that still moved, for it came of settled ones.
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

    overlap: the part of a window that is looked at again. grid: the picture that the tokens of a state (L, C) make.
    """

    overlap: float = 1 / 16
    grid: Sequence[int] | None = None

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
        if k := work.again:
            again = (sweep.live & (work.seen > 0) & (moved > 0))[:k]
            off, of = (torch.where(again, v, 0).sum(0) for v in (norm(sweep.y[:k] - work.x[1 : k + 1]), moved[:k]))
            eps = torch.where(of > 0, off / of.clamp(min=1e-30), eps)
        change = norm(sweep.x - work.x[1:])
        change = torch.cat([0 * change[:1], change[:-1]])  # of x[n], where `norm` is of x[n+1]
        moved = change + torch.where(sweep.live, 0, moved)
        E = spent + (eps * moved).cumsum(0)
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
        return torch.where(last, inside, inside - (inside * self.overlap).ceil().long().clamp(min=2))


def leading(settled: Tensor) -> Tensor:
    """How many rows (B,) of settled (W, B) are, before the first that is not."""
    return settled.long().cumprod(0).sum(0)


def rms(v: Tensor) -> Tensor:
    """Root mean square of v (W, B, ...) over each state (W, B)."""
    return torch.linalg.vector_norm(v.flatten(2), dim=2) / v[0, 0].numel() ** 0.5
