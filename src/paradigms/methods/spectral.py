"""The spectral secant: a Jacobian for each frequency band, learned from the iterates without further evaluations.

    delta[n+1] = a[n] delta[n] + sum_k b[n,k] J[n-k] delta[n-k] + r[n],    J diagonal in the cosine transform, by band

Between two evaluations of a row its state changed by dX and the model's answer by dD. For each sample, row m and band f

    X[m,f] = sum dX dX,   Y[m,f] = alpha[m] sum dX dD        both divided by the sum of dX dX over all bands of the row

Older observations of a row are halved (`forget`) in each round that brings a new one. alpha J lies between 0 (the
answer does not depend on the state) and 1 (the answer follows the state). It is the ratio of Y to X over the rows at a
similar noise level l = log(alpha / sigma). The slope g of Gaussian data is the prior: it decides where the rows have
measured little.

    alpha J[n,f] = (sum_m k[n,m] Y[m,f] + weight g[n,f]) / (sum_m k[n,m] X[m,f] + weight)
    k[n,m] = (1 + (l[n] - l[m])^2 / width^2)^-2,    g = alpha^2 lambda_f / (alpha^2 lambda_f + sigma^2)

k has a heavy tail, so a row that was never evaluated twice takes the J of the nearest rows that were.

A diagonal J leaves out how frequencies and channels depend on each other. One Anderson step along the last change makes
up for a part of that, row by row, with the same weights and safeguards as in `anderson.py`, in coordinates:

    delta[n+1] <- delta[n+1] - gamma[n] (dX[n] + dR[n]),    R[n] = delta[n+1] as carried,    dX, dR since the last round
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..system import System
from ..validate import named_arguments
from .anderson import Carried, Iterate, StepLimits, accelerated, first_rows
from .base import AbstractMethod, step_rows
from .guess import Extrapolate, Guess
from .scan import carry_matrices, recur_rows, rms
from .spectrum import Spectrum, check_grid, spectrum_of
from .work import Evaluate, Memory, Update, WindowState, pick_rows


@dataclass(frozen=True)
class LearnedSecants:
    """What was learned of J, and what the table alone says of it.

    Attributes:
        spectrum: Of the states.
        base: What is added to the sums over rows, weight and weight g (2, N, B F).
        alike: k[n,m], and k[n,m] alpha[m] (2, N, N).
        alpha: (N, 1, 1).
        rows: Of each row a, b[0], 1 / alpha, or 0 where there is no signal, and the smallest alpha J: 0, or 1 - gain
            where data are limited (4, N, 1).
        sums: X, and Y without its alpha (2, N, B, F).
    """

    spectrum: Spectrum
    base: Tensor
    alike: Tensor
    alpha: Tensor
    rows: Tensor
    sums: Tensor

    @property
    def X(self) -> Tensor:
        """(N, B, F)."""
        return self.sums[0]

    @property
    def Y(self) -> Tensor:
        """(N, B, F)."""
        return self.alpha * self.sums[1]


class LastRound(NamedTuple):
    """What `Spectral` remembers of a round.

    Attributes:
        moved: The change of x (W + 1, B, C, S).
        square: Its sums of squares by band (W + 1, B, F).
        carried: R (W, B, C, S), before the Anderson step.
        known: What was learned of J.
        size: The norms of R (W, B, 1, 1).
    """

    moved: Tensor
    square: Tensor
    carried: Tensor
    known: LearnedSecants
    size: Tensor

    @property
    def of_known_rows(self) -> bool:
        """Rows that enter the window are not looked at before they were evaluated."""
        return True


@named_arguments
@dataclass(frozen=True)
class Spectral(AbstractMethod):
    """The spectral secant, the default: learns for each frequency band how corrections travel from step to step.

    Costs no evaluations beyond those of the round, and remembers two states for each step of the window.

    Args:
        guess: What states hold before the model has seen them.
        width: Noise levels within this distance inform each other, in units of log(alpha / sigma).
        weight: Of what Gaussian data would do, where one well-observed step has weight 1.
        forget: Share of older observations that a round keeps.
        grid: Height and width of the picture that tokens (L, C) make, for states of that form.
        most: Largest Anderson correction, relative to what moved before a step; 0 leaves that part out.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Ours; the equations are in the file.
    """

    compiles: ClassVar[bool] = True

    guess: Guess = field(default_factory=Extrapolate)
    width: float = 0.5
    weight: float = 0.03
    forget: float = 0.5
    grid: Sequence[int] | None = None
    most: float = 1.0

    def __post_init__(self) -> None:
        for name in ("width", "weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: given {getattr(self, name)!r}; needed: a positive, finite number")
        if not 0 <= self.forget <= 1:
            raise ValueError(f"forget: given {self.forget!r}; needed: a number from 0 (all) to 1 (nothing)")
        if not self.most >= 0:
            raise ValueError(f"most: given {self.most!r}; needed: 0 (no Anderson step) or more, inf for no limit")
        check_grid(self.grid)

    def check(self, x: Tensor) -> None:
        check_grid(self.grid, x.shape[1])

    def begun(self, system: System, x: Tensor) -> LearnedSecants:
        """What is known before any evaluation of states like x (B, ...)."""
        s, N, B = spectrum_of(x, self.grid), len(system), len(x)
        what = "spectral", self.width, self.weight, s.shape, s.places
        base, alike, alpha, rows = system.once(what, lambda: table_prior(system, s, self.width, self.weight))
        return LearnedSecants(s, base.repeat(1, 1, B), alike, alpha, rows, x.new_zeros(2, N, B, len(s.count)))

    def init(self, system: System, work: WindowState) -> Memory:
        known = self.begun(system, work.x[0])
        one = known.spectrum.forward(work.x[:1])
        moved = one.new_zeros(len(work.x), *one.shape[1:])
        square = one.new_zeros(*moved.shape[:2], known.sums.shape[3])
        return LastRound(moved, square, moved[1:], known, moved.new_zeros(len(moved) - 1, moved.shape[1], 1, 1))

    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        D, y = step_rows(system, work, evaluate)
        moved, square, R_before, known, size_before = memory
        W, k, s = len(D), work.revisited_rows, known.spectrum
        apart = y.new_empty(W + k, *y.shape[1:])
        parts = apart.split((W, k))
        torch.sub(y, work.x[1:], out=parts[0])
        secant = None
        if k:
            torch.sub(D[:k], work.outputs(k), out=parts[1])
        r, dD = s.forward(apart).split((W, k))
        if k:
            secant = first_rows(square, k), s.sums(moved[:k], dD), torch.linalg.vector_norm(dD, dim=(2, 3))
            rows = work.n[:k] if work.first is None else slice(work.first, work.first + k)
            known = self.learn(known, *secant[:2], rows, work.revisited)
        J, P, J_last = self.carry(system, known, work)
        R = recur_rows(r, P)  # of x[n+1], (W, B, C, S)
        size = torch.linalg.vector_norm(R, dim=(2, 3), keepdim=True)
        R = torch.where(size < math.inf, R, 0.0)  # a row that has no finite norm takes its own step
        size.nan_to_num_(0.0, 0.0)
        if self.most:
            before = Iterate(moved[1:], R_before, size_before)
            moved = torch.cat(accelerated(work, Carried(R, size, P), before, StepLimits(self.most)))
        else:
            moved = torch.cat([torch.zeros_like(R[:1]), R])
        new = moved[1:]
        square = s.sums(moved, moved)
        torch.sub(new, r, out=r)  # 0 at the first row, which takes its sequential step
        off = rms(r)
        # In its place is transformed by how much the last row's D changes, of which the rows that enter are guessed.
        torch.mul(J_last, moved[-2:-1], out=r[:1])
        x = s.inverse(r, y)
        first = x[:1]
        last = first.clone()
        first.zero_()
        x.add_(y)

        def shift(w: Tensor) -> Tensor:
            if w.tolist() == [[W - 1] * w.shape[1]]:
                return last
            bands = J.view(W, -1, known.sums.shape[3])
            return s.inverse(s.spread(pick_rows(bands, w)) * pick_rows(moved, w), y)

        update = Update(x, D, y, work.live, None, (s, square[1:]), secant, shift, off)
        return update, LastRound(moved, square, R, known, size)

    def learn(
        self, known: LearnedSecants, XX: Tensor, XD: Tensor, n: Tensor | slice, twice: Tensor | None
    ) -> LearnedSecants:
        """Adds an observation of rows n, (W, B) or alike in all samples: the sums dX dX and dX dD (W, B, F) between
        their last two evaluations.

        twice (W, B): which of the rows were evaluated twice, all if None.
        """
        observed = torch.stack([XX, XD]).div_(XX.sum(2, keepdim=True)).nan_to_num_(0.0, 0.0, 0.0)  # 0 / 0, too
        left = self.forget * known.sums
        if twice is not None:
            twice = twice.to(left.device, non_blocking=True)
            observed = torch.where(twice[..., None], observed, 0)
            left = torch.where(twice.any(0)[:, None], left, known.sums)
        if isinstance(n, slice):
            left[:, n].add_(observed)
        else:
            b, both = torch.arange(n.shape[1], device=n.device), torch.arange(2, device=n.device)[:, None, None]
            left.index_put_((both, n, b), observed, accumulate=True)
        return replace(known, sums=left)

    def jacobian(self, system: System, known: LearnedSecants, work: WindowState) -> Tensor:
        """J (W, B, F) of the window's rows; 0 where there is no signal."""
        W, begin = len(work.n), work.begin if work.first is None else [work.first]
        rows = slice(min(begin), min(max(begin) + W, len(system)))
        J = jacobian_of_rows(system, known, rows)[0].view(-1, *known.sums.shape[2:])
        return J if rows.start == max(begin) and len(J) == W else pick_rows(J, work.n - rows.start)

    def carry(self, system: System, known: LearnedSecants, work: WindowState) -> tuple[Tensor, list[Tensor], Tensor]:
        """J (W, B, F), and as factors of coordinates P (W, B, 1, S) of each tap and J of the last row."""
        if work.first is None or system.taps > 1:
            J = self.jacobian(system, known, work)
            P = carry_matrices(work.coefficients(system), work.on, J)
        else:
            J, a, b = jacobian_of_rows(system, known, slice(work.first, work.first + len(work.n)))
            P = [torch.addcmul(a, b, J)]
        W, taps = len(J), len(P)
        wide = torch.cat([*P, J[-1:]]).view(taps * W + 1, -1, 1, known.sums.shape[3])
        *P, last = wide.index_select(3, known.spectrum.band).split([*[W] * taps, 1])
        return J, P, last


def jacobian_of_rows(system: System, known: LearnedSecants, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """J (R, B F) of rows of the table, and their a and b[0] (R, 1)."""
    a, b, per, least = known.rows[:, rows].unbind()
    X, Y = torch.baddbmm(known.base[:, rows], known.alike[:, rows], known.sums.flatten(2)).unbind()
    share = Y / X
    share = share.maximum(least).clamp_(max=1) if system.denoiser.limited else share.clamp_(0, 1)
    return share.mul_(per), a, b


def table_prior(system: System, s: Spectrum, width: float, weight: float) -> tuple[Tensor, ...]:
    """What the table alone says: base of one sample, alike, alpha and rows of `LearnedSecants`."""
    level, alpha = log_snr(system), system.alpha[:, None, None]
    g = system.alpha[:, None] ** 2 * s.prior
    g = g / (g + system.sigma[:, None] ** 2).clamp(min=1e-30)
    alike = (1 + ((level[:, None] - level) / width) ** 2) ** -2
    per = torch.where(alpha > 0, 1 / alpha.clamp(min=1e-30), 0)
    base = weight * torch.stack([torch.ones_like(g), g])
    rows = torch.stack([system.a, system.b[:, 0], per[:, 0, 0], system.denoiser.least.to(per)])[..., None]
    return base, torch.stack([alike, alike * system.alpha]), alpha, rows


def log_snr(system: System) -> Tensor:
    """l = log(alpha / sigma) (N,), within what a float32 square holds."""
    return (system.alpha.clamp(min=1e-12) / system.sigma.clamp(min=1e-12)).log()
