"""How a correction travels down the rows of a window, in log2 W passes instead of W steps:

    d[n] = sum_k p[k,n] d[n-1-k] + r[n],    k = 0..K-1,    d before the window = 0

Pass j carries news 2^j rows far. With several taps the rows are v[n] = (d[n], d[n-1], ..) = M[n] v[n-1] + (r[n], 0, ..)
with the K x K companion matrices M. p may be given in bands of the coordinates of r, with `spread` from those to these.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .system import System, rows

Spread = Callable[[Tensor], Tensor]  # coefficients (W, B, F) of bands -> (W, B, ...) of coordinates


def scan(r: Tensor, p: Tensor | None = None, spread: Spread | None = None) -> Tensor:
    """d[n] = p[n] d[n-1] + r[n] along the first axis of r (W, B, ...); p (W, B) or (W, B, ...), 1 if None.

    The sums of p = 1 take a sixth of torch.cumsum's time along this axis on a CPU.
    """
    r, k = r.clone(), 1
    while k < len(r):
        r[k:] += r[:-k].clone() if p is None else widen(p[k:], r, spread) * r[:-k]
        p = None if p is None else torch.cat([p[:k], p[k:] * p[:-k]])
        k *= 2
    return r


def recur(r: Tensor, p: Tensor, spread: Spread | None = None) -> Tensor:
    """d (W, B, ...) for p (K, W, B), (K, W, B, ...) or, with `spread`, (K, W, B, F)."""
    K, W = p.shape[:2]
    if K == 1:
        return scan(r, p[0], spread)
    M = p.new_zeros((K, *p.shape))
    M[0] = p
    M.diagonal(-1).fill_(1)
    v = torch.cat([r[None], r.new_zeros((K - 1, *r.shape))])
    k = 1
    while k < W:
        v[:, k:] += torch.stack([_times(M[:, i, k:], v[i, :-k], spread) for i in range(K)]).sum(0)
        M[:, :, k:] = torch.stack([M[:, i, None, k:] * M[i, None, :, :-k] for i in range(K)]).sum(0)
        k *= 2
    return v[0]


def carry(system: System, n: Tensor, live: Tensor, J: Tensor) -> Tensor:
    """P (K, W, B, ...) of Jacobians J (W, B, ...) at rows n: P[0] = a + b[0] J, P[k] = b[k] J[n-k]; 0 if not live."""
    P = J.new_zeros((system.taps, *J.shape))
    for k in range(min(system.taps, len(J))):
        P[k, k:] = rows(system.b[n[k:], k], J) * J[: len(J) - k]
    P[0] += rows(system.a[n], J)
    return torch.where(rows(live, J), P, 0)


def onward(d: Tensor, p: Tensor, spread: Spread | None = None) -> Tensor:
    """sum_k p[k,n] d[n-1-k], what each row of d (W, B, ...) is carried by; 0 at the first row."""
    carried = torch.zeros_like(d)
    for k in range(min(len(p), len(d) - 1)):
        carried[k + 1 :] += widen(p[k, k + 1 :], d, spread) * d[: len(d) - 1 - k]
    return carried


def finite(v: Tensor) -> Tensor:
    """v (W, B, ...) with 0 for every row and sample that is not finite throughout."""
    return torch.where(rows(torch.isfinite(v.flatten(2).sum(2)), v), v, 0)  # a sum is finite only if its terms are


def widen(p: Tensor, d: Tensor, spread: Spread | None) -> Tensor:
    """Coefficients p as wide as states d."""
    return rows(p, d) if spread is None else spread(p)


def _times(M: Tensor, v: Tensor, spread: Spread | None) -> Tensor:
    return torch.stack([widen(m, v, spread) * v for m in M])
