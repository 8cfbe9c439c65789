"""Where nodes lie side by side, the step between them is the model's own, to the last digit.

The chain from node to node, u' = P u + R, holds J x + D - J x_seen, and what cancels there leaves rounding that changes
whenever J does: rows would never settle. From a stop whose rows n, n - 1, ... were all evaluated to the row after it

    y = a[n] x_seen[n] + sum_k b[n,k] D[n-k] + c[n] z[n]

does not, so with x = ref + v, ref: x_seen at nodes and 0 elsewhere, the chain is run on what is left of it:

    v' = P v + (step - ref'),    step = y where it can be had, else P ref + R

v is 0 for rows that were evaluated where they are, and then so is what moved: with all rows nodes the answer is that of
equation (1) to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..system import System
from .coordinates import BandCoordinates
from .nodes import KnownNodes
from .stops import apply_matrices, run_blocks
from .store import NodeStore


def single_step_stops(stops: KnownNodes, store: NodeStore) -> Tensor:
    """The stops (V, B) from which the next is one step away, and that step looks back on evaluated rows alone."""
    N, known = len(store.slot), store.mask
    rows = stops.rows
    after = torch.cat([rows[1:], torch.full_like(rows[:1], N)])
    seen = torch.stack([(rows - k < 0) | known.gather(0, (rows - k).clamp(0, N - 1)) for k in range(store.taps)]).all(0)
    return (rows < N) & (after == rows + 1) & seen


def from_steps(
    system: System,
    s: BandCoordinates,
    chain: tuple[Tensor, Tensor, Tensor],
    stops: tuple[KnownNodes, Tensor],
    store: NodeStore,
    z: Tensor | None,
) -> Tensor:
    """The states (K, V, B, d) that `run_blocks` gives for a chain P, R from u, by way of what is left of the steps."""
    (P, R, u), (at, known) = chain, stops
    rows, K, B = at.rows, len(R), R.shape[2]
    n, device = rows.clamp(max=len(system) - 1), R.device
    y = state_factors(system.a[n], R) * store.taken(store.at, n)
    for k in range(K):
        y.addcmul_(state_factors(system.b[n, k], R), store.taken(store.D, n - k))
    if z is not None:
        y += z[torch.arange(B, device=device), n.to(device)]
    seen = [store.mask.gather(0, (n - k).clamp(min=0)) & (rows - k >= 0) & (rows < len(system)) for k in range(K)]
    ref = torch.stack(
        [torch.where(wide_mask(ok, R), store.taken(store.at, n - k), 0.0) for k, ok in enumerate(seen)]
    )  # (K, V, B, d)
    step = apply_matrices(s.spread(P.to(R)), ref).add_(R)
    step[0] = torch.where(wide_mask(known, R), y, step[0])
    for k in range(1, K):
        step[k] = torch.where(wide_mask(known, R), ref[k - 1], step[k])
    step[:, :-1] -= ref[:, 1:]
    v = run_blocks(s, P, step, u - ref[:, 0])
    v[:, :-1] += ref[:, 1:]
    return v


def state_factors(c: Tensor, like: Tensor) -> Tensor:
    """Coefficients (V, B) as factors of states (V, B, d)."""
    return c[..., None].to(like)


def wide_mask(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (V, B) for states (V, B, d)."""
    return mask[..., None].to(like.device)
