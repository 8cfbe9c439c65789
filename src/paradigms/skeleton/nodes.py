"""Which rows are nodes, which of them a round evaluates, and where each row stands among those that are known.

first     `few` rows evenly in `place`, the first and the last among them
round     those that must come first, front to back, then the others; of a batch the W B that stand first in their lines
split     an interval whose ends their neighbours foretell badly gets 2 to PIECES pieces, evenly in `place`

few = few_ode (0.01 / tolerance)^(1/4) for an ODE, few_sde (0.01 / tolerance)^(1/2) where noise is drawn

All of it is plain numbers, sample by sample: there are few nodes, and a call of torch takes as long as twenty of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .levels import LevelScalars

PIECES = 6  # of an interval, at most, in a round; of the prototypes
POWER = 0.6  # pieces grow so with the error: of an interpolation of order 1 to 2


def first(levels: LevelScalars, few: float) -> list[int]:
    """The first nodes, about `few` of them; all rows where the chain has no more."""
    N, count = len(levels), max(round(few), 2)
    if few >= N:
        return list(range(N))
    even = (bisect_left(levels.row.place, k / (count - 1)) for k in range(count))
    return sorted({0, N - 1, *(min(n, N - 1) for n in even)})


@dataclass(frozen=True)
class NodeRows:
    """Some rows of each of B samples of N rows, in order; the longest of these lists has V."""

    N: int
    each: tuple[list[int], ...]

    def __len__(self) -> int:
        return max(map(len, self.each))

    @cached_property
    def rows(self) -> Tensor:
        """The rows (V, B), N beyond a sample's."""
        V = len(self)
        padded = [[*rows, *[self.N] * (V - len(rows))] for rows in self.each]
        return torch.tensor(padded, dtype=torch.long).T

    @cached_property
    def count(self) -> Tensor:
        """How many a sample has (B,)."""
        return torch.tensor([len(rows) for rows in self.each])

    @cached_property
    def base(self) -> Tensor:
        """The place in `rows` of the last one at or before each row (N, B), -1 where there is none."""
        rows, every = self.rows.T.contiguous(), torch.arange(self.N)
        return torch.searchsorted(rows, every.expand(len(rows), -1).contiguous(), right=True).sub_(1).T

    def place(self, n: int, b: int) -> int:
        """The same of one row."""
        return bisect_right(self.each[b], n) - 1


def choose_nodes(lines: Sequence[Sequence[int]], window: int, budget: int | None) -> list[tuple[int, int]]:
    """The rows and samples (n, b) to evaluate, by row, of a line of rows for each sample.

    budget: of all samples, of equal places the first samples'; None for `window` of each.
    """
    if budget is None:
        return sorted((n, b) for b, line in enumerate(lines) for n in line[:window])
    every = ((place, b, n) for b, line in enumerate(lines) for place, n in enumerate(line))
    if sum(map(len, lines)) <= budget:
        return sorted((n, b) for _, b, n in every)
    return sorted((n, b) for _, b, n in sorted(every)[:budget])


def split(place: list[float], known: list[int], nodes: set[int], bad: list[bool], ratio: list[float]) -> set[int]:
    """New nodes: of intervals between known rows one end of which is bad, `ratio` times what it may be.

    An interval that still holds a node that was not evaluated is left alone.
    """
    pieces = [round(min(max(r**POWER, 2.0), PIECES)) if b else 1 for b, r in zip(bad, ratio, strict=True)]
    new, waiting = set[int](), sorted(nodes.difference(known))
    for i in range(len(known) - 1):
        want, lo, hi = max(pieces[i], pieces[i + 1]), known[i], known[i + 1]
        if want == 1 or hi - lo < 2 or bisect_left(waiting, lo) < bisect_left(waiting, hi):
            continue
        step = (place[hi] - place[lo]) / want
        new.update(min(max(bisect_left(place, place[lo] + k * step), lo + 1), hi - 1) for k in range(1, want))
    return new
