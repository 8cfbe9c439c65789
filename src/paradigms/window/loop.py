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

import torch
from torch import Tensor

from ..execution.memory import raise_mmap_threshold
from ..methods.base import AbstractMethod
from ..methods.work import Evaluate, Memory, Update, WindowState, row_places
from ..stopping.base import AbstractStop
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
    work.z = chain.stream.rows(work.n, row, max(end.tolist()))
    work.x = method.guess.fill(system, work, torch.zeros_like(begin))
    memory, judged = method.init(system, work), stop.init(system, work)
    if at.memories:
        memory, judged = carry_over(memory, at.memories[0]), carry_over(judged, at.memories[1])
    while True:
        round, evaluations = round + 1, chain.evaluate.evaluations
        # 1, 2. Evaluate every row as one batch, and let the method correct the states.
        # 3. Rows before the first one that still moves are settled.
        sweep, memory, (size, good, judged) = swept(chain, work, window, (memory, judged))
        stride, residual = accepted_rows(chain, work, sweep, good, end - begin)
        estimate = None if method.law else stop.estimate(judged)
        frame = WindowRound(
            round, window, begin, end, stride, work.x[0], sweep, size, residual, chain.evaluate, estimate
        )
        yield from chain.shown(frame)
        # 4. Slide past them, each sample by its own stride, to a window of the rows that the controller asks for.
        last, begin = end - begin, begin + stride
        now = min(begin.tolist())
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
        work.z = chain.stream.rows(work.n, row, max(end.tolist()))
        # 5. Guess the rows that entered.
        known = (last - stride).minimum(end - begin)
        if not known.equal(end - begin):
            work.x = method.guess.fill(system, work, known)


def swept(
    chain: Chain, work: WindowState, window: int, memories: tuple[Memory, Memory]
) -> tuple[Update, Memory, Judgement]:
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
) -> tuple[Update, Memory, Judgement]:
    """A sweep, what the method remembers, and what the criterion says of it; evaluate: or what it says, D (W, B, ...).

    Of a window whose samples are alike it is a function of tensors: nothing in it depends on what numbers are.
    """
    ask = (lambda *points, live=None: (evaluate,)) if isinstance(evaluate, Tensor) else evaluate
    sweep, memory = method.sweep(system, work, ask, memories[0])
    sweep = replace(sweep, off=sweep.apart)
    return sweep, memory, stop.judge(system, work, sweep, memories[1])


def accepted_rows(
    chain: Chain, work: WindowState, sweep: Update, good: Tensor, inside: Tensor
) -> tuple[Tensor, Tensor]:
    """The rows (B,) that each sample moves by, of `inside` (B,) in the chain, and the residual (B,) of those.

    good (B,): the rows that the criterion would accept; a method that has its own stride overrules it. Both results are
    on the CPU: the one time in a round that the device is asked for something, but for whether the model is finite.
    Raises RuntimeError where no sample moves.
    """
    off = sweep.apart / work.coefficients(chain.system).std  # how far, in std, each state (W, B) is from its step
    doubts, B = chain.evaluate.doubts, len(inside)
    asked = [(good if sweep.stride is None else sweep.stride).to(off), off.flatten(), *(d.total[None] for d in doubts)]
    told = torch.cat(asked).cpu()
    chain.evaluate.look(told[len(told) - len(doubts) :].tolist())
    stride, off = told[:B].long().minimum(inside), told[B : B + off.numel()].view(off.shape)
    if not max(stride.tolist()) > 0:
        what = type(chain.stop if sweep.stride is None else chain.method).__name__
        raise RuntimeError(f"{what}: given 0 rows to accept of every sample; needed: at least 1 row of one a round")
    return stride, torch.where(row_places(len(off)) < stride, off, 0).amax(0)


def rows_in(chain: Chain, window: int, row: int) -> int:
    """The rows that a window from `row` on holds: no more than are left, for those beyond the chain cost time, too."""
    return window if chain.method.steady else min(window, max(len(chain) - row, 2))


def window_end(begin: Tensor, window: int, N: int) -> Tensor:
    """The row (B,) that each sample's window ends before."""
    return (begin + window).clamp(max=min(N, min(begin.tolist()) + LARGEST_LEAD * window)).maximum(begin)
