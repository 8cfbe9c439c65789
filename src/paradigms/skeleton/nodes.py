"""Which rows are nodes, and where each row stands among those that are known.

first     `few` rows evenly in `place`, the first and the last among them
base[n]   how many known nodes lie at or before row n, less 1
split     an interval whose ends their neighbours foretell badly gets 2 to PIECES pieces, evenly in `place`

few = few_ode (0.01 / tolerance)^(1/4) for an ODE, few_sde (0.01 / tolerance)^(1/2) where noise is drawn
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .levels import LevelScalars

PIECES = 6  # of an interval, at most, in a round; of the prototypes
POWER = 0.6  # pieces grow so with the error: of an interpolation of order 1 to 2


def first(levels: LevelScalars, few: float) -> Tensor:
    """The first nodes (N,), about `few` of them; all rows where the chain has no more."""
    N = len(levels)
    if few >= N:
        return torch.ones(N, dtype=torch.bool)
    node = torch.zeros(N, dtype=torch.bool)
    even = torch.linspace(0, 1, max(round(few), 2), dtype=torch.float64)
    node[torch.searchsorted(levels.place, even).clamp(0, N - 1)] = True
    node[0] = node[-1] = True
    return node


@dataclass(frozen=True)
class KnownNodes:
    """The V rows of each of B samples that were marked in a mask (N, B), in order.

    rows (V, B): N beyond a sample's count (B,). base (N, B): the place in `rows` of the last one at or before each row,
    -1 where there is none.
    """

    rows: Tensor
    count: Tensor
    base: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> KnownNodes:
        """From a mask (N, B)."""
        N = len(mask)
        count = mask.sum(0)
        rows = torch.where(mask, torch.arange(N)[:, None], N).sort(0).values[: int(count.max())]
        return cls(rows, count, mask.cumsum(0) - 1)

    def __len__(self) -> int:
        return len(self.rows)

    def beside(self, i: Tensor, by: int) -> tuple[Tensor, Tensor]:
        """The row `by` places from place i (R, B), N - 1 at most, and whether there is one."""
        at = i + by
        there = (at >= 0) & (at < self.count)
        N = len(self.base)
        return self.rows.gather(0, at.clamp(0, len(self.rows) - 1)).clamp(max=N - 1), there

    def spread(self, v: Tensor, other: float = 0.0) -> Tensor:
        """Values v (V, B) of the marked rows as (N, B), `other` elsewhere."""
        N, B = self.base.shape
        wide = torch.full((N + 1, B), other, dtype=v.dtype)
        return wide.scatter(0, self.rows, v)[:N]

    def picked(self, v: Tensor) -> Tensor:
        """Values (V, B) at the marked rows of v (N, B)."""
        return v.gather(0, self.rows.clamp(max=len(v) - 1))


def split(levels: LevelScalars, known: KnownNodes, node: Tensor, bad: Tensor, ratio: Tensor) -> Tensor:
    """New nodes (N, B): of intervals one end of which is bad (N, B), `ratio` (N, B) times what it may be.

    An interval that still holds a node that was not evaluated is left alone.
    """
    N, B = node.shape
    r, base = torch.arange(N)[:, None], known.base.clamp(min=0)
    lo, _ = known.beside(base, 0)
    hi, closed = known.beside(base, 1)
    pieces = torch.where(bad, (ratio**POWER).round().clamp(2, PIECES), 1.0)
    want = pieces.gather(0, lo).maximum(pieces.gather(0, hi))
    seen = known.spread(torch.ones_like(known.rows, dtype=torch.bool), False)
    fresh = torch.zeros(N, B, dtype=torch.float64).scatter_add(0, lo, (node & ~seen).double()).gather(0, lo) > 0
    want = torch.where(fresh | ~closed | (known.base < 0), 1.0, want)
    begin, end = levels.place[lo], levels.place[hi]
    u = (levels.place[:, None] - begin) / (end - begin).clamp(min=1e-9)
    piece = (u.clamp(0, 1 - 1e-6) * want).floor()
    new = torch.zeros_like(node)
    new[1:] = piece[1:] > piece[:-1]
    new &= ~node & (lo < r)
    none = torch.zeros(N, B, dtype=torch.float64).scatter_add(0, lo, new.double()).gather(0, lo) == 0
    middle = (want > 1) & (r == (lo + hi + 1) // 2) & ~node
    return new | (middle & none)
