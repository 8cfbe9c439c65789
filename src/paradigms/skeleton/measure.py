"""What a round asks the device of the nodes, in one answer: sums by band, from which the parts of the error are made.

moved[m, f]   sum of (x - x_seen)^2 over band f                      of the secant part
each[m]       RHO A[m] |w[m] apart[m]|_G                              of the interpolation part
all           RHO |sum_m A[m] w[m] apart[m] G|
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .error import RHO
from .levels import LevelScalars
from .nodes import KnownNodes
from .store import NodeStore
from .surrogate import Surrogate


class NodeSums(NamedTuple):
    """moved (V, B, F), size (V, B): the norm of a state, each (V, B), all (B,); float64, on the CPU."""

    moved: Tensor
    size: Tensor
    each: Tensor
    all: Tensor


def measure_nodes(found: Surrogate, X: Tensor, store: NodeStore, counts: Tensor, unit: Tensor) -> NodeSums:
    """The sums of states X (V + 1, B, C, S) at the known nodes; counts (N, B): A w, unit (B,): of a finished sample."""
    s, known, levels = found.spectrum, found.known, found.levels
    G = levels.G[known.rows.clamp(max=len(levels) - 1) + 1]
    by = RHO * (known.picked(counts) / unit)[..., None] * G  # (V, B, F)
    moved, apart = store.moved(X[:-1]), found.apart()
    both = torch.linalg.vector_norm((apart * s.spread(by.to(apart))).sum(0).flatten(1), dim=1)
    size = torch.linalg.vector_norm(X[:-1].flatten(2), dim=2)
    parts = [*(s.sums(v, v).flatten() for v in (moved, apart)), size.flatten(), both]
    told = torch.cat(parts).cpu().double()  # waits
    V, B, F = by.shape
    moves, leaves, size, both = told.split([V * B * F, V * B * F, V * B, B])
    each = (leaves.view(V, B, F) * by.square()).sum(2).sqrt()
    return NodeSums(moves.view(V, B, F), size.view(V, B), each, both)


def secant_size(levels: LevelScalars, known: KnownNodes, sums: NodeSums, mass: Tensor, still: float) -> Tensor:
    """|w (x - x_seen) / alpha|_G (V, B), 0 where a state moved by no more than `still` of its size."""
    at = known.rows.clamp(max=len(levels) - 1)
    raw = (sums.moved * levels.G[at + 1].square()).sum(2).sqrt() * known.picked(mass) * levels.per[at]
    return torch.where(sums.moved.sum(2).sqrt() <= still * sums.size, 0.0, raw)


def step_residual(levels: LevelScalars, known: KnownNodes, moved: Tensor, J: Tensor) -> Tensor:
    """The norm, in std, of how far a known node's next state is from the step that the model gave, at most (B,).

    moved (V, B, F) as above, J (N, B, F).
    """
    t, at = levels.system, known.rows.clamp(max=len(levels) - 1)
    J = torch.stack([known.picked(v) for v in J.unbind(-1)], -1)
    square = (moved * (t.a[at, None] + t.b[at, :1] * J).square()).sum(2)
    return (square.sqrt() / t.std[at]).amax(0).nan_to_num(torch.inf)


def node_mass(levels: LevelScalars, known: KnownNodes) -> Tensor:
    """w (N, B): what D of each known node counts for, in its own row and in those that take e from it."""
    level, base = levels.level, known.base.clamp(min=0)
    (lo, _), (hi, closed) = known.beside(base, 0), known.beside(base, 1)
    t = torch.where(closed, (level[:, None] - level[lo]) / (level[hi] - level[lo]).clamp(min=1e-12), 0.0)
    by, out = levels.weight[:, None], torch.zeros(known.base.shape, dtype=torch.float64)
    return out.scatter_add(0, lo, by * (1 - t)).scatter_add(0, hi, by * t)
