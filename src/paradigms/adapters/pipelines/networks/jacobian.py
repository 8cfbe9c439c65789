"""The Jacobian J of a network's answer that each method assumes between evaluated points, in equation (2):

    S[n](y) = D[n] + J[n] (y - x[n])

| method                      | J                                                              |
| `ExponentialPicard(inf)`    | 1 / alpha: the noise it sees does not move: frozen output      |
| `ExponentialPicard(v)`      | that of Gaussian data of variance v; 0: the data held fixed    |
| `Picard`                    | (1 - a) / b, so that p = 1: ParaDiGMS                          |
| `Jacobi`                    | -a / b, so that p = 0                                          |
| `Spectral`                  | learned per frequency band                                     |

The classes are the core's; what they say about a table's rows they say here about a network's calls.
"""

from __future__ import annotations

import functools
from typing import Protocol

import torch
from torch import Tensor

from ....methods.anderson import ExponentialPicard, gaussian_carry
from ....methods.base import AbstractMethod
from ....methods.picard import Jacobi, Picard
from ....methods.spectral import Spectral
from ....methods.work import WindowState
from ....system import System
from ....validate import refusal

# How many rows' J are computed at once. Chosen by hand.
AHEAD = 32


class AssumedJacobian(Protocol):
    """J of the rows of a chain; states are (B, ...), float32."""

    def learn(self, n: Tensor, dX: Tensor, dD: Tensor) -> None:
        """Rows n (M,) were looked at again: their states moved by dX (M, B, ...), the answers by dD."""

    def times(self, n: int, d: Tensor) -> Tensor:
        """J[n] d, for a difference d (B, ...) of states."""


class FixedJacobian:
    """J (N,) that is known beforehand."""

    def __init__(self, J: Tensor) -> None:
        self.J = J.nan_to_num(0, 0, 0)

    def learn(self, n: Tensor, dX: Tensor, dD: Tensor) -> None:
        """Nothing is learned."""

    def times(self, n: int, d: Tensor) -> Tensor:
        """J[n] d."""
        return float(self.J[n]) * d


class LearnedJacobian:
    """J per frequency band, by `Spectral`."""

    def __init__(self, method: Spectral, system: System, x: Tensor) -> None:
        self.method, self.system = method, system
        self.known = method.begun(system, x)
        self.J: dict[int, Tensor] = {}  # (1, B, F) a row, since it last learned

    def learn(self, n: Tensor, dX: Tensor, dD: Tensor) -> None:
        """Secants of the rows that moved."""
        s, B = self.known.spectrum, dX.shape[1]
        moved, answered = s.forward(dX), s.forward(dD)
        XX, XD = s.sums(moved, moved), s.sums(moved, answered)
        self.known = self.method.learn(self.known, XX, XD, n[:, None].expand(-1, B), None)
        self.J.clear()

    def times(self, n: int, d: Tensor) -> Tensor:
        """C^T J[n] C d."""
        s = self.known.spectrum
        if n not in self.J:
            last = min(n + AHEAD, len(self.system))
            row = torch.arange(n, last, device=d.device)[:, None].expand(-1, len(d))
            work = WindowState(d, d, None, row, torch.ones(row.shape, dtype=torch.bool), row)
            J = s.spread(self.method.jacobian(self.system, self.known, work))
            self.J |= {k: J[k - n : k - n + 1] for k in range(n, last)}
        return s.inverse(self.J[n] * s.forward(d[None]), d[None])[0]


@functools.singledispatch
def jacobian_of(method: AbstractMethod, system: System, x: Tensor) -> AssumedJacobian:
    """What a method believes of a network with inputs x (B, ...) along a chain; raises ValueError for most methods."""
    given = f"{type(method).__name__}(), which corrects states, where only the answers of networks can be corrected"
    needed = "Spectral(), ExponentialPicard(), Picard() or Jacobi()"
    raise refusal("method", given, needed, "method=Spectral()")


@jacobian_of.register
def _(method: Spectral, system: System, x: Tensor) -> AssumedJacobian:
    return LearnedJacobian(method, system, x)


@jacobian_of.register
def _(method: ExponentialPicard, system: System, x: Tensor) -> AssumedJacobian:
    n = torch.arange(len(system))[:, None]
    work = WindowState(x, x, None, n, torch.ones_like(n, dtype=torch.bool), n)
    return FixedJacobian(gaussian_carry(system, work, method.variance)[0][:, 0])


@jacobian_of.register
def _(method: Picard, system: System, x: Tensor) -> AssumedJacobian:
    return FixedJacobian((1 - system.a) / system.b.sum(1))


@jacobian_of.register
def _(method: Jacobi, system: System, x: Tensor) -> AssumedJacobian:
    return FixedJacobian(-system.a / system.b.sum(1))
