"""Which nodes a round evaluates: the new ones and those that must come first, front to back, then the others due.

rank[n, b]    the place of a node in its sample's order
pooled        the W B smallest ranks of all samples, B of the whole batch: rows that finished samples leave are used
else          ranks below W of each
"""

from __future__ import annotations

import torch
from torch import Tensor


def node_ranks(want: Tensor, first: Tensor) -> Tensor:
    """The rank (N, B) of wanted nodes, those in `first` before the rest; N elsewhere."""
    one, other = want & first, want & ~first
    rank = torch.where(one, one.cumsum(0) - 1, one.sum(0) + other.cumsum(0) - 1)
    return torch.where(want, rank, len(want))


def within_budget(rank: Tensor, budget: int) -> Tensor:
    """The mask (N, B) of the `budget` smallest ranks, of equal ones the first samples'."""
    N = len(rank)
    if int((rank < N).sum()) <= budget:
        return rank < N
    B = rank.shape[1]
    key = rank * B + torch.arange(B)
    return key < key.flatten().kthvalue(budget + 1).values


def choose_nodes(node: Tensor, known: Tensor, due: Tensor, hot: Tensor, window: int, budget: int | None) -> Tensor:
    """The nodes (N, B) to evaluate; budget: of all samples, None for `window` of each."""
    want = node & (~known | due)
    rank = node_ranks(want, ~known | hot)
    return rank < min(window, len(rank)) if budget is None else within_budget(rank, budget)
