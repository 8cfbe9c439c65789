"""What a round asks the device of the nodes, in one answer: sums by band, from which the parts of the error are made.

moved[m, f]   |x - x_seen|^2 over band f                              of the secant part
each[m]       rho A[m] |w[m] apart[m]|_G                              of the interpolation part
all           rho |sum_m A[m] w[m] apart[m] G|
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .error import interpolation_share
from .stops import FEW
from .store import NodeStore
from .surrogate import StopStates, Surrogate


class NodeSums(NamedTuple):
    """By slot: moved (B, n, F), each (B, n), and all (B,); float64, on the CPU."""

    moved: Tensor
    each: Tensor
    all: Tensor


def measure_nodes(
    found: Surrogate, way: StopStates, store: NodeStore, counts: list[list[float]], unit: list[float]
) -> NodeSums:
    """The sums of the nodes; way: the chain's states; counts: A w of known nodes, unit: a finished sample's size."""
    layout, levels, s, n = found.layout, found.levels, found.coordinates, found.E.shape[1]
    shares = [interpolation_share(levels, len(rows)) / u for rows, u in zip(layout.known.each, unit, strict=True)]
    by = layout.by_slot([[share * c for c in each] for share, each in zip(shares, counts, strict=True)])
    places = [[way.stops.place(r, b) for r in (*slot, *[0] * (n - len(slot)))] for b, slot in enumerate(layout.slot)]
    device = store.at.device
    moved = way.u[layout.samples.to(device), torch.tensor(places).to(device), 0] - store.at
    if not layout.even:
        for b, slot in enumerate(layout.slot):
            moved[b, len(slot) :] = 0
    apart = s.scale_(what_is_apart(found), by[..., None] * layout.becomes)
    norms = [torch.linalg.vector_norm(v, dim=2) for v in (apart, apart.sum(1, True))]
    told = torch.cat([s.sums(moved, moved).flatten(1), *norms], 1).cpu().double()  # waits
    of, each, every = told.split([n * levels.J.shape[1], n, 1], 1)
    return NodeSums(of.unflatten(1, (n, -1)), each, every[:, 0])


def what_is_apart(found: Surrogate) -> Tensor:
    """How far e of each node (B, n, d) is from what its neighbours say."""
    layout, E = found.layout, found.E
    if len(layout.known) <= FEW:
        return torch.bmm(layout.apart.to(E), E)
    apart, b = torch.zeros_like(E), torch.arange(len(E), device=E.device)[:, None]
    for slot, weight in zip(*(v.unbind(2) for v in layout.neighbours), strict=True):
        if bool(weight.any()):
            apart += weight.to(E)[..., None] * E[b, slot.to(E.device)]
    return apart
