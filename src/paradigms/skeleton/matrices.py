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
from .recurrence import interval_coefficients, noise_between, suffix_products
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
    """H (V + 1, K, B, F, columns) of stops, the last row N, on the CPU in float64; U (B, columns, d) that it is for."""

    found: Surrogate
    stops: KnownNodes
    H: Tensor
    U: Tensor

    def rows(self, place: Tensor) -> Tensor:
        """H (F, B, R, columns) at stops (B, R)."""
        return self.H[place, 0, torch.arange(len(place))[:, None]].permute(2, 0, 1, 3)

    def states(self, n: Tensor, b: Tensor) -> Tensor:
        """States (M, d) at rows n of samples b (M,), stops or not."""
        B, s = len(self.U), self.found.coordinates
        base = self.stops.base[n, b]
        H, noise = self.H[base, 0, b], None  # (M, F, columns)
        new = (self.stops.rows[base, b] != n).nonzero()[:, 0]
        if len(new):
            H[new], noise = rows_between(self.found, self.H, self.stops, n[new], b[new])
        inside = (torch.arange(B)[:, None] == b).cumsum(1)[b, torch.arange(len(n))] - 1
        every = H.new_zeros(B, int(inside.max()) + 1, *H.shape[1:]).index_put((b, inside), H)
        out = s.product(every.permute(2, 0, 1, 3).to(self.U), self.U)[b.to(self.U.device), inside.to(self.U.device)]
        return out if noise is None else out.index_add_(0, new.to(out.device), noise)

    def measured(self, store: NodeStore, by: Tensor) -> MeasuredStates:
        """What the error is made of; by (F, B, n): weights of the nodes in the sum of `apart`."""
        layout, (_, _, B, F, columns) = self.found.layout, self.H.shape
        n = layout.row.shape[1]
        every = torch.zeros(F, B, 2 * n + 2, columns, dtype=self.H.dtype)
        every[:, :, :n] = self.rows(layout.rank)
        every[:, :, :n][:, ~layout.full] = 0
        every[:, :, n:-2, :n] = layout.apart
        every[:, :, -2, :n] = (by[:, :, None] @ layout.apart)[:, :, 0]
        every[:, :, -1] = self.H[-1, 0].transpose(0, 1)
        every = every.to(self.U)
        squares, end = self.products(every, store.at)
        told = squares[:, :-1].sqrt().cpu().double()  # waits
        return MeasuredStates(told[:, :n], told[:, n:-1], told[:, -1], end)

    def products(self, every: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of squares by band (B, R, F) of every U, the first rows less `at`, and the last row (B, d) itself."""
        s, n = self.found.coordinates, at.shape[1]
        if not s.wide:
            out = s.product(every, self.U)
            out[:, :n] -= at
            return s.sums(out, out), out[:, -1]
        squares, end = self.U.new_empty(len(every), *every.shape[1:3]), self.U.new_empty(len(at), at.shape[2])
        for f, part in enumerate(s.slices):  # a band at a time stays near the processor
            out = torch.bmm(every[f], self.U[:, :, part])
            out[:, :n] -= at[:, :, part]
            torch.linalg.vector_norm(out, dim=2, out=squares[f])
            end[:, part] = out[:, -1]
        return squares.square_().permute(1, 2, 0), end

    def part(self, keep: Tensor, found: Surrogate) -> ChainMatrix:
        """Of some samples alone, whose surrogate is `found`; their slots are the first of what there were."""
        n, here, there = self.found.layout.row.shape[1], found.layout.row.shape[1], keep.to(self.U.device)
        H, U = self.H[:, :, keep], self.U[there]
        if here < n:
            H, U = torch.cat([H[..., :here], H[..., n:]], -1), torch.cat([U[:, :here], U[:, n:]], 1)
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
    P = at_stops(P, stops).permute(2, 1, 0, 3, 4)[..., None]  # (V, from, to, B, F, 1)
    for carry, here, after in zip(P.unbind(), H[:-1].unbind(), H[1:].unbind(), strict=True):
        if K == 1:
            after.addcmul_(carry[0], here)
        else:
            after += (carry * here[:, None]).sum(0)
    return ChainMatrix(found, stops, H, torch.cat(parts, 1))


def rows_between(found: Surrogate, H: Tensor, stops: KnownNodes, n: Tensor, b: Tensor) -> tuple[Tensor, Tensor | None]:
    """H (M, F, columns) at rows n of samples b (M,) between stops, and what the noise since the stop adds (M, d)."""
    system, layout, (_, K, _, F, columns) = found.levels.system, found.layout, H.shape
    base, M = stops.base[n, b], len(n)
    m = stops.rows[base, b] + torch.arange(int((n - stops.rows[base, b]).max()))[:, None]  # (L, M)
    inside, at = m < n, m.clamp(max=len(layout.slot) - 1)
    one = torch.eye(K, dtype=H.dtype)[:, :, None, None, None]
    upto = suffix_products(torch.where(inside[..., None], found.carry[:, :, at, b], one))
    T = torch.cat([upto[0, 0, 1:], torch.ones_like(upto[0, 0, :1])]) * inside[..., None]  # (L, M, F)
    out = sum(upto[0, k, 0][..., None] * H[base, k, b] for k in range(K))
    assert isinstance(out, Tensor)
    who, f = torch.arange(M)[:, None] * F, torch.arange(F)
    for k in range(K if len(layout.known) else 0):
        back = (at - k).clamp(min=0)
        value = (system.b[at, k] * (at >= k))[..., None] * T * layout.weights[:, back, b][..., None]  # (4, L, M, F)
        slot = layout.slot_at(layout.known.base[back, b] + torch.arange(-1, 3)[:, None, None], b)
        where = (who + f) * columns + slot[..., None]
        out.view(-1).scatter_add_(0, where.flatten(), value.flatten())
    if found.z is None:
        return out, None
    z, device = found.z, found.z.device
    return out, found.coordinates.weighted(T.to(z), lambda part: z[b.to(device), at.to(device), part])


def weights_by_slot(found: Surrogate, T: Tensor, stops: KnownNodes, columns: int) -> Tensor:
    """Q (V + 1, K, B, F, columns): what each node counts for in each interval, a row after it."""
    layout, system, K, (N, B, F) = found.layout, found.levels.system, len(T), found.J.shape
    out = T.new_zeros((len(stops) + 1) * K * B * F * columns)
    if len(layout.known):
        b, f = torch.arange(B)[:, None] * F, torch.arange(F)
        for k in range(K):
            n, base = slice(k, N), layout.known.base[: N - k]
            slot = layout.slot_at(base + torch.arange(-1, 3)[:, None, None], torch.arange(B))[..., None]
            row = (stops.base[n] + 1) * K + torch.arange(K)[:, None, None, None]  # (K, 1, N - k, B)
            value = (system.b[n, k, None, None] * T[:, n])[:, None] * layout.weights[:, : N - k, :, None]
            where = (row[..., None] * (B * F) + b + f) * columns + slot
            out.scatter_add_(0, where.flatten(), value.flatten())
    return out.view(len(stops) + 1, K, B, F, columns)
