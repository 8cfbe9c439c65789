"""From node to node: what the chain on the surrogate does between two stops, by band, without a state in between.

    u[n] = (x[n], ..., x[n-K+1])                                       K taps, so many states
    u[n+1] = M[n] u[n] + (r[n], 0, ...),    M[n] = [a + b_0 J[n], b_1 J[n-1], ...; shift]
    r[n] = sum_k b[n,k] e[n-k] + c[n] z[n]

    u[end] = P u[begin] + sum_n T[n] r[n]       T[n] = (M[end-1] ... M[n+1])[:, 0],   P = M[end-1] ... M[begin]

P and T are scalars by band. e is a weighted sum of the nodes' values, so that the sum over rows is one over K + 3
nodes, Q = W T with weights W that do not depend on J; the noise is one sum over segments of rows.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from ..system import System
from .coordinates import BandCoordinates
from .layout import NodeLayout


def row_matrices(system: System, J: Tensor) -> Tensor:
    """M (N + 1, B, F, K, K) of Jacobians J (N, B, F); 1 in row N, which leaves everything as it is."""
    K, N = system.taps, len(J)
    if K == 1:
        a, b = system.once("a and b of one tap", lambda: (system.a[:, None, None], system.b[:, :1, None]))
        return pad(torch.addcmul(a, b, J), (0, 0, 0, 0, 0, 1), value=1.0).view(N + 1, *J.shape[1:], 1, 1)
    M = J.new_zeros(N + 1, *J.shape[1:], K, K)
    for k in range(K):
        M[k:N, ..., 0, k] = system.b[k:, k, None, None] * J[: N - k]
    M[:N, ..., 0, 0] += system.a[:, None, None]
    for k in range(1, K):
        M[:N, ..., k, k - 1] = 1
    M[N] = torch.eye(K, dtype=J.dtype)
    return M


def running_products(M: Tensor, dim: int, left: bool) -> Tensor:
    """Products of M (..., K, K) up to each place of a dimension, each new factor on the left or on the right."""
    if M.shape[-1] == 1:
        return M.cumprod(dim)
    found, s, L = M.clone(), 1, M.shape[dim]
    while s < L:
        late, early = found.narrow(dim, s, L - s), found.narrow(dim, 0, L - s)
        late.copy_(late @ early if left else early @ late)
        s *= 2
    return found


@dataclass(frozen=True)
class Intervals:
    """Rows begin to end - 1 of samples b (M each), between which no node was evaluated; layout: of the known nodes."""

    layout: NodeLayout
    begin: list[int]
    end: list[int]
    b: list[int]

    @functools.cached_property
    def numbers(self) -> tuple[Tensor, Tensor, Tensor]:
        """begin, end and b (M, 1)."""
        begin, end, b = torch.tensor([self.begin, self.end, self.b], dtype=torch.long)[..., None]
        return begin, end, b

    @functools.cached_property
    def rows(self) -> Tensor:
        """N, and then the rows from the last one back, N beyond the first one (M, 1 + L)."""
        L = max((hi - lo for lo, hi in zip(self.begin, self.end, strict=True)), default=0)
        begin, end, _ = self.numbers
        n = end - torch.arange(1, L + 1)
        N = len(self.layout.levels)
        return pad(torch.where(n >= begin, n, N), (1, 0), value=N)

    @functools.cached_property
    def places(self) -> list[int]:
        """The places among the known nodes of the last ones at or before each begin."""
        return [self.layout.known.place(n, b) for n, b in zip(self.begin, self.b, strict=True)]

    @functools.cached_property
    def slots(self) -> Tensor:
        """The slots (M, K + 3) of the nodes that an interval's e is made of."""
        K = self.layout.levels.system.taps
        lines = self.layout.lines(K + 1)
        return torch.tensor([lines[b][p + 1 : p + K + 4] for p, b in zip(self.places, self.b, strict=True)])

    @functools.cached_property
    def weights(self) -> Tensor:
        """W (M, K + 3, L): what those nodes count for in each row, through all taps."""
        rows, layout, b = self.rows[:, 1:], self.layout, self.numbers[2]
        system, h = layout.levels.system, layout.weights
        if system.taps == 1:
            return layout.weighted[:, rows, b].transpose(0, 1)
        inside = rows < len(layout.levels)
        n = torch.where(inside, rows, 0)
        K, base, first = system.taps, layout.known.base, torch.tensor(self.places)[:, None]
        W = h.new_zeros(len(n), K + 3, n.shape[1])
        for k in range(K):
            back = (n - k).clamp(min=0)
            at = base[back, b] - first + K - 1 + torch.arange(4)[:, None, None]
            by = torch.where(inside & (n >= k), system.b[n, k], 0.0)
            W.scatter_add_(1, at.clamp(min=0).transpose(0, 1), (h[:, back, b] * by).transpose(0, 1))
        return W

    @functools.cached_property
    def inside(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The places (R,) of rows in `rows`, their rows among all samples', their intervals, and where each begins."""
        rows, (begin, end, b), N = self.rows[:, 1:], self.numbers, len(self.layout.levels)
        at = (rows < N).flatten().nonzero()[:, 0]
        count = (end - begin)[:, 0]
        which = torch.arange(len(count)).repeat_interleave(count)
        return at, (rows + N * b).flatten()[at], which, count.cumsum(0) - count

    def coefficients(self, carry: Tensor) -> tuple[Tensor, Tensor]:
        """P (M, F, K, K) and T (M, L, F, K) of matrices M (N + 1, B, F, K, K)."""
        upto = running_products(carry[self.rows, self.numbers[2]], 1, False)
        return upto[:, -1], upto[:, :-1, ..., 0]

    def gathered(self, T: Tensor) -> Tensor:
        """Q (M, K + 3, F, K): what the nodes in `slots` count for at the end."""
        return torch.bmm(self.weights, T.flatten(2)).unflatten(2, T.shape[2:])

    def noise(self, s: BandCoordinates, T: Tensor, z: NoiseByBand) -> Tensor:
        """sum_n T[n] z[n] over the rows of each: (M, K, d)."""
        first, (at, *where) = z.parts[0], self.inside
        rows, which, begin = (v.to(first.device) for v in where)
        T = T.flatten(0, 1)[at].to(first)  # (R, F, K)
        if len(z.parts) == T.shape[1]:
            return torch.stack([z.sums(rows, begin, t) for t in T.permute(2, 1, 0).contiguous().unbind()], 1)
        by = s.spread(T.transpose(1, 2))  # (R, K, d)
        out = first.new_zeros(len(self.end), T.shape[2], first.shape[1])
        return out.index_add_(0, which, by * first[rows][:, None])


@dataclass(frozen=True)
class NoiseByBand:
    """The noise of all rows as it is added, (B N, d): each band's alone (B N, d_f) where states are large or not on a
    CPU, for its sums over segments are then one pass, in the same order every time; else one piece."""

    parts: tuple[Tensor, ...]

    @classmethod
    def of(cls, z: Tensor, s: BandCoordinates) -> NoiseByBand:
        """Of noise (B N, d)."""
        by_band = s.wide or z.device.type != "cpu"
        return cls(tuple(v.contiguous() for v in z.split_with_sizes(s.widths, 1)) if by_band else (z,))

    def kept(self, rows: Tensor) -> NoiseByBand:
        """Of some rows (R,) alone."""
        return NoiseByBand(tuple(v[rows.to(v.device)] for v in self.parts))

    @property
    def all(self) -> Tensor:
        """In one piece (B N, d)."""
        return self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts, 1)

    def sums(self, rows: Tensor, begin: Tensor, weight: Tensor) -> Tensor:
        """Sums (M, d) of rows (R,) by weights (F, R), each from one of begin (M,) to the next."""
        each = zip(self.parts, weight.unbind(), strict=True)
        return torch.cat([embedding_bag(rows, v, begin, mode="sum", per_sample_weights=w) for v, w in each], 1)
