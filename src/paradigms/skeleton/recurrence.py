"""From node to node: what the chain on the surrogate does between two stops, by band, without a state in between.

    u[n] = (x[n], ..., x[n-K+1])                                       K taps, so many states
    u[n+1] = M[n] u[n] + (r[n], 0, ...),    M[n] = [a + b_0 J[n], b_1 J[n-1], ...; shift]
    r[n] = sum_k b[n,k] e[n-k] + c[n] z[n]

    u[stop'] = P u[stop] + sum_n T[n] r[n]       T[n] = (M[stop'-1] ... M[n+1])[:, 0],   P = M[stop'-1] ... M[stop]

P and T are scalars by band, from products by doubling within each interval; e is a weighted sum of the nodes', so that
the sum over rows is one over a few nodes with weights by band, and the noise is one sum over segments of rows. The
stops are then gone through in blocks of about sqrt(V): one step of all blocks at once, then block after block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..system import System
from .coordinates import BandCoordinates


def matrix_product(P: Tensor, Q: Tensor) -> Tensor:
    """P Q of small matrices (K, K, ...)."""
    return P * Q if len(P) == 1 else (P[:, :, None] * Q[None]).sum(1)


def row_matrices(system: System, J: Tensor) -> Tensor:
    """M (K, K, N, B, F) of Jacobians J (N, B, F)."""
    K, (N, B, F) = system.taps, J.shape
    M = J.new_zeros(K, K, N, B, F)
    for k in range(K):
        M[0, k, k:] = system.b[k:, k, None, None] * J[: N - k]
    M[0, 0] += system.a[:, None, None]
    for k in range(1, K):
        M[k, k - 1] = 1
    return M


def next_stops(stop: Tensor) -> Tensor:
    """The next stop after each row (N, B), N after the last."""
    N, B = stop.shape
    row = torch.where(stop, torch.arange(N)[:, None], N).flip(0).cummin(0).values.flip(0)
    return torch.cat([row[1:], row.new_full((1, B), N)])


def interval_products(M: Tensor, end: Tensor) -> Tensor:
    """M[end-1] ... M[n+1] (K, K, N, B, F) of each row, in log2 of the longest interval passes."""
    N, row = len(end), torch.arange(len(end))[:, None]
    left = (end - row)[..., None]  # rows to the end of an interval
    one = torch.eye(len(M), dtype=M.dtype)[:, :, None, None, None]
    found = torch.cat([torch.where(left[:-1] > 1, M[:, :, 1:], one), one.expand_as(M[:, :, :1])], 2)
    s, longest = 1, int(left.max())
    while s < min(longest, N):
        longer = matrix_product(found[:, :, s:], found[:, :, :-s])
        found[:, :, :-s] = torch.where(left[:-s] > s, longer, found[:, :, :-s])
        s *= 2
    return found


def suffix_products(M: Tensor) -> Tensor:
    """M[L-1] ... M[l] (K, K, L, ...) of each l."""
    if len(M) == 1:
        return M.flip(2).cumprod(2).flip(2)
    found, s = M.clone(), 1
    while s < M.shape[2]:
        found[:, :, :-s] = matrix_product(found[:, :, s:], found[:, :, :-s])
        s *= 2
    return found


def interval_coefficients(system: System, M: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """P (K, K, N, B, F), of which the rows of stops matter, and T (K, N, B, F)."""
    found = interval_products(M, next_stops(stop))
    return matrix_product(found, M), found[:, 0]


def gather_weights(system: System, T: Tensor, h: Tensor, base: Tensor, interval: Tensor, V: int) -> Tensor:
    """What node values count for in each interval: (K + 3, K, V, B, F), slot o + K is the node o places from its base.

    h (4, N, B): weights of the nodes at places base - 1, ..., base + 2 in e; T (K, N, B, F); interval (N, B).
    """
    K, N, B, F = T.shape
    Q = T.new_zeros(K, (K + 3) * V, B, F)
    for k in range(K):
        n = slice(k, N)
        back = base[: N - k] - base[n]  # 0, or as many nodes as lie between
        weighted = system.b[n, k, None, None] * T[:, n]
        place = (back + torch.arange(4)[:, None, None] - 1 + K) * V + interval[n]  # (4, N - k, B)
        value = weighted[:, None] * h[:, : N - k, :, None]  # (K, 4, N - k, B, F)
        Q.scatter_add_(1, place.flatten(0, 1)[None, :, :, None].expand(K, -1, -1, F), value.flatten(1, 2))
    return Q.view(K, K + 3, V, B, F).transpose(0, 1)


def noise_between(s: BandCoordinates, T: Tensor, z: Tensor, interval: Tensor, V: int) -> Tensor:
    """sum_n T[n] z[n] over the rows of each interval: (K, B, V, d).

    T (K, N, B, F), z (B, N, d) the noise as it is added, interval (N, B) of V.
    """
    K, B, d = len(T), len(z), z.shape[2]
    out = z.new_zeros(K, B * V, d)
    into = (interval + V * torch.arange(B)).T.flatten().to(z.device)
    T = T.transpose(1, 2).to(z)  # (K, B, N, F)
    for k in range(K):
        if not s.wide:
            out[k] = segment_sums((s.spread(T[k]) * z).flatten(0, 1), into, B * V)
            continue
        for f, part in enumerate(s.slices):  # so that what is between stays near the processor
            out[k, :, part] = segment_sums((T[k, :, :, f : f + 1] * z[:, :, part]).flatten(0, 1), into, B * V)
    return out.view(K, B, V, d)


def segment_sums(v: Tensor, into: Tensor, V: int) -> Tensor:
    """Sums (V, d) of v (R, d) over rows of one segment, which follow each other; the same every time on every device.

    into (R,): the segment of each row, rising.
    """
    if v.device.type == "cpu":
        return v.new_zeros(V, v.shape[1]).index_add_(0, into, v)
    length = torch.bincount(into, minlength=V)
    return torch.segment_reduce(v, "sum", lengths=length, axis=0, unsafe=True)


def apply_matrices(P: Tensor, u: Tensor) -> Tensor:
    """P u (K, ..., d) of P (K, K, ..., d) and states u (K, ..., d)."""
    if len(u) == 1:
        return P[0] * u
    out = P[:, 0] * u[0]
    for j in range(1, len(u)):
        out += P[:, j] * u[j]
    return out


def run_stops(s: BandCoordinates, P: Tensor, R: Tensor, u: Tensor) -> Tensor:
    """u[i+1] = P[i] u[i] + R[i]: all of them after the first, (K, V, B, d).

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
