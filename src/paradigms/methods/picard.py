"""Jacobi and Picard, the two methods with a constant carry: p = 0 and p = 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..system import System
from ..validate import named_arguments
from .base import AbstractMethod, step_rows
from .scan import scan
from .work import Evaluate, Memory, Update, WindowState


@named_arguments
@dataclass(frozen=True)
class Jacobi(AbstractMethod):
    """Every state takes its own step and nothing else (p = 0): the least that a method must beat.

    A correction travels one step a round, so it takes as many rounds as steps.

    Args:
        guess: What states hold before the model has seen them.
    """

    compiles: ClassVar[bool] = True

    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        D, y = step_rows(system, work, evaluate)
        return Update(y, D, y, work.live), memory


@named_arguments
@dataclass(frozen=True)
class Picard(AbstractMethod):
    """Picard iteration, the paper's method: all steps of a window are added up.

    In the terms of equation (2): p = 1, so ``x[n+1] = x[begin] + sum of (step(x) - x)``.

    Args:
        guess: What states hold before the model has seen them; `Copy()` as in the paper.

    Source:
        Shih et al. 2023, algorithm 1.

    Example:
        The paper's method and stopping rule:

        >>> import torch, paradigms as pd
        >>> system = pd.ddpm(pd.linear(), steps=50)
        >>> x = system.noise((1, 4), torch.Generator().manual_seed(0))
        >>> rule = pd.StepNoise(0.1)
        >>> pd.sample(lambda x, t: 0.1 * x, system, x, pd.Picard(), window=25, tolerance=rule).converged
        True
    """

    compiles: ClassVar[bool] = True

    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        D, y = step_rows(system, work, evaluate)
        x = y.clone()
        x[1:].add_(scan(y[:-1] - work.x[1:-1]))
        return Update(x, D, y, work.live), memory
