"""The paper's criterion: a state has moved by less than a share of the noise that its row adds.

    RMS(change of x[n+1]) <= tolerance std[n]

The first state that still moved is accepted too, for it came of settled ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..methods.scan import leading, rms
from ..methods.work import Memory, Sweep, Work
from ..system import System
from ..validate import named
from .base import AbstractStop
from .rounding import rounding


@named
@dataclass(frozen=True)
class StepNoise(AbstractStop):
    """RMS change of a state in units of the noise of its row. Source: Shih et al. 2023, algorithm 1, lines 8, 9.

    A change within the rounding of the state counts as none, so that a tolerance of 0 can be met.
    """

    def judge(self, system: System, work: Work, sweep: Sweep, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        moved = rms(sweep.x - work.x[1:])
        still = moved / rms(sweep.x).clamp(min=1e-30) <= rounding(work)  # and not where either is infinite
        change = torch.where(still, 0, moved / system.std[work.n])
        settled = leading(change <= self.tolerance)
        inside = work.live.sum(0).to(settled.device, non_blocking=True)
        return change / max(self.tolerance, 1e-30), settled.minimum(inside) + 1, memory
