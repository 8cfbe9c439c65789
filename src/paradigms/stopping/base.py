"""When a row is settled: the measure that a tolerance bounds.

| criterion    | row n + 1 is settled, as all before it, when | a tolerance of 0.01 means                  |
| `FinalError` | E[n+1] <= tolerance share[n]                 | the finished sample is about 1 % off       |
| `StepNoise`  | RMS(change of x[n+1]) <= tolerance std[n]    | a hundredth of a step's noise in one state |

Nothing is settled below the rounding of numbers: a change of a few units in the last place of the state, or of what
the network answers in, counts as none, and a tolerance below `finest` is taken as that.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..methods.work import Memory, Update, WindowState
from ..system import System
from ..validate import CheckedFields


@dataclass(frozen=True)
class AbstractStop(CheckedFields, ABC):
    """A stopping rule: which steps are finished. Write your own as a frozen dataclass with a `judge`.

    Args:
        tolerance: Finite, 0 or more.

    Raises:
        ValueError: The tolerance cannot be used.
    """

    tolerance: float

    def __post_init__(self) -> None:
        if not (isinstance(self.tolerance, int | float) and math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"tolerance: given {self.tolerance!r}; needed: a finite number, 0 (to rounding) or more")

    def check(self, x: Tensor) -> None:
        """Raises ValueError for states x (B, ...) that the rule is not for. Called before any work."""

    def init(self, system: System, work: WindowState) -> Memory:
        """What the rule remembers before the first round; moved along with the window, as a method's memory is."""
        return ()

    @abstractmethod
    def judge(self, system: System, work: WindowState, sweep: Update, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        """Judges one round.

        Args:
            system: The sampler.
            work: The window before the round.
            sweep: What the method made of it.
            memory: What `init` or the last call returned.

        Returns:
            How far each state is from finished (W, B), at most 1 being finished; how many steps are finished from the
            first on (B,); what to remember.
        """

    def estimate(self, memory: Memory) -> Tensor | None:
        """The estimated error of the finished steps (B,), None where the rule estimates none."""
        return None


@dataclass(frozen=True)
class MeasuredStop(AbstractStop):
    """A rule that decides on the CPU, by a few numbers of each row: a round waits for its device once."""

    @abstractmethod
    def measure(self, system: System, work: WindowState, sweep: Update, memory: Memory) -> list[Tensor]:
        """What `settle` is told besides `sweep.apart`: tensors (R, B), on the device."""

    @abstractmethod
    def settle(
        self, system: System, work: WindowState, sweep: Update, memory: Memory, told: Tensor
    ) -> tuple[Tensor, Tensor, Memory]:
        """What `judge` finds, on the CPU; told: `sweep.apart` and all that was measured (M, B), float64 on the CPU."""

    def judge(self, system: System, work: WindowState, sweep: Update, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        told = torch.cat([sweep.apart, *self.measure(system, work, sweep, memory)])
        return self.settle(system, work, sweep, memory, told.to("cpu", torch.float64))
