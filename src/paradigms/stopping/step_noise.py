"""The paper's criterion: a state has moved by less than a share of the noise that its row adds.

    RMS(change of x[n+1]) <= tolerance std[n]

The first state that still moved is accepted too, because it was computed from settled ones. At tolerance 0 rows must be
exact, see `rounding.py`. For methods that give the first unsettled row its sequential step, the two rules agree; the
rule of `rounding.py` also holds for the other methods.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..methods.scan import leading_rows, rms
from ..methods.work import Memory, Update, WindowState
from ..system import System
from ..validate import named_arguments
from .base import AbstractStop
from .rounding import distance_from_exact, unmoved_rounding


@named_arguments
@dataclass(frozen=True)
class StepNoise(AbstractStop):
    """The paper's rule: a state is finished when it moves by less than a share of the noise that its step adds.

    A tolerance of 0.1 is harmless with 1000 steps and gives other pictures with 50, for it says nothing of the sample.

    Args:
        tolerance: Largest RMS change of a state, in units of std[n].

    Raises:
        ValueError: The tolerance cannot be used.

    Source:
        Shih et al. 2023, algorithm 1, lines 8 and 9.

    Example:
        >>> import paradigms as pd
        >>> pd.StepNoise(0.1).tolerance
        0.1
    """

    def judge(self, system: System, work: WindowState, sweep: Update, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        if self.tolerance == 0:
            size = distance_from_exact(work, sweep)
            return size, leading_rows(size <= 1).clamp(min=1), memory
        moved = rms(sweep.x - work.x[1:])
        still = moved / rms(sweep.x).clamp(min=1e-30) <= unmoved_rounding(work)  # and not where either is infinite
        change = torch.where(still, 0, moved / work.coefficients(system).std)
        settled = leading_rows(change <= self.tolerance)
        inside = work.inside.to(settled.device, non_blocking=True)
        return change / self.tolerance, settled.minimum(inside) + 1, memory
