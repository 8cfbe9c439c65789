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
    def ranked(self) -> Tensor:
        """The slot (V, B) of each known node in the order of rows; beyond a sample's, 0."""
        return self.slot.gather(0, self.known.rows.clamp(max=len(self.slot) - 1)).clamp(min=0)

    @functools.cached_property
    def rank(self) -> Tensor:
        """The place (B, n) in the order of rows of each slot."""
        return self.known.base.T.gather(1, self.row.clamp(max=len(self.slot) - 1)).clamp(min=0)

    @functools.cached_property
    def full(self) -> Tensor:
        """Whether a slot (B, n) holds a node."""
        return self.row < len(self.slot)

    @functools.cached_property
    def weights(self) -> Tensor:
        """h (4, N, B)."""
        return interpolation_weights(self.levels, self.known)

    @functools.cached_property
    def lagrange(self) -> Tensor:
        """Weights (5, V, B) of the nodes at -2, ..., 2 places in `apart`."""
        return lagrange_weights(self.levels, self.known)

    @functools.cached_property
    def apart(self) -> Tensor:
        """The matrix (B, n, n) by slots."""
        _, V, B = self.lagrange.shape
        place = torch.arange(V)[:, None] + torch.arange(-2, 3)[:, None, None]  # (5, V, 1)
        other = self.ranked.expand(5, V, B).gather(1, place.clamp(0, V - 1).expand(5, V, B))
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
        """w (N, B)."""
        level, base = self.levels.level, self.known.base.clamp(min=0)
        (lo, _), (hi, closed) = self.known.beside(base, 0), self.known.beside(base, 1)
        t = torch.where(closed, (level[:, None] - level[lo]) / (level[hi] - level[lo]).clamp(min=1e-12), 0.0)
        by, out = self.levels.weight[:, None], torch.zeros(self.known.base.shape, dtype=torch.float64)
        return out.scatter_add(0, lo, by * (1 - t)).scatter_add(0, hi, by * t)

    def slot_at(self, place: Tensor, b: Tensor) -> Tensor:
        """The slots (..., M) of places (..., M) in the order of rows, kept within those of samples b (M,)."""
        return self.ranked[place.clamp(min=0).minimum(self.known.count[b] - 1).clamp(min=0), b]

    def by_slot(self, v: Tensor) -> Tensor:
        """Values (B, n, ...) of slots, of rows' v (N, B, ...); 0 in empty slots."""
        row = self.row.clamp(max=len(v) - 1)
        found = v[row, torch.arange(len(row))[:, None]]
        return torch.where(self.full.view(*self.full.shape, *(1,) * (v.ndim - 2)), found, 0.0)

    def by_rank(self, v: Tensor) -> Tensor:
        """Values (V, B, ...) in the order of rows, of slots' v (B, n, ...); 0 beyond a sample's."""
        found = v[torch.arange(len(v)), self.ranked]
        there = self.known.rows < len(self.slot)
        return torch.where(there.view(*there.shape, *(1,) * (v.ndim - 2)), found, 0.0)


def interpolation_weights(levels: LevelScalars, known: KnownNodes) -> Tensor:
    """h (4, N, B): what the nodes at places base - 1, base, base + 1, base + 2 count for in e of each row."""
    level, base = levels.level, known.base.clamp(min=0)
    (before, has), (lo, _), (hi, closed), (after, more) = (known.beside(base, j) for j in (-1, 0, 1, 2))
    h = torch.zeros(4, *base.shape, dtype=level.dtype)
    H = torch.where(closed, level[hi] - level[lo], 1.0)
    w = torch.where(closed, (level[:, None] - level[lo]) / H, 0.0).clamp(0, 1)
    h[1], h[2] = 1 - w, w
    if not levels.ode:
        return h
    left, right = torch.where(has, level[lo] - level[before], 1.0), torch.where(more, level[after] - level[hi], 1.0)
    c = torch.where(has & closed, w * (1 - w) ** 2 * H * H / (left + H), 0.0)  # of the slope at lo, less the chord's
    d = torch.where(more & closed, w**2 * (1 - w) * H * H / (H + right), 0.0)  # and at hi, which is taken away
    h[0] -= c / left
    h[1] += c / left + c / H - d / H
    h[2] += d / right + d / H - c / H
    h[3] -= d / right
    return h


def lagrange_weights(levels: LevelScalars, known: KnownNodes) -> Tensor:
    """Weights (5, V, B) of the nodes at -2, ..., 2 places in `apart`; 0 where a node has not both neighbours.

    Where they are the rows beside it, or one of them is, nothing is interpolated and nothing can be told.
    """
    V, B = known.rows.shape
    place = torch.arange(V)[:, None].expand(V, B) + torch.arange(-2, 3)[:, None, None]
    there = (place >= 0) & (place < known.count)
    rows = known.rows.expand(5, V, B).gather(1, place.clamp(0, max(V - 1, 0))).clamp(max=len(levels) - 1)
    ok = there[1:4].all(0) & (rows[3] - rows[1] > 2)
    t = levels.level[rows]
    out = torch.zeros_like(t)
    out[1:4:2] = leave_one_out_weights(t[1:4:2], t[2])
    if levels.ode:
        four, other = there.all(0), [0, 1, 3, 4]
        out[other] = torch.where(four, leave_one_out_weights(t[other], t[2]), out[other])
    out[2] = 1.0
    return torch.where(ok, out, 0.0)


def leave_one_out_weights(t: Tensor, at: Tensor) -> Tensor:
    """Less the Lagrange weights (P, ...), at places `at` (...), of the polynomial through places t (P, ...)."""
    apart = t[:, None] - t
    apart = torch.where(apart.abs() < 1e-9, 1e-9, apart)
    ratio = (at - t) / apart
    return -ratio.where(~torch.eye(len(t), dtype=torch.bool).view(len(t), len(t), *(1,) * at.ndim), 1.0).prod(1)
