"""The chain on the surrogate from stop to stop: all of them at once, or in blocks.

    u[i+1] = P[i] u[i] + R[i],    R[i] = Q[i] e + noise,    u[0] = (x0, 0, ...)

Where stops are few, their states are one product of matrices a band:

    u[i] = Phi[i,0] u[0] + sum_j Phi[i,j+1] (Q[j] e + noise[j]),    Phi[i,j] = P[i-1] ... P[j]

Where there are many, that would cost their square: they are gone through in blocks of about sqrt(V), one step of all
blocks at once, then block after block.

Where nodes lie side by side and the tolerance is near rounding, the step between them is the model's own, to the last
digit. The chain from node to node, u' = P u + R, holds J x + D - J x_seen, and what cancels there leaves rounding that
changes whenever J does: rows would never settle. From a stop whose rows n, n - 1, ... were all evaluated to the row
after it

    y = a[n] x_seen[n] + sum_k b[n,k] D[n-k] + c[n] z[n]

does not, so with x = ref + v, ref: x_seen at nodes and 0 elsewhere, the chain is run on what is left of it:

    v' = P v + (step - ref'),    step = y where it can be had, else P ref + R

v is 0 for rows that were evaluated where they are, and then so is what moved: with all rows nodes the answer is that of
equation (1) to rounding.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ..system import System
from .coordinates import BandCoordinates
from .nodes import NodeRows
from .recurrence import running_products
from .store import NodeStore

MOST = 1 << 22  # scalars in Phi: beyond, chains are run in blocks
FEW = 160  # stops, likewise: products of matrices grow with their square


def run_product(s: BandCoordinates, P: Tensor, Q: Tensor | None, E: Tensor, noise: Tensor | None, x: Tensor) -> Tensor:
    """The states u (B, V + 1, K, d) from x (B, d).

    P (B, V, F, K, K) and Q (F B, V K, n) on the CPU, E (B, n, d), noise (B, V, K, d).
    """
    B, V, F, K, _ = P.shape
    Phi = transitions(P.permute(2, 0, 1, 3, 4)).transpose(3, 4).reshape(F * B, (V + 1) * K, (V + 1) * K).to(x)
    after, parts, U = Phi[..., K:], [Phi[..., :1]], [x[:, None]]
    if noise is not None:
        parts.append(after)
        U.append(noise.flatten(1, 2))
    if Q is not None:
        parts.append(torch.bmm(after, Q.to(x)))
        U.append(E)
    return s.product(torch.cat(parts, 2).view(F, B, (V + 1) * K, -1), torch.cat(U, 1)).view(B, V + 1, K, -1)


def transitions(P: Tensor) -> Tensor:
    """Phi (F, B, V + 1, V + 1, K, K), which is 0 for i < j, of P (F, B, V, K, K)."""
    late, lower, one = masks(P.shape[2], P.shape[4])
    each = torch.cat([one.expand_as(P[:, :, :1]), P], 2)[:, :, :, None]
    return running_products(torch.where(late, each, one), 2, True).mul_(lower)


@functools.lru_cache(maxsize=64)
def masks(V: int, K: int) -> tuple[Tensor, Tensor, Tensor]:
    """Whether i > j and whether i >= j, (V + 1, V + 1, 1, 1), and the matrix 1 (K, K)."""
    full = torch.ones(V + 1, V + 1)
    late, lower = full.tril(-1).bool(), full.tril().double()
    return late[..., None, None], lower[..., None, None], torch.eye(K, dtype=torch.float64)


def apply_matrices(P: Tensor, u: Tensor) -> Tensor:
    """P u (K, ..., d) of P (K, K, ..., d) and states u (K, ..., d)."""
    if len(u) == 1:
        return P[0] * u
    out = P[:, 0] * u[0]
    for j in range(1, len(u)):
        out += P[:, j] * u[j]
    return out


def matrix_product(P: Tensor, Q: Tensor) -> Tensor:
    """P Q of small matrices (K, K, ...)."""
    return P * Q if len(P) == 1 else (P[:, :, None] * Q[None]).sum(1)


def run_blocks(s: BandCoordinates, P: Tensor, R: Tensor, u: Tensor) -> Tensor:
    """The states (K, V, B, d) after each step.

    P (K, K, V, B, F) on the CPU, R (K, V, B, d), u (K, B, d) the first.
    """
    K, V = R.shape[:2]
    size = max(math.isqrt(V), 1)
    blocks = -(-V // size)
    more = blocks * size - V
    if more:  # steps that leave everything as it is
        one = torch.eye(K, dtype=P.dtype)[:, :, None, None, None].expand(K, K, more, *P.shape[3:])
        P, R = torch.cat([P, one], 2), torch.cat([R, R.new_zeros(K, more, *R.shape[2:])], 1)
    P, R = P.unflatten(2, (blocks, size)), R.unflatten(1, (blocks, size)).clone()
    upto = P.clone()  # products from a block's first step on
    wide = s.spread(P.to(R))
    for j in range(1, size):
        R[:, :, j] += apply_matrices(wide[:, :, :, j], R[:, :, j - 1])
        upto[:, :, :, j] = matrix_product(P[:, :, :, j], upto[:, :, :, j - 1])
    wide = s.spread(upto.to(R))
    begin = [u]
    for i in range(blocks - 1):
        begin.append(apply_matrices(wide[:, :, i, -1], begin[-1]) + R[:, i, -1])
    for j in range(size):
        R[:, :, j] += apply_matrices(wide[:, :, :, j], torch.stack(begin, 1))
    return R.flatten(1, 2)[:, :V]


def single_step_stops(stops: NodeRows, store: NodeStore, taps: int) -> Tensor | None:
    """The stops (V, B) from which the next is one step away, and that step looks back on evaluated rows alone; None
    where there is none."""
    found = [[False] * len(stops) for _ in stops.each]
    for flags, rows, slot in zip(found, stops.each, store.slot, strict=True):
        for i, (n, after) in enumerate(zip(rows, [*rows[1:], stops.N], strict=True)):
            flags[i] = after == n + 1 and all(n - k in slot for k in range(min(taps, n + 1)))
    return torch.tensor(found).T if any(map(any, found)) else None


def from_steps(
    system: System,
    s: BandCoordinates,
    chain: tuple[Tensor, Tensor, Tensor],
    stops: tuple[NodeRows, Tensor],
    store: NodeStore,
    z: Tensor | None,
) -> Tensor:
    """The states (K, V, B, d) that `run_blocks` gives for a chain P, R from u, by way of what is left of the steps."""
    (P, R, u), (at, known) = chain, stops
    rows, K, B = at.rows, len(R), R.shape[2]
    n, device = rows.clamp(max=len(system) - 1), R.device
    there = [slots_of(at, store, k) for k in range(K)]  # (V, B) each, -1 where that row was not evaluated
    b = torch.arange(B, device=device)
    seen, said = ([v[b, slot.clamp(min=0).to(device)] for slot in there] for v in (store.at, store.D))
    y = state_factors(system.a[n], R) * seen[0]
    for k in range(K):
        y.addcmul_(state_factors(system.b[n, k], R), said[k])
    if z is not None:
        y += z[b, n.to(device)]
    ref = torch.stack([torch.where(wide_mask(slot >= 0, R), v, 0.0) for slot, v in zip(there, seen, strict=True)])
    step = apply_matrices(s.spread(P.to(R)), ref).add_(R)
    step[0] = torch.where(wide_mask(known, R), y, step[0])
    for k in range(1, K):
        step[k] = torch.where(wide_mask(known, R), ref[k - 1], step[k])
    step[:, :-1] -= ref[:, 1:]
    v = run_blocks(s, P, step, u - ref[:, 0])
    v[:, :-1] += ref[:, 1:]
    return v


def slots_of(at: NodeRows, store: NodeStore, back: int) -> Tensor:
    """The slots (V, B) of the rows so many before the stops, -1 where they were not evaluated."""
    V = len(at)
    each = ([slot.get(n - back, -1) for n in rows] for rows, slot in zip(at.each, store.slot, strict=True))
    return torch.tensor([[*slots, *[-1] * (V - len(slots))] for slots in each]).T


def state_factors(c: Tensor, like: Tensor) -> Tensor:
    """Coefficients (V, B) as factors of states (V, B, d)."""
    return c[..., None].to(like)


def wide_mask(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (V, B) for states (V, B, d)."""
    return mask[..., None].to(like.device)
