"""The sliding window: a generator of frames, `sample` its consumer, `sequential` the reference.

Rows [begin, end) of each sample are in the window, at most `window` of them. A round

    1. evaluates them as one batch             D[n] = model(x[n])
    2. lets the method correct the states      x[n+1] <- step(x)[n] + p[n] delta[n]
    3. finds the first row still moving        RMS(change of x[n+1]) > tolerance std[n]
    4. slides past it, at least one row        begin <- begin + min(good + 1, end - begin)
    5. guesses the rows that enter.            Source: Shih et al. 2023, algorithm 1.

The first row that moved counts as done, because it was just computed from rows that did not. Every sample of a batch
has its own begin. Memory is O(window), and no trajectory is kept unless it is to be verified.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from .auto import auto
from .check import check_problem
from .execute import Evaluator, Model
from .method import AbstractMethod
from .noise import Generators, Noise, replica
from .pace import AbstractPace, Fixed
from .slide import At, batch, enter, kept, leave, move, remember
from .solution import Comparison, Solution, verify
from .spectral import Spectral
from .stop import AbstractStop, FinalError, rms
from .system import System

TOLERANCE = 0.003  # relative error of the finished sample
AHEAD = 4  # no sample's window reaches further than this many windows past the slowest sample's begin


@dataclass(frozen=True)
class Frame:
    """One round as it ended, before the window slides: B samples, W rows of which [begin, end) were evaluated.

    x (W + 1, B, ...) new states from row `begin` (B,) on, D (W, B, ...) what the model said of them, size (W, B) how
    far each is from settled, 1 being the limit, stride (B,) how many rows were accepted, residual (B,) the largest
    distance, in std, of an accepted state from the step the model gave. `evaluate` counts. A stretch of single steps
    is one frame too: it tells of as many rounds as it has rows, the last of them `round`.
    """

    round: int
    begin: Tensor
    end: Tensor
    stride: Tensor
    x: Tensor
    D: Tensor
    size: Tensor
    residual: Tensor
    evaluate: Evaluator
    single: int = 0  # steps, where it is a stretch of them

    @property
    def trace(self) -> list[tuple[int, int, int]]:
        """(begin, end, evals by then) of each round: the slowest sample's first row, the row after the fastest's."""
        begin, end, evals = int(self.begin.min()), int(self.end.max()), self.evaluate.evals
        if not self.single:
            return [(begin, end, evals)]
        on = self.stride.tolist()  # rows of each sample
        done = [evals - sum(max(s - k - 1, 0) for s in set(on) for _ in range(on.count(s))) for k in range(self.single)]
        return [(begin + k, min(int(self.begin.max()) + k + 1, end), done[k]) for k in range(self.single)]


def iterate(
    model: Model,
    system: System,
    x: Tensor,
    method: AbstractMethod | None = None,
    *,
    window: int | str | AbstractPace = "auto",
    tolerance: float | AbstractStop = TOLERANCE,
    generator: Generators | None = None,
    noise: Tensor | None = None,
    condition: Mapping[str, Tensor] | None = None,
) -> Iterator[Frame]:
    """The rounds of one parallel sampling from x (B, ...), each a `Frame`; arguments as `sample`'s."""
    check_problem(system, x, window, generator, noise, condition)
    method = method or Spectral()
    return _rounds(_chain(model, system, x, method, window, criterion(tolerance, method), generator, noise, condition))


def criterion(tolerance: float | AbstractStop, method: AbstractMethod) -> AbstractStop:
    """The criterion of a tolerance; a `FinalError` without a grid takes that of a `Spectral`. Raises ValueError."""
    stop = tolerance if isinstance(tolerance, AbstractStop) else FinalError(tolerance)
    if isinstance(stop, FinalError) and isinstance(method, Spectral) and stop.grid is None:
        return replace(stop, grid=method.grid)
    return stop


@dataclass(frozen=True)
class _Chain:
    """What is solved, and how."""

    system: System
    evaluate: Evaluator
    stream: Noise
    method: AbstractMethod
    stop: AbstractStop
    pace: AbstractPace
    limit: int  # on rounds


def _rounds(chain: _Chain) -> Iterator[Frame]:
    N, at, row = len(chain.system), _start(chain.system, chain.stream.x), 0
    window, steps = chain.pace.next(row)
    while row < N and at.round < chain.limit:
        if min(window, N) > 1:
            at, (window, steps) = yield from _slides(chain, at, min(window, N))
            row = int(at.begin.min())
        else:
            at = yield from _steps(chain, at, min(steps, N - row, chain.limit - at.round))
            row = int(at.begin.min())
            window, steps = chain.pace.next(row) if row < N else (1, 1)


def _steps(chain: _Chain, at: At, steps: int) -> Generator[Frame, None, At]:
    """So many single steps, as one frame."""
    x, D = at.x, at.D
    states, outputs = [x], []
    row = int(at.begin.min())
    for x, D in islice(_singly(chain.evaluate, chain.stream, at), steps):
        states.append(x)
        outputs.append(D[-1])
    chain.pace.stepped(row, steps, chain.evaluate)
    end = (at.begin + steps).clamp(max=len(chain.system))
    nothing, round = torch.zeros(len(x)), at.round + steps
    yield from _shown(chain, Frame(
        round, at.begin, end, end - at.begin, torch.stack(states), torch.stack(outputs), nothing.expand(steps, len(x)),
        nothing, chain.evaluate, steps,
    ))  # fmt: skip
    return At(x, D[-len(at.D) :], end, round, at.memories)


def _slides(chain: _Chain, at: At, W: int) -> Generator[Frame, None, tuple[At, tuple[int, int]]]:
    """Rounds of windows, W rows at first, until the pace answers with steps or all is done."""
    system, stream, method, stop, N = chain.system, chain.stream, chain.method, chain.stop, len(chain.system)
    begin, round = at.begin, at.round
    end = _end(begin, W, N)
    work = enter(at, W, end, N)
    work.z = stream.rows(work.n, int(begin.min()), int(end.max()))
    work.x = method.guess.fill(system, work, torch.zeros_like(begin))
    memory, judged = method.init(system, work), stop.init(system, work)
    if at.memories:
        memory, judged = kept(memory, at.memories[0]), kept(judged, at.memories[1])
    while True:
        round, row, evals = round + 1, int(begin.min()), chain.evaluate.evals
        sweep, memory = method.sweep(system, work, batch(chain.evaluate, work), memory)
        size, good, judged = stop.judge(system, work, sweep, judged)
        stride = (good if sweep.stride is None else sweep.stride).cpu().minimum(end - begin)
        if not bool((stride > 0).any()):
            what = type(stop if sweep.stride is None else method).__name__
            raise RuntimeError(f"{what}: given 0 rows to accept of every sample; needed: at least 1 row of one a round")
        accepted = torch.arange(W)[:, None] < stride
        residual = torch.where(accepted, (rms(sweep.x - sweep.y) / system.std[work.n]).cpu(), 0).amax(0)
        work.x, work.D = torch.cat([work.x[:1], sweep.x]), torch.cat([work.D[:-W], sweep.D])
        yield from _shown(chain, Frame(round, begin, end, stride, work.x, sweep.D, size, residual, chain.evaluate))

        last, begin = end - begin, begin + stride
        now = int(begin.min())
        chain.pace.saw(row, W, chain.evaluate.evals - evals, now - row, chain.evaluate)
        answer = chain.pace.next(now) if now < N else (1, 1)
        if (more := min(answer[0], N)) == 1:
            return leave(work, stride, begin, round, (memory, judged)), answer
        end = _end(begin, more, N)
        work, more, W = move(work, sweep, stride, last, begin, end, more, N), more - W, more
        memory, judged = remember(memory, stride, more), remember(judged, stride, more)
        work.z = stream.rows(work.n, now, int(end.max()))
        if bool((end - begin > last - stride).any()):
            work.x = method.guess.fill(system, work, (last - stride).minimum(end - begin))


def _end(begin: Tensor, W: int, N: int) -> Tensor:
    """The row (B,) that a window of W rows ends before."""
    return (begin + W).clamp(max=min(N, int(begin.min()) + AHEAD * W)).maximum(begin)


def _shown(chain: _Chain, frame: Frame) -> Iterator[Frame]:
    """The frame, while the clock rests: what is done with it is nobody's round."""
    chain.evaluate.clock.pause()
    yield frame
    chain.evaluate.clock.resume()


def sample(
    model: Model,
    system: System,
    x: Tensor,
    method: AbstractMethod | None = None,
    *,
    window: int | str | AbstractPace = "auto",
    tolerance: float | AbstractStop = TOLERANCE,
    generator: Generators | None = None,
    noise: Tensor | None = None,
    condition: Mapping[str, Tensor] | None = None,
    verified: bool = False,
    compare: bool = False,
    max_rounds: int | None = None,
    watch: Callable[[Iterator[Frame]], Iterable[Frame]] = iter,
) -> Solution:
    """Samples in parallel what `sequential` samples step by step, and says how well it agrees.

    model: callable, x (M, ...), t (M,), **condition (M, ...) -> (M, ...), for any number M of rows.
    x: starting noise (B, ...), for example `system.noise(shape, generator)`. method: default `Spectral()`.
    window: rows evaluated at once; "auto" picks, as it goes, what finishes soonest, stepping included, see `auto.py`,
    so that within the tolerance a sample depends on how fast the machine is; a number does not.
    tolerance: relative error of the sample, as `FinalError` estimates it; 0 gives the sequential sample. Or a
    criterion: `StepNoise(0.1)` is the paper's. generator: one, or one a sample, of the noise of SDE rules (or `noise`
    (N, B, ...)). condition: tensors (B, ...) by name, passed to the model row by row.
    verified: one more round over the whole trajectory (which is then kept) gives `Solution.verification`.
    compare: also run `sequential` on the same noise. max_rounds: stop early, unfinished. watch: wraps the iterator of
    frames as tqdm would. Raises ValueError for bad input before any work, NonFiniteError, and
    RuntimeError where a method accepts nothing. Source: Shih et al. 2023.
    """
    if max_rounds is not None and max_rounds < 1:
        raise ValueError(f"max_rounds: given {max_rounds}; needed: at least 1, or None for no limit")
    began = time.perf_counter()
    check_problem(system, x, window, generator, noise, condition)
    method, limit = method or Spectral(), 1 << 62 if max_rounds is None else max_rounds
    stop = criterion(tolerance, method)
    chain = _chain(model, system, x, method, window, stop, generator, noise, condition, limit)
    again = [replica(generator, x.device) for _ in range(2)]  # nothing is drawn before the first frame
    path: list[list[Tensor]] = [[] for _ in x]
    residual, rounds = torch.zeros(len(x)), torch.zeros(len(x), dtype=torch.long)
    trace: list[tuple[int, int, int]] = []
    windows: list[int] = []
    for frame in watch(_rounds(chain)):
        residual = residual.maximum(frame.residual)
        rounds = rounds + (frame.stride if frame.single else frame.stride > 0)
        trace += frame.trace
        windows += [1] * frame.single or [len(frame.D)]
        for b, s in enumerate(frame.stride.tolist() if verified else []):
            path[b].append(frame.x[1 : s + 1, b])
        if frame.round == max_rounds:
            break
    done, N, evaluate = frame.begin + frame.stride, len(system), frame.evaluate
    final = frame.x[frame.stride.to(x.device), torch.arange(len(x), device=x.device)]
    verification = comparison = None
    if verified and bool((done == N).all()):
        states = torch.stack([torch.cat([x[b : b + 1].to(final), *p]) for b, p in enumerate(path)], 1)  # (N+1, B, ...)
        final, verification = verify(evaluate, states, Noise(system, final, again[0], noise), max(windows))
    seconds, model_seconds = time.perf_counter() - began, evaluate.seconds
    if compare:
        began = time.perf_counter()
        reference = sequential(model, system, x, generator=again[1], noise=noise, condition=condition)
        comparison = Comparison(reference, time.perf_counter() - began)
    spent = (done, N, rounds, len(trace), trace[-1][2], residual, seconds, model_seconds, tuple(trace), tuple(windows))
    return Solution(final, *spent, verification, comparison)


def sequential(
    model: Model,
    system: System,
    x: Tensor,
    *,
    generator: Generators | None = None,
    noise: Tensor | None = None,
    condition: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The sample (B, ...) of equation (1) row by row: the reference of everything. Arguments as `sample`'s."""
    check_problem(system, x, 1, generator, noise, condition)
    evaluate, stream = _problem(model, system, x, generator, noise, condition)
    ((final, _),) = deque(_singly(evaluate, stream, _start(evaluate.system, stream.x)), maxlen=1)
    return final


def _chain(
    model: Model,
    system: System,
    x: Tensor,
    method: AbstractMethod,
    window: int | str | AbstractPace,
    stop: AbstractStop,
    generator: Generators | None,
    noise: Tensor | None,
    condition: Mapping[str, Tensor] | None,
    limit: int = 1 << 62,
) -> _Chain:
    evaluate, stream = _problem(model, system, x, generator, noise, condition)
    if isinstance(window, str):
        window = auto(evaluate, stream.x, method, stop)
    pace = Fixed(window) if isinstance(window, int) else window
    return _Chain(evaluate.system, evaluate, stream, method, stop, pace, limit)


def _problem(
    model: Model,
    system: System,
    x: Tensor,
    generator: Generators | None,
    noise: Tensor | None,
    condition: Mapping[str, Tensor] | None,
) -> tuple[Evaluator, Noise]:
    """The denoiser and the noise, on the states' device and in float32 or better."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    system = system.to(x.device, x.dtype)
    return Evaluator(model, system, condition), Noise(system, x, generator, noise)


def _start(system: System, x: Tensor) -> At:
    return At(x, x.new_zeros((system.history, *x.shape)), torch.zeros(len(x), dtype=torch.long))


def _singly(evaluate: Evaluator, stream: Noise, at: At) -> Iterator[tuple[Tensor, Tensor]]:
    """States x (B, ...) and outputs D (H + 1, B, ...) of equation (1) row by row, each sample from its own row on."""
    x, D, system, b = at.x, at.D, evaluate.system, torch.arange(len(at.x), device=at.x.device)
    first, last, N, H = int(at.begin.min()), int(at.begin.max()), len(system), len(at.D)
    for row in range(first, N):
        if first == last:
            n = torch.full((1, len(x)), row, device=x.device)
            D = torch.cat([D[-H:], evaluate(x, n[0], b)[None]])
            x = system.step(x[None], D, stream.rows(n, row, row + 1), n)[0]
        else:
            n = (at.begin + row - first)[None].to(x.device)
            on = (n[0] < N).nonzero()[:, 0]
            n = n.clamp(max=N - 1)
            D = torch.cat([D[-H:], D[-1:]])
            D[-1, on] = evaluate(x[on], n[0, on], b[on])
            new = system.step(x[None], D, stream.rows(n, row, min(row - first + last + 1, N)), n)[0]
            x = x.index_copy(0, on, new[on])
        yield x, D
