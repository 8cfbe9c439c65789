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

from itertools import accumulate
from math import exp, log, sqrt
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
    """M nodes (rows n, samples b) that were evaluated again: sums by band (3, M, F) of dX dX, dX dD and dD dD; total:
    over all bands."""

    n: list[int]
    b: list[int]
    sums: Tensor
    total: list[list[float]]


class LearnedJacobian:
    """What B samples taught: XY and their running mean (N, B, 2, F), J (N, B, F) and eps (N, B).

    gain: of each sample, by row; rounds: that each sample learned in. Changed in place but for J.
    """

    def __init__(self, levels: LevelScalars, B: int) -> None:
        """Before the first round: the Jacobian of Gaussian data."""
        N, F = levels.J.shape
        self.levels = levels
        self.XY, self.mean = torch.zeros(2, N, B, 2, F, dtype=torch.float64)
        self.J = levels.J[:, None].expand(N, B, F)
        self.eps = torch.full((N, B), FIRST, dtype=torch.float64)
        self.gain: list[dict[int, float]] = [{} for _ in range(B)]
        self.rounds = [0] * B

    def part(self, keep: list[int]) -> None:
        """Some samples alone."""
        for name in ("XY", "mean", "J", "eps"):
            setattr(self, name, getattr(self, name)[:, keep])
        self.gain, self.rounds = [self.gain[b] for b in keep], [self.rounds[b] for b in keep]

    def learn(self, seen: ReevaluatedNodes, counts: list[float], smallest: list[float], tiny: float) -> None:
        """From a round's nodes: counts (M) is what D of each counts for, smallest (B) what a state must have moved by
        to tell, tiny a movement, in the sample, that tells nothing."""
        self.rounds = [r + 1 for r in self.rounds]
        if seen.n:
            there = torch.tensor([seen.n, seen.b])
            self.errors(seen, there, counts, tiny)  # of J before this round
            of = zip(seen.total[0], seen.b, strict=True)
            fine = [m for m, (XX, b) in enumerate(of) if smallest[b] ** 2 < XX]
            if len(fine) < len(seen.n):
                seen, there = taken(seen, fine), there[:, fine]
            if fine:
                self.secants(seen, there)
        if max(self.rounds) <= SETTLE:
            self.mean.copy_(self.XY)
        else:
            late = torch.tensor([1 / max(r - SETTLE + 1, 1) for r in self.rounds], dtype=torch.float64)
            self.mean.lerp_(self.XY, late[:, None, None])
        levels, rows = self.levels, sorted(set().union(*self.gain))  # the rows that say anything
        if rows:
            told = torch.tensor(rows)
            X, Y = (levels.alike[told].T @ self.mean[told].flatten(1)).view_as(self.mean).unbind(2)
            aJ = Y.add_(levels.prior[:, None]).div_(X.add_(WEIGHT)).clamp_(0, MOST)
            self.J = aJ.mul_(levels.per[:, None, None])

    def secants(self, seen: ReevaluatedNodes, there: Tensor) -> None:
        """XY and gain with what was seen, of rows and samples `there` (2, M)."""
        (n, b, sums, (XX, XD, DD)), row = seen, self.levels.row
        some = set(b)
        if len(some) == len(self.rounds):
            self.XY *= FORGET
        else:
            self.XY[:, sorted(some)] *= FORGET
        by = [[[1 / each], [row.alpha[r] / each]] for r, each in zip(n, XX, strict=True)]
        each = sums[:2].transpose(0, 1) * torch.tensor(by, dtype=torch.float64)  # (M, 2, F)
        self.XY.index_put_(tuple(there), each, accumulate=True)
        usual = (self.levels.slopes[:, there[0]] * sums[0]).sum(2).tolist()  # (2, M)
        for r, s, *of, jjXX, jXX in zip(n, b, XX, XD, DD, *usual, strict=True):
            slopes = steepest_slope(*of), jjXX / max(jXX, 1e-30)
            now, before = (log(max(abs(row.a[r] + row.taken[r] * g), 1e-6)) for g in slopes)
            self.gain[s][r] = now - before

    def errors(self, seen: ReevaluatedNodes, there: Tensor, counts: list[float], tiny: float) -> None:
        """eps with the defects that were found."""
        levels, (n, b, sums, _), B = self.levels, seen, len(self.gain)
        J, (XX, XD, DD) = self.J[tuple(there)], sums.unbind()
        defect = torch.addcmul(DD, J, torch.mul(J, XX).sub_(XD, alpha=2)).clamp_(min=0)  # |dD - J dX|^2
        moved = [c * levels.row.per[r] for c, r in zip(counts, n, strict=True)]
        found = (torch.stack([defect, XX]) * levels.squares[there[0]]).sum(2).sqrt_()
        found *= torch.tensor([counts, moved], dtype=torch.float64)
        rows = sorted(set(n))
        place = {r: at for at, r in enumerate(rows)}
        each = torch.zeros(len(rows), B, 2, dtype=torch.float64)
        each.index_put_(tuple(torch.tensor([[place[r] for r in n], b])), found.T)
        off, moved_by = (levels.near[rows].T @ each.flatten(1)).view(-1, B, 2).unbind(2)
        eps = off.add_(self.eps, alpha=tiny).div_(moved_by + tiny)
        eps = eps.maximum(self.eps * FALL).clamp_(LEAST, LARGEST)
        self.eps = eps.where(moved_by > 0, self.eps)

    def growth(self, b: int, rows: list[int]) -> tuple[list[float], float]:
        """A at known rows of a sample, among them all that have a gain, and the largest of any row."""
        gain, N = self.gain[b], len(self.levels)
        if not gain:
            return [1.0] * len(rows), 1.0
        told = sorted(gain)
        now, each = gain[told[0]], list[float]()
        for n in rows:
            each.append(now := gain.get(n, now))
        # What the rows up to and with each known one add up to, and up to the last row before the next.
        length = [hi - lo for lo, hi in zip(rows, [*rows[1:], N], strict=True)]
        end = list(accumulate((g * k for g, k in zip(each, length, strict=True)), initial=rows[0] * each[0]))
        at = [before + g for before, g in zip(end[:-1], each, strict=True)]
        most, A, largest = -float("inf"), list[float](), 0.0
        for upto, last in zip(reversed(at), reversed(end[1:]), strict=True):
            most = max(most, last)
            largest = max(largest, most - last)
            most = max(most, upto)
            A.append(most - upto)
        return [min(exp(min(v, 99.0)), GROWN) for v in reversed(A)], min(exp(min(max(largest, *A), 99.0)), GROWN)


def taken(seen: ReevaluatedNodes, which: list[int]) -> ReevaluatedNodes:
    """Some of the nodes."""
    n, b = ([v[m] for m in which] for v in (seen.n, seen.b))
    return ReevaluatedNodes(n, b, seen.sums[:, which], [[v[m] for m in which] for v in seen.total])


def steepest_slope(XX: float, XD: float, DD: float) -> float:
    """g of the sums dX dX, dX dD and dD dD; where an answer moves across its state, |dD| / |dX|."""
    return DD / max(XD, 1e-30) if ACROSS * sqrt(XX * DD) < XD else sqrt(DD / XX)
