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

from .execution.chunked import Model
from .execution.evaluate import Evaluator
from .execution.mesh import over_mesh
from .execution.torch_modes import isolated
from .methods.base import AbstractMethod
from .methods.spectral import Spectral
from .noise import Generators, Noise, replica
from .problem import check_account, check_call, watched
from .solution import Comparison, Solution, verify
from .stopping.criteria import AbstractStop, FinalError
from .stopping.rounding import finest
from .system import System
from .validate import named
from .window.auto.controller import auto
from .window.auto.model_key import check_key
from .window.controller import AbstractPace, Fixed
from .window.frame import Frame
from .window.loop import Chain, frames, through
from .window.retry import Attempt, Retry, attempt, retried
from .window.trace import Told

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
    """Yields the rounds of one parallel sampling, for progress bars, plots, or stopping early.

    Args:
        model, system, x, method, window, tolerance, generator, noise, condition, key, mesh: As in `sample`.

    Returns:
        An iterator of `Frame`, one a round. The last frame's `last` (B, ...) is the sample.

    Raises:
        ValueError: An argument cannot be used. Checked before any work.
        NonFiniteError: The model returned NaN or infinity.

    Example:
        >>> import torch, paradigms as pd
        >>> system = pd.ddim(pd.linear(), steps=20)
        >>> x = system.noise((1, 4), torch.Generator().manual_seed(0))
        >>> [frame.round for frame in pd.iterate(lambda x, t: 0.1 * x, system, x, window=20)][:2]
        [1, 2]
    """
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
    """Samples in parallel what `sequential` samples step by step, and reports how well the two agree.

    Args:
        model: Called as `model(x, t, **condition)` with x (M, ...) and t (M,); returns a tensor like x. Each of the M
            batch entries must be answered on its own, see "Your model" in the documentation.
        system: The sampler, N steps; for example `ddim(linear(), 50)`.
        x: Starting noise (B, ...), for example `system.noise(shape, generator)`.
        method: How states are corrected after each batch; `Spectral()` if None.
        window: Steps evaluated at once. "auto" measures and chooses while it samples, and steps one by one where that
            is faster; the sample then depends, within the tolerance, on the speed of the machine.
        tolerance: Relative error of the finished sample, as `FinalError` estimates it. 0 is the sequential sample up to
            rounding. Or a stopping rule, such as `StepNoise(0.1)`, the paper's.
        generator: Source of the noise of SDE rules: one generator, or a list of one for each sample.
        noise: That noise itself, (N, B, ...), in place of a generator.
        condition: Tensors (B, ...) by name. The model gets, by the same names, one entry for each of its M.
        verified: Evaluate the finished trajectory once more, for `Solution.verification`. Keeps all states.
        compare: Also run `sequential` on the same noise, for `Solution.error`.
        max_rounds: Stop after so many rounds, finished or not.
        watch: Wraps the iterator of frames, as `tqdm.tqdm` does.
        key: What "auto" remembers a model by that is a new object in each call.
        mesh: Ranks that share each batch, as in `sharded`. All of them must make the same call.

    Returns:
        The samples and what they cost, a `Solution`.

    Raises:
        ValueError: An argument cannot be used. Checked before any work.
        NonFiniteError: The model returned NaN or infinity.
        RankError: A rank of the mesh failed.
        RuntimeError: The method accepted no step.

    Source:
        Shih et al. 2023, algorithm 1.

    Example:
        >>> import torch, paradigms as pd
        >>> system = pd.ddim(pd.linear(), steps=50)
        >>> x = system.noise((2, 3, 8, 8), torch.Generator().manual_seed(0))
        >>> run = pd.sample(lambda x, t: 0.1 * x, system, x, window=16, compare=True)
        >>> run.converged, run.rounds < len(system), run.max_error < 0.003
        (True, True, True)
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
    return run, retried(chain, run, max(each.window for each in run.told), noise)


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
    """Samples one step after the other: the result that all others are compared with.

    Args:
        model, system, x, generator, noise, condition: As in `sample`.

    Returns:
        The sample (B, ...).

    Raises:
        ValueError: An argument cannot be used. Checked before any work.
        NonFiniteError: The model returned NaN or infinity.

    Example:
        >>> import torch, paradigms as pd
        >>> system = pd.ddim(pd.linear(), steps=20)
        >>> pd.sequential(lambda x, t: 0.1 * x, system, system.noise((2, 3, 8, 8))).shape
        torch.Size([2, 3, 8, 8])
    """
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
