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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .check import check_problem
from .execute import Evaluator, Model
from .method import AbstractMethod, Evaluate, Memory, Sweep, Work
from .noise import Generators, Noise, replica
from .over import over_mesh
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
    distance, in std, of an accepted state from the step the model gave. `evaluate` counts.
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


@over_mesh
def iterate(
    model: Model,
    system: System,
    x: Tensor,
    method: AbstractMethod | None = None,
    *,
    window: int = 32,
    tolerance: float | AbstractStop = TOLERANCE,
    generator: Generators | None = None,
    noise: Tensor | None = None,
    condition: Mapping[str, Tensor] | None = None,
    mesh: Any = None,
) -> Iterator[Frame]:
    """The rounds of one parallel sampling from x (B, ...), each a `Frame`; arguments as `sample`'s."""
    method = method or Spectral()
    stop = criterion(tolerance, method)
    check_problem(system, x, window, generator, noise, condition)
    return _rounds(model, system, x, method, window, stop, generator, noise, condition)


def criterion(tolerance: float | AbstractStop, method: AbstractMethod) -> AbstractStop:
    """The criterion of a tolerance; a `FinalError` without a grid takes that of a `Spectral`. Raises ValueError."""
    stop = tolerance if isinstance(tolerance, AbstractStop) else FinalError(tolerance)
    if isinstance(stop, FinalError) and isinstance(method, Spectral) and stop.grid is None:
        return replace(stop, grid=method.grid)
    return stop


def _rounds(
    model: Model,
    system: System,
    x: Tensor,
    method: AbstractMethod,
    window: int,
    stop: AbstractStop,
    generator: Generators | None,
    noise: Tensor | None,
    condition: Mapping[str, Tensor] | None,
) -> Iterator[Frame]:
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    system = system.to(x.device, x.dtype)
    N, W, B = len(system), min(window, len(system)), len(x)
    evaluate, stream = Evaluator(model, system, condition), Noise(system, x, generator, noise)
    begin, end = torch.zeros(B, dtype=torch.long), torch.full((B,), W)
    work = _start(system, x, W)
    work.z = stream.rows(work.n, 0, W)
    work.x = method.guess.fill(system, work, begin)
    memory, judged = method.init(system, work), stop.init(system, work)
    round = 0
    while bool((begin < N).any()):
        round += 1
        sweep, memory = method.sweep(system, work, _batch(evaluate, work), memory)
        size, good, judged = stop.judge(system, work, sweep, judged)
        stride = (good if sweep.stride is None else sweep.stride).cpu().minimum(end - begin)
        if not bool((stride > 0).any()):
            what = type(stop if sweep.stride is None else method).__name__
            raise RuntimeError(f"{what}: given 0 rows to accept of every sample; needed: at least 1 row of one a round")
        accepted = torch.arange(W)[:, None] < stride
        residual = torch.where(accepted, (rms(sweep.x - sweep.y) / system.std[work.n]).cpu(), 0).amax(0)
        work.x, work.D = torch.cat([work.x[:1], sweep.x]), torch.cat([work.D[:-W], sweep.D])
        yield Frame(round, begin, end, stride, work.x, sweep.D, size, residual, evaluate)

        last, begin = end - begin, begin + stride
        end = (begin + W).clamp(max=min(N, int(begin.min()) + AHEAD * W)).maximum(end)
        work = _move(work, sweep, stride, last, begin, end, N)
        memory, judged = _remember(memory, stride), _remember(judged, stride)
        work.z = stream.rows(work.n, int(begin.min()), int(end.max()))
        if bool((end - begin > last - stride).any()):
            work.x = method.guess.fill(system, work, last - stride)


@over_mesh
def sample(
    model: Model,
    system: System,
    x: Tensor,
    method: AbstractMethod | None = None,
    *,
    window: int = 32,
    tolerance: float | AbstractStop = TOLERANCE,
    generator: Generators | None = None,
    noise: Tensor | None = None,
    condition: Mapping[str, Tensor] | None = None,
    verified: bool = False,
    compare: bool = False,
    max_rounds: int | None = None,
    watch: Callable[[Iterator[Frame]], Iterable[Frame]] = iter,
    mesh: Any = None,
) -> Solution:
    """Samples in parallel what `sequential` samples step by step, and says how well it agrees.

    model: callable, x (M, ...), t (M,), **condition (M, ...) -> (M, ...), for any number M of rows.
    x: starting noise (B, ...), for example `system.noise(shape, generator)`. method: default `Spectral()`.
    window: rows evaluated at once. tolerance: relative error of the sample, as `FinalError` estimates it; 0 gives the
    sequential sample. Or a criterion: `StepNoise(0.1)` is the paper's. generator: one, or one a sample, of the noise of
    SDE rules (or `noise` (N, B, ...)).
    condition: tensors (B, ...) by name, passed to the model row by row.
    verified: one more round over the whole trajectory (which is then kept) gives `Solution.verification`.
    compare: also run `sequential` on the same noise. max_rounds: stop early, unfinished. watch: wraps the iterator of
    frames as tqdm would. mesh: as `sharded`'s; its ranks all make this call, begin with the first one's numbers, and
    share the rows of each round. Raises ValueError for bad input before any work, NonFiniteError, RankError where a
    rank of a mesh fails, and RuntimeError where a method accepts nothing. Source: Shih et al. 2023.
    """
    if max_rounds is not None and max_rounds < 1:
        raise ValueError(f"max_rounds: given {max_rounds}; needed: at least 1, or None for no limit")
    began = time.perf_counter()
    how = {"window": window, "tolerance": tolerance, "generator": generator, "noise": noise, "condition": condition}
    frames = iterate(model, system, x, method, **how)  # type: ignore[arg-type]
    again = [replica(generator, x.device) for _ in range(2)]  # nothing is drawn before the first frame
    path: list[list[Tensor]] = [[] for _ in x]
    residual, rounds, trace = torch.zeros(len(x)), torch.zeros(len(x), dtype=torch.long), []
    for frame in watch(frames):
        residual, rounds = residual.maximum(frame.residual), rounds + (frame.stride > 0)
        trace.append((int(frame.begin.min()), int(frame.end.max()), frame.evaluate.evals))
        for b, s in enumerate(frame.stride.tolist() if verified else []):
            path[b].append(frame.x[1 : s + 1, b])
        if frame.round == max_rounds:
            break
    done, N, evaluate = frame.begin + frame.stride, len(system), frame.evaluate
    final = frame.x[frame.stride.to(x.device), torch.arange(len(x), device=x.device)]
    verification = comparison = None
    if verified and bool((done == N).all()):
        states = torch.stack([torch.cat([x[b : b + 1].to(final), *p]) for b, p in enumerate(path)], 1)  # (N+1, B, ...)
        final, verification = verify(evaluate, states, Noise(system, final, again[0], noise), window)
    seconds, model_seconds = time.perf_counter() - began, evaluate.seconds
    sharing = evaluate.team.spent if evaluate.team else None
    if compare:
        began = time.perf_counter()
        reference = sequential(model, system, x, generator=again[1], noise=noise, condition=condition)
        comparison = Comparison(reference, time.perf_counter() - began)
    spent = (done, N, rounds, len(trace), trace[-1][2], residual, seconds, model_seconds, tuple(trace))
    return Solution(final, *spent, verification, comparison, evaluate.chunk, sharing)


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
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    system = system.to(x.device, x.dtype)
    evaluate, stream = Evaluator(model, system, condition), Noise(system, x, generator, noise)
    D = x.new_zeros((system.history + 1, *x.shape))
    b = torch.arange(len(x), device=x.device)
    for row in range(len(system)):
        n = torch.full((1, len(x)), row, device=x.device)
        D = torch.cat([D[1:], evaluate(x, n[0], b)[None]])
        x = system.step(x[None], D, stream.rows(n, row, row + 1), n)[0]
    return x


def _start(system: System, x: Tensor, W: int) -> Work:
    """The window before the first round: every state a copy of x (B, ...), nothing evaluated."""
    n = _numbers(torch.zeros(len(x), dtype=torch.long), W, len(system), x)
    D = x.new_zeros((system.history + W, *x.shape))
    return Work(x.expand(W + 1, *x.shape), D, None, n, torch.ones_like(n, dtype=torch.bool), torch.zeros_like(n))


def _move(work: Work, sweep: Sweep, stride: Tensor, last: Tensor, begin: Tensor, end: Tensor, N: int) -> Work:
    """The window moved up by stride (B,) rows to [begin, end); of the old one, `last` (B,) rows lay in the chain."""
    W = len(work.n)
    row = torch.arange(W)[:, None]
    live = (row < end - begin).to(work.n.device)
    seen = torch.where((row < last - stride).to(work.n.device), _slide(work.seen + sweep.live, stride), 0)
    n = _numbers(begin, W, N, work.x)
    return Work(_slide(work.x, stride, last), _slide(work.D, stride), None, n, live, seen)


def _remember(memory: Memory, stride: Tensor) -> Memory:
    """A memory moved up by stride (B,) rows; a tensor (1, B, ...) is of the whole sample, and stays."""
    return tuple(_slide(m, stride) if isinstance(m, Tensor) else m for m in memory)


def _batch(evaluate: Evaluator, work: Work) -> Evaluate:
    """`evaluate` as a method calls it: points (W, B, ...) at some rows of the window, as one batch."""
    W, B = work.n.shape
    b = torch.arange(B, device=work.x.device).expand(W, B)

    def batch(*points: Tensor, live: Tensor | None = None) -> tuple[Tensor, ...]:
        live = work.live if live is None else live & work.live
        n, P = work.n[live], len(points)
        D = evaluate(torch.cat([x[live] for x in points]), n.repeat(P), b[live].repeat(P))
        if bool(live.all()):
            return D.unflatten(0, (P, W, B)).unbind()
        found = tuple(torch.zeros_like(x) for x in points)
        for part, whole in zip(D.chunk(P), found, strict=True):
            whole[live] = part
        return found

    return batch


def _slide(v: Tensor, stride: Tensor, last: Tensor | None = None) -> Tensor:
    """v (R, B, ...) moved up by stride (B,) rows; what would come from beyond `last` (B,) repeats that row."""
    last = torch.full_like(stride, len(v) - 1) if last is None else last
    place = (torch.arange(len(v))[:, None] + stride).minimum(last).to(v.device)
    return v[place, torch.arange(v.shape[1], device=v.device)]


def _numbers(begin: Tensor, W: int, N: int, x: Tensor) -> Tensor:
    """Row numbers n (W, B) of the window; past the chain's end they stay at its last row, where nothing is live."""
    return (torch.arange(W)[:, None] + begin).clamp(max=N - 1).to(x.device)
