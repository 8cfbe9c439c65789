"""The input and the output of one sweep of a method: the state of the window, and the update."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ..system import Coefficients, System
from .scan import rms
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
    """The rows in the window, as a method is given them.

    Args:
        x: States (W + 1, B, ...); past the last known state they repeat it.
        D: Outputs (H + W, B, ...), those of the H = max(K - 1, 1) rows before the window first.
        z: Noise of the rows (W, B, ...), None where none of the chain's rows draws any.
        n: Row numbers (W, B).
        live: The rows that lie in the chain and may be evaluated (W, B), on the CPU: reading them waits for no device.
        seen: How often each row was evaluated (W, B), on the CPU.
        newest: For a guess, the surrogate's present output at the last state that the model has seen (B, ...).
        rounding: Relative rounding of the network's answers, 0 where it is the states' own or finer.
        before: Makes the states (W, B, ...) at which rows that were evaluated before gave their D; None at first.
        turned: Whether D holds more than the model's answers to x, such as a turn of the state by a step of one's own.
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
    turned: bool = False
    _coefficients: Coefficients | None = field(default=None, init=False, repr=False)
    # What is made when it is first asked for, by the field's name: few methods ask for rows that nobody evaluated.
    _late: dict[str, Callable[[], Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __getattr__(self, name: str) -> Any:
        """A field that is made late."""
        late = self.__dict__.get("_late", {})
        if name not in late:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        setattr(self, name, late.pop(name)())
        return self.__dict__[name]

    def defer(self, **made: Callable[[], Tensor]) -> None:
        """Fields that are not needed yet."""
        for name in made:
            delattr(self, name)
        self._late = made

    @cached_property
    def known_x(self) -> Tensor | None:
        """Where all samples are alike, the states (k + 1, B, ...) of the k rows evaluated before and the one after."""
        return None

    @cached_property
    def known_D(self) -> Tensor | None:
        """Likewise the outputs (H + k, B, ...) of the rows before the window and of those k."""
        return None

    def outputs(self, k: int) -> Tensor:
        """The last outputs (k, B, ...) of the window's first k rows."""
        D = self.D if self.known_D is None else self.known_D
        H = len(D) - (len(self.n) if self.known_D is None else self.revisited_rows)
        return D[H : H + k]

    @cached_property
    def counts(self) -> list[int]:
        """How often each row was evaluated, where that is the same of all samples."""
        return self.seen[:, 0].tolist()  # type: ignore[no-any-return]

    @cached_property
    def first(self) -> int | None:
        """The row that all samples begin at, where all rows of the window are the chain's; None where they differ."""
        return None

    def coefficients(self, system: System) -> Coefficients:
        """The table's numbers of these rows: (W, B), or (W, 1, ...) as states are multiplied by them."""
        if self._coefficients is None:
            W, first = len(self.n), self.first
            rows = self.n if first is None else slice(first, first + W)
            x = self.x if self.known_x is None else self.known_x
            self._coefficients = system.rows(rows, x.ndim)
        return self._coefficients

    @cached_property
    def begin(self) -> list[int]:
        """The first row of each of the B samples."""
        return self.n[0].tolist()  # type: ignore[no-any-return]

    @cached_property
    def inside(self) -> list[int]:
        """How many rows of each of the B samples are live."""
        return self.live.sum(0).tolist()  # type: ignore[no-any-return]

    @cached_property
    def on(self) -> Tensor | None:
        """live as a mask, None where all rows are."""
        return partial_mask(self.live)

    @cached_property
    def revisited_rows(self) -> int:
        """The length of the window's beginning that holds all rows that were evaluated before."""
        return int((self.seen > 0).any(1).sum())

    @cached_property
    def revisited(self) -> Tensor | None:
        """The mask of the rows that were evaluated before and are again, of the first `revisited_rows`."""
        return self.visited(1)

    def visited(self, times: int) -> Tensor | None:
        """The mask of the rows evaluated at least `times` times before and again now, of the first `revisited_rows`."""
        return partial_mask(((self.seen >= times) & self.live)[: self.revisited_rows])


def pick_rows(v: Tensor, w: Tensor) -> Tensor:
    """v[w[i, b], b] (R, B, ...) of v (W, B, ...) at rows w (R, B).

    If w is on the CPU and its rows follow each other and are the same in all samples, the result is a view and no copy.
    """
    if w.device.type == "cpu":
        rows = w.tolist()
        first = rows[0][0]
        if all(n == first + i for i, row in enumerate(rows) for n in row):
            return v[first : first + len(rows)]
    return v[w.to(v.device, non_blocking=True), torch.arange(v.shape[1], device=v.device)]


@functools.lru_cache(maxsize=64)
def all_rows(W: int, B: int) -> Tensor:
    """The mask (W, B) that is true throughout, on the CPU."""
    return torch.ones(W, B, dtype=torch.bool)


@functools.lru_cache(maxsize=64)
def row_places(W: int) -> Tensor:
    """The rows (W, 1) of a window, on the CPU."""
    return torch.arange(W)[:, None]


def partial_mask(mask: Tensor) -> Tensor | None:
    """A mask, or None where it is true throughout."""
    return None if bool(mask.all()) else mask


@dataclass(frozen=True)
class Update:
    """What a sweep found.

    Args:
        x: New states x[1:] (W, B, ...).
        D: Outputs of the old states (W, B, ...).
        y: Each row's own step from the old states, y[n] = step(x)[n] (W, B, ...).
        live: The rows that were evaluated (W, B), on the CPU.
        stride: How many rows to accept (B,), where the method decides it and not the stopping rule.
        change: A transform of states and the squared change of x[1:] by band (W, B, F), where the method has them.
        secant: Likewise dX dX and dX dD by band (k, B, F), and dD dD (k, B), of the k rows evaluated before.
        off: `apart`, where it is known.
        shift: J[n] (x[n] - its old value) (R, B, ...) at rows w (R, B) of the window, 0 at its first; None where the
            surrogate has no J.
        accepted: How many rows are accepted (B,) whatever the rule says, where its estimates of them stand.
    """

    x: Tensor
    D: Tensor
    y: Tensor
    live: Tensor
    stride: Tensor | None = None
    change: tuple[Spectrum, Tensor] | None = None
    secant: tuple[Tensor, Tensor, Tensor] | None = None
    shift: Callable[[Tensor], Tensor] | None = None
    off: Tensor | None = None
    accepted: Tensor | None = None

    @property
    def apart(self) -> Tensor:
        """How far each new state is from its row's own step (W, B), in RMS."""
        return rms(self.x - self.y) if self.off is None else self.off

    def known(self, w: Tensor) -> Tensor:
        """The surrogate's output at the new states (R, B, ...) at rows w (R, B) of the window: D + J (x - old)."""
        D = pick_rows(self.D, w)
        return D if self.shift is None else D + self.shift(w)
