"""First guesses: what a row holds before the model has seen it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..system import System, only, rows
from ..validate import named
from .scan import run
from .work import Work, partly


class Guess(ABC):
    """What a row holds before the model has seen it."""

    @abstractmethod
    def fill(self, system: System, work: Work, known: Tensor) -> Tensor:
        """States (W + 1, B, ...): work.x with x[w+1] guessed for w >= known (B,), which is on the CPU.

        The last D is D[H + known - 1], and `newest` knows more of it where it is not None.
        """


@named
@dataclass(frozen=True)
class Copy(Guess):
    """The last state, copied. Source: Shih et al. 2023, algorithm 1, line 11."""

    def fill(self, system: System, work: Work, known: Tensor) -> Tensor:
        return work.x


@named
@dataclass(frozen=True)
class Extrapolate(Guess):
    """The chain run on with the last denoised estimate held fixed, drawn noise included; before there is one, with 0.

    Its gain over `Copy` was published as ParaSolver (ICLR 2025); that it is equation (2) with J = 0 is ours.
    """

    def fill(self, system: System, work: Work, known: Tensor) -> Tensor:
        W, B = work.n.shape
        k = min(known.tolist())  # rows before k are known in every sample
        if k == W:
            return work.x
        x, n, b = work.x, work.n[k:], torch.arange(B, device=work.n.device)
        last = work.newest  # (B, ...)
        if last is None:
            last = work.D[len(work.D) - W - 1 + known.to(b.device, non_blocking=True), b]
        r, p = rows(system.b[n].sum(-1), x) * last, system.a[n]
        if work.z is not None:
            r.addcmul_(rows(system.c[n], x), work.z[k:])
        new = partly(torch.arange(k, W)[:, None] >= known)  # (W - k, B)
        r, p = only(new, r, work.x[k + 1 :]), only(new, p)
        r[0].addcmul_(rows(p, r)[0], work.x[k])
        return torch.cat([work.x[: k + 1], run(r, [p])])
