"""`AbstractMethod`: a method is defined by its surrogate, a cheap stand-in S for the model at each row.

    x <- sequential(S);   D <- model(x) in one batch;   S[n](y) <- D[n] + J[n] (y - x[n])                   (2)

With equation (1) as the sampler that is a linear recurrence for the correction, r[n] = step(x)[n] - x[n+1]:

    delta[n+1] = p[n] delta[n] + r[n],    p = a + b J,    x <- x + delta,    delta[begin] = 0               (2')

| J, and so p                           | method, a file each but for the first two |
| p = 0                                 | `Jacobi`                                  |
| p = 1                                 | `Picard`: ParaDiGMS                       |
| J of Gaussian data, and Anderson's    | `ExponentialPicard`, `Anderson`           |
| J diagonal, by a probe beside the row | `QuasiNewton`                             |
| J per frequency band, learned         | `Spectral`                                |
| S = a jump over a block               | `Parareal`                                |
| S = D held fixed, kept by a coin      | `Speculation`                             |

Written as x[n+1] <- step(x)[n] + p[n] delta[n], the first row of a window is bit for bit the sequential step. So every
method is exact after at most N sweeps. The first guess of a row follows from a surrogate too, that of rows which the
model has not seen: `Copy` and `Extrapolate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..system import System, masked_rows
from ..validate import CheckedFields
from .guess import Copy, Guess
from .work import Evaluate, Memory, Update, WindowState


@dataclass(frozen=True)
class AbstractMethod(CheckedFields, ABC):
    """A method: how the states of a window are corrected after its states were evaluated.

    Write your own as a frozen dataclass with a `sweep`; `Picard` is one in nine lines.

    Args:
        guess: What states hold before the model has seen them; `Copy()` by default.

    Attributes:
        steady: The window that "auto" takes for a method whose window may not change, else None.
        compiles: Whether a sweep evaluates the window's states only, and takes no decision by the values of tensors:
            then `compiled` makes one graph of it.
        law: Whether it gives other samples of the same law, so that no tolerance applies.
    """

    steady: ClassVar[int | None] = None
    law: ClassVar[bool] = False
    compiles: ClassVar[bool] = False

    guess: Guess = field(default_factory=Copy)

    def check(self, x: Tensor) -> None:
        """Raises ValueError for states x (B, ...) that the method is not for. Called before any work."""

    def held_to(self, tolerance: float) -> AbstractMethod:
        """The method for a given tolerance; another one where it has a tolerance of its own."""
        return self

    def init(self, system: System, work: WindowState) -> Memory:
        """What the method remembers before the first round.

        Args:
            system: The sampler.
            work: The window as it begins.

        Returns:
            A tuple. Its tensors of W rows (W, B, ...) are moved along with the window; others stay as they are.
        """
        return ()

    @abstractmethod
    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        """Makes one round: evaluates the window, and corrects its states.

        Args:
            system: The sampler.
            work: The window: states, denoised estimates, noise and step numbers. It must not be changed.
            evaluate: The model, called once: states (W, B, ...) to denoised estimates (W, B, ...), as one batch.
            memory: What `init` or the last call returned.

        Returns:
            The new states and what led to them, and what to remember.
        """


def step_rows(system: System, work: WindowState, evaluate: Evaluate) -> tuple[Tensor, Tensor]:
    """Evaluates a window once and takes each row's own step from there.

    Args:
        system: The table.
        work: The window.
        evaluate: The model, as `sweep` is given it.

    Returns:
        Outputs D (W, B, ...), which are as before where a row is not evaluated, and y[n] = step(x)[n] (W, B, ...).
    """
    x = work.x[:-1]
    (D,) = evaluate(x)
    if work.on is not None:
        D = masked_rows(work.on, D, work.D[-len(D) :])
    history = with_history(system, work, D)
    if type(system).step is not System.step:  # a system whose step does more than equation (1)
        return D, system.step(x, history, work.z, work.n)
    return D, work.coefficients(system).step(x, history, work.z)


def with_history(system: System, work: WindowState, D: Tensor) -> Tensor:
    """D (K - 1 + W, B, ...): the outputs of the K - 1 rows before that a step uses, and outputs D (W, B, ...)."""
    return torch.cat([work.D[len(work.D) - len(D) - system.taps + 1 : -len(D)], D]) if system.taps > 1 else D
