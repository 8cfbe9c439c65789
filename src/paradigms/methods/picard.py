"""Jacobi and Picard, the two methods with a constant carry: p = 0 and p = 1."""

from __future__ import annotations

from dataclasses import dataclass

from ..system import System
from ..validate import named
from .base import AbstractMethod, step
from .scan import scan
from .work import Evaluate, Memory, Sweep, Work


@named
@dataclass(frozen=True)
class Jacobi(AbstractMethod):
    """p = 0: every row takes its own step, news travels one row a round. The floor that any method must beat."""

    def sweep(self, system: System, work: Work, evaluate: Evaluate, memory: Memory) -> tuple[Sweep, Memory]:
        D, y = step(system, work, evaluate)
        return Sweep(y, D, y, work.live), memory


@named
@dataclass(frozen=True)
class Picard(AbstractMethod):
    """p = 1: the drifts are summed, x[n+1] = x[begin] + sum of (step(x) - x). Source: Shih et al. 2023, algorithm 1."""

    def sweep(self, system: System, work: Work, evaluate: Evaluate, memory: Memory) -> tuple[Sweep, Memory]:
        D, y = step(system, work, evaluate)
        x = y.clone()
        x[1:].add_(scan(y[:-1] - work.x[1:-1]))
        return Sweep(x, D, y, work.live), memory
