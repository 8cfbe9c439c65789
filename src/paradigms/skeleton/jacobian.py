"""What two looks at a node teach: the Jacobian by band, how good it is, and how errors grow.

Between two evaluations of a node its state moved by dX and the model's answer by dD. Per sample, row m and band f

    X[m,f] = sum dX dX,   Y[m,f] = alpha[m] sum dX dD      both over the row's sum of dX dX, halved a round that tells
    alpha J = clip((sum_m alike[n,m] Y[m] + weight g) / (sum_m alike[n,m] X[m] + weight), 0, MOST)

as the spectral secant learns it, but not held below 1 (a third of the rounds on mixture-64), and after SETTLE rounds of
a running mean of X and Y, so that J stops moving the rows between nodes.

    eps[n] = sum_m near[n,m] |defect[m]| / sum_m near[n,m] |moved[m]|         defect = dD - J dX, of J before this round

the secant error found, of what states had moved: both as they count in the sample. It falls to FALL at most in a round.

    gain[m] = log(|a + b g| / |a + b j|),    g = sum dD dD / sum dX dD,  j that of Gaussian data in its place
    A[n]    = exp max over stretches of rows from n on of the sum of gains, at least 1 and at most GROWN

g is the slope in the direction in which the answer moved, the steepest that was seen: a boundary between two modes is
steep in one direction of many, which sum dX dD / sum dX dX would hide (99.2 % for 99.7 % of samples kept on 32 chains
with modes). A row's gain is that of the last node before it that has one. So A is how much more than Gaussian data's an
error of x[n+1] grows to anywhere ahead: large before a boundary, where samples decide between modes of the data.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .levels import LevelScalars

# Of the second prototype: mixture-64 and mixture-1024, DDIM-200 and DDPM-1000, seeds below 1000. FORGET, WIDTH and
# WEIGHT are the spectral secant's.
WIDTH, WEIGHT, FORGET = 0.5, 0.03, 0.5
MOST, SETTLE = 10.0, 5
FIRST, FALL, LEAST, LARGEST = 0.2, 0.1, 1e-6, 30.0  # of eps: before anything was seen, a round, ever
TINY = 1e-3  # of the tolerance: what moved less says nothing of the next
GROWN = 1e4
ACROSS = 0.01  # cosine of dX and dD below which their product says nothing


class ReevaluatedNodes(NamedTuple):
    """M nodes (row n, sample b) that were evaluated again: sums by band (M, F) of dX dX, dX dD and dD dD."""

    n: Tensor
    b: Tensor
    XX: Tensor
    XD: Tensor
    DD: Tensor


class LearnedJacobian:
    """What B samples taught: XY and their running mean (N, B, 2, F), J (N, B, F), eps and gain (N, B).

    told (N, B): of which rows the gain is known; rounds (B,) that each sample learned in. Changed in place but for J.
    """

    def __init__(self, levels: LevelScalars, B: int) -> None:
        """Before the first round: the Jacobian of Gaussian data."""
        N, F = levels.J.shape
        self.levels = levels
        self.XY, self.mean = torch.zeros(2, N, B, 2, F, dtype=torch.float64)
        self.J = levels.J[:, None].expand(N, B, F)
        self.eps = torch.full((N, B), FIRST, dtype=torch.float64)
        self.gain, self.told = torch.zeros(N, B, dtype=torch.float64), torch.zeros(N, B, dtype=torch.bool)
        self.rounds = torch.zeros(B, dtype=torch.float64)

    def part(self, keep: Tensor) -> None:
        """Some samples alone."""
        for name in ("XY", "mean", "J", "eps", "gain", "told"):
            setattr(self, name, getattr(self, name)[:, keep])
        self.rounds = self.rounds[keep]

    def learn(self, seen: ReevaluatedNodes, counts: Tensor, smallest: Tensor, tiny: float) -> None:
        """From a round's nodes: counts (M,) is what D of each counts for, smallest (M,) what a state must have moved by
        to tell, tiny a movement, in the sample, that tells nothing."""
        self.rounds += 1
        if len(seen.n):
            self.errors(seen, counts, tiny)  # of J before this round
            total = seen.XX.sum(1)
            fine = (total > smallest.square()).nonzero()[:, 0]
            seen, total = (seen, total) if len(fine) == len(total) else (taken(seen, fine), total[fine])
            self.secants(seen, total)
        late = torch.where(self.rounds > SETTLE, 1 / (self.rounds - SETTLE + 1).clamp(min=1), 1.0)
        self.mean.lerp_(self.XY, late[:, None, None])
        levels, rows = self.levels, self.told.any(1).nonzero()[:, 0]  # the rows that say anything
        X, Y = (levels.alike[rows].T @ self.mean[rows].flatten(1)).unflatten(1, self.mean.shape[1:]).unbind(2)
        aJ = Y.add_(levels.prior[:, None]).div_(X.add_(WEIGHT)).clamp_(0, MOST)
        self.J = aJ * levels.per[:, None, None]

    def secants(self, seen: ReevaluatedNodes, total: Tensor) -> None:
        """XY, gain and told with what was seen."""
        n, b, XX, XD, DD = seen
        levels, system = self.levels, self.levels.system
        forgetting = torch.ones(len(self.rounds), dtype=torch.float64).index_fill_(0, b, FORGET)
        self.XY *= forgetting[:, None, None]
        by = torch.stack([1 / total, system.alpha[n] / total], 1)[..., None]
        self.XY.index_put_((n, b), torch.stack([XX, XD], 1) * by, accumulate=True)
        j = levels.J[n]
        jXX = j * XX
        g, j = steepest_slope(total, XD.sum(1), DD.sum(1)), (j * jXX).sum(1) / jXX.sum(1).clamp(min=1e-30)
        slopes = torch.addcmul(system.a[n], levels.taken[n], torch.stack([g, j])).abs_().clamp_(min=1e-6).log_()
        self.gain[n, b] = slopes[0] - slopes[1]
        self.told[n, b] = True

    def errors(self, seen: ReevaluatedNodes, counts: Tensor, tiny: float) -> None:
        """eps with the defects that were found."""
        levels, (n, b, XX, XD, DD) = self.levels, seen
        J, (N, B) = self.J[n, b], self.eps.shape
        defect = torch.addcmul(DD, J, J * XX - 2 * XD).clamp_(min=0)  # |dD - J dX|^2
        found = (torch.stack([defect, XX]) * levels.G[n + 1].square()).sum(2).sqrt_() * counts
        found[1] *= levels.per[n]
        each = torch.zeros(N, 2, B, dtype=torch.float64)
        each[n, :, b] = found.T
        rows = n if B == 1 else n.unique()
        off, moved = (levels.near[rows].T @ each[rows].flatten(1)).unflatten(1, (2, B)).unbind(1)
        eps = torch.add(off, self.eps, alpha=tiny).div_(moved + tiny)
        eps = eps.maximum(FALL * self.eps).clamp_(LEAST, LARGEST)
        some = torch.zeros(B, dtype=torch.bool).index_put_((b,), found[1] > 0, accumulate=True)
        self.eps = torch.where(some, eps, self.eps)

    def growth(self) -> Tensor:
        """A (N, B)."""
        row = torch.arange(len(self.gain))[:, None]
        last = torch.where(self.told, row, -1).cummax(0).values
        first = self.told.to(torch.uint8).argmax(0)
        upto = self.gain.gather(0, torch.where(last < 0, first, last)).cumsum(0)  # of a row, and of those before
        return (upto.flip(0).cummax(0).values.flip(0) - upto).exp_().clamp_(max=GROWN)


def taken(seen: ReevaluatedNodes, which: Tensor) -> ReevaluatedNodes:
    """Some of the nodes (R,)."""
    return ReevaluatedNodes(*(v[which] for v in seen))


def steepest_slope(XX: Tensor, XD: Tensor, DD: Tensor) -> Tensor:
    """g (M,) of the sums dX dX, dX dD and dD dD (M,); where an answer moves across its state, |dD| / |dX|."""
    return torch.where(ACROSS * (XX * DD).sqrt() < XD, DD / XD.clamp(min=1e-30), (DD / XX).sqrt())
