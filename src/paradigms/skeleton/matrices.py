"""Where nodes are few, the chain on the surrogate is one matrix by band: no state between nodes, no loop over them.

    u[i+1] = P[i] u[i] + sum_j Q[i,j] e[j] + seg[i],    u[0] = (x0, 0, ...)        i stops, j nodes, seg: noise between
    x[i] = sum_j H[i,j] (e, x0, seg)[j],                 H = (1 - shift P)^-1 (Q, 1, 1)

H holds scalars by band, (stops, nodes + 1 + stops), and comes of one triangular system. What a round must know is rows
of one product a band with U = (e, x0, seg):

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
    """H (B, F, V + 1, columns) of stops, the last row N, on the CPU in float64; U (B, columns, d) that it is for."""

    found: Surrogate
    stops: KnownNodes
    H: Tensor
    U: Tensor

    def states(self, n: Tensor, b: Tensor) -> Tensor:
        """States (M, d) at rows n of samples b (M,), which are stops."""
        B, s = len(self.U), self.found.coordinates
        place = torch.zeros(B, len(n), dtype=torch.bool)
        place[b, torch.arange(len(n))] = True
        many = place.sum(1)
        inside = place.cumsum(1)[b, torch.arange(len(n))] - 1
        rows = torch.zeros(B, int(many.max()), dtype=torch.long)
        rows[b, inside] = self.stops.base[n, b]
        H = self.H.gather(2, rows[:, None, :, None].expand(B, self.H.shape[1], -1, self.H.shape[3]))
        H = H.transpose(0, 1).to(self.U)
        out = self.U.new_empty(B, rows.shape[1], self.U.shape[2])
        for f, part in enumerate(s.slices):
            out[:, :, part] = H[f] @ self.U[:, :, part]
        return out[b.to(out.device), inside.to(out.device)]

    def measured(self, store: NodeStore, by: Tensor) -> MeasuredStates:
        """What the error is made of; by (B, F, n): weights of the nodes in the sum of `apart`."""
        layout, (B, F, _, columns) = self.found.layout, self.H.shape
        n = layout.row.shape[1]
        L = layout.apart[:, None].expand(B, F, n, n)
        L = torch.nn.functional.pad(torch.cat([L, by[:, :, None] @ L], 2), (0, columns - n))
        rows = torch.where(layout.full, layout.rank, 0)
        X = self.H.gather(2, rows[:, None, :, None].expand(B, F, n, columns)) * layout.full[:, None, :, None]
        every = torch.cat([X, L, self.H[:, :, -1:]], 2).transpose(0, 1).to(self.U)  # (F, B, 2 n + 2, columns)
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
        H, U = self.H[keep], self.U[there]
        if here < n:
            H, U = torch.cat([H[..., :here], H[..., n:]], 3), torch.cat([U[:, :here], U[:, n:]], 1)
        rows, base = self.stops.rows[:, keep], self.stops.base[:, keep]
        return replace(self, found=found, stops=KnownNodes(rows, self.stops.count[keep], base), H=H, U=U)


def chain_matrix(found: Surrogate, stop: Tensor) -> ChainMatrix | None:
    """H of stops (N, B), among them row 0 and all known nodes; None where it would be too large to pay."""
    layout, system, stops = found.layout, found.levels.system, KnownNodes.of(stop)
    (B, n), K, V, F = layout.row.shape, system.taps, len(stops), found.J.shape[2]
    R, columns = (V + 1) * K, n + 1 + (V * K if found.z is not None else 0)
    if V > FEW or R * columns * B * F > MOST:
        return None
    P, T = interval_coefficients(system, found.carry, stop)
    A = torch.eye(R, dtype=P.dtype).view(V + 1, K, V + 1, K)[..., None, None].repeat(1, 1, 1, 1, B, F)
    i = torch.arange(V)
    A[i + 1, :, i] = -at_stops(P, stops).permute(2, 0, 1, 3, 4)
    Q = weights_by_slot(found, T, stops, R, columns)
    if found.z is not None:
        j = torch.arange(V * K)
        Q[j + K, n + 1 + j] = 1
    A, Q = A.flatten(0, 1).flatten(1, 2).permute(2, 3, 0, 1), Q.permute(2, 3, 0, 1)
    H = torch.linalg.solve_triangular(A, Q, upper=False, unitriangular=True)[:, :, ::K]
    parts = [found.E, found.x[:, None]]
    if found.z is not None:
        noise = noise_between(found.coordinates, T, found.z, stops.base, V)  # (K, B, V, d)
        parts.append(noise.permute(1, 2, 0, 3).flatten(1, 2))
    return ChainMatrix(found, stops, H, torch.cat(parts, 1))


def weights_by_slot(found: Surrogate, T: Tensor, stops: KnownNodes, R: int, columns: int) -> Tensor:
    """Q (R, columns, B, F): what each node and the first state count for in each interval, and 0 for its noise."""
    layout, system, K, (N, B, F) = found.layout, found.levels.system, len(T), found.J.shape
    out = T.new_zeros(R * columns, B, F)
    if len(layout.known):
        for k in range(K):
            n, base = slice(k, N), layout.known.base[: N - k]
            place = (base + torch.arange(-1, 3)[:, None, None]).clamp(min=0).minimum(layout.known.count - 1)
            slot = layout.ranked.expand(4, -1, -1).gather(1, place.clamp(min=0))
            row = (stops.base[n] + 1) * K + torch.arange(K)[:, None, None, None]  # (K, 1, N - k, B)
            value = (system.b[n, k, None, None] * T[:, n])[:, None] * layout.weights[:, : N - k, :, None]
            where = (row * columns + slot).flatten(0, 2)
            out.scatter_add_(0, where[..., None].expand(-1, -1, F), value.flatten(0, 2))
    out[layout.row.shape[1]] = 1  # u[0] holds x0 alone
    return out.unflatten(0, (R, columns))
