"""The arrays of the window: how they are made, shifted, made longer or shorter, and left.

    v[w] <- v[min(w + stride, last)],    w = 0 .. W' - 1        each sample by its own stride

Rows that enter from beyond the last known row of the chain repeat that row until they are guessed. Single steps need no
window: a `ChainPosition` holds where the samples stand and what a method remembers of each whole sample.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..execution.evaluate import Evaluator, WindowRows
from ..methods.work import Evaluate, Memory, Update, WindowState, all_rows, partial_mask, pick_rows, row_places
from ..system import System


@dataclass(frozen=True)
class ChainPosition:
    """Where the samples stand: states x (B, ...), each at its row `begin`, outputs D (H, B, ...) before, rounds so far.

    memories: what method and criterion remember of each whole sample; nothing is kept of the rows of a window.
    """

    x: Tensor
    D: Tensor
    begin: list[int]
    round: int = 0
    memories: tuple[Memory, Memory] | None = None

    @classmethod
    def start(cls, system: System, x: Tensor) -> ChainPosition:
        """Before the first row."""
        return cls(x, x.new_zeros((system.history, *x.shape)), [0] * len(x))

    @property
    def row(self) -> int:
        """Where the slowest stands."""
        return min(self.begin)


class WindowShift(NamedTuple):
    """How a window moves: each sample by `stride` rows, of `last` that lay in the chain, to [begin, end), W long."""

    stride: list[int]
    last: list[int]
    begin: list[int]
    end: list[int]
    W: int


def open_window(system: System, at: ChainPosition, W: int, end: list[int]) -> WindowState:
    """The window of W rows up to each sample's `end`: every state a copy of x (B, ...), nothing in it evaluated."""
    D = torch.cat([at.D, at.D.new_zeros((W, *at.x.shape))])
    seen = torch.zeros(W, len(at.x), dtype=torch.long)
    return window_at(system, at.x.expand(W + 1, *at.x.shape), D, seen, (at.begin, end))


def window_at(system: System, x: Tensor, D: Tensor, seen: Tensor, span: tuple[list[int], list[int]]) -> WindowState:
    """The window of each sample's rows [begin, end). Whether all samples stand at one row is found here, once."""
    (W, B), N, (begin, end) = seen.shape, len(system), span
    inside = [last - first for first, last in zip(begin, end, strict=True)]
    if alike := stand_together(system, begin, W):
        n = system.numbers.as_strided((W, B), (1, 0), begin[0])
    else:
        n = (row_places(W) + torch.tensor(begin)).clamp(max=N - 1).to(x.device, non_blocking=True)
    full = min(inside) == W
    work = WindowState(x, D, None, n, all_rows(W, B) if full else row_places(W) < torch.tensor(inside), seen)
    work.begin, work.inside, work.on = begin, inside, None if full else work.live
    work.first = begin[0] if alike else None
    return work


def stand_together(system: System, begin: list[int], W: int) -> bool:
    """Whether all samples begin at one row, and all W rows are the chain's."""
    return min(begin) == max(begin) and begin[0] + W <= len(system)


def updated_outputs(
    system: System, work: WindowState, sweep: Update, stride: list[int], last: list[int]
) -> Tensor | None:
    """D (K, B, ...) of the new states where the next window reads it again; None if D of the old states is as good.

    It is read again in the K - 1 rows before the next window, for the taps, and in the last row that lay in the chain,
    of the `last` rows that did, for a guess.
    """
    if sweep.shift is None:
        return None
    D, K = sweep.D, system.taps
    if K == 1 and len(set(last)) == 1:
        return sweep.known(row_of_all(last[0] - 1, len(last)))
    rows = [[s + k + 1 - K for s in stride] for k in range(K - 1)] + [[k - 1 for k in last]]
    w = torch.tensor(rows)
    if min(map(min, rows)) >= 0:
        return sweep.known(w)
    H = len(work.D) - len(D)  # rows before this window, where states no longer change
    return pick_rows(torch.cat([work.D[:H], D]), w + H) + sweep.shift(w.clamp(min=0))


def advance_window(system: System, work: WindowState, sweep: Update, shift: WindowShift) -> WindowState:
    """The window after a sweep, moved up."""
    stride, last, begin, end, W = shift
    more = W - len(work.n)
    now = updated_outputs(system, work, sweep, stride, last)
    shown = work.x  # and not the window, which would hold the one before it
    same = work.first is not None and sweep.live is work.live and len(set(last)) == 1
    if same and work.on is None and system.taps == 1 and stand_together(system, begin, W):
        moved = advance_together(system, work, sweep, shift)
    else:
        x = shift_rows(sweep.x, stride, last, more, work.x[:1])
        D = shifted_outputs(work, sweep, now, stride, more)
        moved = window_at(system, x, D, shifted_counts(work, sweep, shift), (begin, end))
    if same and moved.first is not None:
        moved.revisited_rows, moved.revisited = min(last[0] - stride[0], W), None  # all of them, in every sample
    moved.newest, moved.before = None if now is None else now[-1], lambda: shift_rows(shown[:-1], stride, None, more)
    return moved


def advance_together(system: System, work: WindowState, sweep: Update, shift: WindowShift) -> WindowState:
    """The same where all samples were and are alike: what is known is a view, and the rest is made where it is asked
    for, which a guess that continues the known rows makes needless."""
    (s, *_), (last, *_), begin, end, W = shift
    k = min(last - s, W)
    x = sweep.x[s - 1 : s + k]
    H = len(work.D) - len(work.n) if work.known_D is None else len(work.known_D) - work.revisited_rows
    D = sweep.D[s - H : s + k]  # of one tap there is one row before
    counts = [times + 1 for times in work.counts[s : s + k]] + [0] * (W - k)
    B = x.shape[1]
    moved = window_at(system, x, D, all_rows(W, B), (begin, end))
    moved.known_x, moved.known_D, moved.counts = x, D, counts
    moved.defer(
        x=lambda: repeat_last(x, W + 1),
        D=lambda: repeat_last(D, H + W),
        seen=lambda: torch.tensor(counts)[:, None].expand(W, B),
    )
    return moved


def repeat_last(v: Tensor, R: int) -> Tensor:
    """v and its last row again and again, (R, B, ...)."""
    return torch.cat([v, v[-1:].expand(R - len(v), *v.shape[1:])]) if len(v) < R else v


def shifted_counts(work: WindowState, sweep: Update, shift: WindowShift) -> Tensor:
    """How often each row of the next window was evaluated (W, B), on the CPU."""
    stride, last, _, _, W = shift
    seen, left = work.seen + sweep.live, [k - s for k, s in zip(last, stride, strict=True)]
    if len(set(stride)) == len(set(left)) == 1:
        s, k = stride[0], min(left[0], W)
        return torch.nn.functional.pad(seen[s : s + k], (0, 0, 0, W - k))
    return shift_rows(seen, stride, more=W - len(seen)) * (row_places(W) < torch.tensor(left))


def leave_window(
    system: System, work: WindowState, sweep: Update, stride: list[int], last: list[int]
) -> tuple[Tensor, Tensor]:
    """x (B, ...) where each sample stands after a sweep, and D (H, B, ...) of the rows before."""
    W = len(work.n)
    x = shift_rows(sweep.x, stride, None, -W, work.x[:1])
    return x[0], shifted_outputs(work, sweep, updated_outputs(system, work, sweep, stride, last), stride, -W)


def shifted_outputs(work: WindowState, sweep: Update, now: Tensor | None, stride: list[int], more: int) -> Tensor:
    """D (H + W + more, B, ...), each sample moved up by its stride; now as `updated_outputs` finds it."""
    D = shift_rows(sweep.D, stride, None, more, work.D[: -len(work.n)])
    return D if now is None or len(now) == 1 else torch.cat([now[:-1], D[len(now) - 1 :]])


def shift_memory(memory: Memory, stride: Sequence[int], more: int) -> Memory:
    """A memory, each sample moved up by its stride, in a window `more` rows longer; a tensor (1, B, ...) stays.

    What has a `shifted` knows how. Where a tuple is `of_known_rows`, nobody reads the rows that enter, and its tensors
    may be left without them.
    """
    alike = len(set(stride)) == 1

    def moved(m: Any, known: bool) -> Any:
        if hasattr(m, "shifted"):
            return m.shifted(stride, more)
        if isinstance(m, tuple):
            known = getattr(m, "of_known_rows", False)
            return same_fields(m, [moved(v, known) for v in m])
        if not of_rows(m):
            return m
        return m[stride[0] :] if known and alike else shift_rows(m, stride, more=more)

    return moved(memory, False)  # type: ignore[no-any-return]


def carry_over(fresh: Memory, old: Memory) -> Memory:
    """A memory as it begins, with what an old one knows of the whole sample."""

    def chosen(new: Any, m: Any) -> Any:
        if hasattr(new, "carried_over"):
            return new.carried_over(m)
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
    n, b = work.n.flatten(), sample_numbers(W, B, work.x.device)

    def batch(*points: Tensor, live: Tensor | None = None) -> tuple[Tensor, ...]:
        live = work.live if live is None else live & work.live
        all_of_them = (work.on if live is work.live else partial_mask(live)) is None
        if all_of_them and len(points) == 1:
            x, known = points[0], None
            if work.first is not None and x.is_contiguous():
                known = WindowRows(x, work.first, work.coefficients(evaluate.system))
            D = evaluate.ask(x.flatten(0, 1), n, b, known)
            D = D if known else D.view(x.shape)
            work.rounding = evaluate.rounding
            return (D,)
        x = torch.stack(points).flatten(1, 2)  # (P, W B, ...)
        if all_of_them:
            return ask(x, n, b).unflatten(1, (W, B)).unbind()
        some = live.flatten().nonzero()[:, 0].to(n.device, non_blocking=True)
        return torch.zeros_like(x).index_copy_(1, some, ask(x[:, some], n[some], b[some])).unflatten(1, (W, B)).unbind()

    def ask(x: Tensor, n: Tensor, b: Tensor) -> Tensor:
        P = len(x)
        D = evaluate.ask(x.flatten(0, 1), *(v.expand(P, -1).flatten() for v in (n, b))).unflatten(0, (P, -1))
        work.rounding = evaluate.rounding
        return D

    return batch


@functools.lru_cache(maxsize=64)
def sample_numbers(W: int, B: int, device: torch.device) -> Tensor:
    """The sample b (W B,) of each row of a window's batch."""
    return torch.arange(B, device=device).repeat(W)


def shift_rows(
    v: Tensor, stride: Sequence[int], last: Sequence[int] | None = None, more: int = 0, before: Tensor | None = None
) -> Tensor:
    """v (R, B, ...), after the H rows `before`, each sample moved up by its stride, H + R + more long.

    Beyond the row `last` of a sample that row is repeated.
    """
    H = 0 if before is None else len(before)
    R, ends = H + len(v) + more, [H + len(v) - 1] if last is None else last
    if len(set(stride)) == len(set(ends)) == 1 and ends[0] >= H:  # all samples alike, and no index to send to a device
        if before is not None and stride[0] < H:
            v, H = torch.cat([before, v]), 0
        first, end = stride[0] - H, ends[0] - H
        return v[first : first + R] if first + R <= end + 1 else v.index_select(0, row_range(first, R, end, v.device))
    v = v if before is None else torch.cat([before, v])
    return pick_rows(v, (row_places(R) + torch.tensor(stride)).minimum(torch.tensor(ends)))


@functools.lru_cache(maxsize=1024)
def row_of_all(row: int, B: int) -> Tensor:
    """The row w (1, B) of every sample, on the CPU."""
    return torch.full((1, B), row)


@functools.lru_cache(maxsize=1024)
def row_range(first: int, R: int, end: int, device: torch.device) -> Tensor:
    """The rows first, first + 1, ... (R,), and `end` beyond it."""
    return torch.arange(first, first + R, device=device).clamp_(max=end)
