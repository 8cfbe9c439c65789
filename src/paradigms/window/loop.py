"""The sliding window: a generator of frames, and the same chain one row at a time.

Rows [begin, end) of each sample are in the window, at most `window` of them. A round

    1. evaluates them as one batch             D[n] = model(x[n])
    2. lets the method correct the states      x[n+1] <- step(x)[n] + p[n] delta[n]
    3. finds the first row still moving        RMS(change of x[n+1]) > tolerance std[n]
    4. slides past it, at least one row        begin <- begin + min(good + 1, end - begin)
    5. guesses the rows that enter.            Source: Shih et al. 2023, algorithm 1.

The first row that moved counts as done, because it was just computed from rows that did not. Every sample of a batch
has its own begin. Memory is O(window), and no trajectory is kept. Between two rounds the window may become longer or
shorter, as a pace says; where it is one row, rows are stepped through as the sequential sampler does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..execution.evaluate import Evaluator
from ..execution.memory import keep_freed
from ..methods.base import AbstractMethod
from ..methods.scan import rms
from ..methods.work import Sweep, Work
from ..stopping.criteria import AbstractStop
from ..system import System
from .buffers import At, after, batch, enter, kept, move, remember, reread
from .controller import AbstractPace
from .frame import Frame, Slide, Stretch

AHEAD = 4  # no sample's window reaches further than this many windows past the slowest sample's begin


class Stream(Protocol):
    """The noise of samples x (B, ...), see `noise.py`."""

    x: Tensor

    def rows(self, n: Tensor, begin: int, end: int) -> Tensor | None: ...


class Chain(NamedTuple):
    """What is solved, and how."""

    system: System
    evaluate: Evaluator
    stream: Stream
    method: AbstractMethod
    stop: AbstractStop
    pace: AbstractPace
    limit: int  # on rounds
    keep: bool = True  # the states within a stretch of steps, and not its first and last alone


def frames(chain: Chain) -> Iterator[Frame]:
    """The rounds from the first row to the last, or as many as the limit allows."""
    N, at, row = len(chain.system), start(chain.system, chain.stream.x), 0
    window, steps = chain.pace.next(row)
    while row < N and at.round < chain.limit:
        if min(window, N) > 1:
            at, (window, steps) = yield from _slides(chain, at, row, min(window, N))
            row = at.row
            continue
        stretch = _steps(chain, at, row, min(steps, N - row, chain.limit - at.round))
        yield from _shown(chain, stretch)
        if (row := row + stretch.single) < N:
            at = At(stretch.last, stretch.said[-1][-len(at.D) :], stretch.end, stretch.round, at.memories)
            window, steps = chain.pace.next(row)


def _steps(chain: Chain, at: At, row: int, steps: int) -> Stretch:
    """So many single steps, the slowest sample's first at `row`."""
    found = deque(singly(chain.evaluate, chain.stream, at, steps), maxlen=None if chain.keep else 1)
    states, said = [at.x, *(x for x, _ in found)], [D for _, D in found]
    chain.pace.stepped(row, steps, chain.evaluate)
    return Stretch(at.round + steps, at.begin, steps, len(chain.system), states, said, chain.evaluate)


def _slides(chain: Chain, at: At, row: int, window: int) -> Generator[Frame, None, tuple[At, tuple[int, int]]]:
    """Rounds of windows until the pace answers with steps or all is done; the slowest sample is at `row`."""
    system, stream, method, stop, N = chain.system, chain.stream, chain.method, chain.stop, len(chain.system)
    keep_freed()
    begin, round, W = at.begin, at.round, _trimmed(chain, window, row)
    end = _end(begin, window, N)
    work = enter(at, W, end, N)
    work.z = stream.rows(work.n, row, max(end.tolist()))
    work.x = method.guess.fill(system, work, torch.zeros_like(begin))
    memory, judged = method.init(system, work), stop.init(system, work)
    if at.memories:
        memory, judged = kept(memory, at.memories[0]), kept(judged, at.memories[1])
    while True:
        round, evals = round + 1, chain.evaluate.evals
        sweep, memory = method.sweep(system, work, batch(chain.evaluate, work), memory)
        work.rounding = chain.evaluate.rounding
        size, good, judged = stop.judge(system, work, sweep, judged)
        estimate = stop.estimate(judged) if sweep.stride is None else None
        good, off = _told(system, work, sweep, good)
        stride = good.minimum(end - begin)
        if not max(stride.tolist()) > 0:
            what = type(stop if sweep.stride is None else method).__name__
            raise RuntimeError(f"{what}: given 0 rows to accept of every sample; needed: at least 1 row of one a round")
        residual = torch.where(torch.arange(W)[:, None] < stride, off, 0).amax(0)
        frame = Slide(round, window, begin, end, stride, work.x[0], sweep, size, residual, chain.evaluate, estimate)
        yield from _shown(chain, frame)

        last, begin = end - begin, begin + stride
        known = reread(system, work, sweep, stride, last)
        now = min(begin.tolist())
        chain.pace.saw(row, window, chain.evaluate.evals - evals, now - row, chain.evaluate)
        answer = chain.pace.next(now) if now < N else (1, 1)
        if (window := min(answer[0], N)) == 1:
            x, D = after(work, sweep, known, stride, None, -W)
            return At(x[0], D, begin, round, (memory, judged)), answer
        row, end, more = now, _end(begin, window, N), _trimmed(chain, window, now)
        work, more, W = move(work, sweep, known, stride, last, begin, end, more, N), more - W, more
        memory, judged = remember(memory, stride, more), remember(judged, stride, more)
        work.z = stream.rows(work.n, row, max(end.tolist()))
        before = (last - stride).minimum(end - begin)
        if not before.equal(end - begin):
            work.x = method.guess.fill(system, work, before)


def _told(system: System, work: Work, sweep: Sweep, good: Tensor) -> tuple[Tensor, Tensor]:
    """How many rows (B,) may be accepted, and how far, in std, each state (W, B) is from its step.

    On the CPU: the one time in a round that the device is asked for something, but for whether the model is finite.
    """
    off = rms(sweep.x - sweep.y) / system.std[work.n]
    both = torch.cat([(good if sweep.stride is None else sweep.stride)[None].to(off), off]).cpu()
    return both[0].long(), both[1:]


def _trimmed(chain: Chain, window: int, row: int) -> int:
    """The rows that a window from `row` on holds: no more than are left, for those beyond the chain cost time, too."""
    return window if chain.method.steady else min(window, max(len(chain.system) - row, 2))


def _end(begin: Tensor, W: int, N: int) -> Tensor:
    """The row (B,) that a window of W rows ends before."""
    return (begin + W).clamp(max=min(N, min(begin.tolist()) + AHEAD * W)).maximum(begin)


def _shown(chain: Chain, frame: Frame) -> Iterator[Frame]:
    """The frame, while the clock rests: what is done with it is nobody's round."""
    chain.evaluate.clock.pause()
    yield frame
    chain.evaluate.clock.resume()


def start(system: System, x: Tensor) -> At:
    """Before the first row."""
    return At(x, x.new_zeros((system.history, *x.shape)), torch.zeros(len(x), dtype=torch.long))


def through(evaluate: Evaluator, stream: Stream) -> Tensor:
    """The sample (B, ...) of equation (1), all rows one by one."""
    system = evaluate.system
    ((final, _),) = deque(singly(evaluate, stream, start(system, stream.x), len(system)), maxlen=1)
    return final


def singly(evaluate: Evaluator, stream: Stream, at: At, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """States x (B, ...) and outputs D (H + 1, B, ...) of equation (1) row by row, each sample from its own row on."""
    x, D, system, b = at.x, at.D, evaluate.system, torch.arange(len(at.x), device=at.x.device)
    first, last, N, H = at.row, max(at.begin.tolist()), len(system), len(at.D)
    for row in range(first, min(first + steps, N)):
        end = row - first + last + 1
        if first == last:
            n = torch.full((1, len(x)), row, device=x.device)
        else:
            n = (at.begin + row - first)[None].to(x.device)
        if end <= N:
            D = torch.cat([D[-H:], evaluate(x, n[0], b)[None]])
            x = system.step(x[None], D, stream.rows(n, row, end), n)[0]
        else:
            on = (n[0] < N).nonzero()[:, 0]
            n = n.clamp(max=N - 1)
            D = torch.cat([D[-H:], D[-1:]])
            D[-1, on] = evaluate(x[on], n[0, on], b[on])
            x = x.index_copy(0, on, system.step(x[None], D, stream.rows(n, row, N), n)[0, on])
        yield x, D
