"""The paper's criterion: a state has moved by less than a share of the noise that its row adds.

    RMS(change of x[n+1]) <= tolerance std[n]

The first state that still moved is accepted too, because it was computed from settled ones. At tolerance 0 rows must be
exact, see `rounding.py`. For methods that give the first unsettled row its sequential step, the two rules agree; the
rule of `rounding.py` also holds for the other methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..methods.work import Memory, Update, WindowState
from ..system import System
from ..validate import named_arguments
from .base import MeasuredStop, by_sample, leading
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
        self, system: System, work: WindowState, sweep: Update, memory: Memory, told: Sequence[Sequence[float]]
    ) -> tuple[Tensor, Tensor, Memory]:
        if self.tolerance == 0:
            return settle_exact(work, sweep, told, memory)
        W, root, unit, std = len(work.n), math.sqrt(math.prod(work.x.shape[2:])), unmoved_rounding(work), system.stds
        changes, counts = [], []
        for each, begin, inside in zip(told, work.begin, work.inside, strict=True):
            change = []
            for n, norm, moved in zip(range(begin, begin + W), each[W : 2 * W], each[2 * W :], strict=True):
                still = moved / max(norm, 1e-30 * root) <= unit  # and not where either is infinite
                change.append(0.0 if still else moved / root / std[min(n, len(std) - 1)])
            changes.append([v / self.tolerance for v in change])
            counts.append(min(leading([v <= self.tolerance for v in change]), inside) + 1)
        return *by_sample(changes, counts), memory
