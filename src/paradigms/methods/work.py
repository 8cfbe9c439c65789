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
class WindowState:
    """The steps of a window, as methods, guesses and stopping rules see them.

    Args:
        x: States (W + 1, B, ...); those that are not known repeat the last known one.
        D: Denoised estimates (H + W, B, ...), of which the first H are of steps before the window.
        z: Noise (W, B, ...), None for deterministic rules.
        n: Step numbers (W, B).
        live: The steps that lie in the chain and may be evaluated (W, B), on the CPU.
        seen: How often each was evaluated (W, B), on the CPU.
        newest: The last denoised estimate (B, ...), for guesses; None where it is the last of D.
        rounding: Relative rounding of the network's answers, 0 where that is the states' own.
        before: Makes the states (W, B, ...) that D is of; None at first.
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
    def revisited_rows(self) -> int:
        """How many rows from the first hold all those that were evaluated before."""
        return int((self.seen > 0).any(1).sum())

    @cached_property
    def revisited(self) -> Tensor | None:
        """The mask of the rows that were evaluated before and are again, of the first `again`."""
        return self.visited(1)

    def visited(self, times: int) -> Tensor | None:
        """The mask of the rows that were evaluated so often before and are again, of the first `again`."""
        return partly(((self.seen >= times) & self.live)[: self.revisited_rows])


def pick(v: Tensor, w: Tensor) -> Tensor:
    """v[w[i, b], b] (R, B, ...) of v (W, B, ...) at rows w (R, B)."""
    return v[w, torch.arange(v.shape[1], device=v.device)]


def partly(mask: Tensor) -> Tensor | None:
    """A mask, or None where it is true throughout."""
    return None if bool(mask.all()) else mask


@dataclass(frozen=True)
class Update:
    """What a method made of a window in one round.

    Args:
        x: The new states, without the first (W, B, ...).
        D: Denoised estimates of the old states (W, B, ...).
        y: Where each step leads from its old state (W, B, ...).
        live: The steps that were evaluated (W, B), on the CPU.
        stride: How many steps to accept (B,), for methods that decide that themselves; else None.
        change: A transform of states, and the squared change of x by frequency band (W, B, F), if the method has them.
        secant: Sums of dX dX and dX dD by band (k, B, F), and of dD dD (k, B), of the steps evaluated before; or None.
        shift: How the estimate changes with the new state, at steps w (R, B) of the window; or None.
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
