"""Picard iteration with a fixed Jacobian, and Anderson acceleration of it that respects the order of the rows:

    delta[n+1] = a[n] delta[n] + sum_k b[n,k] J[n-k] delta[n-k] + r[n],    delta[begin] = 0
    J = alpha v / (alpha^2 v + sigma^2)
    R[n] = delta[n+1],    x[n+1] <- x[n+1] + R[n] - sum_j gamma[n,j] (dX[n,j] + dR[n,j])
    gamma[n] = (G + ridge tr(G) I)^-1 g,    G = sum_{i <= n} dR[i]^T dR[i],    g = sum_{i <= n} dR[i]^T R[i]

J is exact for Gaussian data of variance v. With v = infinity, J = 1 / alpha: the model's eps does not depend on the
state, and p = alpha'/alpha for DDIM and DDPM, the exponential integrator. There p is 1 where alpha is 0 (zero SNR, the
first row). With v = 0 the denoised estimate is held fixed. With v = 1, p is nearly the 1 of `Picard` for DDIM, and
alpha/alpha' for DDPM.

dX[n,j] and dR[n,j] are the differences between the state and its R now and those of j sweeps ago, j = 1..depth. A row
that was not in the window j sweeps ago is left out of the sums and of the step. A row that was in none of the earlier
windows takes on the correction of the row before it. gamma differs from row to row because a row may only use rows
that it depends on.

The safeguards: in RMS, no correction is larger than `most` times the largest R of the rows before it. So the first row
that has not settled, wherever it is, takes the sequential step bit for bit, and the method is exact after at most N
sweeps. If the R of a row grew by more than `growth` since the last sweep, or its correction is not finite, the row
takes the plain correction R. If R is not finite either, the row takes its own step alone, which is as finite as the
model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..system import System, expand_like, masked_rows
from ..validate import check_whole, named_arguments
from .base import AbstractMethod, step_rows
from .guess import Extrapolate, Guess
from .scan import carried_on, carry_on, norms, recur_in_place, recur_rows, zero_nonfinite
from .work import Evaluate, Memory, Update, WindowState, pick_rows

# The regularisation of the least squares, as a share of the trace of the Gram matrix. Chosen by hand.
RIDGE = 1e-3
# A row whose R grew by more than this factor since the last sweep takes no Anderson step. Chosen by hand.
GROWTH = 2.0
# The most earlier iterates that may be kept; each takes the memory of two windows of states. Chosen by hand.
LARGEST_DEPTH = 100


@named_arguments
@dataclass(frozen=True)
class ExponentialPicard(AbstractMethod):
    """Picard iteration with the carry of Gaussian data, p = a + b J.

    Args:
        guess: What states hold before the model has seen them.
        variance: Of the data, along the directions in which states move. Infinity holds the noise direction fixed.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Tang et al. 2024 (ParaTAA of full order), for infinite variance.
    """

    variance: float = math.inf

    def __post_init__(self) -> None:
        check_variance(self.variance)

    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        D, y = step_rows(system, work, evaluate)
        J, P = gaussian_carry(system, work, self.variance)
        x = y + zero_nonfinite(carried_on(recur_rows(y - work.x[1:], P), P))
        return Update(x, D, y, work.live, shift=jacobian_shift(J, x, work)), memory


class StepLimits(NamedTuple):
    """The limits on an Anderson step, as the arguments of `Anderson` of the same names."""

    most: float
    ridge: float = RIDGE
    growth: float = GROWTH


class Iterate(NamedTuple):
    """How far the states have `moved` since an earlier sweep, and the R of that sweep, (W, B, ...) both.

    size: the norms of R where they are known.
    """

    moved: Tensor
    R: Tensor
    size: Tensor | None = None


class Carried(NamedTuple):
    """The correction without an Anderson step: R (W, B, ...), its norms (W, B, ...), and the P of `recur_rows` behind
    it."""

    R: Tensor
    size: Tensor
    P: Sequence[Tensor] | Tensor


class SweepHistory(NamedTuple):
    """The states x and the corrections R (W, B, ...) of 1, 2, ... sweeps ago."""

    states: tuple[Tensor, ...]
    corrections: tuple[Tensor, ...]


@named_arguments
@dataclass(frozen=True)
class Anderson(AbstractMethod):
    """Triangular Anderson acceleration of `ExponentialPicard`: the method of ParaTAA.

    Args:
        guess: What states hold before the model has seen them.
        depth: Earlier rounds that it uses, 2 (W, B, ...) tensors each; 0 is `ExponentialPicard`.
        ridge: Regularisation, relative to the trace of the Gram matrix.
        variance: Of the data, as in `ExponentialPicard`. Infinity and `StepNoise` give ParaTAA as published.
        most: Largest correction, relative to what moved before a step.
        growth: A step whose correction grew by more than this factor takes the plain one.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Tang et al. 2024, section 3.2.
    """

    guess: Guess = field(default_factory=Extrapolate)
    depth: int = 2
    ridge: float = RIDGE
    variance: float = 1.0
    most: float = 1.0
    growth: float = GROWTH

    def __post_init__(self) -> None:
        check_variance(self.variance)
        needed = f"a whole number of iterates, 0 to {LARGEST_DEPTH}; 2 is usual"
        check_whole("depth", self.depth, needed, 0, LARGEST_DEPTH)
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise ValueError(f"ridge: given {self.ridge!r}; needed: a finite number, 0 or more; 0.001 is usual")
        for name in ("most", "growth"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: given {getattr(self, name)!r}; needed: a positive number, inf for no limit")

    def init(self, system: System, work: WindowState) -> Memory:
        zeros = [torch.zeros_like(work.x[1:]) for _ in range(2 * self.depth)]
        return SweepHistory(tuple(zeros[: self.depth]), tuple(zeros[self.depth :]))

    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        D, y = step_rows(system, work, evaluate)
        J, P = gaussian_carry(system, work, self.variance)
        old = work.x[1:]
        x = y + zero_nonfinite(carried_on(recur_rows(y - old, P), P))
        R = x - old
        states, corrections = memory
        if self.depth:
            before = [Iterate(old - was, of) for was, of in zip(states, corrections, strict=True)]
            limits = StepLimits(self.most, self.ridge, self.growth)
            x = x + safeguarded_step(torch.zeros_like(R), work, Carried(R, norms(R), P), before, limits)
        latest = SweepHistory((old, *states)[: self.depth], (R, *corrections)[: self.depth])
        return Update(x, D, y, work.live, shift=jacobian_shift(J, x, work)), latest


def safeguarded_step(
    found: Tensor, work: WindowState, carried: Carried, before: Sequence[Iterate], limits: StepLimits
) -> Tensor:
    """- sum_j gamma[n,j] (dX[n,j] + dR[n,j]) (W, B, ...), written to `found`, which is given as 0; rows that the
    safeguards stop stay 0.

    before: the iterates of 1, 2, ... sweeps ago.
    """
    R, size, P = carried
    if not (k := work.revisited_rows):
        return found
    known = [work.revisited, *(work.visited(j) for j in range(2, len(before) + 1))]  # no row after k is
    R, latest = R[:k], before[0].R[:k]
    dR = [masked_rows(now, R - each.R[:k]) for now, each in zip(known, before, strict=True)]
    by = mixing_weights(R, dR, limits.ridge)  # (k, B) each
    both = [d.add_(masked_rows(now, each.moved[:k])) for d, now, each in zip(dR, known, before, strict=True)]
    step, most = both[0], by[0]
    if len(both) > 1:
        step = torch.stack([v.mul_(expand_like(c, v)) for v, c in zip(both, by, strict=True)]).sum(0)
        most = torch.ones_like(most)
    largest = torch.nn.functional.pad(size[: k - 1].cummax(0).values, (0, 0, 1, 0))  # of the rows before
    fits = limits.most * largest / norms(step)
    steady = masked_rows(known[0], size[:k] <= limits.growth * norms(latest), False)
    most = most.clamp(-fits, fits) * steady
    torch.mul(step, expand_like(most, R), out=found[:k]).nan_to_num_(0.0, 0.0, 0.0)  # 0 / 0: nothing moved
    if known[0] is None:
        carry_on(found, P, k)[k:].nan_to_num_(0.0, 0.0, 0.0)
        return found
    seen = (work.seen > 0) & work.live  # some samples have had fewer rows evaluated than others
    first, P = int(seen.sum(0).min()), [masked_rows(~seen, expand_like(p, R)) for p in P]
    recur_in_place(found, P, max(first, 1))[first:].nan_to_num_(0.0, 0.0, 0.0)
    return found


def accelerated(work: WindowState, carried: Carried, before: Iterate, limits: StepLimits) -> list[Tensor]:
    """0 (1, B, C, S), and then R with the step of `safeguarded_step` along one earlier iterate, in pieces that follow
    each other; carried and before: as there, with norms (W, B, 1, 1).

    Where all samples are alike it is written for few operators, for on a GPU each of them is a launch: what is limited
    is gamma (1 + ridge), and no number is sent to the rows that the step ends before.
    """
    R, size, P = carried
    k, W, zero = work.revisited_rows, len(R), R.new_zeros(1, *R.shape[1:])
    if not k:
        return [zero, R]
    if work.revisited is not None or len(P) > 1 or before.size is None:
        carried = Carried(R, size.flatten(1), P)
        return [zero, R + safeguarded_step(torch.zeros_like(R), work, carried, [before], limits)]
    now, rest = R.split((k, W - k))
    step = now - first_rows(before.R, k)
    g = (step * now).sum((2, 3), keepdim=True).cumsum(0, dtype=torch.float64)
    G = torch.linalg.vector_norm(step, dim=(2, 3), keepdim=True).square().cumsum(0, dtype=torch.float64)
    step.add_(first_rows(before.moved, k))
    largest = torch.nn.functional.pad(size[: k - 1].cummax(0).values, (0, 0, 0, 0, 0, 0, 1, 0))  # of the rows before
    fits = (largest / torch.linalg.vector_norm(step, dim=(2, 3), keepdim=True)).mul_(limits.most * (1 + limits.ridge))
    steady = first_rows(size, k) <= limits.growth * first_rows(before.size, k)
    gamma = ((g / G).to(R.dtype).clamp(-fits, fits) * steady).nan_to_num_(0.0, 0.0, 0.0)  # 0 / 0: nothing moved
    by = -1 / (1 + limits.ridge)
    new = torch.addcmul(now, step, gamma, value=by)
    if k == W:
        return [zero, new]
    return [zero, new, torch.addcmul(rest, P[0][k:].cumprod(0), step[-1:] * gamma[-1:], value=by)]


def first_rows(v: Tensor, k: int) -> Tensor:
    """v[:k]; v itself where it is no longer."""
    return v if len(v) == k else v[:k]


def check_variance(v: float) -> None:
    """Raises ValueError unless v is a variance."""
    if not v >= 0:
        raise ValueError(f"variance: given {v!r}; needed: 0 or more, 1 for data of unit scale, math.inf for frozen eps")


def gaussian_carry(system: System, work: WindowState, v: float) -> tuple[Tensor, Tensor]:
    """J (W, B) of data of variance v, and the carry P (K, W, B): P[0] = a + b[0] J, P[k] = b[k] J[n-k]."""
    alpha, sigma = system.alpha, system.sigma
    known = alpha > 1e-12 if v == math.inf else alpha >= 0
    J = torch.where(known, alpha / (alpha**2 + sigma**2 / v) if v else 0 * alpha, 0)  # (N,)
    P = torch.stack([system.b[:, k] * J.roll(k) for k in range(system.taps)])  # (K, N)
    P[0] = torch.where(known, P[0] + system.a, 1)
    return masked_rows(work.on, J[work.n]), torch.stack([masked_rows(work.on, p) for p in P[:, work.n]])


def mixing_weights(R: Tensor, dR: list[Tensor], ridge: float) -> tuple[Tensor, ...]:
    """- gamma, m of (W, B): least squares of R by dR over the rows up to each, added up and solved in float64."""
    tiny = torch.finfo(torch.float64).tiny
    if len(dR) == 1:  # a matrix of one number
        G, g = (row_products(dR[0], v).cumsum(0, dtype=torch.float64) for v in (dR[0], R))
        return (g.div_(G.mul_(-1 - ridge).sub_(tiny)).to(R.dtype),)
    each = torch.stack(dR, 2).flatten(3)  # (W, B, m, d)
    G = (each @ each.mT).double().cumsum(0)  # (W, B, m, m)
    g = (each @ R.flatten(2)[..., None]).double().cumsum(0)  # (W, B, m, 1)
    scale = ridge * G.diagonal(dim1=-2, dim2=-1).sum(-1) + tiny
    G = G + scale[..., None, None] * torch.eye(len(dR), dtype=G.dtype, device=G.device)
    return torch.linalg.solve_ex(G, -g)[0][..., 0].to(R.dtype).unbind(2)


def row_products(u: Tensor, v: Tensor) -> Tensor:
    """The inner products (W, B) of states (W, B, ...)."""
    d = math.prod(u.shape[2:])
    return torch.bmm(u.reshape(-1, 1, d), v.reshape(-1, d, 1)).view(u.shape[:2])


def jacobian_shift(J: Tensor, x: Tensor, work: WindowState) -> Callable[[Tensor], Tensor]:
    """J[n] (x[n] - its old value) of the new states x[1:] (W, B, ...), as `Update` has it; the first state stays."""
    old, new = work.x[1:], x

    def shift(w: Tensor) -> Tensor:
        before = (w - 1).clamp(min=0)
        return (
            expand_like(w > 0, x) * expand_like(pick_rows(J, w), x) * (pick_rows(new, before) - pick_rows(old, before))
        )

    return shift
