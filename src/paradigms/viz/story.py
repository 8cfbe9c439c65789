"""What an animation shows: one run of the sequential and the parallel sampler from the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .record import Moment


@dataclass(frozen=True)
class Story:
    """What is told: the first B samples of one run on a chain of `rows` rows, R rounds and R sequential steps.

    start (B, C, H, W) the noise both begin with, parallel R moments, sequential R states (B, C, H, W), one a step.
    """

    title: str
    rows: int
    window: int
    tolerance: float
    start: Tensor
    parallel: Sequence[Moment]
    sequential: Sequence[Tensor]
    converged: bool

    @property
    def subtitle(self) -> str:
        """How it was run."""
        count = len(self.start)
        samples = f"{count} sample{'s' * (count != 1)}"
        return f"{samples}, the same noise twice; window {self.window}, tolerance {self.tolerance:g}"
