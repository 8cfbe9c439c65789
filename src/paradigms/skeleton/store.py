"""The nodes of B samples on their device: where each was evaluated and what the model said, and nothing of other rows.

slot[n, b]: where row n of sample b lies in `at` and `D` (B, slots, d), in the order of evaluation; -1 where it was
never evaluated. row[b, slot]: its row, N where a slot is empty; what lies there is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .coordinates import BandCoordinates
from .nodes import KnownNodes

MORE = 8  # slots at once, and an eighth of those there are, so that not every new node moves all of them


class NodeStore:
    """The evaluated nodes of samples x (B, d), all in coordinates by band."""

    def __init__(self, N: int, taps: int, x: Tensor) -> None:
        self.taps = taps
        self.slot = torch.full((N, len(x)), -1)
        self.count = torch.zeros(len(x), dtype=torch.long)
        self._at, self._D = (x.new_zeros(len(x), 0, x.shape[1]) for _ in range(2))
        self.row = torch.full((len(x), 0), N)
        self.known = KnownNodes.of(self.mask)

    @property
    def mask(self) -> Tensor:
        """The rows (N, B) that were evaluated."""
        return self.slot >= 0

    @property
    def at(self) -> Tensor:
        """Where nodes were evaluated (B, slots, d)."""
        return self._at[:, : self.row.shape[1]]

    @property
    def D(self) -> Tensor:
        """What the model said (B, slots, d)."""
        return self._D[:, : self.row.shape[1]]

    def get(self, n: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Where known nodes (M,) were evaluated, and what was said: (M, d) each."""
        there = b.to(self._D.device), self.slot[n, b].to(self._D.device)
        return self._at[there], self._D[there]

    def put(self, n: Tensor, b: Tensor, at: Tensor, D: Tensor) -> None:
        """Rows n of samples b (M,) were evaluated at states (M, d), and D (M, d) was said."""
        new = self.slot[n, b] < 0
        if bool(new.any()):
            self._open(n[new], b[new])
        there = b.to(D.device), self.slot[n, b].to(D.device)
        self._at[there], self._D[there] = at, D

    def _open(self, n: Tensor, b: Tensor) -> None:
        """Slots of rows n of samples b that have none."""
        fresh = torch.zeros_like(self.slot).index_put_((n, b), torch.tensor(1))
        upto = fresh.cumsum(0).add_(self.count - 1)
        slot, N, have = upto[n, b], len(self.slot), self._at.shape[1]
        self.slot, self.count = self.slot.index_put((n, b), slot), upto[-1] + 1
        most = int(self.count.max())
        if most > have:
            room = min(most - have + MORE + have // 8, N - have)
            self._at, self._D = (torch.nn.functional.pad(v, (0, 0, 0, room)) for v in (self._at, self._D))
        self.known = KnownNodes.of(self.mask)
        self.row = torch.nn.functional.pad(self.row, (0, most - self.row.shape[1]), value=N)
        self.row[b, slot] = n

    def taken(self, v: Tensor, n: Tensor) -> Tensor:
        """v (B, slots, d), which is `at` or `D`, at rows n (R, B): (R, B, d); of rows not evaluated, anything."""
        b = torch.arange(n.shape[1])
        slot = self.slot[n.clamp(0, len(self.slot) - 1), b].clamp(min=0)
        return v[b.to(v.device), slot.to(v.device)]

    def left(self, s: BandCoordinates, J: Tensor) -> Tensor:
        """e = D - J at (B, slots, d) for Jacobians J (N, B, F); 0 in empty slots."""
        row = self.row.clamp(max=len(J) - 1)
        return s.plus(self.D, -J[row, torch.arange(len(row))[:, None]], self.at)

    def part(self, keep: Tensor) -> None:
        """Some samples alone (M,)."""
        there = keep.to(self._D.device)
        self.slot, self.count = self.slot[:, keep], self.count[keep]
        self._at, self._D = self._at[there], self._D[there]
        self.row = self.row[keep, : int(self.count.max())]
        self.known = KnownNodes.of(self.mask)
