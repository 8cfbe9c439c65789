"""Newton's iteration with the diagonal of the model's Jacobian, estimated by one probe a row in the same round:

    J[n] = v (D(x[n] + h v) - D(x[n])) / h,    v = +-1 at random,    h = reach sigma[n]
    delta[n+1] = a[n] delta[n] + sum_k b[n,k] damping J[n-k] delta[n-k] + r[n],    0 <= J <= limit / alpha

The mean of J over v is the diagonal, and J is the diagonal itself where the Jacobian has no other entries. v is drawn
once from `seed` for the shape of a state: it is the same at every row, round and sample, so nothing depends on the
window or on the batch. Finite differences need a model that can be called, not one that can be differentiated.

Each row costs two evaluations, x[n] and x[n] + h v, in one batch: the price of a round is that of twice the window.

The safeguard: J lies between that of a fixed estimate (J = 0) and `limit` times that of a fixed noise direction
(J = 1 / alpha). So for limit 1 and one tap p lies in [a, alpha'/alpha]. A row whose correction is not finite takes its
own step alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..system import System, expand_like, masked_rows
from ..validate import named_arguments
from .anderson import jacobian_shift
from .base import AbstractMethod, with_history
from .guess import Extrapolate, Guess
from .scan import carried_on, carry_matrices, recur_rows, zero_nonfinite
from .work import Evaluate, Memory, Update, WindowState


class ProbeSigns(NamedTuple):
    """The signs v (1, B, ...) along which every row is probed; they do not move with the window."""

    signs: Tensor


@named_arguments
@dataclass(frozen=True)
class QuasiNewton(AbstractMethod):
    """Newton's iteration with the diagonal of the model's Jacobian; two evaluations a step (quasi-DEER).

    Args:
        guess: What states hold before the model has seen them.
        damping: 0 freezes the estimate, 1 is Newton.
        reach: Distance of the probe, in units of the noise of its step.
        limit: Largest Jacobian entry, in units of 1 / alpha.
        seed: Of the probe's signs.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Gonzalez et al. 2024.
    """

    guess: Guess = field(default_factory=Extrapolate)
    damping: float = 1.0
    reach: float = 0.01
    limit: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.damping <= 1:
            raise ValueError(f"damping: given {self.damping!r}; needed: a number from 0 (J = 0) to 1 (Newton)")
        for name in ("reach", "limit"):
            given = getattr(self, name)
            if not (math.isfinite(given) and given > 0):
                raise ValueError(f"{name}: given {given!r}; needed: a finite positive number")

    def init(self, system: System, work: WindowState) -> Memory:
        """The probe's signs."""
        shape = work.x.shape[2:]
        coin = torch.randint(2, shape, generator=torch.Generator().manual_seed(self.seed))
        return ProbeSigns((2 * coin - 1).to(work.x).expand(1, *work.x.shape[1:]))

    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        W, (v,) = len(work.n), memory
        h = expand_like(self.reach * system.sigma.clamp(min=1e-6)[work.n], work.x)
        D, probed = evaluate(work.x[:-1], work.x[:-1] + h * v)
        J = v * (probed - D) / h
        D = masked_rows(work.on, D, work.D[-W:])
        y = system.step(work.x[:-1], with_history(system, work, D), work.z, work.n)
        J = self.bounded(system, work, J)
        P = carry_matrices(work.coefficients(system), work.on, J)
        x = y + zero_nonfinite(carried_on(recur_rows(y - work.x[1:], P), P))
        return Update(x, D, y, work.live, shift=jacobian_shift(J, x, work)), memory

    def bounded(self, system: System, work: WindowState, J: Tensor) -> Tensor:
        """damping J (W, B, ...) within its bounds; 0 where alpha is 0 and has none, or where it is not finite.

        Where data are limited J may fall to (1 - gain) / alpha, see `denoiser.py`.
        """
        known = system.alpha > 1e-12
        per = torch.where(known, 1 / torch.where(known, system.alpha, 1), 0)
        least, most = (expand_like(v[work.n], J) for v in (per * system.denoiser.least, self.limit * per))
        return self.damping * torch.nan_to_num(J, nan=0.0).maximum(least).minimum(most)
