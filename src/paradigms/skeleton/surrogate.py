"""The surrogate: what a few evaluated nodes say of the model's answer at every row.

    S[n](y) = J[n] y + e[n],    e[m] = D[m] - J[m] x_seen[m] at a node m                                      (1)

What the Jacobian leaves of the answer, e, is smooth along the chain. Between nodes it is a weighted sum of the nodes'
values, in the noise level level, w = (level - l_lo) / (l_hi - l_lo):

    a chain that draws noise    e = (1 - w) e_lo + w e_hi
    an ODE                      the cubic with these ends and with the slopes there of the parabola through the node and
                                its two neighbours (cubic Hermite); after the last node e is that node's

How well a node's neighbours foretell it, which costs no evaluation, tells how good the interpolation is:

    apart[m] = e[m] - sum_j Lagrange_j e[m + j]        j = -1, 1 with noise, j = -2, -1, 1, 2 without
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..methods.spectrum import Spectrum
from .levels import LevelScalars
from .nodes import KnownNodes
from .recurrence import gather_weights, interval_coefficients, noise_between, row_matrices, run_stops
from .steps import from_steps, single_step_stops
from .store import NodeStore


@dataclass(frozen=True)
class Surrogate:
    """Equation (1) of B samples, as one round knows it.

    J (N, B, F), on the CPU. E (V, B, C, S): e at the known nodes. x (B, C, S): the first states. z (B, N, C, S): the
    noise as it is added, None where none is.
    """

    levels: LevelScalars
    spectrum: Spectrum
    J: Tensor
    known: KnownNodes
    E: Tensor
    x: Tensor
    z: Tensor | None

    def run(self, stop: Tensor, store: NodeStore | None = None) -> Tensor:
        """The chain on S: states (V + 1, B, C, S) at the stops (N, B) of each sample and, last, at row N.

        Row 0 and all known nodes are stops. A sample with fewer stops than another stands at row N from its last on.
        store: of the nodes that this surrogate is made of; with it runs of nodes are exact, see `steps.py`.
        """
        system, s, stops = self.levels.system, self.spectrum, KnownNodes.of(stop)
        V, K, base = len(stops), self.levels.system.taps, self.known.base
        P, T = interval_coefficients(system, row_matrices(system, self.J), stop)
        there = stops.rows < len(stop)
        one = torch.eye(K, dtype=P.dtype)[:, :, None, None, None]
        at = stops.rows.clamp(max=len(stop) - 1)
        P = P.gather(2, at[None, None, :, :, None].expand(K, K, -1, -1, P.shape[-1]))
        P = torch.where(there[..., None], P, one)
        R = self.x.new_zeros(K, V, *self.x.shape)
        if self.z is not None:
            length = torch.zeros(V, stop.shape[1], dtype=torch.long)
            length.scatter_add_(0, stops.base, torch.ones_like(stops.base))
            R = noise_between(s, T, self.z, length)
        if len(self.known):
            h = interpolation_weights(self.levels, self.known)
            Q = gather_weights(system, T, h, base, stops.base, V)
            first = base.gather(0, at)  # of each interval
            for slot, q in enumerate(Q.unbind()):
                if bool(q.any()):
                    R.addcmul_(s.spread(q.to(R)), self.at(first + slot - K)[None])
        u = torch.cat([self.x[None], self.x.new_zeros(K - 1, *self.x.shape)])
        known = single_step_stops(stops, store) if store else None
        if store is None or known is None or not bool(known.any()):
            return torch.cat([self.x[None], run_stops(s, P, R, u)[0]])
        return from_steps(self.levels.system, s, (P, R), (stops, known), store, self.z, u)

    def at(self, place: Tensor) -> Tensor:
        """e (R, B, C, S) of the known nodes at places (R, B), kept within those there are."""
        V, B = len(self.known), place.shape[1]
        place = place.clamp(min=0).minimum(self.known.count - 1).clamp(min=0)
        if len(place) == V and bool((place == torch.arange(V)[:, None]).all()):
            return self.E
        return self.E[place.to(self.E.device), torch.arange(B, device=self.E.device)]

    def apart(self) -> Tensor:
        """How far e is from what its neighbours say (V, B, C, S), 0 where they say nothing."""
        out, level = torch.zeros_like(self.E), lagrange_weights(self.levels, self.known)
        for j, c in zip((-2, -1, 0, 1, 2), level.unbind(), strict=True):
            here, there = slice(max(-j, 0), len(out) - max(j, 0)), slice(max(j, 0), len(out) + min(j, 0))
            if bool(c.any()) and len(out) > abs(j):
                out[here] += c[here, :, None, None].to(out) * self.E[there]
        return out

    def row(self, n: Tensor, X: Tensor, stop: KnownNodes) -> Tensor:
        """States (R, B, C, S) at rows n (R, B), which are stops, of states X that `run` gave."""
        at = stop.base.gather(0, n).to(X.device)
        return X[at, torch.arange(n.shape[1], device=X.device)]


def interpolation_weights(levels: LevelScalars, known: KnownNodes) -> Tensor:
    """h (4, N, B): what the nodes at places base - 1, base, base + 1, base + 2 count for in e of each row."""
    level, base = levels.level, known.base.clamp(min=0)
    (before, has), (lo, _), (hi, closed), (after, more) = (known.beside(base, j) for j in (-1, 0, 1, 2))
    h = torch.zeros(4, *base.shape, dtype=level.dtype)
    H = torch.where(closed, level[hi] - level[lo], 1.0)
    w = torch.where(closed, (level[:, None] - level[lo]) / H, 0.0).clamp(0, 1)
    h[1], h[2] = 1 - w, w
    if not levels.ode:
        return h
    left, right = torch.where(has, level[lo] - level[before], 1.0), torch.where(more, level[after] - level[hi], 1.0)
    c = torch.where(has & closed, w * (1 - w) ** 2 * H * H / (left + H), 0.0)  # of the slope at lo, less the chord's
    d = torch.where(more & closed, w**2 * (1 - w) * H * H / (H + right), 0.0)  # and at hi, which is taken away
    h[0] -= c / left
    h[1] += c / left + c / H - d / H
    h[2] += d / right + d / H - c / H
    h[3] -= d / right
    return h


def lagrange_weights(levels: LevelScalars, known: KnownNodes) -> Tensor:
    """Weights (5, V, B) of the nodes at -2, ..., 2 places in `apart`; 0 where a node has not both neighbours.

    Where they are the rows beside it, or one of them is, nothing is interpolated and nothing can be told.
    """
    V, B = known.rows.shape
    i = torch.arange(V)[:, None].expand(V, B)
    rows, there = zip(*(known.beside(i, j) for j in (-2, -1, 0, 1, 2)), strict=True)
    ok = there[1] & there[2] & there[3] & (rows[3] - rows[1] > 2)
    t = [levels.level[r] for r in rows]
    two = leave_one_out_weights(t, (1, 3))
    if levels.ode:
        two = torch.where(there[0] & there[4], leave_one_out_weights(t, (0, 1, 3, 4)), two)
    two[2] = 1.0
    return torch.where(ok, two, 0.0)


def leave_one_out_weights(t: Sequence[Tensor], some: Sequence[int]) -> Tensor:
    """Less the Lagrange weights (5, V, B) at t[2] of the polynomial through the places t[j] for j in some."""
    out = torch.zeros(5, *t[2].shape, dtype=t[2].dtype)
    for i in some:
        out[i] = -1.0
        for j in some:
            if j != i:
                apart = t[i] - t[j]
                out[i] *= (t[2] - t[j]) / torch.where(apart.abs() < 1e-9, 1e-9, apart)
    return out
