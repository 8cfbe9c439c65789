"""Sampling in parallel, and the sequential sampler, the reference of everything.

`iterate` is the rounds one by one, see `rounds.py`; `sample` runs through them and gives an account.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .ambient import isolated
from .auto import auto
from .check import check_account, check_call, watched
from .execute import Evaluator, Model
from .frame import Frame
from .given import named
from .identity import check_key
from .method import AbstractMethod
from .noise import Generators, Noise, replica
from .over import over_mesh
from .pace import AbstractPace, Fixed
from .precision import finest
from .retry import Attempt, Retry, attempt, retried
from .rounds import Chain, through
from .skeleton import Skeleton, check_skeleton, frames
from .solution import Comparison, Solution, verify
from .spectral import Spectral
from .stop import AbstractStop, FinalError
from .system import System
from .trace import Told

TOLERANCE = 0.003  # relative error of the finished sample
DEFAULT, USUAL = Spectral(), FinalError(TOLERANCE)


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
    given = {"generator": generator, "noise": noise, "condition": condition}
    check_call(model, system, x, method, window=window, tolerance=tolerance, **given)
    method = method or DEFAULT
    stop = criterion(tolerance, method)
    return frames(_chain(model, system, x, method, window, stop, generator, noise, condition, key))


def criterion(tolerance: float | AbstractStop, method: AbstractMethod) -> AbstractStop:
    """The criterion of a tolerance; a `FinalError` without a grid takes that of a `Spectral`. Raises ValueError."""
    if method is DEFAULT and tolerance == TOLERANCE:
        return USUAL
    stop = tolerance if isinstance(tolerance, AbstractStop) else FinalError(tolerance)
    grid = method.grid if isinstance(method, Spectral | Skeleton) else None
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
    and window=1 bit for bit. Or a criterion: `StepNoise(0.1)` is the paper's. generator: one, or one a sample, of the
    noise of SDE rules (or `noise` (N, B, ...)). condition: tensors (B, ...) by name, passed to the model row by row.
    verified: one more round over the whole trajectory (which is then kept) gives `Solution.verification`.
    compare: also run `sequential` on the same noise. max_rounds: stop early, unfinished. watch: wraps the iterator of
    frames as tqdm would. key: what "auto" remembers a model by that is made anew in every call. mesh: as `sharded`'s;
    its ranks all make this call, begin with the first one's numbers, and share the rows of each round. Raises
    ValueError for bad input before any work, NonFiniteError, RankError where a rank of a mesh fails, and RuntimeError
    where a method accepts nothing. Source: Shih et al. 2023.
    """
    given = {"generator": generator, "noise": noise, "condition": condition}
    check_call(model, system, x, method, window=window, tolerance=tolerance, **given)
    check_account(verified, compare, max_rounds, watch)
    began = time.perf_counter()
    method, limit = method or DEFAULT, max_rounds or 1 << 62
    stop = criterion(tolerance, method)
    N, keep = len(system), verified or watch is not iter
    chain = _chain(model, system, x, method, window, stop, generator, noise, condition, key, limit, keep)
    evaluate = chain.evaluate
    again = None if noise is not None else replica(generator, x.device)  # what nothing was drawn from yet

    def noise_again() -> Noise:
        return Noise(evaluate.system, chain.stream.x, replica(again, x.device) if again is not None else None, noise)

    run, retries = _run(chain, lambda shown: watched(watch, shown), verified, max_rounds, noise_again)
    final, told = run.final, run.told
    verification = comparison = None
    if verified and all(sum(map(len, p)) == N + 1 for p in run.path):
        whole = torch.stack([torch.cat(p) for p in run.path], 1)  # (N + 1, B, ...)
        widest = max(32, *(each.window for each in told))
        final, verification = verify(evaluate, whole, noise_again(), widest)
    seconds, model_seconds = time.perf_counter() - began, evaluate.seconds
    sharing = evaluate.team.spent if evaluate.team else None
    if compare:
        began = time.perf_counter()
        reference = sequential(model, system, x, generator=again, noise=noise, condition=condition)
        comparison = Comparison(reference, time.perf_counter() - began)
    spent = seconds, model_seconds, verification, comparison, evaluate.chunk, sharing
    reached = max(stop.tolerance, finest(final.dtype, evaluate.rounding))
    return Solution(
        final, N, tuple(told), *spent, retries, run.estimate, reached, chain.pace.reason(), chain.pace.expected()
    )


def _run(
    chain: Chain,
    watch: Callable[[Iterator[Frame]], Iterable[Frame]],
    path: bool,
    max_rounds: int | None,
    noise: Callable[[], Noise],
) -> tuple[Attempt, tuple[Retry, ...]]:
    """The samples, and what was made again; a run that somebody stops early is left as it is."""
    N, B = len(chain.system), len(chain.stream.x)
    if chain.pace.only == 1 and not chain.keep and chain.limit >= N:  # nobody watches a step
        final = through(chain.evaluate, chain.stream)
        return Attempt(final, [Told([0] * B, [N] * B, [0.0] * B, N, chain.evaluate.evals, 1, N)], None, []), ()
    run = attempt(watch(frames(chain)), chain.stream.x, path, max_rounds)
    last = run.told[-1]
    if max_rounds is not None or any(n + k < N for n, k in zip(last.begin, last.stride, strict=True)):
        return run, ()
    windows = chain._replace(method=chain.method.windowed()) if isinstance(chain.method, Skeleton) else chain
    return run, retried(windows, run, max(each.window for each in run.told), noise)


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
    check_call(model, system, x, generator=generator, noise=noise, condition=condition)
    return through(*_problem(model, system, x, generator, noise, condition))


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
    key: Hashable | None = None,
    limit: int = 1 << 62,
    keep: bool = True,
) -> Chain:
    method.check(x)
    method = method.held_to(stop.tolerance)
    stop.check(x)
    if isinstance(method, Skeleton):
        check_skeleton(method, stop, window)
    check_key(key)
    evaluate, stream = _problem(model, system, x, generator, noise, condition)
    if isinstance(window, str):
        window = auto(evaluate, stream.x, method, stop, key)
    pace = Fixed(window) if isinstance(window, int) else window
    return Chain(evaluate.system, evaluate, stream, method, stop, pace, limit, keep)


def _problem(
    model: Model,
    system: System,
    x: Tensor,
    generator: Generators | None,
    noise: Tensor | None,
    condition: Mapping[str, Tensor] | None,
) -> tuple[Evaluator, Noise]:
    """The denoiser and the noise, on the states' device and in float32 or better."""
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    system = system.to(x.device, x.dtype)
    return Evaluator(model, system, condition), Noise(system, x, generator, noise)
