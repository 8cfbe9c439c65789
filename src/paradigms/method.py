"""An iteration is a surrogate: what a cheap stand-in S for the model knows about a row.

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

Written as x[n+1] <- step(x)[n] + p[n] delta[n] the first row of a window is bit for bit the sequential step, so every
method is exact after at most N sweeps. The first guess of a row is the same question, what S knows of rows that the
model has not seen: `Copy` and `Extrapolate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from .carry import run, scan
from .given import Checked, named
from .spectrum import Spectrum
from .system import System, only, rows

Memory = tuple[Any, ...]  # what a method remembers; tensors of W rows (W, B, ...) in it slide with the window


class Evaluate(Protocol):
    """The model, on as many points a row as a method asks for, as one batch: a round is one call of it."""

    def __call__(self, *points: Tensor, live: Tensor | None = None) -> tuple[Tensor, ...]:
        """D (W, B, ...) of each of the points (W, B, ...) at the rows `live` (W, B), all live rows if None; else 0."""


@dataclass
class Work:
    """The rows in the window: states x (W + 1, B, ...), outputs D (H + W, B, ...), noise z, row numbers n (W, B).

    D begins with the outputs of the H = max(K - 1, 1) rows before the window; x past the last known state repeats it.
    live (W, B): the rows that lie in the chain and may be evaluated. seen (W, B): how often each was. Both are on the
    CPU, so that nobody must ask the device for them, and hold first rows: what other rows hold is nobody's input.
    newest (B, ...), for a guess: what the stand-in says of the last state that the model has seen, as it is by now.
    rounding: the relative rounding of what the network answers in, 0 where that is the states' own or finer. before:
    the states (W, B, ...) that the outputs D of rows evaluated before are of, made when asked for; None at first.
    """

    x: Tensor
    D: Tensor
    z: Tensor | None
    n: Tensor
    live: Tensor
    seen: Tensor
    newest: Tensor | None = None
    rounding: float = 0.0
    before: Callable[[], Tensor] | None = None

    @cached_property
    def begin(self) -> Tensor:
        """The first row (B,) of each sample, on the CPU."""
        return self.n[0].cpu()

    @cached_property
    def on(self) -> Tensor | None:
        """live as a mask, None where all rows are."""
        return partly(self.live)

    @cached_property
    def again(self) -> int:
        """How many rows from the first hold all those that were evaluated before."""
        return int((self.seen > 0).any(1).sum())

    @cached_property
    def twice(self) -> Tensor | None:
        """The mask of the rows that were evaluated before and are again, of the first `again`."""
        return self.often(1)

    def often(self, times: int) -> Tensor | None:
        """The mask of the rows that were evaluated so often before and are again, of the first `again`."""
        return partly(((self.seen >= times) & self.live)[: self.again])


def pick(v: Tensor, w: Tensor) -> Tensor:
    """v[w[i, b], b] (R, B, ...) of v (W, B, ...) at rows w (R, B)."""
    return v[w, torch.arange(v.shape[1], device=v.device)]


def partly(mask: Tensor) -> Tensor | None:
    """A mask, or None where it is true throughout."""
    return None if bool(mask.all()) else mask


@dataclass(frozen=True)
class Sweep:
    """What a sweep found: new states x[1:] (W, B, ...); of the old ones outputs D (W, B, ...) and y[n] = step(x)[n].

    live (W, B), on the CPU: the rows that were evaluated. stride (B,): how many rows to accept, where that is the
    method's to say and not the tolerance's. change: a transform of states and the squared change of x[1:] by band
    (W, B, F), where the method has them, to spare others the work. secant: likewise dX dX and dX dD (k, B, F) by band,
    and dD dD (k, B), of the first `again` rows since they were evaluated last. shift: J[n] (x[n] - its old value)
    (R, B, ...) at rows w (R, B) of the window, 0 at its first, where the stand-in has a J: asked for the few rows that
    are read again.
    """

    x: Tensor
    D: Tensor
    y: Tensor
    live: Tensor
    stride: Tensor | None = None
    change: tuple[Spectrum, Tensor] | None = None
    secant: tuple[Tensor, Tensor, Tensor] | None = None
    shift: Callable[[Tensor], Tensor] | None = None

    def known(self, w: Tensor) -> Tensor:
        """What the stand-in says of the new states (R, B, ...) at rows w (R, B) of the window: D + J (x - old)."""
        D = pick(self.D, w)
        return D if self.shift is None else D + self.shift(w)


class Guess(ABC):
    """What a row holds before the model has seen it."""

    @abstractmethod
    def fill(self, system: System, work: Work, known: Tensor) -> Tensor:
        """States (W + 1, B, ...): work.x with x[w+1] guessed for w >= known (B,), which is on the CPU.

        The last D is D[H + known - 1], and `newest` knows more of it where it is not None.
        """


@named
@dataclass(frozen=True)
class Copy(Guess):
    """The last state, copied. Source: Shih et al. 2023, algorithm 1, line 11."""

    def fill(self, system: System, work: Work, known: Tensor) -> Tensor:
        return work.x


@named
@dataclass(frozen=True)
class Extrapolate(Guess):
    """The chain run on with the last denoised estimate held fixed, drawn noise included; before there is one, with 0.

    Its gain over `Copy` was published as ParaSolver (ICLR 2025); that it is equation (2) with J = 0 is ours.
    """

    def fill(self, system: System, work: Work, known: Tensor) -> Tensor:
        W, B = work.n.shape
        k = min(known.tolist())  # rows before k are known in every sample
        if k == W:
            return work.x
        x, n, b = work.x, work.n[k:], torch.arange(B, device=work.n.device)
        last = work.newest  # (B, ...)
        if last is None:
            last = work.D[len(work.D) - W - 1 + known.to(b.device, non_blocking=True), b]
        r, p = rows(system.b[n].sum(-1), x) * last, system.a[n]
        if work.z is not None:
            r.addcmul_(rows(system.c[n], x), work.z[k:])
        new = partly(torch.arange(k, W)[:, None] >= known)  # (W - k, B)
        r, p = only(new, r, work.x[k + 1 :]), only(new, p)
        r[0].addcmul_(rows(p, r)[0], work.x[k])
        return torch.cat([work.x[: k + 1], run(r, [p])])


@dataclass(frozen=True)
class AbstractMethod(Checked, ABC):
    """One iteration of equation (2): `init` what it remembers, `sweep` the window once.

    steady: its window must stay as it is, so that "auto" is so many rows. law: its samples are others than the
    sequential sampler's, of the same law, and no tolerance bounds how far they are apart.
    """

    steady: ClassVar[int | None] = None
    law: ClassVar[bool] = False

    guess: Guess = field(default_factory=Copy)

    def check(self, x: Tensor) -> None:
        """Raises ValueError for states x (B, ...) that it is not for; asked before any work."""

    def held_to(self, tolerance: float) -> AbstractMethod:
        """The method for a solver's tolerance: another one where it has a tolerance of its own."""
        return self

    def init(self, system: System, work: Work) -> Memory:
        """What the method remembers before the first sweep."""
        return ()

    @abstractmethod
    def sweep(self, system: System, work: Work, evaluate: Evaluate, memory: Memory) -> tuple[Sweep, Memory]:
        """One call of `evaluate`, the states it leads to, and what to remember; `work` is left as it was."""


def step(system: System, work: Work, evaluate: Evaluate) -> tuple[Tensor, Tensor]:
    """D (W, B, ...) of the live rows, what it was elsewhere, and y[n] = step(x)[n] (W, B, ...)."""
    (D,) = evaluate(work.x[:-1])
    D = only(work.on, D, work.D[-len(D) :])
    return D, system.step(work.x[:-1], joined(system, work, D), work.z, work.n)


def joined(system: System, work: Work, D: Tensor) -> Tensor:
    """D (K - 1 + W, B, ...): outputs D (W, B, ...) after as many of the rows before as a step looks back to."""
    return torch.cat([work.D[len(work.D) - len(D) - system.taps + 1 : -len(D)], D]) if system.taps > 1 else D


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
