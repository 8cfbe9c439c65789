"""What follows from where the known nodes are alone, and is kept while no node is added.

    h[j, n]   what the nodes at places base - 1, ..., base + 2 count for in e of row n
    apart     e[m] - sum_j Lagrange_j e[m + j]: how far a node is from what its neighbours say, as a matrix
    mass[m]   what D of a node counts for, in its own row and in those that take e from it

Nodes lie in a store in the order of evaluation; matrices are in that order, weights by row in the order of rows.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite

import torch
from torch import Tensor

from .levels import LevelScalars
from .nodes import NodeRows

NONE = (0.0,) * 5


@dataclass(frozen=True)
class NodeLayout:
    """The known nodes of B samples, and of each the slots of its rows in the store."""

    levels: LevelScalars
    known: NodeRows
    slot: tuple[dict[int, int], ...]

    @functools.cached_property
    def level(self) -> list[list[float]]:
        """The levels of each sample's known nodes, in order."""
        return [[self.levels.row.level[n] for n in rows] for rows in self.known.each]

    @functools.cached_property
    def slots(self) -> list[list[int]]:
        """Their slots."""
        return [[slot[n] for n in rows] for rows, slot in zip(self.known.each, self.slot, strict=True)]

    @functools.cached_property
    def row(self) -> Tensor:
        """The row (B, n) of each slot, N - 1 in empty ones."""
        V, last = len(self.known), self.known.N - 1
        return torch.tensor([[*slot, *[last] * (V - len(slot))] for slot in self.slot], dtype=torch.long)

    @functools.cached_property
    def samples(self) -> Tensor:
        """The samples (B, 1)."""
        return torch.arange(len(self.slot))[:, None]

    @functools.cached_property
    def even(self) -> bool:
        """Whether all samples have as many."""
        return len({len(slot) for slot in self.slot}) == 1

    @functools.cached_property
    def squares(self) -> Tensor:
        """G[row+1]^2 of each slot (B, n, F)."""
        return self.levels.squares[self.row]

    @functools.cached_property
    def becomes(self) -> Tensor:
        """G[row+1] of each slot (B, n, F)."""
        return self.levels.G[self.row + 1]

    @functools.cached_property
    def weights(self) -> Tensor:
        """h (4, N, B)."""
        V, levels = len(self.known), self.levels
        each = [interpolation_table(level, levels.ode, V) for level in self.level]  # (B, V, 2 or 10)
        base = self.known.base.clamp(min=0)
        table = torch.tensor(each, dtype=torch.float64)[self.samples[:, 0], base]
        low, per, *more = table.unbind(2)  # (N, B) each
        w = ((levels.level[:, None] - low) * per).clamp_(0, 1)
        none, other = torch.zeros_like(w), 1 - w
        h = torch.stack([none, other, w, none])
        if not levels.ode:
            return h
        rise = w * other
        one, two = torch.stack(more).view(2, 4, *w.shape).unbind()
        return h.addcmul_(one, rise * other).addcmul_(two, rise * w)

    @functools.cached_property
    def weighted(self) -> Tensor:
        """b[n] h (4, N + 1, B) of one tap, 0 in row N."""
        return torch.nn.functional.pad(self.weights * self.levels.system.b[:, :1], (0, 0, 0, 1))

    @functools.cached_property
    def lagrange(self) -> list[list[Sequence[float]]]:
        """Of each known node the weights of those at -2, ..., 2 places in `apart`."""
        of = zip(self.known.each, self.level, strict=True)
        return [leave_one_out(rows, level, self.levels.ode) for rows, level in of]

    @functools.cached_property
    def neighbours(self) -> tuple[Tensor, Tensor]:
        """The slots of the nodes at -2, ..., 2 places of each slot, and their weights in `apart` (B, n, 5)."""
        V, places, weights = len(self.known), list[list[list[int]]](), list[list[Sequence[float]]]()
        for slots, line, each in zip(self.slots, self.lines(2), self.lagrange, strict=True):
            places.append([[0] * 5] * V)
            weights.append([NONE] * V)
            for v, slot in enumerate(slots):
                places[-1][slot], weights[-1][slot] = line[v : v + 5], each[v]
        return torch.tensor(places), torch.tensor(weights, dtype=torch.float64)

    @functools.cached_property
    def apart(self) -> Tensor:
        """The matrix (B, n, n) by slots."""
        (slots, weights), V = self.neighbours, len(self.known)
        return weights.new_zeros(len(slots), V, V).scatter_add_(2, slots, weights)

    @functools.cached_property
    def mass(self) -> list[list[float]]:
        """w of each sample's known nodes, in order."""
        return [masses(rows, level, self.levels) for rows, level in zip(self.known.each, self.level, strict=True)]

    def lines(self, more: int) -> list[list[int]]:
        """The slots of each sample in the order of rows, its first one `more` times before and its last one after."""
        return [[*slots[:1] * more, *slots, *slots[-1:] * more] or [0] * (2 * more + 1) for slots in self.slots]

    def by_slot(self, each: Sequence[Sequence[float]]) -> Tensor:
        """Values (B, n) of slots, of each sample's known nodes in the order of rows; 0 in empty slots."""
        V, found = len(self.known), list[list[float]]()
        for slots, values in zip(self.slots, each, strict=True):
            found.append([0.0] * V)
            for s, v in zip(slots, values, strict=True):
                found[-1][s] = v
        return torch.tensor(found, dtype=torch.float64)


def interpolation_table(level: list[float], ode: bool, V: int) -> list[list[float]]:
    """What h of the rows after each of V nodes is made of: level, 1 / distance to the next, 0 after the last; of an ODE
    what w (1-w)^2 of the slope at the node adds for four nodes, and w^2 (1-w) of the slope at the next one.

    Both are slopes of parabolas less the chord's; 0 where there is no parabola.
    """
    gaps = [inf, *(b - a for a, b in pairwise(level)), inf, inf]  # before each node
    found = list[list[float]]()
    for v, low in enumerate(level):
        left, H, right = gaps[v : v + 3]
        found.append([low, 1 / H])
        if ode:
            # H inf: the last node.
            c = H * H / (left + H) if isfinite(left) and isfinite(H) else 0.0
            d = H * H / (right + H) if isfinite(right) and isfinite(H) else 0.0
            found[-1] += [-c / left, c / left + c / H, -c / H, 0.0, 0.0, -d / H, d / right + d / H, -d / right]
    return found + [[0.0] * (10 if ode else 2)] * (V - len(level))


def leave_one_out(rows: list[int], level: list[float], ode: bool) -> list[Sequence[float]]:
    """Weights of the nodes at -2, ..., 2 places of each node, in how far it is from what they say.

    0 where a node has not both neighbours. Where they are the rows beside it, or one of them is, nothing is
    interpolated and nothing can be told.
    """
    found, V = list[Sequence[float]](), len(rows)
    for v in range(V):
        if not 0 < v < V - 1 or rows[v + 1] - rows[v - 1] <= 2:
            found.append(NONE)
            continue
        at, t, r = level[v], level[v - 1], level[v + 1]
        if not (ode and 1 < v < V - 2):
            found.append((0.0, (at - r) / (r - t), 1.0, (at - t) / (t - r), 0.0))
            continue
        s, u = level[v - 2], level[v + 2]
        a, b, c, d = at - s, at - t, at - r, at - u
        one, two = b * c * d / ((t - s) * (r - s) * (u - s)), a * c * d / ((s - t) * (r - t) * (u - t))
        three, four = a * b * d / ((s - r) * (t - r) * (u - r)), a * b * c / ((s - u) * (t - u) * (r - u))
        found.append((one, two, 1.0, three, four))
    return found


def masses(rows: list[int], level: list[float], levels: LevelScalars) -> list[float]:
    """w of known nodes: what the rows up to the next one leave to it, and take from it those before."""
    row, N, found, taken = levels.row, len(levels), list[float](), 0.0
    if not rows:
        return found
    ends = [0, *rows[1:], N]  # rows before the first node take all from it
    for v, low in enumerate(level):
        lo, hi = ends[v], ends[v + 1]
        total, late = row.weights[hi] - row.weights[lo], 0.0
        if hi < N:
            part = rows[v]
            among = row.weights[hi] - row.weights[part]
            late = (row.levels[hi] - row.levels[part] - low * among) / (level[v + 1] - low)
        found.append(taken + total - late)
        taken = late
    return found
