"""The nodes of B samples on their device: where each was evaluated and what the model said, and nothing of other rows.

slot[n, b]: where row n of sample b lies in `at` and `D` (slots, B, C, S), -1 where it was never evaluated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..methods.spectrum import Spectrum
from .nodes import KnownNodes

SPARE = 8  # slots, so that not every new node moves all of them


class NodeStore:
    """The evaluated nodes of samples x (B, C, S), all in coordinates of a spectrum."""

    def __init__(self, N: int, taps: int, x: Tensor) -> None:
        self.taps = taps
        self.slot = torch.full((N, len(x)), -1)
        self.count = torch.zeros(len(x), dtype=torch.long)
        self.at, self.D = x.new_empty(0, *x.shape), x.new_empty(0, *x.shape)
        self.known = KnownNodes.of(self.mask)

    @property
    def mask(self) -> Tensor:
        """The rows (N, B) that were evaluated."""
        return self.slot >= 0

    def get(self, n: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Where known nodes (M,) were evaluated, and what was said: (M, C, S) each."""
        there = self.slot[n, b].to(self.D.device), b.to(self.D.device)
        return self.at[there], self.D[there]

    def put(self, n: Tensor, b: Tensor, at: Tensor, D: Tensor) -> None:
        """Rows n of samples b (M,) were evaluated at states (M, C, S), and D (M, C, S) was said."""
        new = self.slot[n, b] < 0
        if bool(new.any()):
            nn, bb = n[new], b[new]
            fresh = torch.zeros_like(self.slot, dtype=torch.bool)
            fresh[nn, bb] = True
            self.slot[fresh] = (self.count + fresh.cumsum(0) - 1)[fresh]
            self.count = self.count + fresh.sum(0)
            more = int(self.count.max()) - len(self.D)
            if more > 0:
                room = (min(more + SPARE, len(self.slot) - len(self.D)), *self.D.shape[1:])
                self.at, self.D = (torch.cat([v, v.new_zeros(room)]) for v in (self.at, self.D))
            self.known = KnownNodes.of(self.mask)
        there = self.slot[n, b].to(D.device), b.to(D.device)
        self.at[there], self.D[there] = at, D

    def taken(self, v: Tensor, n: Tensor) -> Tensor:
        """v (slots, B, C, S), which is `at` or `D`, at rows n (R, B); of rows that were not evaluated, anything."""
        b = torch.arange(n.shape[1])
        slot = self.slot[n.clamp(0, len(self.slot) - 1), b].clamp(min=0)
        return v[slot.to(v.device), b.to(v.device)]

    def left(self, s: Spectrum, J: Tensor) -> Tensor:
        """e = D - J at (V, B, C, S) of the known nodes, in order, for Jacobians J (N, B, F); 0 beyond a sample's."""
        rows, b = self.known.rows, torch.arange(self.slot.shape[1])
        at = rows.clamp(max=len(self.slot) - 1)
        slot, there = self.slot[at, b].clamp(min=0).to(self.D.device), (rows < len(self.slot)).to(self.D)
        b = b.to(self.D.device)
        e = self.D[slot, b].addcmul_(s.spread(-J[at, b].to(self.D)), self.at[slot, b])
        return e if bool((self.known.count == len(rows)).all()) else e * there[..., None, None].to(e)

    def moved(self, X: Tensor) -> Tensor:
        """How far states X (V, B, C, S) at the known nodes are from where those were evaluated, 0 beyond a sample's."""
        rows, b = self.known.rows, torch.arange(self.slot.shape[1])
        slot = self.slot[rows.clamp(max=len(self.slot) - 1), b].clamp(min=0).to(X.device)
        there = (rows < len(self.slot)).to(X.device)
        return (X - self.at[slot, b.to(X.device)]) * there[..., None, None]

    def part(self, keep: Tensor) -> None:
        """Some samples alone (M,)."""
        there = keep.to(self.D.device)
        self.slot, self.count = self.slot[:, keep], self.count[keep]
        self.at, self.D = self.at[:, there], self.D[:, there]
        self.known = KnownNodes.of(self.mask)
