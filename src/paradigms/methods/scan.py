"""How a correction travels down the rows of a window:

d[n] = sum_k p[k,n] d[n-1-k] + r[n],    k = 0..K-1,    d before the window = 0
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..system import System, expand_like, masked_rows


def scan(r: Tensor, p: Tensor | None = None) -> Tensor:
    """d[n] = p[n] d[n-1] + r[n] along the first axis of r (W, B, ...), in log2 W passes; p (W, B), 1 if None.

    Pass j carries news 2^j rows far. The sums of p = 1 take a sixth of torch.cumsum's time along this axis on a CPU.
    """
    r, k = r.clone(), 1
    while k < len(r):
        r[k:].add_(r[:-k].clone() if p is None else expand_like(p[k:], r) * r[:-k])
        p = None if p is None else torch.cat([p[:k], p[k:] * p[:-k]])
        k *= 2
    return r


def recur_rows(r: Tensor, p: Sequence[Tensor] | Tensor) -> Tensor:
    """d (W, B, ...) for p (K, W, B) or wide as r: row by row, for that is fastest.

    One multiply-add of a row is a few microseconds, and passes over all rows would need products of K x K matrices.
    """
    return recur_in_place(r.clone(), p)


def recur_in_place(d: Tensor, p: Sequence[Tensor] | Tensor, first: int = 1) -> Tensor:
    """`recur_rows` in place, from row `first` on: the rows before it are known."""
    row, wide = d.unbind(), [expand_like(q, d).unbind() for q in p]
    for n in range(first, len(row)):
        now = row[n]
        for k, q in enumerate(wide[:n], 1):
            now.addcmul_(q[n], row[n - k])
    return d


def carry_matrices(system: System, n: Tensor, on: Tensor | None, J: Tensor) -> list[Tensor]:
    """P (W, B, ...) of each tap for Jacobians J (W, B, ...) at rows n: P[0] = a + b[0] J, P[k] = b[k] J[n-k].

    0 where the mask `on` is not true.
    """
    b = [expand_like(v, J) for v in system.b[n].unbind(-1)]
    ahead = [torch.cat([torch.zeros_like(J[:k]), b[k][k:] * J[:-k]]) for k in range(1, min(system.taps, len(J)))]
    return [masked_rows(on, p) for p in (torch.addcmul(expand_like(system.a[n], J), b[0], J), *ahead)]


def carried_on(d: Tensor, p: Sequence[Tensor] | Tensor) -> Tensor:
    """sum_k p[k,n] d[n-1-k], what each row of d (W, B, ...) is carried by; 0 at the first row."""
    carried = torch.zeros_like(d)
    for k in range(min(len(p), len(d) - 1)):
        carried[k + 1 :].addcmul_(expand_like(p[k][k + 1 :], d), d[: len(d) - 1 - k])
    return carried


def zero_nonfinite(v: Tensor, size: Tensor | None = None) -> Tensor:
    """v (W, B, ...) with 0, in place, for every row and sample that is not finite; size (W, B): its `rms`, if known."""
    size = v.flatten(2).sum(2).abs() if size is None else size  # a sum is finite only if its terms are
    return scale_in_place(v, size < math.inf)


def scale_in_place(v: Tensor, c: Tensor) -> Tensor:
    """c v in place, of v (W, B, ...) and c (W, B), and 0 where that is no number; a third of masked_fill_'s time."""
    return v.mul_(expand_like(c, v)).nan_to_num_(0.0, math.inf, -math.inf)


def rms(v: Tensor) -> Tensor:
    """Root mean square of v (W, B, ...) over each state (W, B)."""
    return torch.linalg.vector_norm(v.flatten(2), dim=2) / math.prod(v.shape[2:]) ** 0.5


def leading_rows(settled: Tensor) -> Tensor:
    """How many rows (B,) of settled (W, B) are, before the first that is not."""
    return settled.cumprod(0).sum(0)
