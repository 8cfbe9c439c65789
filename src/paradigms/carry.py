"""How a correction travels down the rows of a window:

    d[n] = sum_k p[k,n] d[n-1-k] + r[n],    k = 0..K-1,    d before the window = 0

p may be given in bands of the coordinates of r, with `spread` from those to these.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .system import System, rows

Spread = Callable[[Tensor], Tensor]  # coefficients (W, B, F) of bands -> (W, B, ...) of coordinates


def scan(r: Tensor, p: Tensor | None = None) -> Tensor:
    """d[n] = p[n] d[n-1] + r[n] along the first axis of r (W, B, ...), in log2 W passes; p (W, B), 1 if None.

    Pass j carries news 2^j rows far. The sums of p = 1 take a sixth of torch.cumsum's time along this axis on a CPU.
    """
    r, k = r.clone(), 1
    while k < len(r):
        r[k:] += r[:-k].clone() if p is None else rows(p[k:], r) * r[:-k]
        p = None if p is None else torch.cat([p[:k], p[k:] * p[:-k]])
        k *= 2
    return r


def recur(r: Tensor, p: Tensor, spread: Spread | None = None) -> Tensor:
    """d (W, B, ...) for p (K, W, B), (K, W, B, ...) or, with `spread`, (K, W, B, F): row by row, for that is fastest.

    One multiply-add of a row is a few microseconds, and passes over all rows would need products of K x K matrices.
    """
    wide, d = [widen(q, r, spread).unbind() for q in p], r.clone()
    row = d.unbind()
    for n in range(1, len(row)):
        for k in range(min(len(wide), n)):
            row[n].addcmul_(wide[k][n], row[n - 1 - k])
    return d


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
    fine = torch.isfinite(v.flatten(2).sum(2))  # a sum is finite only if its terms are
    return v if bool(fine.all()) else torch.where(rows(fine, v), v, 0)


def widen(p: Tensor, d: Tensor, spread: Spread | None) -> Tensor:
    """Coefficients p as wide as states d."""
    return rows(p, d) if spread is None else spread(p)
