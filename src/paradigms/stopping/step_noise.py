"""The paper's criterion: a state has moved by less than a share of the noise that its row adds.

    RMS(change of x[n+1]) <= tolerance std[n]

The first state that still moved is accepted too, because it was computed from settled ones. At tolerance 0 rows must be
exact, see `rounding.py`. For methods that give the first unsettled row its sequential step, the two rules agree; the
rule of `rounding.py` also holds for the other methods.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..methods.work import Memory, Update, WindowState, row_places
from ..system import System
from ..validate import named_arguments
from .arithmetic import TENSORS
from .base import MeasuredStop
from .rounding import exact_numbers, settle_exact, unmoved_rounding


@named_arguments
@dataclass(frozen=True)
class StepNoise(MeasuredStop):
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

    def measure(self, system: System, work: WindowState, sweep: Update, memory: Memory) -> list[Tensor]:
        return exact_numbers(work, sweep)

    def settle(
        self, system: System, work: WindowState, sweep: Update, memory: Memory, told: Tensor
    ) -> tuple[Tensor, Tensor, Memory]:
        if self.tolerance == 0:
            return settle_exact(work, sweep, told, memory)
        root, (_, norm, moved) = math.sqrt(math.prod(work.x.shape[2:])), told.chunk(3)
        n = torch.tensor(work.begin) + row_places(len(moved))
        std = torch.tensor(system.stds, dtype=told.dtype)[n.clamp(max=len(system) - 1)]
        still = moved / norm.clamp(min=1e-30 * root) <= unmoved_rounding(work)  # and not where either is infinite
        change = torch.where(still, 0.0, moved / root / std)
        count = TENSORS.leading(change <= self.tolerance).minimum(torch.tensor(work.inside)) + 1
        return change / self.tolerance, count, memory
