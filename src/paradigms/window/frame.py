"""`Frame`: one round of a window as it ended, before the window slides.

of B samples the rows [begin, end) were evaluated, and the first `stride` of them accepted
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ..execution.evaluate import Evaluator
from ..methods.work import Update, pick_rows
from .trace import FrameRecord


class Frame(Protocol):
    """One round of a window, or several single steps in a row, as `iterate` yields them.

    Attributes:
        round: Rounds so far; for single steps the number of the last one.
        begin: First step of the window, of each sample (B,).
        end: The step after the last one (B,).
        stride: Steps finished in this round (B,).
        x: States (W + 1, B, ...), from step `begin` on.
        D: Denoised estimates (W, B, ...) for those states.
        size: How far each state is from finished (W, B); at most 1 is finished.
        residual: Largest distance of a finished state from the step that the model gives, in units of std[n] (B,).
        last: The last finished states (B, ...).
        estimate: Estimated error so far (B,), None where the stopping rule estimates none.
        single: How many single steps these are, 0 for a round of a window.
        evaluate: Counts: `evaluate.evaluations` is the evaluations so far.
        record: What `Solution` keeps of the frame.
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
    def record(self) -> FrameRecord: ...


@dataclass(frozen=True, eq=False)
class WindowRound:
    """A round of a window: `first` (B, ...) is its first state, `sweep` what it found.

    span: begin, end and stride of each sample; off: its residual. The rows W are those that the chain has left, of the
    `window` that was asked for.
    """

    round: int
    window: int
    span: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    first: Tensor
    sweep: Update
    size: Tensor
    off: tuple[float, ...]
    evaluate: Evaluator
    estimate: Tensor | None = None
    single: int = 0

    @cached_property
    def begin(self) -> Tensor:
        """The first row (B,)."""
        return torch.tensor(self.span[0])

    @cached_property
    def end(self) -> Tensor:
        """The row (B,) after the last one."""
        return torch.tensor(self.span[1])

    @cached_property
    def stride(self) -> Tensor:
        """How many rows (B,) were accepted."""
        return torch.tensor(self.span[2])

    @cached_property
    def residual(self) -> Tensor:
        """The largest distance (B,) of an accepted state from its row's own step."""
        return torch.tensor(self.off, dtype=self.first.dtype)

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
        stride = self.span[2]
        if min(stride) == max(stride) > 0:
            return self.sweep.x[stride[0] - 1]
        return pick_rows(self.x, self.stride[None].to(self.x.device))[0]

    @property
    def record(self) -> FrameRecord:
        """What is kept of it."""
        begin, end, stride = self.span
        return FrameRecord(begin, stride, self.off, max(end), self.evaluate.evaluations, self.window, 0)
