"""The window's arrays: built where a chain stands, moved up row by row, made longer and shorter, left again.

    v[w] <- v[min(w + stride, last)],    w = 0 .. W' - 1        each sample by its own stride

What comes from beyond the last row of the chain that a window knew repeats that row, until it is guessed. A window of
one row needs none of this: `Position` is all that is left of it, and what a method remembers of the whole sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..execution.evaluate import Evaluator
from ..methods.work import Evaluate, Memory, Update, WindowState, partial_mask, pick_rows
from ..system import System


@dataclass(frozen=True)
class ChainPosition:
    """Where the samples stand: states x (B, ...) at rows begin (B,), outputs D (H, B, ...) before, rounds so far.

    memories: what method and criterion remember; of the rows of a window nothing is kept, see `kept`.
    """

    x: Tensor
    D: Tensor
    begin: Tensor
    round: int = 0
    memories: tuple[Memory, Memory] | None = None

    @classmethod
    def start(cls, system: System, x: Tensor) -> ChainPosition:
        """Before the first row."""
        return cls(x, x.new_zeros((system.history, *x.shape)), torch.zeros(len(x), dtype=torch.long))

    @property
    def row(self) -> int:
        """Where the slowest stands."""
        return int(min(self.begin.tolist()))


class WindowShift(NamedTuple):
    """How a window moves: by stride (B,) rows, of `last` (B,) that lay in the chain, to [begin, end) (B,), W long."""

    stride: Tensor
    last: Tensor
    begin: Tensor
    end: Tensor
    W: int


def open_window(at: ChainPosition, W: int, end: Tensor, N: int) -> WindowState:
    """The window [begin, end) (B,) of W rows: every state a copy of x (B, ...), nothing in it evaluated."""
    row, n = torch.arange(W)[:, None], row_numbers(at.begin, W, N, at.x)
    D = torch.cat([at.D, at.D.new_zeros((W, *at.x.shape))])
    work = WindowState(at.x.expand(W + 1, *at.x.shape), D, None, n, row < end - at.begin, 0 * row * at.begin)
    work.begin = at.begin
    return work


def updated_outputs(system: System, work: WindowState, sweep: Update, stride: Tensor, last: Tensor) -> Tensor | None:
    """D (K, B, ...) of the new states where it is read again; None where that of the old is as good.

    That is in the K - 1 rows before the next window, for the taps, and in the last row that lay in the chain, of `last`
    (B,), for a guess.
    """
    if sweep.shift is None:
        return None
    D, w = sweep.D, last[None] - 1
    if system.taps > 1:
        w = torch.cat([torch.arange(1 - system.taps, 0)[:, None] + stride, w])
    if min(w.flatten().tolist()) >= 0:
        return sweep.known(w.to(D.device, non_blocking=True))
    H = len(work.D) - len(D)  # rows before this window, where nothing moves any more
    D, place, w = torch.cat([work.D[:H], D]), w + H, w.clamp(min=0)
    return pick_rows(D, place.to(D.device, non_blocking=True)) + sweep.shift(w.to(D.device, non_blocking=True))


def advance_window(system: System, work: WindowState, sweep: Update, shift: WindowShift) -> WindowState:
    """The window after a sweep, moved up."""
    stride, last, begin, end, W = shift
    more, row, N = W - len(work.n), torch.arange(W)[:, None], len(system)
    now = updated_outputs(system, work, sweep, stride, last)
    x = shift_rows(sweep.x, stride, last, more, work.x[:1])
    D = shifted_outputs(work, sweep, now, stride, more)
    seen = shift_rows(work.seen + sweep.live, stride, more=more) * (row < last - stride)
    shown = work.x[:-1]
    moved = WindowState(
        x, D, None, row_numbers(begin, W, N, x), row < end - begin, seen, None if now is None else now[-1]
    )
    moved.begin, moved.before = begin, lambda: shift_rows(shown, stride, None, more)
    return moved


def leave_window(
    system: System, work: WindowState, sweep: Update, stride: Tensor, last: Tensor
) -> tuple[Tensor, Tensor]:
    """x (B, ...) where each sample stands after a sweep, and D (H, B, ...) of the rows before."""
    W = len(work.n)
    x = shift_rows(sweep.x, stride, None, -W, work.x[:1])
    return x[0], shifted_outputs(work, sweep, updated_outputs(system, work, sweep, stride, last), stride, -W)


def shifted_outputs(work: WindowState, sweep: Update, now: Tensor | None, stride: Tensor, more: int) -> Tensor:
    """D (H + W + more, B, ...) moved up by stride (B,) rows; now as `updated_outputs` finds it."""
    D = shift_rows(sweep.D, stride, None, more, work.D[: -len(work.n)])
    return D if now is None or len(now) == 1 else torch.cat([now[:-1], D[len(now) - 1 :]])


def shift_memory(memory: Memory, stride: Tensor, more: int) -> Memory:
    """A memory moved up by stride (B,) rows, in a window `more` rows longer; a tensor (1, B, ...) stays as it is."""

    def moved(m: Any) -> Any:
        if isinstance(m, tuple):
            return same_fields(m, [moved(v) for v in m])
        return shift_rows(m, stride, more=more) if of_rows(m) else m

    return moved(memory)  # type: ignore[no-any-return]


def carry_over(fresh: Memory, old: Memory) -> Memory:
    """A memory as it begins, with what an old one knows of the whole sample."""

    def chosen(new: Any, m: Any) -> Any:
        if isinstance(new, tuple):
            return same_fields(new, [chosen(v, w) for v, w in zip(new, m, strict=True)])
        return new if of_rows(new) else m

    return chosen(fresh, old)  # type: ignore[no-any-return]


def same_fields(memory: Memory, values: Sequence[Any]) -> Memory:
    """A tuple of the same kind with other values, its fields named as before."""
    return memory._make(values) if hasattr(memory, "_make") else tuple(values)


def of_rows(m: Any) -> bool:
    """Whether something remembered is of the rows of a window, which has two at least."""
    return isinstance(m, Tensor) and len(m) > 1


def batch_evaluate(evaluate: Evaluator, work: WindowState) -> Evaluate:
    """`evaluate` as a method calls it: points (W, B, ...) at some rows of the window, as one batch."""
    W, B = work.n.shape
    n, b = work.n.flatten(), torch.arange(B, device=work.x.device).expand(W, B).flatten()

    def batch(*points: Tensor, live: Tensor | None = None) -> tuple[Tensor, ...]:
        live = work.live if live is None else live & work.live
        P = len(points)
        x = (torch.stack(points) if P > 1 else points[0][None]).flatten(1, 2)  # (P, W B, ...)
        if (work.on if live is work.live else partial_mask(live)) is None:
            return ask(x, n, b).unflatten(1, (W, B)).unbind()
        some = live.flatten().nonzero()[:, 0].to(n.device, non_blocking=True)
        return torch.zeros_like(x).index_copy_(1, some, ask(x[:, some], n[some], b[some])).unflatten(1, (W, B)).unbind()

    def ask(x: Tensor, n: Tensor, b: Tensor) -> Tensor:
        P = len(x)
        return evaluate(x.flatten(0, 1), *(v.expand(P, -1).flatten() for v in (n, b))).unflatten(0, (P, -1))

    return batch


def shift_rows(
    v: Tensor, stride: Tensor, last: Tensor | None = None, more: int = 0, before: Tensor | None = None
) -> Tensor:
    """v (R, B, ...), after the H rows `before`, moved up by stride (B,) rows, H + R + more long.

    Beyond the row `last` (B,) that row is repeated.
    """
    H = 0 if before is None else len(before)
    R, s = H + len(v) + more, set(stride.tolist())
    e = {H + len(v) - 1} if last is None else set(last.tolist())
    if len(s) == len(e) == 1 and max(e) >= H:  # all samples alike, and no index to send to a device
        (first,), (end,) = s, e
        end = min(end, first + R - 1)
        parts = [v[max(first - H, 0) : end + 1 - H]]
        if before is not None and first < H:
            parts.insert(0, before[first : end + 1])
        if rest := R - (end + 1 - first):
            parts.append(v[end - H : end + 1 - H].expand(rest, *v.shape[1:]))
        return torch.cat(parts) if len(parts) > 1 else parts[0]
    v = v if before is None else torch.cat([before, v])
    last = stride.new_tensor(len(v) - 1) if last is None else last
    place = (torch.arange(R)[:, None] + stride).minimum(last).to(v.device, non_blocking=True)
    return pick_rows(v, place)


def row_numbers(begin: Tensor, W: int, N: int, x: Tensor) -> Tensor:
    """Row numbers n (W, B) of the window; past the chain's end they stay at its last row, where nothing is live."""
    return (torch.arange(W)[:, None] + begin).clamp(max=N - 1).to(x.device, non_blocking=True)
