"""The surrogate: what a few evaluated nodes say of the model's answer at every row.

    S[n](y) = J[n] y + e[n],    e[m] = D[m] - J[m] x_seen[m] at a node m                                      (1)

What the Jacobian leaves of the answer, e, is smooth along the chain. Between nodes it is a weighted sum of the nodes'
values, in the noise level level, w = (level - l_lo) / (l_hi - l_lo):

    a chain that draws noise    e = (1 - w) e_lo + w e_hi
    an ODE                      the cubic with these ends and with the slopes there of the parabola through the node and
                                its two neighbours (cubic Hermite); after the last node e is that node's

How well a node's neighbours foretell it, free of evaluations, tells how good the interpolation is, see `layout.py`.
The chain on S is run from stop to stop, see `recurrence.py` and `stops.py`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .coordinates import BandCoordinates
from .layout import NodeLayout
from .levels import LevelScalars
from .nodes import NodeRows
from .recurrence import Intervals, NoiseByBand, row_matrices
from .stops import FEW, MOST, from_steps, run_blocks, run_product, single_step_stops
from .store import NodeStore


class StopStates(NamedTuple):
    """States u (B, V + 1, K, d) of a chain at V stops and at row N."""

    stops: NodeRows
    u: Tensor

    def at(self, n: list[int], b: list[int]) -> tuple[Tensor, Tensor]:
        """The samples and places (M,) in u of the last stops at or before rows n of samples b (M), on the device."""
        both = torch.tensor([b, [self.stops.place(r, s) for r, s in zip(n, b, strict=True)]]).to(self.u.device)
        return both[0], both[1]

    @property
    def end(self) -> Tensor:
        """The states (B, d) at row N."""
        return self.u[:, -1, 0]


@dataclass(frozen=True)
class Surrogate:
    """Equation (1) of B samples, as one round knows it.

    J (N, B, F), on the CPU. E (B, n, d): e at the known nodes, in the order of the store. x (B, d): the first states.
    z: the noise as it is added, None where none is.
    """

    coordinates: BandCoordinates
    J: Tensor
    layout: NodeLayout
    E: Tensor
    x: Tensor
    z: NoiseByBand | None

    @property
    def levels(self) -> LevelScalars:
        """The scalars of the table."""
        return self.layout.levels

    @property
    def known(self) -> NodeRows:
        """The known nodes, in the order of rows."""
        return self.layout.known

    @functools.cached_property
    def carry(self) -> Tensor:
        """M (N, B, F, K, K), see `recurrence.py`."""
        return row_matrices(self.levels.system, self.J)

    def intervals(self, stops: NodeRows) -> Intervals:
        """From each stop to the next and to row N, sample after sample; empty beyond a sample's stops."""
        N, V = stops.N, len(stops)
        more = [V - len(rows) for rows in stops.each]
        return Intervals(
            self.layout,
            [n for rows, k in zip(stops.each, more, strict=True) for n in (*rows, *[N - 1] * k)],
            [n for rows, k in zip(stops.each, more, strict=True) for n in (*rows[1:], N, *[N - 1] * k)],
            [b for b in range(len(more)) for _ in range(V)],
        )

    def run(self, way: tuple[NodeRows, Intervals], store: NodeStore | None = None) -> StopStates:
        """The chain on S at stops, among which are row 0 and all known nodes.

        A sample with fewer stops than another stands at row N from its last on. store: of the nodes that this surrogate
        is made of; with it runs of nodes are exact, see `steps.py`.
        """
        stops, intervals = way
        s, V, B = self.coordinates, len(stops), len(stops.each)
        P, T = intervals.coefficients(self.carry)
        K, F = P.shape[-1], P.shape[1]
        known = single_step_stops(stops, store, K) if store else None
        Q = intervals.gathered(T) if len(self.known) else None
        noise = None if self.z is None else intervals.noise(s, T, self.z).unflatten(0, (B, V))  # (B, V, K, d)
        P = P.unflatten(0, (B, V))
        if known is None and V <= FEW and F * B * (V * K) ** 2 <= MOST:
            return StopStates(stops, run_product(s, P, self.every(intervals, Q), self.E, noise, self.x))
        R = self.x.new_zeros(B, V, K, self.x.shape[1]) if noise is None else noise
        if Q is not None:
            self.add(R.flatten(0, 1), intervals, Q)
        R = R.permute(2, 1, 0, 3).contiguous()  # (K, V, B, d)
        P = P.permute(3, 4, 1, 0, 2)  # (K, K, V, B, F)
        u = torch.cat([self.x[None], self.x.new_zeros(K - 1, *self.x.shape)])
        if known is not None:
            assert store is not None
            z = None if self.z is None else self.z.all.unflatten(0, (B, -1))
            found = from_steps(self.levels.system, s, (P, R, u), (stops, known), store, z)
        else:
            found = run_blocks(s, P, R, u)
        return StopStates(stops, torch.cat([u[:, None], found], 1).permute(2, 1, 0, 3))

    def every(self, intervals: Intervals, Q: Tensor | None) -> Tensor | None:
        """What each slot counts for in each interval: (F B, V K, n) of Q (B V, K + 3, F, K)."""
        if Q is None:
            return None
        (B, n, _), (M, _, F, K) = self.E.shape, Q.shape
        out = Q.new_zeros(M, n, F * K)
        out.scatter_add_(1, intervals.slots[..., None].expand(-1, -1, F * K), Q.flatten(2))
        return out.view(B, M // B, n, F, K).permute(3, 0, 1, 4, 2).reshape(F * B, -1, n)

    def add(self, R: Tensor, intervals: Intervals, Q: Tensor) -> None:
        """Adds what the nodes give to each interval to R (M, K, d)."""
        b, slots = intervals.numbers[2][:, 0].to(R.device), intervals.slots.to(R.device)
        n, d = Q.shape[1], R.shape[2]
        used = range(n) if self.levels.ode else range(1, n - 1)  # a straight line has two ends
        if Q.numel() // Q.shape[2] * d > MOST:
            for j in used:
                self.coordinates.plus(R, Q[:, j].transpose(1, 2), self.E[b, slots[:, j]][:, None].expand_as(R), out=R)
            return
        by = self.coordinates.spread(Q.permute(1, 0, 3, 2).to(R)).unbind()
        each = self.E[b, slots.T].unsqueeze(2).unbind()
        for j in used:  # in this order: that of a sum shows where nodes are neighbours
            R.addcmul_(by[j], each[j])

    def states(self, way: StopStates, n: list[int], b: list[int]) -> Tensor:
        """States (M, d) at rows n of samples b (M), stops or not."""
        out, s = way.u[..., 0, :][way.at(n, b)], self.coordinates
        stops = [set(rows) for rows in way.stops.each]
        new = [m for m, (r, j) in enumerate(zip(n, b, strict=True)) if r not in stops[j]]
        if not new:
            return out
        end, of = [n[m] for m in new], [b[m] for m in new]
        begin = [way.stops.each[j][way.stops.place(r, j)] for r, j in zip(end, of, strict=True)]
        between, u = Intervals(self.layout, begin, end, of), way.u[way.at(end, of)]  # (M, K, d)
        P, T = between.coefficients(self.carry)
        found = s.scale_(u[:, 0].clone(), P[..., 0, 0])
        for k in range(1, P.shape[-1]):
            s.plus(found, P[..., 0, k], u[:, k], out=found)
        if self.z is not None:
            found += between.noise(s, T[..., :1], self.z)[:, 0]
        if len(self.known):
            self.add(found[:, None], between, between.gathered(T[..., :1]))
        return out.index_copy_(0, torch.tensor(new, device=out.device), found)

    def nearby(self, j: int) -> Tensor:
        """e (N, B, d) of the known nodes at `base` + j of each row, kept within those there are."""
        known, lines = self.known, self.layout.lines(2)
        places = [[line[known.place(n, b) + j + 2] for b, line in enumerate(lines)] for n in range(known.N)]
        b = torch.arange(len(lines), device=self.E.device)
        return self.E[b, torch.tensor(places, device=self.E.device)]
