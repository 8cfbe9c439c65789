"""When a row is settled: the measure that a tolerance bounds.

| criterion    | row n + 1 is settled when                                        | a tolerance of 0.1 means          |
| `StepNoise`  | RMS(change of x[n+1]) <= tolerance std[n], and all rows before   | a tenth of a step's noise a state |

`StepNoise` is the paper's. Its first state that still moved is accepted too, because it was just computed from states
that did not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from .method import Memory, Sweep, Work
from .system import System


@dataclass(frozen=True)
class AbstractStop(ABC):
    """A criterion and its tolerance; raises ValueError unless the tolerance is finite and not negative."""

    tolerance: float

    def __post_init__(self) -> None:
        if not (isinstance(self.tolerance, int | float) and math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"tolerance: given {self.tolerance!r}; needed: a finite number, 0 (exact) or more")

    def init(self, system: System, work: Work) -> Memory:
        """What the criterion remembers before the first sweep; slides as a method's memory does."""
        return ()

    @abstractmethod
    def judge(self, system: System, work: Work, sweep: Sweep, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        """How far each row is from settled, 1 being the limit (W, B); how many may be accepted (B,); its memory."""


@dataclass(frozen=True)
class StepNoise(AbstractStop):
    """RMS change of a state in units of the noise of its row. Source: Shih et al. 2023, algorithm 1, lines 8, 9."""

    def judge(self, system: System, work: Work, sweep: Sweep, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        change = rms(sweep.x - work.x[1:]) / system.std[work.n]
        settled = (change <= self.tolerance) & work.live
        return change / max(self.tolerance, 1e-30), leading(settled) + 1, memory


def leading(settled: Tensor) -> Tensor:
    """How many rows (B,) of settled (W, B) are, before the first that is not."""
    return settled.long().cumprod(0).sum(0)


def rms(v: Tensor) -> Tensor:
    """Root mean square of v (W, B, ...) over each state (W, B)."""
    return torch.linalg.vector_norm(v.flatten(2), dim=2) / v[0, 0].numel() ** 0.5
