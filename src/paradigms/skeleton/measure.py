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
from .layout import NodeLayout
from .stops import FEW
from .store import NodeStore
from .surrogate import StopStates, Surrogate


class NodeSums(NamedTuple):
    """moved (V, B, F) squared, each (V, B), all (B,); float64, on the CPU."""

    moved: Tensor
    each: Tensor
    all: Tensor


def measure_nodes(found: Surrogate, way: StopStates, store: NodeStore, counts: Tensor, unit: Tensor) -> NodeSums:
    """The sums of the nodes; way: the chain's states; counts (V, B): A w, unit (B,): the size of a finished sample."""
    layout, levels, s = found.layout, found.levels, found.coordinates
    row = layout.row.clamp(max=len(levels) - 1)
    share = interpolation_share(levels, layout.known.count)
    by = (layout.by_slot(counts) * (share / unit)[:, None])[..., None] * levels.G[row + 1]
    moved = way.at(row, torch.arange(len(row))[:, None]).sub_(store.at)
    if not layout.even:
        moved *= layout.full.to(moved)[..., None]
    apart = s.scale_(what_is_apart(found), by)
    norms = [torch.linalg.vector_norm(v, dim=2) for v in (apart, apart.sum(1, True))]
    told = torch.cat([s.sums(moved, moved).flatten(1), *norms], 1).cpu().double()  # waits
    n, F = row.shape[1], levels.J.shape[1]
    of, each = told.split([n * F, n + 1], 1)
    return NodeSums(layout.by_rank(of.unflatten(1, (-1, F))), layout.by_rank(each[:, :-1]), each[:, -1])


def what_is_apart(found: Surrogate) -> Tensor:
    """How far e of each node (B, n, d) is from what its neighbours say."""
    layout, E = found.layout, found.E
    if len(layout.known) <= FEW:
        return torch.bmm(layout.apart.to(E), E)
    apart, b = torch.zeros_like(E), torch.arange(len(E), device=E.device)[:, None]
    for slot, weight in layout.neighbours:
        apart += weight.to(E)[..., None] * E[b, slot.to(E.device)]
    return apart


def secant_size(layout: NodeLayout, moved: Tensor, size: Tensor, still: float) -> Tensor:
    """|w (x - x_seen) / alpha|_G (V, B) of moved (V, B, F) squared.

    0 where a state moved by no more than `still` of its size (V, B).
    """
    levels, at = layout.levels, layout.at
    raw = (moved * levels.G[at + 1].square()).sum(2).sqrt() * layout.mass * levels.per[at]
    return torch.where(moved.sum(2).sqrt() <= still * size, 0.0, raw)


def step_residual(layout: NodeLayout, moved: Tensor, J: Tensor) -> Tensor:
    """The norm, in std, of how far a known node's next state is from the step that the model gave, at most (B,).

    moved (V, B, F) as above, J (N, B, F).
    """
    t, at = layout.levels.system, layout.at
    J = J[at, torch.arange(at.shape[1])]
    square = (moved * torch.addcmul(t.a[at, None], t.b[at, :1], J).square_()).sum(2)
    return (square.sqrt() / t.std[at]).amax(0).nan_to_num(torch.inf)
