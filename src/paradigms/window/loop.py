"""The sliding window: the rounds of a chain, as the paper's algorithm makes them.

Rows [begin, end) of each sample are in the window, at most `window` of them. A round

    1. evaluates them as one batch             D[n] = model(x[n])
    2. lets the method correct the states      x[n+1] <- step(x)[n] + p[n] delta[n]
    3. finds the first row still moving        RMS(change of x[n+1]) > tolerance std[n]
    4. slides past it, at least one row        begin <- begin + min(good + 1, end - begin)
    5. guesses the rows that enter.            Source: Shih et al. 2023, algorithm 1.

The first row that moved counts as done, because it was just computed from rows that did not. Every sample of a batch
has its own begin. Memory is O(window), and no trajectory is kept. Between two rounds the window may become longer or
shorter, as the controller says; where it is one row, rows are stepped through, see `steps.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor

from ..execution.memory import raise_mmap_threshold
from ..methods.base import AbstractMethod
from ..methods.work import Evaluate, Memory, Update, WindowState, row_places
from ..stopping.base import AbstractStop, MeasuredStop
from ..system import System
from .buffers import (
    ChainPosition,
    WindowShift,
    advance_window,
    batch_evaluate,
    carry_over,
    leave_window,
    open_window,
    shift_memory,
)
from .chain import Chain
from .controller import Plan
from .frame import Frame, WindowRound
from .steps import stepped

Judgement = tuple[Tensor, Tensor, Memory]  # as `AbstractStop.judge` returns it
# No sample's window reaches further than this many windows past the first row of the slowest sample. Chosen by hand.
LARGEST_LEAD = 4


def frames(chain: Chain) -> Iterator[Frame]:
    """Rounds of windows and stretches of single steps, from the first row to the last or to the limit on rounds."""
    at, (window, steps) = ChainPosition.start(chain.system, chain.stream.x), chain.plan(0)
    while at.row < len(chain) and at.round < chain.limit:
        if min(window, len(chain)) > 1:
            at, (window, steps) = yield from window_rounds(chain, at, window)
        else:
            at, (window, steps) = yield from stepped(chain, at, steps)


def window_rounds(chain: Chain, at: ChainPosition, window: int) -> Generator[Frame, None, tuple[ChainPosition, Plan]]:
    """Rounds of windows, until the controller answers with single steps or the chain is done."""
    raise_mmap_threshold()
    system, method, stop, N = chain.system, chain.method, chain.stop, len(chain)
    begin, row, round, window = at.begin, at.row, at.round, min(window, N)
    W, end = rows_in(chain, window, row), window_end(begin, window, N)
    work = open_window(system, at, W, end)
    work.z = chain.stream.rows(work.n, row, max(end))
    work.x = method.guess.fill(system, work, torch.zeros(len(begin), dtype=torch.long))
    memory, judged = method.init(system, work), stop.init(system, work)
    if at.memories:
        memory, judged = carry_over(memory, at.memories[0]), carry_over(judged, at.memories[1])
    while True:
        round, evaluations = round + 1, chain.evaluate.evaluations
        # 1, 2. Evaluate every row as one batch, and let the method correct the states.
        sweep, memory, measured = swept(chain, work, window, (memory, judged))
        # 3. Rows before the first one that still moves are settled.
        off, size, good, judged = judgement(chain, work, sweep, measured, judged)
        stride = accepted_rows(chain, sweep, good, work.inside)
        residual = tuple(residuals(system, off, begin, stride))
        estimate = None if method.law else stop.estimate(judged)
        span = tuple(begin), tuple(end), tuple(stride)
        frame = WindowRound(round, window, span, work.x[0], sweep, size, residual, chain.evaluate, estimate)
        yield from chain.shown(frame)
        # 4. Slide past them, each sample by its own stride, to a window of the rows that the controller asks for.
        last, begin = work.inside, [n + moved for n, moved in zip(begin, stride, strict=True)]
        now = min(begin)
        chain.controller.on_round(row, window, chain.evaluate.evaluations - evaluations, now - row, chain.evaluate)
        plan = chain.plan(now) if now < N else (1, 1)
        row, window = now, min(plan[0], N)
        if window == 1:
            x, D = leave_window(system, work, sweep, stride, last)
            return ChainPosition(x, D, begin, round, (memory, judged)), plan
        end, W = window_end(begin, window, N), rows_in(chain, window, row)
        shift = WindowShift(stride, last, begin, end, W)
        longer, work = W - len(work.n), advance_window(system, work, sweep, shift)
        memory, judged = shift_memory(memory, stride, longer), shift_memory(judged, stride, longer)
        work.z = chain.stream.rows(work.n, row, max(end))
        # 5. Guess the rows that entered.
        known = [min(k - s, rows) for k, s, rows in zip(last, stride, work.inside, strict=True)]
        if known != work.inside:
            work.x = method.guess.fill(system, work, torch.tensor(known))


def swept(
    chain: Chain, work: WindowState, window: int, memories: tuple[Memory, Memory]
) -> tuple[Update, Memory, list[Tensor]]:
    """What `play` finds; as one graph where the model is one whose rounds are compiled and this round can be."""
    evaluate, graph = batch_evaluate(chain.evaluate, work), chain.evaluate.graph
    full = len(work.n) == window and work.first is not None and work.on is None
    if graph is None or not (full and work.revisited_rows > 1 and work.revisited is None and chain.method.compiles):
        return play(chain.system, chain.method, chain.stop, work, evaluate, memories)
    (D,) = evaluate(work.x[:-1])
    return graph.run(play, chain.system, chain.method, chain.stop, work, D, memories)


def play(
    system: System,
    method: AbstractMethod,
    stop: AbstractStop,
    work: WindowState,
    evaluate: Evaluate | Tensor,
    memories: tuple[Memory, Memory],
) -> tuple[Update, Memory, list[Tensor]]:
    """A sweep, what the method remembers, and what the criterion measures; evaluate: or what it says, D (W, B, ...).

    Of a window whose samples are alike it is a function of tensors: nothing in it depends on what numbers are.
    """
    ask = (lambda *points, live=None: (evaluate,)) if isinstance(evaluate, Tensor) else evaluate
    sweep, memory = method.sweep(system, work, ask, memories[0])
    sweep = replace(sweep, off=sweep.apart)
    measured = stop.measure(system, work, sweep, memories[1]) if decides_on_cpu(stop) else []
    return sweep, memory, measured


def decides_on_cpu(stop: AbstractStop) -> TypeGuard[MeasuredStop]:
    """Whether a criterion is one that is told its numbers; one of such with a `judge` of its own is not."""
    return type(stop).judge is MeasuredStop.judge


def judgement(
    chain: Chain, work: WindowState, sweep: Update, measured: list[Tensor], memory: Memory
) -> tuple[Tensor, Tensor, list[int], Memory]:
    """How far each state is from its own step (W or more, B), what the criterion says of each row and the rows that are
    to be accepted of each sample, and what it remembers.

    Here is the one time in a round that the device is asked for something: for whether the model is finite, too.
    """
    stop, doubts, B = chain.stop, chain.evaluate.doubts, sweep.live.shape[1]
    asked = [sweep.apart, *measured, *(doubt.total.expand(1, B) for doubt in doubts)]
    if decides_on_cpu(stop):
        given = [] if sweep.stride is None else [sweep.stride]
    else:
        size, good, memory = stop.judge(chain.system, work, sweep, memory)
        given = [good if sweep.stride is None else sweep.stride]
    numbers = torch.cat([*asked, *(rows.to(asked[0])[None] for rows in given)]).cpu().double()
    stride = numbers[-1].long() if given else None
    known = len(numbers) - len(doubts) - len(given)
    told, totals = numbers.split((known, len(numbers) - known))
    chain.evaluate.look([total for total, *_ in totals.tolist()][: len(doubts)])
    if decides_on_cpu(stop):
        sweep = sweep if stride is None else replace(sweep, stride=stride)
        size, good, memory = stop.settle(chain.system, work, sweep, memory, told)
    return numbers, size, (good if stride is None else stride).tolist(), memory


def accepted_rows(chain: Chain, sweep: Update, good: list[int], inside: list[int]) -> list[int]:
    """The rows that each sample moves by, of those in the chain; RuntimeError where none moves."""
    stride = [min(n, rows) for n, rows in zip(good, inside, strict=True)]
    if not max(stride) > 0:
        what = type(chain.stop if sweep.stride is None else chain.method).__name__
        raise RuntimeError(f"{what}: given 0 rows to accept of every sample; needed: at least 1 row of one a round")
    return stride


def residuals(system: System, off: Tensor, begin: list[int], stride: list[int]) -> list[float]:
    """Of each sample the largest distance off (W or more, B) of an accepted state from its row's own step, in std."""
    if len(begin) == 1:
        accepted = off[: stride[0], 0].tolist()  # the rest of `off` is long: thousands of numbers
        return [max((v / system.stds[begin[0] + w] for w, v in enumerate(accepted)), default=0.0)]
    w = row_places(max(stride))
    std = torch.tensor(system.stds, dtype=off.dtype)[(torch.tensor(begin) + w).clamp(max=len(system) - 1)]
    return torch.where(w < torch.tensor(stride), off[: len(w)] / std, 0.0).amax(0).tolist()  # type: ignore[no-any-return]


def rows_in(chain: Chain, window: int, row: int) -> int:
    """The rows that a window from `row` on holds: no more than are left, for those beyond the chain cost time, too."""
    return window if chain.method.steady else min(window, max(len(chain) - row, 2))


def window_end(begin: list[int], window: int, N: int) -> list[int]:
    """The row that each sample's window ends before."""
    last = min(N, min(begin) + LARGEST_LEAD * window)
    return [max(min(n + window, last), n) for n in begin]
