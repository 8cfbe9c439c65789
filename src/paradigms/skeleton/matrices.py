"""Where nodes are few, the chain on the surrogate is one matrix by band: no state between nodes, no loop over them.

    u[i+1] = P[i] u[i] + sum_j Q[i,j] e[j] + seg[i],    u[0] = (x0, 0, ...)        i stops, j nodes, seg: noise between
    x[i] = sum_j H[i,j] (e, x0, seg)[j],                 H[i+1] = P[i] H[i] + (Q, 0, 1)[i]

H holds scalars by band, (stops, nodes + 1 + stops). What a round must know is rows of one product a band with
U = (e, x0, seg):

    x - x_seen at the nodes        H less x_seen
    apart at the nodes             layout.apart, of e alone
    sum_m by[m] apart[m]           one row of it
    x at row N                     H
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .nodes import KnownNodes
from .recurrence import interval_coefficients, noise_between
from .store import NodeStore
from .surrogate import Surrogate, at_stops

MOST = 1 << 22  # scalars in H: beyond, chains are run from stop to stop
FEW = 160  # stops, likewise: products of matrices grow with their square


class MeasuredStates(NamedTuple):
    """Norms by band of x - x_seen and apart (B, n, F) each, of the sum (B, F) of the latter by weight; x at row N."""

    moved: Tensor
    apart: Tensor
    all: Tensor
    end: Tensor


@dataclass(frozen=True)
class ChainMatrix:
    """H (V + 1, B, F, columns) of stops, the last row N, on the CPU in float64; U (B, columns, d) that it is for."""

    found: Surrogate
    stops: KnownNodes
    H: Tensor
    U: Tensor

    def rows(self, place: Tensor) -> Tensor:
        """H (F, B, R, columns) at stops (B, R)."""
        return self.H[place, torch.arange(len(place))[:, None]].permute(2, 0, 1, 3)

    def states(self, n: Tensor, b: Tensor) -> Tensor:
        """States (M, d) at rows n of samples b (M,), which are stops."""
        B, s = len(self.U), self.found.coordinates
        place = torch.zeros(B, len(n), dtype=torch.bool)
        place[b, torch.arange(len(n))] = True
        many = place.sum(1)
        inside = place.cumsum(1)[b, torch.arange(len(n))] - 1
        rows = torch.zeros(B, int(many.max()), dtype=torch.long)
        rows[b, inside] = self.stops.base[n, b]
        H = self.rows(rows).to(self.U)
        out = self.U.new_empty(B, rows.shape[1], self.U.shape[2])
        for f, part in enumerate(s.slices):
            out[:, :, part] = H[f] @ self.U[:, :, part]
        return out[b.to(out.device), inside.to(out.device)]

    def measured(self, store: NodeStore, by: Tensor) -> MeasuredStates:
        """What the error is made of; by (F, B, n): weights of the nodes in the sum of `apart`."""
        layout, (_, B, F, columns) = self.found.layout, self.H.shape
        n = layout.row.shape[1]
        every = torch.zeros(F, B, 2 * n + 2, columns, dtype=self.H.dtype)
        every[:, :, :n] = self.rows(layout.rank)
        every[:, :, :n][:, ~layout.full] = 0
        every[:, :, n:-2, :n] = layout.apart
        every[:, :, -2, :n] = (by[:, :, None] @ layout.apart)[:, :, 0]
        every[:, :, -1] = self.H[-1].transpose(0, 1)
        every = every.to(self.U)
        norms, end = self.U.new_empty(F, B, 2 * n + 1), self.U.new_empty(B, self.U.shape[2])
        for f, part in enumerate(self.found.coordinates.slices):
            out = every[f] @ self.U[:, :, part]
            out[:, :n] -= store.at[:, :, part]
            torch.linalg.vector_norm(out[:, :-1], dim=2, out=norms[f])
            end[:, part] = out[:, -1]
        told = norms.permute(1, 2, 0).cpu().double()  # waits
        return MeasuredStates(told[:, :n], told[:, n:-1], told[:, -1], end)

    def part(self, keep: Tensor, found: Surrogate) -> ChainMatrix:
        """Of some samples alone, whose surrogate is `found`; their slots are the first of what there were."""
        n, here, there = self.found.layout.row.shape[1], found.layout.row.shape[1], keep.to(self.U.device)
        H, U = self.H[:, keep], self.U[there]
        if here < n:
            H, U = torch.cat([H[..., :here], H[..., n:]], 3), torch.cat([U[:, :here], U[:, n:]], 1)
        rows, base = self.stops.rows[:, keep], self.stops.base[:, keep]
        return replace(self, found=found, stops=KnownNodes(rows, self.stops.count[keep], base), H=H, U=U)


def chain_matrix(found: Surrogate, stop: Tensor) -> ChainMatrix | None:
    """H of stops (N, B), among them row 0 and all known nodes; None where it would be too large to pay."""
    layout, K, stops = found.layout, found.levels.system.taps, KnownNodes.of(stop)
    (B, n), V, F = layout.row.shape, len(stops), found.J.shape[2]
    columns = n + 1 + (V * K if found.z is not None else 0)
    if V > FEW or (V + 1) * K * columns * B * F > MOST:
        return None
    P, T = interval_coefficients(found.levels.system, found.carry, stop)
    H = weights_by_slot(found, T, stops, columns)
    parts = [found.E, found.x[:, None]]
    H[0, 0, ..., n] = 1  # u[0] holds x0 alone
    if found.z is not None:
        i = torch.arange(V)
        for k in range(K):
            H[i + 1, k, ..., n + 1 + i * K + k] = 1
        noise = noise_between(found.coordinates, T, found.z, stops.base, V)  # (K, B, V, d)
        parts.append(noise.permute(1, 2, 0, 3).flatten(1, 2))
    rows, steps = H.unbind(), at_stops(P, stops)[..., None].permute(2, 1, 0, 3, 4, 5).unbind()  # each (from, to, ...)
    for step, here, after in zip(steps, rows[:-1], rows[1:], strict=True):
        for p, u in zip(step.unbind(), here.unbind(), strict=True):
            after.addcmul_(p, u)
    return ChainMatrix(found, stops, H[:, 0], torch.cat(parts, 1))


def weights_by_slot(found: Surrogate, T: Tensor, stops: KnownNodes, columns: int) -> Tensor:
    """Q (V + 1, K, B, F, columns): what each node counts for in each interval, a row after it."""
    layout, system, K, (N, B, F) = found.layout, found.levels.system, len(T), found.J.shape
    out = T.new_zeros((len(stops) + 1) * K * B * F * columns)
    if len(layout.known):
        b, f = torch.arange(B)[:, None] * F, torch.arange(F)
        for k in range(K):
            n, base = slice(k, N), layout.known.base[: N - k]
            place = (base + torch.arange(-1, 3)[:, None, None]).clamp(min=0).minimum(layout.known.count - 1)
            slot = layout.ranked.expand(4, -1, -1).gather(1, place.clamp(min=0))[..., None]
            row = (stops.base[n] + 1) * K + torch.arange(K)[:, None, None, None]  # (K, 1, N - k, B)
            value = (system.b[n, k, None, None] * T[:, n])[:, None] * layout.weights[:, : N - k, :, None]
            where = (row[..., None] * (B * F) + b + f) * columns + slot
            out.scatter_add_(0, where.flatten(), value.flatten())
    return out.view(len(stops) + 1, K, B, F, columns)
