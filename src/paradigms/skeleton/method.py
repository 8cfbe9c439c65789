"""Skeleton sampling: the model is asked at a few nodes of the chain, and what lies between them is interpolated.

Methods of windows evaluate neighbouring rows, so that a chain of N rows takes N / window rounds at least. Neighbouring
rows say nearly the same once each row's own carry is taken away, see `surrogate.py`. A round of this method

    1. runs the chain on the surrogate, all of it, its noise included                 recurrence.py
    2. evaluates the nodes that still move, `window` rows a sample, as one batch      loop.py
    3. renews the Jacobian of each band and the errors they leave                     jacobian.py
    4. judges the parts of the error, and splits what is badly foretold               error.py, nodes.py
    5. makes all rows nodes where that is foretold to be better                       handover.py

Where all rows are nodes it is the windowed secant, with growth ahead in sight. Source: ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..methods.base import AbstractMethod
from ..methods.spectral import Spectral
from ..methods.spectrum import check_grid
from ..methods.work import Evaluate, Memory, Update, WindowState
from ..stopping.base import AbstractStop
from ..stopping.final_error import FinalError
from ..system import System
from ..validate import check_number, check_whole, in_words, refusal
from ..window.controller import WindowController
from .jacobian import WEIGHT, WIDTH

# First nodes at a tolerance of 1 %, of the prototypes: mixture-64 and digits, DDIM-200 and DDPM-1000, seeds below 1000.
FEW_ODE, FEW_SDE = 24, 80
LAST = 2.5, 12  # rounds in units of N / window, and more: a sample that needs more is given up
DIGITS = 4  # and so many for each digit of a tolerance below 0.1 %


@dataclass(frozen=True)
class Skeleton(AbstractMethod):
    """Nodes spread over the whole chain, interpolated rows between them, an error estimated in three parts.

    Args:
        few: first nodes at a tolerance of 1 %, None for 24 of an ODE and 80 where noise is drawn. Their number grows as
            the tolerance falls, with its power -1/4 and -1/2.
        pooled: rows that some samples of a batch have no use for are given to the others; without it a sample of a
            batch takes the rounds that it would take alone.
        always: whether chains begin with nodes even where windows are known to take fewer rounds: below a tolerance of
            1 %, on less than 100 rows, less than 1000 where noise is drawn; and no sample is given up before `last`.
        last: rounds after which a sample is given up and made again by windows: last[0] N / window + last[1].
        guess: unused: the first states are those of the chain on the surrogate.
        grid: the picture that the tokens of a state (L, C) make.
        width, weight: of the learned Jacobian, see `Spectral`.

    Raises:
        ValueError: for a setting that is none, and, before any work, for calls that it is not for.

    `window` is the rows a round and sample; "auto" is 32. A row between nodes is never evaluated: what is known of it
    is an estimate. With `always`, tolerance=0 makes every row a node; `verify=True` evaluates every row once more.
    """

    steady: ClassVar[int | None] = 32  # of "auto"

    few: int | None = None
    pooled: bool = True
    always: bool = False
    last: Sequence[float] = LAST
    grid: Sequence[int] | None = None
    width: float = WIDTH
    weight: float = WEIGHT

    def __post_init__(self) -> None:
        if self.few is not None:
            check_whole("few", self.few, "a whole number of first nodes, at least 2, or None", 2)
        for name in ("width", "weight"):
            check_number(name, getattr(self, name), "a positive, finite number", lambda v: 0 < v < math.inf)
        needed = "two numbers, rounds in units of N / window and rounds more, such as (2.5, 12)"
        if not isinstance(self.last, tuple | list) or len(self.last) != 2:
            raise refusal("last", in_words(self.last), needed)
        for v in self.last:
            check_number("last", v, needed, lambda v: v >= 0)
        check_grid(self.grid)

    def check(self, x: Tensor) -> None:
        check_grid(self.grid, x.shape[1])

    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        """Refuses: it has no windows that slide."""
        raise refusal("method", "Skeleton()", "a method of sliding windows here", "method=Spectral()")

    def windowed(self) -> Spectral:
        """The method of windows that takes over where this one gives up."""
        return Spectral(width=self.width, weight=self.weight, grid=self.grid)

    def nodes(self, ode: bool, tolerance: float) -> float:
        """About how many first nodes a chain gets."""
        few = self.few or (FEW_ODE if ode else FEW_SDE)
        return few * (0.01 / tolerance) ** (0.25 if ode else 0.5)

    def cap(self, N: int, window: int, tolerance: float) -> float:
        """The rounds that a sample may take."""
        return self.last[0] * N / window + self.last[1] + DIGITS * max(math.log10(1e-3 / tolerance), 0.0)


def check_skeleton(method: Skeleton, stop: AbstractStop, window: object) -> None:
    """Raises ValueError for a criterion or windows that skeleton sampling has no meaning for."""
    if not isinstance(stop, FinalError):
        typed = "tolerance=0.01, or another method such as Picard()"
        raise refusal("tolerance", type(stop).__name__, "a number or FinalError(...) with Skeleton()", typed)
    if isinstance(window, WindowController):
        raise refusal("window", type(window).__name__, "a whole number of rows with Skeleton(), or 'auto'", "window=32")
