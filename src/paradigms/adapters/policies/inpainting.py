"""Observations as entries of the state: what is known is set before every call of the network.

    x[n+1] = (1 - M) (a[n] x[n] + sum_k b[n,k] D[n-k] + c[n] z[n]) + M v

So the entries M of all states are the constants v, and the sample has them too. Source: Janner et al. 2022, Planning
with Diffusion; Chi et al. 2023, Diffusion Policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ...methods.guess import Guess
from ...methods.work import WindowState
from ...system import System


@dataclass(frozen=True)
class InpaintedSystem(System):
    """A table whose states hold `value` (B, ...) where `mask` (B, ...) says so."""

    mask: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.bool))
    value: Tensor = field(default_factory=lambda: torch.zeros(()))

    def step(self, x: Tensor, D: Tensor, z: Tensor | None, n: Tensor) -> Tensor:
        """The row of the docstring above."""
        return self.keep(super().step(x, D, z, n))

    def keep(self, x: Tensor) -> Tensor:
        """x (..., B, ...) with its known entries set."""
        return torch.where(self.mask, self.value, x)


@dataclass(frozen=True)
class KeptGuess(Guess):
    """Another guess with the known entries set."""

    guess: Guess

    def fill(self, system: System, work: WindowState, known: Tensor) -> Tensor:
        x = self.guess.fill(system, work, known)
        return system.keep(x) if isinstance(system, InpaintedSystem) else x


def inpainted_system(system: System, mask: Tensor, value: Tensor) -> InpaintedSystem:
    """The table `system` with the entries `mask` of its states set to `value`, both (B, ...)."""
    value = value.to(torch.promote_types(value.dtype, torch.float32))
    return InpaintedSystem(**{f.name: getattr(system, f.name) for f in fields(system)}, mask=mask, value=value)
