"""One round as it ended, before the window slides; a stretch of single steps is told of as one.

of B samples the rows [begin, end) were evaluated, and the first `stride` of them accepted
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ..execution.evaluate import Evaluator
from ..methods.work import Sweep, pick
from .trace import Told


class Frame(Protocol):
    """A round of W rows, or a stretch of W steps, of which `round` is the last.

    x (W + 1, B, ...) new states from row `begin` (B,) on, D (W, B, ...) what the stand-in says of them, size (W, B)
    how far each is from settled, 1 being the limit, stride (B,) how many rows were accepted, residual (B,) the largest
    distance, in std, of an accepted state from the step the model gave, last (B, ...) the last accepted states, single
    the steps of a stretch, else 0. estimate (B,): the error that accepted rows may have led to, as the criterion
    estimates it, None where it does not. `evaluate` counts, and `told` is what is kept of it.
    """

    @property
    def round(self) -> int: ...
    @property
    def begin(self) -> Tensor: ...
    @property
    def end(self) -> Tensor: ...
    @property
    def stride(self) -> Tensor: ...
    @property
    def x(self) -> Tensor: ...
    @property
    def D(self) -> Tensor: ...
    @property
    def size(self) -> Tensor: ...
    @property
    def residual(self) -> Tensor: ...
    @property
    def last(self) -> Tensor: ...
    @property
    def evaluate(self) -> Evaluator: ...
    @property
    def estimate(self) -> Tensor | None: ...
    @property
    def single(self) -> int: ...
    @property
    def told(self) -> Told: ...


@dataclass(frozen=True)
class Slide:
    """A round of a window: `first` (B, ...) is its first state, `sweep` what it found.

    The rows W are those that the chain has left, of the `window` that was asked for.
    """

    round: int
    window: int
    begin: Tensor
    end: Tensor
    stride: Tensor
    first: Tensor
    sweep: Sweep
    size: Tensor
    residual: Tensor
    evaluate: Evaluator
    estimate: Tensor | None = None
    single: int = 0

    @cached_property
    def x(self) -> Tensor:
        """The states (W + 1, B, ...)."""
        return torch.cat([self.first[None], self.sweep.x])

    @cached_property
    def D(self) -> Tensor:
        """The outputs (W, B, ...)."""
        return self.sweep.known(torch.arange(len(self.size), device=self.first.device)[:, None])

    @property
    def last(self) -> Tensor:
        """The last accepted states (B, ...)."""
        return pick(self.x, self.stride[None].to(self.x.device))[0]

    @property
    def told(self) -> Told:
        """What is kept of it."""
        each = self.begin.tolist(), self.stride.tolist(), self.residual.tolist()
        return Told(*each, max(self.end.tolist()), self.evaluate.evals, self.window, 0)
