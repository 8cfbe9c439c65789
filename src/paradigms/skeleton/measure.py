"""What a round asks the device of the nodes, in one answer: sums by band, from which the parts of the error are made.

moved[m, f]   |x - x_seen| over band f                                of the secant part
each[m]       rho A[m] |w[m] apart[m]|_G                              of the interpolation part
all           rho |sum_m A[m] w[m] apart[m] G|
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .error import interpolation_share
from .levels import LevelScalars
from .matrices import ChainMatrix, MeasuredStates
from .nodes import KnownNodes
from .store import NodeStore
from .surrogate import Surrogate


class NodeSums(NamedTuple):
    """moved (V, B, F) squared, each (V, B), all (B,); float64, on the CPU. end (B, d): the states at row N."""

    moved: Tensor
    each: Tensor
    all: Tensor
    end: Tensor


def measure_nodes(
    found: Surrogate, way: ChainMatrix | Tensor, store: NodeStore, counts: Tensor, unit: Tensor
) -> NodeSums:
    """The sums of the nodes; way: the chain's matrix, or its states (V + 1, B, d) at the known nodes.

    counts (N, B): A w, unit (B,): the size of a finished sample.
    """
    layout, levels = found.layout, found.levels
    row = layout.row.clamp(max=len(levels) - 1)
    G = levels.G[row + 1]  # (B, n, F)
    share = interpolation_share(levels, layout.known.count)
    by = (layout.by_slot(counts) * (share / unit)[:, None])[..., None] * G
    m = (
        way.measured(store, by.permute(2, 0, 1))
        if isinstance(way, ChainMatrix)
        else measured_run(found, way, store, by)
    )
    each = layout.by_rank((m.apart * by).square().sum(2).sqrt())
    return NodeSums(layout.by_rank(m.moved.square()), each, m.all.square().sum(1).sqrt(), m.end)


def measured_run(found: Surrogate, X: Tensor, store: NodeStore, by: Tensor) -> MeasuredStates:
    """As `ChainMatrix.measured`, of states X (V + 1, B, d) at the known nodes in the order of rows."""
    s, layout = found.coordinates, found.layout
    b = torch.arange(X.shape[1], device=X.device)[:, None]
    moved = (X[layout.rank.to(X.device), b] - store.at) * layout.full.to(X)[..., None]
    apart = torch.zeros_like(found.E)
    for slot, weight in layout.neighbours:
        apart += weight.to(apart)[..., None] * found.E[b, slot.to(X.device)]
    whole = (apart * s.spread(by.to(apart))).sum(1)
    sums = [s.sums(v, v) for v in (moved, apart, whole[:, None])]
    n = moved.shape[1]
    told = torch.cat(sums, 1).sqrt().cpu().double()  # waits
    return MeasuredStates(told[:, :n], told[:, n:-1], told[:, -1], X[-1])


def secant_size(
    levels: LevelScalars, known: KnownNodes, sums: NodeSums, size: Tensor, mass: Tensor, still: float
) -> Tensor:
    """|w (x - x_seen) / alpha|_G (V, B), 0 where a state moved by no more than `still` of its size (V, B)."""
    at = known.rows.clamp(max=len(levels) - 1)
    raw = (sums.moved * levels.G[at + 1].square()).sum(2).sqrt() * known.picked(mass) * levels.per[at]
    return torch.where(sums.moved.sum(2).sqrt() <= still * size, 0.0, raw)


def step_residual(levels: LevelScalars, known: KnownNodes, moved: Tensor, J: Tensor) -> Tensor:
    """The norm, in std, of how far a known node's next state is from the step that the model gave, at most (B,).

    moved (V, B, F) as above, J (N, B, F).
    """
    t, at = levels.system, known.rows.clamp(max=len(levels) - 1)
    J = torch.stack([known.picked(v) for v in J.unbind(-1)], -1)
    square = (moved * (t.a[at, None] + t.b[at, :1] * J).square()).sum(2)
    return (square.sqrt() / t.std[at]).amax(0).nan_to_num(torch.inf)
