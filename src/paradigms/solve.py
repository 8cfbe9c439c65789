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

from .auto import auto
from .check import check_problem
from .execute import Evaluator, Model
from .frame import Frame
from .identity import check_key
from .method import AbstractMethod
from .noise import Generators, Noise, replica
from .over import over_mesh
from .pace import AbstractPace, Fixed
from .rounds import Chain, frames, through
from .solution import Comparison, Solution, verify
from .spectral import Spectral
from .stop import AbstractStop, FinalError
from .system import System
from .trace import Told

TOLERANCE = 0.003  # relative error of the finished sample
DEFAULT, USUAL = Spectral(), FinalError(TOLERANCE)


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
    check_problem(system, x, window, generator, noise, condition)
    method = method or DEFAULT
    stop = criterion(tolerance, method)
    return frames(_chain(model, system, x, method, window, stop, generator, noise, condition, key))


def criterion(tolerance: float | AbstractStop, method: AbstractMethod) -> AbstractStop:
    """The criterion of a tolerance; a `FinalError` without a grid takes that of a `Spectral`. Raises ValueError."""
    if method is DEFAULT and tolerance == TOLERANCE:
        return USUAL
    stop = tolerance if isinstance(tolerance, AbstractStop) else FinalError(tolerance)
    grid = method.grid if isinstance(method, Spectral) else None
    return replace(stop, grid=grid) if grid is not None and isinstance(stop, FinalError) and stop.grid is None else stop


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

    model: callable, x (M, ...), t (M,), **condition (M, ...) -> (M, ...), for any number M of rows.
    x: starting noise (B, ...), for example `system.noise(shape, generator)`. method: default `Spectral()`.
    window: rows evaluated at once; "auto" picks, as it goes, what finishes soonest, stepping included, see `auto.py`,
    so that within the tolerance a sample depends on how fast the machine is; a number does not.
    tolerance: relative error of the sample, as `FinalError` estimates it; 0 gives the sequential sample. Or a
    criterion: `StepNoise(0.1)` is the paper's. generator: one, or one a sample, of the noise of SDE rules (or `noise`
    (N, B, ...)). condition: tensors (B, ...) by name, passed to the model row by row.
    verified: one more round over the whole trajectory (which is then kept) gives `Solution.verification`.
    compare: also run `sequential` on the same noise. max_rounds: stop early, unfinished. watch: wraps the iterator of
    frames as tqdm would. key: what "auto" remembers a model by that is made anew in every call. mesh: as `sharded`'s;
    its ranks all make this call, begin with the first one's numbers, and share the rows of each round. Raises
    ValueError for bad input before any work, NonFiniteError, RankError where a rank of a mesh fails, and RuntimeError
    where a method accepts nothing. Source: Shih et al. 2023.
    """
    if max_rounds is not None and max_rounds < 1:
        raise ValueError(f"max_rounds: given {max_rounds}; needed: at least 1, or None for no limit")
    began = time.perf_counter()
    check_problem(system, x, window, generator, noise, condition)
    method, limit = method or DEFAULT, max_rounds or 1 << 62
    stop = criterion(tolerance, method)
    N, B, keep = len(system), len(x), verified or watch is not iter
    chain = _chain(model, system, x, method, window, stop, generator, noise, condition, key, limit, keep)
    evaluate = chain.evaluate
    again = [replica(generator, x.device) for _ in range(2)] if verified or compare else []  # nothing was drawn yet
    path: list[list[Tensor]] = [[] for _ in x] if verified else []
    told: list[Told] = []
    if chain.pace.only == 1 and not keep and limit >= N:  # nobody looks at a step
        final = through(evaluate, chain.stream)
        told.append(Told([0] * B, [N] * B, [0.0] * B, N, evaluate.evals, 1, N))
    else:
        for frame in watch(frames(chain)):
            told.append(frame.told)
            for b, states in enumerate(path):
                states.append(frame.x[1 : told[-1].stride[b] + 1, b])
            if frame.round == max_rounds:
                break
        final = frame.last
    verification = comparison = None
    if verified and all(sum(map(len, p)) == N for p in path):
        whole = torch.stack([torch.cat([x[b : b + 1].to(final), *p]) for b, p in enumerate(path)], 1)  # (N+1, B, ...)
        widest = max(32, *(each.window for each in told))
        final, verification = verify(evaluate, whole, Noise(system, final, again[0], noise), widest)
    seconds, spent = time.perf_counter() - began, (evaluate.seconds, evaluate.team.spent if evaluate.team else None)
    if compare:
        began = time.perf_counter()
        reference = sequential(model, system, x, generator=again[1], noise=noise, condition=condition)
        comparison = Comparison(reference, time.perf_counter() - began)
    why = chain.pace.reason(), chain.pace.expected()
    return Solution(final, N, tuple(told), seconds, spent[0], verification, comparison, evaluate.chunk, spent[1], *why)


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
    stop.check(x)
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
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    system = system.to(x.device, x.dtype)
    return Evaluator(model, system, condition), Noise(system, x, generator, noise)
