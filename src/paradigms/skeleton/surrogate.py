"""The surrogate: what a few evaluated nodes say of the model's answer at every row.

    S[n](y) = J[n] y + e[n],    e[m] = D[m] - J[m] x_seen[m] at a node m                                      (1)

What the Jacobian leaves of the answer, e, is smooth along the chain. Between nodes it is a weighted sum of the nodes'
values, in the noise level level, w = (level - l_lo) / (l_hi - l_lo):

    a chain that draws noise    e = (1 - w) e_lo + w e_hi
    an ODE                      the cubic with these ends and with the slopes there of the parabola through the node and
                                its two neighbours (cubic Hermite); after the last node e is that node's

How well a node's neighbours foretell it, free of evaluations, tells how good the interpolation is, see `layout.py`.
The chain on S is run from stop to stop (`run`), or is one matrix by band where there are few nodes (`matrices.py`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from .coordinates import BandCoordinates
from .layout import NodeLayout
from .levels import LevelScalars
from .nodes import KnownNodes
from .recurrence import gather_weights, interval_coefficients, noise_between, row_matrices, run_stops
from .steps import from_steps, single_step_stops
from .store import NodeStore


@dataclass(frozen=True)
class Surrogate:
    """Equation (1) of B samples, as one round knows it.

    J (N, B, F), on the CPU. E (B, n, d): e at the known nodes, in the order of the store. x (B, d): the first states.
    z (B, N, d): the noise as it is added, None where none is.
    """

    coordinates: BandCoordinates
    J: Tensor
    layout: NodeLayout
    E: Tensor
    x: Tensor
    z: Tensor | None

    @property
    def levels(self) -> LevelScalars:
        """The scalars of the table."""
        return self.layout.levels

    @property
    def known(self) -> KnownNodes:
        """The known nodes, in the order of rows."""
        return self.layout.known

    @functools.cached_property
    def carry(self) -> Tensor:
        """M (K, K, N, B, F), see `recurrence.py`."""
        return row_matrices(self.levels.system, self.J)

    def run(self, stop: Tensor, store: NodeStore | None = None) -> Tensor:
        """The chain on S: states (V + 1, B, d) at the stops (N, B) of each sample and, last, at row N.

        Row 0 and all known nodes are stops. A sample with fewer stops than another stands at row N from its last on.
        store: of the nodes that this surrogate is made of; with it runs of nodes are exact, see `steps.py`.
        """
        system, s, stops = self.levels.system, self.coordinates, KnownNodes.of(stop)
        V, K, base = len(stops), system.taps, self.known.base
        P, T = interval_coefficients(system, self.carry, stop)
        P = at_stops(P, stops)
        R = self.x.new_zeros(K, V, *self.x.shape)
        if self.z is not None:
            R = noise_between(s, T, self.z, stops.base, V).transpose(1, 2).contiguous()
        if len(self.known):
            Q = gather_weights(system, T, self.layout.weights, base, stops.base, V)
            first = base.gather(0, stops.rows.clamp(max=len(stop) - 1))  # of each interval
            for slot, q in enumerate(Q.unbind()):
                if bool(q.any()):
                    R.addcmul_(s.spread(q.to(R)), self.at(first + slot - K)[None])
        u = torch.cat([self.x[None], self.x.new_zeros(K - 1, *self.x.shape)])
        known = single_step_stops(stops, store) if store else None
        if store is None or known is None or not bool(known.any()):
            return torch.cat([self.x[None], run_stops(s, P, R, u)[0]])
        return from_steps(system, s, (P, R), (stops, known), store, self.z, u)

    def at(self, place: Tensor) -> Tensor:
        """e (R, B, d) of the known nodes at places (R, B), kept within those there are."""
        place = place.clamp(min=0).minimum(self.known.count - 1).clamp(min=0)
        slot, b = self.layout.ranked.gather(0, place), torch.arange(place.shape[1])
        return self.E[b.to(self.E.device), slot.to(self.E.device)]


def at_stops(P: Tensor, stops: KnownNodes) -> Tensor:
    """P (K, K, V, B, F) of the intervals that begin at stops, out of all rows'; beyond a sample's, nothing moves."""
    K, N, F = len(P), P.shape[2], P.shape[-1]
    at = stops.rows.clamp(max=N - 1)
    P = P.gather(2, at[None, None, :, :, None].expand(K, K, -1, -1, F))
    return torch.where((stops.rows < N)[..., None], P, torch.eye(K, dtype=P.dtype)[:, :, None, None, None])
