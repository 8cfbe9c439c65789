"""Sampling in parallel, `iterate` and `sample`, and the sequential sampler that every result is compared with.

`iterate` gives the rounds one by one, see `window/loop.py`; `sample` runs through them and returns a `Solution`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from operator import add
from typing import Any

import torch
from torch import Tensor

from .checks.solver import check_account, check_solver, watched_frames
from .execution.chunked import Model
from .execution.mesh import run_on_mesh
from .execution.torch_modes import isolated_from_torch_modes
from .methods.base import AbstractMethod
from .methods.spectral import Spectral
from .noise import Generators, Noise
from .problem import Problem
from .skeleton import Skeleton, check_skeleton, frames
from .solution import Comparison, Solution
from .stopping.base import AbstractStop
from .stopping.final_error import TOLERANCE as TOLERANCE
from .stopping.final_error import FinalError
from .stopping.rounding import finest_tolerance
from .system import System
from .validate import named_arguments
from .window.auto.controller import auto_window
from .window.chain import UNLIMITED, Chain, RunOutcome, run_frames
from .window.controller import FixedWindow, WindowController, YieldingWindow
from .window.frame import Frame
from .window.retry import Retry, retry_doubtful
from .window.steps import sequential_sample
from .window.trace import FrameRecord
from .window.verify import verify_trajectory

# The largest window in rows, more than any chain has; a larger one is taken as this one.
LARGEST_WINDOW = 2**31
# A call of the model that verifies has this many rows or more, however small the windows were. Chosen by hand.
LEAST_VERIFIED_ROWS = 32
# The method of a call that names none, made once.
DEFAULT_METHOD = Spectral()
# The stopping rule of a call that names no method, tolerance or rule, made once.
DEFAULT_STOP = FinalError()


@named_arguments
@isolated_from_torch_modes
@run_on_mesh
def iterate(
    model: Model,
    system: System,
    x: Tensor,
    method: AbstractMethod | None = None,
    *,
    window: int | str | WindowController = "auto",
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
    problem = Problem(model, system, x, generator, noise, condition)
    return checked_frames(open_chain(problem, method, window, tolerance, key))


def checked_frames(chain: Chain) -> Iterator[Frame]:
    """The frames; before the last one the model is asked once more, for a state may have begun in it."""
    for frame in frames(chain):
        record = frame.record
        if min(map(add, record.begin, record.stride)) >= len(chain):
            chain.evaluate.check_again()
        yield frame


def criterion_of(tolerance: float | AbstractStop, method: AbstractMethod) -> AbstractStop:
    """The criterion of a tolerance; a `FinalError` without a grid takes that of a `Spectral`. Raises ValueError."""
    if method is DEFAULT_METHOD and tolerance == TOLERANCE:
        return DEFAULT_STOP
    stop = tolerance if isinstance(tolerance, AbstractStop) else FinalError(tolerance)
    grid = method.grid if isinstance(method, Spectral | Skeleton) else None
    return replace(stop, grid=grid) if grid is not None and isinstance(stop, FinalError) and stop.grid is None else stop


@named_arguments
@isolated_from_torch_modes
@run_on_mesh
def sample(
    model: Model,
    system: System,
    x: Tensor,
    method: AbstractMethod | None = None,
    *,
    window: int | str | WindowController = "auto",
    tolerance: float | AbstractStop = TOLERANCE,
    generator: Generators | None = None,
    noise: Tensor | None = None,
    condition: Mapping[str, Tensor] | None = None,
    verify: bool = False,
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
            rounding, and window=1 bit for bit; `Speculation` gives another sample of the same law whatever it is. Or a
            stopping rule, such as `StepNoise(0.1)`, the paper's.
        generator: Source of the noise of SDE rules: one generator, or a list of one for each sample.
        noise: That noise itself, (N, B, ...), in place of a generator.
        condition: Tensors (B, ...) by name. The model gets, by the same names, one entry for each of its M.
        verify: Evaluate the finished trajectory once more, for `Solution.verification`. Keeps all states.
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
    problem = Problem(model, system, x, generator, noise, condition)
    check_account(verify, compare, max_rounds, watch)
    began = time.perf_counter()
    reference = problem.replica()  # draws what the call is about to draw, once more
    chain = open_chain(problem, method, window, tolerance, key)
    chain = replace(chain, limit=max_rounds or UNLIMITED, keep=verify or watch is not iter)
    if compare or verify:  # both draw the noise once more
        chain.evaluate.reserved = problem.stream().sources

    def noise_again() -> Noise:
        return reference.replica().stream()

    run, retries = _run(chain, lambda shown: watched_frames(watch, shown), verify, noise_again)
    verification = comparison = None
    if verify and all(sum(map(len, p)) == len(system) + 1 for p in run.path):
        states = torch.stack([torch.cat(p) for p in run.path], 1)  # (N + 1, B, ...)
        run.final, verification = verify_trajectory(chain.evaluate, states, noise_again(), widest_window(run))
    chain.evaluate.check_again()
    seconds = time.perf_counter() - began
    sharing = chain.evaluate.team.spent if chain.evaluate.team else None
    if compare:
        began = time.perf_counter()
        sample_ = sequential_sample(reference.evaluator(), reference.stream())
        comparison = Comparison(sample_, time.perf_counter() - began)
    rounding = chain.evaluate.rounding
    return Solution(
        x=run.final,
        steps=len(system),
        records=tuple(run.records),
        seconds=seconds,
        model_seconds=chain.evaluate.seconds,
        verification=verification,
        comparison=comparison,
        chunk=chain.evaluate.chunk,
        sharing=sharing,
        retries=retries,
        estimate=run.estimate,
        tolerance=None if chain.method.law else max(chain.stop.tolerance, finest_tolerance(run.final.dtype, rounding)),
        reason=chain.controller.reason(),
        expected=chain.controller.expected(),
    )


def _run(
    chain: Chain, watch: Callable[[Iterator[Frame]], Iterable[Frame]], path: bool, noise: Callable[[], Noise]
) -> tuple[RunOutcome, tuple[Retry, ...]]:
    """The samples, and what was made again; a run that somebody stops early is left as it is."""
    N, B = len(chain), len(chain.stream.x)
    if chain.controller.only == 1 and not chain.keep and chain.limit >= N:  # nobody watches a step
        final = sequential_sample(chain.evaluate, chain.stream)
        return RunOutcome(
            final, [FrameRecord([0] * B, [N] * B, [0.0] * B, N, chain.evaluate.evaluations, 1, N)], None, []
        ), ()
    limit = None if chain.limit == UNLIMITED else chain.limit
    run = run_frames(watch(frames(chain)), chain.stream.x, path, limit)
    last = run.records[-1]
    unfinished = any(n + k < N for n, k in zip(last.begin, last.stride, strict=True))
    if limit is not None or unfinished or run.estimate is None:
        return run, ()
    nodes = isinstance(chain.method, Skeleton)
    windows = replace(chain, method=chain.method.windowed()) if isinstance(chain.method, Skeleton) else chain
    return run, retry_doubtful(windows, run, max(each.window for each in run.records), noise, given_up=nodes)


def widest_window(run: RunOutcome) -> int:
    """The rows of a call that verifies: as many as the widest window had, for the device had room for them."""
    return max(LEAST_VERIFIED_ROWS, *(each.window for each in run.records))


@named_arguments
@isolated_from_torch_modes
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
    problem = Problem(model, system, x, generator, noise, condition)
    return sequential_sample(problem.evaluator(), problem.stream())


def open_chain(
    problem: Problem,
    method: AbstractMethod | None = None,
    window: int | str | WindowController = "auto",
    tolerance: float | AbstractStop = TOLERANCE,
    key: Hashable | None = None,
) -> Chain:
    """A problem, and how `sample` solves it. Raises ValueError for a method or criterion that is not for its states."""
    check_solver(method, window, tolerance, key)
    method = method or DEFAULT_METHOD
    stop = criterion_of(tolerance, method)
    method.check(problem.x)
    stop.check(problem.x)
    method = method.held_to(stop.tolerance)
    if isinstance(method, Skeleton):
        check_skeleton(problem.system, stop, window)
    evaluate, stream = problem.evaluator(), problem.stream()
    allowed = window != 1 and getattr(window, "only", 0) != 1  # windows, in this call or in one that "auto" makes later
    if isinstance(window, str):
        window = auto_window(evaluate, stream.x, method, stop, key)
    elif isinstance(window, int):
        window = min(window, LARGEST_WINDOW)
        window = FixedWindow(window) if window == 1 or method.steady else YieldingWindow(window)
    evaluate.assumed.steps = not allowed
    if window.only != 1:
        evaluate.assumed.record.begin_call()
    if allowed and not evaluate.assumed.record.vouched:
        evaluate.reserved = stream.sources
    return Chain(evaluate, stream, method, stop, window)
