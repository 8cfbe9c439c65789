"""What follows from where the known nodes are alone, and is kept while no node is added.

    h[j, n]   what the nodes at places base - 1, ..., base + 2 count for in e of row n
    apart     e[m] - sum_j Lagrange_j e[m + j]: how far a node is from what its neighbours say, as a matrix
    mass[m]   what D of a node counts for, in its own row and in those that take e from it

Nodes lie in a store in the order of evaluation; matrices are in that order, weights by row in the order of rows.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from .levels import LevelScalars
from .nodes import KnownNodes


@dataclass(frozen=True)
class NodeLayout:
    """The known nodes of B samples; slot (N, B): where each lies, -1 where a row is not known, row (B, n): its row."""

    levels: LevelScalars
    known: KnownNodes
    slot: Tensor
    row: Tensor

    @functools.cached_property
    def at(self) -> Tensor:
        """The rows (V, B) of the known nodes, N - 1 beyond a sample's."""
        return self.known.rows.clamp(max=len(self.slot) - 1)

    @functools.cached_property
    def ranked(self) -> Tensor:
        """The slot (V, B) of each known node in the order of rows; beyond a sample's, 0."""
        return self.slot.gather(0, self.at).clamp(min=0)

    @functools.cached_property
    def rank(self) -> Tensor:
        """The place (B, n) in the order of rows of each slot."""
        return self.known.base.T.gather(1, self.row.clamp(max=len(self.slot) - 1)).clamp(min=0)

    @functools.cached_property
    def full(self) -> Tensor:
        """Whether a slot (B, n) holds a node."""
        return self.row < len(self.slot)

    @functools.cached_property
    def even(self) -> bool:
        """Whether all samples have as many."""
        return bool(self.full.all())

    @functools.cached_property
    def beside(self) -> tuple[Tensor, Tensor]:
        """Levels (V + 4, B) of the known nodes and of two more on each side, and whether there is one."""
        V, B = self.known.rows.shape
        level, there = torch.zeros(V + 4, B, dtype=torch.float64), torch.zeros(V + 4, B, dtype=torch.bool)
        level[2:-2], there[2:-2] = self.levels.level[self.at], self.known.rows < len(self.slot)
        return level, there

    @functools.cached_property
    def fraction(self) -> Tensor:
        """How far each row (N, B) is from the node before it to the next, in level; 0 after the last one."""
        (level, there), base = self.beside, self.known.base.clamp(min=0)
        H = torch.where(there[3:-1], level[3:-1] - level[2:-2], torch.inf)
        return ((self.levels.level[:, None] - level[2:-2].gather(0, base)) / H.gather(0, base)).clamp_(0, 1)

    @functools.cached_property
    def weights(self) -> Tensor:
        """h (4, N, B)."""
        return interpolation_weights(self)

    @functools.cached_property
    def lagrange(self) -> Tensor:
        """Weights (5, V, B) of the nodes at -2, ..., 2 places in `apart`."""
        return lagrange_weights(self)

    @functools.cached_property
    def apart(self) -> Tensor:
        """The matrix (B, n, n) by slots."""
        V, B = self.ranked.shape
        other = torch.nn.functional.pad(self.ranked, (0, 0, 2, 2)).unfold(0, V, 1).transpose(1, 2)  # (5, V, B)
        out = torch.zeros(V * V, B, dtype=torch.float64)
        out.scatter_add_(0, (self.ranked * V + other).flatten(0, 1), self.lagrange.flatten(0, 1))
        return out.T.unflatten(1, (V, V))

    @functools.cached_property
    def neighbours(self) -> list[tuple[Tensor, Tensor]]:
        """`apart` as slots (B, n) and their weights (B, n), of nodes at -2, ..., 2 places where any counts."""
        V, found = len(self.known), list[tuple[Tensor, Tensor]]()
        for o, c in zip(range(-2, 3), self.lagrange.unbind(), strict=True):
            if bool(c.any()):
                place = (self.rank + o).clamp(0, V - 1)
                found.append((self.ranked.T.gather(1, place), c.T.gather(1, self.rank) * self.full))
        return found

    @functools.cached_property
    def mass(self) -> Tensor:
        """w (V, B) of the known nodes."""
        V, B = self.known.rows.shape
        base, by = self.known.base.clamp(min=0), self.levels.weight[:, None]
        late, out = by * self.fraction, torch.zeros(V + 1, B, dtype=torch.float64)
        return out.scatter_add_(0, base, by - late).scatter_add_(0, base + 1, late)[:V]

    def slot_at(self, place: Tensor, b: Tensor) -> Tensor:
        """The slots of places in the order of rows, kept within those of samples b."""
        return self.ranked[place.clamp(min=0).minimum(self.known.count[b] - 1).clamp(min=0), b]

    def by_slot(self, v: Tensor) -> Tensor:
        """Values (B, n, ...) of slots, of known nodes' v (V, B, ...); 0 in empty slots."""
        found = v[self.rank, torch.arange(len(self.rank))[:, None]]
        return found if self.even else found * self.full.view(*self.full.shape, *(1,) * (v.ndim - 2))

    def by_rank(self, v: Tensor) -> Tensor:
        """Values (V, B, ...) in the order of rows, of slots' v (B, n, ...); 0 beyond a sample's."""
        found = v[torch.arange(len(v)), self.ranked]
        if self.even:
            return found
        there = self.beside[1][2:-2]
        return torch.where(there.view(*there.shape, *(1,) * (v.ndim - 2)), found, 0.0)


def interpolation_weights(layout: NodeLayout) -> Tensor:
    """h (4, N, B): what the nodes at places base - 1, base, base + 1, base + 2 count for in e of each row."""
    w = layout.fraction
    none = torch.zeros_like(w)
    h = torch.stack([none, 1 - w, w, none])
    if not layout.levels.ode:
        return h
    (level, there), base = layout.beside, layout.known.base.clamp(min=0)
    gap = torch.where(there[1:] & there[:-1], level.diff(dim=0), torch.inf)
    left, H, right = gap[1:-2], gap[2:-1], gap[3:]  # before each node, after it, after the next
    # Of the slopes at both ends, less the chord's: w (1-w)^2 of the first, and w^2 (1-w) of the second taken away.
    both = H.isfinite()
    c, d = (torch.where(both & gap.isfinite(), H * H / (gap + H), 0.0) for gap in (left, right))
    each = torch.stack([-c / left, c / left + c / H, -c / H, torch.zeros_like(c)])
    other = torch.stack([torch.zeros_like(d), -d / H, d / right + d / H, -d / right])
    rise = w * (1 - w)
    V, B = base.shape
    at = base.expand(4, V, B)
    return h.addcmul_(each.gather(1, at), rise * (1 - w)).addcmul_(other.gather(1, at), rise * w)


def lagrange_weights(layout: NodeLayout) -> Tensor:
    """Weights (5, V, B) of the nodes at -2, ..., 2 places in `apart`; 0 where a node has not both neighbours.

    Where they are the rows beside it, or one of them is, nothing is interpolated and nothing can be told.
    """
    (level, there), V = layout.beside, len(layout.known)
    t = level.unfold(0, V, 1).transpose(1, 2)  # (5, V, B)
    has = there.unfold(0, V, 1).transpose(1, 2)
    rows = torch.nn.functional.pad(layout.at, (0, 0, 1, 1))
    ok = has[1:4].all(0) & (rows[2:] - rows[:-2] > 2)
    out = torch.ones_like(t)
    two = (t[2] - t[1]) / (t[3] - t[1])
    out[1], out[3] = two - 1, -two
    out[0], out[4] = 0, 0
    if layout.levels.ode:
        other = [0, 1, 3, 4]
        out[other] = torch.where(has.all(0), leave_one_out_weights(t[other], t[2]), out[other])
    return torch.where(ok, out, 0.0)


def leave_one_out_weights(t: Tensor, at: Tensor) -> Tensor:
    """Less the Lagrange weights (P, ...), at places `at` (...), of the polynomial through places t (P, ...)."""
    ratio = (at - t) / (t[:, None] - t)
    return -ratio.where(~torch.eye(len(t), dtype=torch.bool).view(len(t), len(t), *(1,) * at.ndim), 1.0).prod(1)
