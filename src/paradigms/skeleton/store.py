"""The nodes of B samples on their device: where each was evaluated and what the model said, and nothing of other rows.

slot[b][n]: where row n of sample b lies in `at` and `D` (B, slots, d), in the order of evaluation; what lies in empty
slots is 0.
"""

from __future__ import annotations

from bisect import insort

import torch
from torch import Tensor

from .coordinates import BandCoordinates
from .layout import NodeLayout
from .levels import LevelScalars
from .nodes import NodeRows

MORE = 8  # slots at once, and an eighth of those there are, so that not every new node moves all of them


class NodeStore:
    """The evaluated nodes of samples x (B, d), all in coordinates by band; layout: what follows from where they are.

    at, D (B, slots, d): where nodes were evaluated, and what the model said.
    """

    def __init__(self, levels: LevelScalars, x: Tensor) -> None:
        B = len(x)
        self.slot: tuple[dict[int, int], ...] = tuple({} for _ in range(B))
        self._at, self._D = (x.new_zeros(B, 0, x.shape[1]) for _ in range(2))
        self.at, self.D = self._at, self._D
        self.layout = NodeLayout(levels, NodeRows(len(levels), tuple([] for _ in range(B))), self.slot)

    @property
    def known(self) -> NodeRows:
        """The rows that were evaluated."""
        return self.layout.known

    def places(self, n: list[int], b: list[int]) -> tuple[Tensor, Tensor]:
        """The samples and slots (M,) of known nodes, on the device."""
        slots = [self.slot[s][r] for r, s in zip(n, b, strict=True)]
        both = torch.tensor([b, slots]).to(self._D.device)
        return both[0], both[1]

    def put(self, n: list[int], b: list[int], at: Tensor, D: Tensor) -> None:
        """Rows n of samples b (M) were evaluated at states (M, d), and D (M, d) was said."""
        new = [(r, s) for r, s in zip(n, b, strict=True) if r not in self.slot[s]]
        if new:
            rows = tuple(list(each) for each in self.known.each)
            self.slot = tuple(dict(slot) for slot in self.slot)  # frames of earlier rounds keep theirs
            for r, s in new:
                self.slot[s][r] = len(rows[s])
                insort(rows[s], r)
            N, have, most = self.known.N, self._at.shape[1], max(map(len, rows))
            if most > have:
                room = min(most - have + MORE + have // 8, N - have)
                self._at, self._D = (torch.nn.functional.pad(v, (0, 0, 0, room)) for v in (self._at, self._D))
            self.layout = NodeLayout(self.layout.levels, NodeRows(N, rows), self.slot)
            self.at, self.D = self._at[:, :most], self._D[:, :most]
        there = self.places(n, b)
        self._at.index_put_(there, at)
        self._D.index_put_(there, D)

    def left(self, s: BandCoordinates, J: Tensor) -> Tensor:
        """e = D - J at (B, slots, d) for Jacobians J (N, B, F); of empty slots, nothing that counts."""
        return s.plus(self.D, -J[self.layout.row, self.layout.samples], self.at)

    def part(self, keep: list[int]) -> None:
        """Some samples alone."""
        levels, known = self.layout.levels, NodeRows(self.known.N, tuple(self.known.each[b] for b in keep))
        self.slot = tuple(self.slot[b] for b in keep)
        self.at, self.D = (v[keep, : len(known)].contiguous() for v in (self._at, self._D))
        self._at, self._D = self.at, self.D
        self.layout = NodeLayout(levels, known, self.slot)
