"""The chain on the surrogate from stop to stop: all of them at once, or in blocks.

    u[i+1] = P[i] u[i] + R[i],    R[i] = Q[i] e + noise,    u[0] = (x0, 0, ...)

Where stops are few, their states are one product of matrices a band:

    u[i] = Phi[i,0] u[0] + sum_j Phi[i,j+1] (Q[j] e + noise[j]),    Phi[i,j] = P[i-1] ... P[j]

Where there are many, that would cost their square: they are gone through in blocks of about sqrt(V), one step of all
blocks at once, then block after block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .coordinates import BandCoordinates
from .recurrence import running_products

MOST = 1 << 22  # scalars in Phi: beyond, chains are run in blocks
FEW = 160  # stops, likewise: products of matrices grow with their square


def run_product(s: BandCoordinates, P: Tensor, Q: Tensor | None, E: Tensor, noise: Tensor | None, x: Tensor) -> Tensor:
    """The states u (B, V + 1, K, d) from x (B, d).

    P (B, V, F, K, K) and Q (F, B, V K, n) on the CPU, E (B, n, d), noise (B, V, K, d).
    """
    B, V, F, K, _ = P.shape
    Phi = transitions(P).permute(3, 0, 1, 4, 2, 5).reshape(F, B, (V + 1) * K, (V + 1) * K).to(x)
    parts, U = [Phi[..., :1]], [x[:, None]]
    if noise is not None:
        parts.append(Phi[..., K:])
        U.append(noise.flatten(1, 2))
    if Q is not None:
        parts.append(Phi[..., K:] @ Q.to(x))
        U.append(E)
    return s.product(torch.cat(parts, -1), torch.cat(U, 1)).unflatten(1, (V + 1, K))


def transitions(P: Tensor) -> Tensor:
    """Phi (B, V + 1, V + 1, F, K, K), which is 0 for i < j, of P (B, V, F, K, K)."""
    B, V, F, K, _ = P.shape
    i, j = torch.arange(V + 1)[:, None], torch.arange(V + 1)
    one = torch.eye(K, dtype=P.dtype)
    each = torch.cat([one.expand(B, 1, F, K, K), P], 1)[:, :, None]
    late = (i > j).view(V + 1, V + 1, 1, 1, 1)
    found = running_products(torch.where(late, each, one), 1, True)
    return found * (i >= j).view(V + 1, V + 1, 1, 1, 1)


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
