"""How much errors grow in a pipeline's loop: measured on states that were evaluated twice.

    y[n]   =  x'[n+1] - a[n] d - b[n] J[n] d,      d = x'[n] - x[n]
    b dD   =  y - y_before - a dX,                 dX = x[n] - x_before[n]

x was evaluated, x' are the states after the sweep, made with the stand-in's J. So y is the state that the networks'
own answers to x give, and dD counts all that a step makes of them: guidance's halves, a ControlNet and its U-Net.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .step_record import WITH_STATE, StepRecord, moved_little, relative_change

# The least b: a step that hardly depends on the answer says nothing of it, and dividing by b would blow up rounding.
# Chosen by hand.
LEAST = 1e-6


class TakenSteps(NamedTuple):
    """What the steps of R rows made of their states, y (R, B, ...), and the table's a and b there, (R, B, 1, ...)."""

    y: Tensor
    a: Tensor
    b: Tensor


@dataclass
class GrowthEvidence:
    """The rows of a window that were evaluated: their states, what their steps made of them, what else was shown."""

    rows: dict[int, tuple[Tensor, Tensor, StepRecord]] = field(default_factory=dict)

    def __call__(
        self, begin: int, x: Tensor, D: Tensor, shown: list[StepRecord], steps: TakenSteps
    ) -> tuple[Tensor, Tensor]:
        """The states (W, B, ...) before, and D - dD; as they are in rows that cannot be compared.

        x, D (W, B, ...) are of rows from `begin`; shown and steps of the first R of them.
        """
        before, answer, (y, a, b) = x.clone(), D.clone(), steps
        for w in range(len(y)):
            if (row := self.rows.get(begin + w)) is not None and comparable_visits(row[2], shown[w], row[0], x[w]):
                dX = x[w] - row[0]
                found = (y[w] - row[1] - a[w] * dX) / torch.where(b[w].abs() > LEAST, b[w], torch.inf)
                before[w], answer[w] = row[0], D[w] - found
        self.rows = {begin + w: (x[w], y[w], shown[w]) for w in range(len(y))}
        return before, answer


def comparable_visits(was: StepRecord, now: StepRecord, x: Tensor, y: Tensor) -> bool:
    """Whether a row's networks were shown the same but for what moved with the state."""
    return x.shape == y.shape and moved_little(was, now, WITH_STATE * relative_change(x, y))


def coarse_rounding(v: Tensor) -> float:
    """The relative rounding of a tensor that is coarser than float32, else 0."""
    eps = torch.finfo(v.dtype).eps
    return eps if eps > torch.finfo(torch.float32).eps else 0.0
