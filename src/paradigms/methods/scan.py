"""The linear recurrence by which corrections travel along the rows of a window:

d[n] = sum_k p[k,n] d[n-1-k] + r[n],    k = 0..K-1,    d before the window = 0

That is a triangular system, (1 - P) d = r with P[n,n-1-k] = p[k,n]. For small states it is solved as a matrix, in a
single call. For large states it is solved row by row, which reads every state once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..system import Coefficients, System, expand_like, masked_rows

# One call is faster than a loop over the rows up to two sizes. With both, a window of 32 rows of 64 numbers takes 22
# microseconds in place of 63, and a window of 8 rows of 2048 numbers is solved row by row.
# The first: numbers in the states of all samples at one row, for each row of the window.
SMALL_STATE = 6
# The second: numbers in the matrices of all coordinates.
SMALL_MATRICES = 2**19
# The longest table whose products of factors are kept, 4 MiB of them in float32. Chosen by hand.
LONGEST_PRODUCTS = 1024


def scan(r: Tensor) -> Tensor:
    """d[n] = d[n-1] + r[n] along the first axis of r (W, B, ...): a product with a triangle of ones.

    On a CPU it takes two thirds of the time of log2 W passes, and a sixth of torch.cumsum's along this axis.
    """
    if torch.compiler.is_compiling():  # which has no use for what is kept
        return r.cumsum(0)
    return (lower_ones(len(r), r.dtype, r.device) @ r.flatten(1)).view(r.shape)


@functools.lru_cache(maxsize=64)
def lower_ones(W: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A triangle (W, W) of ones: its product adds up."""
    return torch.ones(W, W, dtype=dtype, device=device).tril()


def recur_rows(r: Tensor, p: Sequence[Tensor] | Tensor) -> Tensor:
    """d (W, B, ...) for p (K, W, B) or wide as r."""
    return solve_rows(r, p, 1) if is_small(r) else recur_in_place(r.clone(), p)


def carried_products(system: System, first: int, R: int) -> Tensor:
    """T (R, R), T[i,j] = a[first+j] ... a[first+i-1]: d = T r is d[n] = a[first+n-1] d[n-1] + r[n].

    A window of one matrix, which is made once a table where that is not too long.
    """
    if len(system) > LONGEST_PRODUCTS:
        return products(system.a[first : first + R - 1])
    T: Tensor = system.once("carried products", lambda: products(system.a))
    return T.as_strided((R, R), (len(T), 1), first * (len(T) + 1))


def products(a: Tensor) -> Tensor:
    """T (R, R), T[i,j] = a[j] ... a[i-1], of a (R - 1,)."""
    one = torch.eye(len(a) + 1, dtype=torch.float64, device=a.device)
    below = torch.diag_embed(-a.double(), -1)
    return torch.linalg.solve_triangular(below, one, upper=False, unitriangular=True).to(a.dtype).contiguous()


def recur_in_place(d: Tensor, p: Sequence[Tensor] | Tensor, first: int = 1) -> Tensor:
    """`recur_rows` in place, from row `first` on: the rows before it are known."""
    if first >= len(d):
        return d
    if is_small(d):
        last = max(first - len(p), 0)  # that is still looked back to
        d[first:] = solve_rows(d[last:], [q[last:] for q in p], first - last)[first - last :]
        return d
    row, wide = d.unbind(), [expand_like(q, d).unbind() for q in p]
    for n in range(first, len(row)):
        now = row[n]
        for k, q in enumerate(wide[:n], 1):
            now.addcmul_(q[n], row[n - k])
    return d


def carry_on(d: Tensor, p: Sequence[Tensor] | Tensor, first: int) -> Tensor:
    """`recur_in_place` of rows that are 0 from row `first` >= 1 on."""
    if len(p) > 1 or first >= len(d):
        return recur_in_place(d, p, first)
    torch.mul(expand_like(p[0], d)[first:].cumprod(0), d[first - 1], out=d[first:])
    return d


def is_small(d: Tensor) -> bool:
    """Whether d (W, B, ...) is so small that one call is faster than a loop over its rows."""
    W, numbers = len(d), math.prod(d.shape[1:])
    return numbers <= SMALL_STATE * W and numbers * W * W <= SMALL_MATRICES


def solve_rows(r: Tensor, p: Sequence[Tensor] | Tensor, first: int) -> Tensor:
    """d (W, B, ...) of `recur_rows`; the rows before `first` are known."""
    P = r.new_zeros(1, 1) if len(r) == 1 else 0
    for k, q in enumerate(p[: len(r) - 1], 1):
        below = expand_like(q, r)[k:].movedim(0, -1).neg()
        if first > k:
            below[..., : first - k] = 0
        P = P + torch.diag_embed(below, -k) if k > 1 else torch.diag_embed(below, -k)
    d = torch.linalg.solve_triangular(P, r.movedim(0, -1)[..., None], upper=False, unitriangular=True)
    return d[..., 0].movedim(-1, 0)


def carry_matrices(rows: Coefficients, on: Tensor | None, J: Tensor) -> list[Tensor]:
    """P (W, B, ...) of each tap for Jacobians J (W, B, ...) of rows: P[0] = a + b[0] J, P[k] = b[k] J[n-k].

    0 where the mask `on` is not true.
    """
    b = [expand_like(v, J) for v in rows.b[: len(J)]]
    ahead = [torch.cat([torch.zeros_like(J[:k]), b[k][k:] * J[:-k]]) for k in range(1, len(b))]
    return [masked_rows(on, p) for p in (torch.addcmul(expand_like(rows.a, J), b[0], J), *ahead)]


def carried_on(d: Tensor, p: Sequence[Tensor] | Tensor) -> Tensor:
    """sum_k p[k,n] d[n-1-k], what each row of d (W, B, ...) is carried by; 0 at the first row."""
    carried = torch.zeros_like(d)
    for k in range(min(len(p), len(d) - 1)):
        carried[k + 1 :].addcmul_(expand_like(p[k][k + 1 :], d), d[: len(d) - 1 - k])
    return carried


def zero_nonfinite(v: Tensor) -> Tensor:
    """v (W, B, ...) with 0, in place, for every row and sample that is not finite."""
    return scale_in_place(v, v.flatten(2).sum(2).abs() < math.inf)  # a sum is finite only if its terms are


def scale_in_place(v: Tensor, c: Tensor) -> Tensor:
    """c v in place, of v (W, B, ...) and c (W, B), and 0 where that is no number; a third of masked_fill_'s time."""
    return v.mul_(expand_like(c, v)).nan_to_num_(0.0, math.inf, -math.inf)


def norms(v: Tensor) -> Tensor:
    """The norm (W, B) of each state of v (W, B, ...)."""
    return torch.linalg.vector_norm(v, dim=tuple(range(2, v.ndim)))


def rms(v: Tensor) -> Tensor:
    """Root mean square of v (W, B, ...) over each state (W, B)."""
    return norms(v) / math.prod(v.shape[2:]) ** 0.5


def leading_rows(settled: Tensor) -> Tensor:
    """How many rows (B,) of settled (W, B) are, before the first that is not."""
    return settled.cumprod(0).sum(0)
