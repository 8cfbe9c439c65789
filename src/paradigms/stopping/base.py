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

from torch import Tensor

from ..methods.work import Memory, Sweep, Work
from ..system import System
from ..validate import Checked


@dataclass(frozen=True)
class AbstractStop(Checked, ABC):
    """A criterion and its tolerance; raises ValueError unless the tolerance is finite and not negative."""

    tolerance: float

    def __post_init__(self) -> None:
        if not (isinstance(self.tolerance, int | float) and math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"tolerance: given {self.tolerance!r}; needed: a finite number, 0 (to rounding) or more")

    def check(self, x: Tensor) -> None:
        """Raises ValueError for states x (B, ...) that it is not for; asked before any work."""

    def init(self, system: System, work: Work) -> Memory:
        """What the criterion remembers before the first sweep; slides as a method's memory does."""
        return ()

    @abstractmethod
    def judge(self, system: System, work: Work, sweep: Sweep, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        """How far each row is from settled, 1 being the limit (W, B); how many may be accepted (B,); its memory."""

    def estimate(self, memory: Memory) -> Tensor | None:
        """The error (B,) that accepted rows may have led to, growth that was seen included; None where not known."""
        return None
