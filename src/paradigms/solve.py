"""Sampling in parallel, and the sequential sampler, the reference of everything.

`iterate` is the rounds one by one, see `window/loop.py`; `sample` runs through them and gives an account.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .checks.solver import check_account, check_solver, watched
from .execution.chunked import Model
from .execution.mesh import over_mesh
from .execution.torch_modes import isolated
from .methods.base import AbstractMethod
from .methods.spectral import Spectral
from .noise import Generators, Noise
from .problem import Problem
from .solution import Comparison, Solution
from .stopping.base import AbstractStop
from .stopping.final_error import TOLERANCE as TOLERANCE
from .stopping.final_error import FinalError
from .stopping.rounding import finest
from .system import System
from .validate import named
from .window.attempt import Attempt, attempt
from .window.auto.controller import auto
from .window.chain import UNLIMITED, Chain
from .window.controller import AbstractPace, Fixed, Yielding
from .window.frame import Frame
from .window.loop import frames
from .window.retry import Retry, retried
from .window.steps import sequential_sample
from .window.trace import Told
from .window.verify import verify

LEAST = 32  # rows of a call that verifies, at least
DEFAULT, USUAL = Spectral(), FinalError()


@named
@isolated
@over_mesh
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
    key: Hashable | None = None,
    mesh: Any = None,
) -> Iterator[Frame]:
    """The rounds of one parallel sampling from x (B, ...), each a `Frame`; arguments as `sample`'s."""
    problem = Problem(model, system, x, generator, noise, condition)
    return frames(open_chain(problem, method, window, tolerance, key))


def criterion(tolerance: float | AbstractStop, method: AbstractMethod) -> AbstractStop:
    """The criterion of a tolerance; a `FinalError` without a grid takes that of a `Spectral`. Raises ValueError."""
    if method is DEFAULT and tolerance == TOLERANCE:
        return USUAL
    stop = tolerance if isinstance(tolerance, AbstractStop) else FinalError(tolerance)
    grid = method.grid if isinstance(method, Spectral) else None
    return replace(stop, grid=grid) if grid is not None and isinstance(stop, FinalError) and stop.grid is None else stop


@named
@isolated
@over_mesh
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
    key: Hashable | None = None,
    mesh: Any = None,
) -> Solution:
    """Samples in parallel what `sequential` samples step by step, and says how well it agrees.

    model: callable, x (M, ...), t (M,), **condition (M, ...) -> (M, ...), M rows each by itself, see `assume.py`.
    x: starting noise (B, ...), for example `system.noise(shape, generator)`. method: default `Spectral()`.
    window: rows evaluated at once; "auto" picks, as it goes, what finishes soonest, stepping included, see `auto.py`,
    so that within the tolerance a sample depends on how fast the machine is; a number does not.
    tolerance: relative error of the sample, as `FinalError` estimates it; 0 gives the sequential sample to rounding,
    and window=1 bit for bit; `Speculation` alone gives another sample of the same law whatever it is. Or a criterion:
    `StepNoise(0.1)` is the paper's. generator: one, or one a sample, of the noise of SDE rules (or `noise`
    (N, B, ...)). condition: tensors (B, ...) by name, passed to the model row by row.
    verified: one more round over the whole trajectory (which is then kept) gives `Solution.verification`.
    compare: also run `sequential` on the same noise. max_rounds: stop early, unfinished. watch: wraps the iterator of
    frames as tqdm would. key: what "auto" remembers a model by that is made anew in every call. mesh: as `sharded`'s;
    its ranks all make this call, begin with the first one's numbers, and share the rows of each round. Raises
    ValueError for bad input before any work, NonFiniteError, RankError where a rank of a mesh fails, and RuntimeError
    where a method accepts nothing. Source: Shih et al. 2023.
    """
    problem = Problem(model, system, x, generator, noise, condition)
    check_account(verified, compare, max_rounds, watch)
    began = time.perf_counter()
    reference = problem.replica()  # draws what the call is about to draw, once more
    chain = open_chain(problem, method, window, tolerance, key)
    chain = replace(chain, limit=max_rounds or UNLIMITED, keep=verified or watch is not iter)

    def noise_again() -> Noise:
        return reference.replica().stream()

    run, retries = _run(chain, lambda shown: watched(watch, shown), verified, noise_again)
    verification = comparison = None
    if verified and all(sum(map(len, p)) == len(system) + 1 for p in run.path):
        states = torch.stack([torch.cat(p) for p in run.path], 1)  # (N + 1, B, ...)
        run.final, verification = verify(chain.evaluate, states, noise_again(), widest(run))
    seconds = time.perf_counter() - began
    sharing = chain.evaluate.team.spent if chain.evaluate.team else None
    if compare:
        began = time.perf_counter()
        sample_ = sequential_sample(reference.evaluator(), reference.stream())
        comparison = Comparison(sample_, time.perf_counter() - began)
    rounding = chain.evaluate.rounding
    return Solution(
        x=run.final,
        rows=len(system),
        told=tuple(run.told),
        seconds=seconds,
        model_seconds=chain.evaluate.seconds,
        verification=verification,
        comparison=comparison,
        chunk=chain.evaluate.chunk,
        sharing=sharing,
        retries=retries,
        estimate=run.estimate,
        tolerance=None if chain.method.law else max(chain.stop.tolerance, finest(run.final.dtype, rounding)),
        reason=chain.pace.reason(),
        expected=chain.pace.expected(),
    )


def _run(
    chain: Chain, watch: Callable[[Iterator[Frame]], Iterable[Frame]], path: bool, noise: Callable[[], Noise]
) -> tuple[Attempt, tuple[Retry, ...]]:
    """The samples, and what was made again; a run that somebody stops early is left as it is."""
    N, B = len(chain), len(chain.stream.x)
    if chain.pace.only == 1 and not chain.keep and chain.limit >= N:  # nobody watches a step
        final = sequential_sample(chain.evaluate, chain.stream)
        return Attempt(final, [Told([0] * B, [N] * B, [0.0] * B, N, chain.evaluate.evals, 1, N)], None, []), ()
    limit = None if chain.limit == UNLIMITED else chain.limit
    run = attempt(watch(frames(chain)), chain.stream.x, path, limit)
    last = run.told[-1]
    unfinished = any(n + k < N for n, k in zip(last.begin, last.stride, strict=True))
    if limit is not None or unfinished or run.estimate is None:
        return run, ()
    return run, retried(chain, run, max(each.window for each in run.told), noise)


def widest(run: Attempt) -> int:
    """The rows of a call that verifies: as many as the widest window had, for the device had room for them."""
    return max(LEAST, *(each.window for each in run.told))


@named
@isolated
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
    problem = Problem(model, system, x, generator, noise, condition)
    return sequential_sample(problem.evaluator(), problem.stream())


def open_chain(
    problem: Problem,
    method: AbstractMethod | None = None,
    window: int | str | AbstractPace = "auto",
    tolerance: float | AbstractStop = TOLERANCE,
    key: Hashable | None = None,
) -> Chain:
    """A problem, and how `sample` solves it. Raises ValueError for a method or criterion that is not for its states."""
    check_solver(method, window, tolerance, key)
    method = method or DEFAULT
    stop = criterion(tolerance, method)
    method.check(problem.x)
    stop.check(problem.x)
    method = method.held_to(stop.tolerance)
    evaluate, stream = problem.evaluator(), problem.stream()
    evaluate.assumed.steps = window == 1 or getattr(window, "only", 0) == 1
    if isinstance(window, str):
        window = auto(evaluate, stream.x, method, stop, key)
    elif isinstance(window, int):
        window = Fixed(window) if window == 1 or method.steady else Yielding(window)
    return Chain(evaluate, stream, method, stop, window)
