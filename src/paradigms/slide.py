"""The window's arrays: built where a chain stands, moved up row by row, made longer and shorter, left again.

    v[w] <- v[min(w + stride, last)],    w = 0 .. W' - 1        each sample by its own stride

What comes from beyond the last row of the chain that a window knew repeats that row, until it is guessed. A window of
one row needs none of this: `At` is all that is left of it, and what a method remembers of the whole sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .execute import Evaluator
from .method import Evaluate, Memory, Sweep, Work, partly, pick
from .system import System


@dataclass(frozen=True)
class At:
    """Where the samples stand: states x (B, ...) at rows begin (B,), outputs D (H, B, ...) before, rounds so far.

    memories: what method and criterion remember; of the rows of a window nothing is kept, see `kept`.
    """

    x: Tensor
    D: Tensor
    begin: Tensor
    round: int = 0
    memories: tuple[Memory, Memory] | None = None

    @property
    def row(self) -> int:
        """Where the slowest stands."""
        return int(min(self.begin.tolist()))


def enter(at: At, W: int, end: Tensor, N: int) -> Work:
    """The window [begin, end) (B,) of W rows: every state a copy of x (B, ...), nothing in it evaluated."""
    row, n = torch.arange(W)[:, None], numbers(at.begin, W, N, at.x)
    D = torch.cat([at.D, at.D.new_zeros((W, *at.x.shape))])
    work = Work(at.x.expand(W + 1, *at.x.shape), D, None, n, row < end - at.begin, 0 * row * at.begin)
    work.begin = at.begin
    return work


def said(system: System, work: Work, sweep: Sweep, stride: Tensor, last: Tensor) -> tuple[Tensor, Tensor | None]:
    """D (H + W, B, ...) after a sweep, and `newest` (B, ...) of its last row; `last` (B,): how many lay in the chain.

    Of the new states where these are read again, in `newest` and in the K - 1 rows before the next window; else the old.
    """
    D = torch.cat([work.D[: -len(work.n)], sweep.D])
    if sweep.shift is None:
        return D, None
    w = torch.cat([torch.arange(1 - system.taps, 0)[:, None] + stride, last[None] - 1]).to(D.device, non_blocking=True)
    place = len(D) - len(sweep.D) + w  # w < 0 lies before this window, and does not move
    now = pick(D, place) + sweep.shift(w.clamp(min=0))
    if system.taps > 1:
        D[place[:-1], torch.arange(len(last), device=D.device)] = now[:-1]
    return D, now[-1]


def move(work: Work, sweep: Sweep, stride: Tensor, last: Tensor, begin: Tensor, end: Tensor, W: int, N: int) -> Work:
    """The window moved up by stride (B,) rows to [begin, end), W long; of the old one, `last` (B,) lay in the chain."""
    more, row = W - len(work.n), torch.arange(W)[:, None]
    x, D, n = slide(work.x, stride, last, more), slide(work.D, stride, more=more), numbers(begin, W, N, work.x)
    seen = slide(work.seen + sweep.live, stride, more=more) * (row < last - stride)
    moved = Work(x, D, None, n, row < end - begin, seen)
    moved.begin = begin
    return moved


def leave(work: Work, stride: Tensor, begin: Tensor, round: int, memories: tuple[Memory, Memory]) -> At:
    """Where a round leaves the samples, if no window follows it."""
    H = len(work.D) - len(work.n)
    b = torch.arange(len(begin), device=work.x.device)
    return At(work.x[stride.to(b.device), b], slide(work.D, stride, more=-len(work.n))[:H], begin, round, memories)


def remember(memory: Memory, stride: Tensor, more: int) -> Memory:
    """A memory moved up by stride (B,) rows, in a window `more` rows longer; a tensor (1, B, ...) stays as it is."""
    return tuple(slide(m, stride, more=more) if of_rows(m) else m for m in memory)


def kept(fresh: Memory, old: Memory) -> Memory:
    """A memory as it begins, with what an old one knows of the whole sample."""
    return tuple(new if of_rows(new) else m for new, m in zip(fresh, old, strict=True))


def of_rows(m: Any) -> bool:
    """Whether something remembered is of the rows of a window, which has two at least."""
    return isinstance(m, Tensor) and len(m) > 1


def batch(evaluate: Evaluator, work: Work) -> Evaluate:
    """`evaluate` as a method calls it: points (W, B, ...) at some rows of the window, as one batch."""
    W, B = work.n.shape
    n, b = work.n.flatten(), torch.arange(B, device=work.x.device).expand(W, B).flatten()

    def batch(*points: Tensor, live: Tensor | None = None) -> tuple[Tensor, ...]:
        live = work.live if live is None else live & work.live
        P = len(points)
        x = (torch.stack(points) if P > 1 else points[0][None]).flatten(1, 2)  # (P, W B, ...)
        if (work.on if live is work.live else partly(live)) is None:
            return ask(x, n, b).unflatten(1, (W, B)).unbind()
        some = live.flatten().nonzero()[:, 0].to(n.device, non_blocking=True)
        return torch.zeros_like(x).index_copy(1, some, ask(x[:, some], n[some], b[some])).unflatten(1, (W, B)).unbind()

    def ask(x: Tensor, n: Tensor, b: Tensor) -> Tensor:
        P = len(x)
        return evaluate(x.flatten(0, 1), *(v.expand(P, -1).flatten() for v in (n, b))).unflatten(0, (P, -1))

    return batch


def slide(v: Tensor, stride: Tensor, last: Tensor | None = None, more: int = 0) -> Tensor:
    """v (R, B, ...) moved up by stride (B,) rows, R + more long; beyond `last` (B,) that row is repeated."""
    R, s = v.shape[0] + more, set(stride.tolist())
    e = {v.shape[0] - 1} if last is None else set(last.tolist())
    if len(s) == len(e) == 1:  # all samples alike, and no index to send to a device
        (first,), (end,) = s, e
        known, rest = v[first : end + 1], R - (end + 1 - first)
        return known[:R] if rest <= 0 else torch.cat([known, v[end : end + 1].expand(rest, *v.shape[1:])])
    last = stride.new_tensor(v.shape[0] - 1) if last is None else last
    place = (torch.arange(R)[:, None] + stride).minimum(last).to(v.device, non_blocking=True)
    return v[place, torch.arange(v.shape[1], device=v.device)]


def numbers(begin: Tensor, W: int, N: int, x: Tensor) -> Tensor:
    """Row numbers n (W, B) of the window; past the chain's end they stay at its last row, where nothing is live."""
    return (torch.arange(W)[:, None] + begin).clamp(max=N - 1).to(x.device, non_blocking=True)
