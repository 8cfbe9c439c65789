"""Which rows are nodes, and where each row stands among those that are known.

first     `few` rows evenly in `place`, the first and the last among them
base[n]   how many known nodes lie at or before row n, less 1
split     an interval whose ends their neighbours foretell badly gets 2 to PIECES pieces, evenly in `place`

few = few_ode (0.01 / tolerance)^(1/4) for an ODE, few_sde (0.01 / tolerance)^(1/2) where noise is drawn
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .levels import LevelScalars

if TYPE_CHECKING:
    from .layout import NodeLayout

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

        mask (N, B); rows (V, B): N beyond a sample's count (B,). base (N, B): the place in `rows` of the last one at or
    before each row, -1 where there is none.
    """

    mask: Tensor
    rows: Tensor
    count: Tensor
    base: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> KnownNodes:
        """From a mask (N, B)."""
        N, B = mask.shape
        upto = mask.cumsum(0)
        count = upto[-1]
        rows = torch.full((int(count.max()) + 1, B), N)
        rows.scatter_(0, torch.where(mask, upto - 1, len(rows) - 1), torch.arange(N)[:, None].expand(N, B))
        rows[-1] = N
        return cls(mask, rows[:-1], count, upto - 1)

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, keep: Tensor) -> KnownNodes:
        """Of some samples alone."""
        return KnownNodes(self.mask[:, keep], self.rows[:, keep], self.count[keep], self.base[:, keep])

    def spread(self, v: Tensor, other: float = 0.0) -> Tensor:
        """Values v (..., V, B) of the marked rows as (..., N, B), `other` elsewhere."""
        N, B = self.base.shape
        wide = torch.full((*v.shape[:-2], N + 1, B), other, dtype=v.dtype)
        return wide.scatter_(-2, self.rows.expand(v.shape), v)[..., :N, :]


def split(layout: NodeLayout, node: Tensor, bad: Tensor, ratio: Tensor) -> Tensor:
    """New nodes (N, B): of intervals one end of which is bad (V, B), `ratio` (V, B) times what it may be.

    An interval that still holds a node that was not evaluated is left alone.
    """
    (N, B), known, place = node.shape, layout.known, layout.levels.place
    lo, hi = known.rows[:-1], known.rows[1:]
    pieces = torch.where(bad, (ratio**POWER).round().clamp(2, PIECES), 1.0)
    want = pieces[:-1].maximum(pieces[1:])
    upto, (low, high) = node.cumsum(0), (layout.at[:-1], layout.at[1:])
    open = (upto.gather(0, high) - upto.gather(0, low) == 1) & (hi < N) & (hi - lo > 1)
    want = torch.where(open, want, 1.0)
    begin, piece = place[low], torch.arange(1, PIECES)[:, None, None]
    at = torch.searchsorted(place, torch.addcmul(begin, piece / want, place[high] - begin))
    at = torch.where(piece < want, at.maximum(lo + 1).minimum(hi - 1), N)
    new = torch.zeros(N + 1, B, dtype=torch.bool).scatter_(0, at.flatten(0, 1), True)
    return new[:N]
