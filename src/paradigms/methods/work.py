"""What a round works on and what it finds: the window's states, and the sweep of a method over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from .spectrum import Spectrum

# What a method or criterion remembers, best a NamedTuple. Tensors of W rows (W, B, ...) in it, or in a tuple in it,
# move with the window; all else, and tensors (1, B, ...), stay as they are.
Memory = tuple[Any, ...]


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
