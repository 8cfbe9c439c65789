"""`sample_loop`: sampling in parallel by a step function of the user's own, which no table describes:

    x[n+1] = step(x[n], model, n)        any function of the state and the model's answers, linear in nothing

as in AlphaFold-3-like structure models (a random rotation and an alignment in each step), self-conditioning (the model
is shown its last answer), correctors, and guidance through the model. The rounds are in `rounds.py`, the runs of its
steps in `runs.py`. A sample whose error may be beyond the tolerance is made again, and in the end step by step, as in
`window/retry.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...checks.problem import check_generator, check_state, check_system
from ...checks.solver import check_solver
from ...execution.model_modules import unfit_for_batches
from ...methods.base import AbstractMethod
from ...methods.spectral import Spectral
from ...noise import Generators
from ...solution import Comparison, Solution
from ...solve import TOLERANCE, criterion_of
from ...stopping.base import AbstractStop
from ...stopping.final_error import DOUBT, FinalError
from ...system import System
from ...validate import check_flag, in_words, named_arguments, refusal
from ...window.auto.controller import powers_of_two, table_kind, window_of
from ...window.auto.profile import round_times
from ...window.controller import FixedWindow, WindowController
from ...window.retry import STRICTER, Retry
from ...window.trace import FrameRecord
from ..pipelines.networks.jacobian import jacobian_of
from .batches import Batches
from .rounds import LoopWindow
from .runs import Loop
from .steps import State, Step

OUTSIDE = 8e-3  # seconds of a round of windows outside of the model, until they are measured
TYPED = "def step(x, model, n): return rule(x, model(x, t[n]), n)"


@named_arguments
def sample_loop(
    model: Callable[..., Tensor],
    step: Step,
    system: System,
    x: Tensor | tuple[Tensor, ...],
    method: AbstractMethod | None = None,
    *,
    window: int | str | WindowController = 32,
    tolerance: float | AbstractStop = TOLERANCE,
    generator: Generators | None = None,
    compare: bool = False,
) -> Solution:
    """Samples with a step of your own, many steps at once; what `for n in range(N): x = step(x, model, n)` gives.

    Args:
        model: Called as `model(x, t, **condition)` with x (M, ...), t (M,) and tensors (M, ...) by name; returns
            (M, ...). Each of the M rows must be answered on its own. An answer may be longer than x along an axis.
        step: Called as `step(x, model, n)`; returns the next state. It calls the model that it is given, once or
            several times, and not the network itself, and depends on nothing but its arguments and on what it draws
            from torch's, NumPy's or Python's random streams or from `generator`. It is called several times for one n.
        system: The table next to your step, N rows, such as `from_levels(None, 1.0, sigmas)`: it says what the model
            predicts, the noise levels, and how an early change travels. A poor one costs rounds; `tolerance` depends on
            it, too, and 0 does not.
        x: The first state (B, ...), or a tuple of such tensors, of which the first is the sample.
        method: What is believed of the model between the states it was asked at, `Spectral()` if None; or
            `ExponentialPicard`, `Picard`, `Jacobi`.
        window: Steps whose calls are one batch. "auto" measures and chooses while it samples, and steps one by one
            where that is faster, as in `sample`.
        tolerance: Relative error of the finished sample, as `FinalError` estimates it, or a stopping rule. 0 is the
            loop's own sample up to rounding.
        generator: What `step` draws from beside torch's, NumPy's and Python's own streams: one, or several.
        compare: Also run the loop step by step, for `Solution.error`.

    Returns:
        The sample and what it cost. `rounds` are batches of the model one after the other.

    Raises:
        ValueError: An argument cannot be used; or a step that is not the same when it runs again, or a model whose
            rows depend on each other, which shows in the first rounds.
        NonFiniteError: The model returned NaN or infinity.

    Source:
        Ours; Abramson et al. 2024, algorithm 18, is such a loop.

    Example:
        >>> import torch, paradigms as pd
        >>> system = pd.edm(40, rule="ddim", sigma_max=10.0)
        >>> sigma = torch.cat([system.sigma, torch.zeros(1)]).float()
        >>> def step(x, model, n):
        ...     turned = x.flip(1)  # no table turns a state
        ...     D = model(turned, sigma[n])
        ...     return D + sigma[n + 1] / sigma[n] * (turned - D)
        >>> def model(x, t):
        ...     return x / (1 + t[:, None] ** 2)
        >>> run = pd.sample_loop(model, step, pd.from_levels(None, 1.0, sigma, prediction="x0"), torch.randn(2, 8) * 10)
        >>> run.converged, run.rounds < 40
        (True, True)
    """
    state = x if isinstance(x, tuple) else (x,)
    check_loop(model, step, system, state, generator)
    check_solver(method, window, tolerance)
    check_flag("compare", compare)
    method = method or Spectral()
    stop = criterion_of(tolerance, method)
    dtype = torch.promote_types(state[0].dtype, torch.float32)
    system = system.to(state[0].device, dtype)
    jacobian_of(method, system, state[0].to(dtype))  # refuses methods that are none of a loop
    loop = Loop(step, system, tuple(v.detach() for v in state), not isinstance(x, tuple), generator)
    began, streams = time.perf_counter(), loop.streams()
    batches = Batches(model)
    found = attempts(loop, batches, method, stop, controller_of(model, loop, method, stop, window))
    found = replace(found, seconds=time.perf_counter() - began, model_seconds=batches.clock.inside)
    if compare:
        after, began = loop.streams(), time.perf_counter()
        streams.restore()
        final = loop.sequential(Batches(model))
        found = replace(found, comparison=Comparison(final[0], time.perf_counter() - began))
        after.restore()
    return found


def check_loop(model: Any, step: Any, system: Any, state: tuple[Any, ...], generator: Any) -> None:
    """Raises ValueError for what is no loop."""
    check_system(system)
    if not state:
        raise refusal("x", "()", "a tensor (batch, ...), or a tuple of them")
    for v in state:
        check_state(v)
    if len({(len(v), v.device) for v in state}) > 1:
        raise refusal("x", in_words(state), "tensors with as many rows each, on one device")
    check_generator(generator, len(generator) if isinstance(generator, list | tuple) else 1)
    if not callable(step) or isinstance(step, type):
        raise refusal("step", in_words(step), "a function of a state, a model and a number", TYPED)
    if not callable(model) or isinstance(model, type):
        raise refusal("model", in_words(model), "a callable x (M, ...), t (M,), **condition (M, ...) -> (M, ...)")
    if why := unfit_for_batches(model):
        raise refusal("model", f"one with {why}", "one that says the same of a row whatever the batch", "model.eval()")


class Attempt(NamedTuple):
    """One pass: the state after it, what is kept of its rounds, what is known of its error, why calls were alone."""

    final: State
    records: tuple[FrameRecord, ...]
    estimate: Tensor | None = None
    finest: float = 0.0
    reason: str | None = None


def controller_of(
    model: Any, loop: Loop, method: AbstractMethod, stop: AbstractStop, window: int | str | WindowController
) -> WindowController:
    """The window of a call; "auto" remembers a model's and a step's seconds, and a table's rounds."""
    if not isinstance(window, str):
        return FixedWindow(min(window, len(loop.system))) if isinstance(window, int) else window
    x, N = loop.state[0], len(loop.system)
    step = getattr(loop.step, "__code__", type(loop.step))
    known = round_times(model, x, (step, torch.get_num_threads(), type(method)), guess=OUTSIDE)
    chain = type(stop), table_kind(loop.system), N
    return window_of(known, chain, N, stop.tolerance, powers_of_two(N, x.nbytes), x.nbytes)


def attempts(
    loop: Loop, batches: Batches, method: AbstractMethod, stop: AbstractStop, controller: WindowController
) -> Solution:
    """The sample, made again more strictly, and then step by step, where its error may be beyond the tolerance."""
    streams, retries = loop.streams(), list[Retry]()

    def attempt(each: AbstractStop | None) -> Attempt:
        streams.restore()
        return stepped(loop, batches) if each is None else windowed(loop, batches, method, each, windows)

    windows = controller
    first = last = attempt(None if controller.only == 1 else stop)
    windows = FixedWindow(max(2, *(each.window for each in first.records)))
    asked = max(stop.tolerance, first.finest)
    finer = [replace(stop, tolerance=asked / STRICTER)] if isinstance(stop, FinalError) else []
    for each in (*(f for f in finer if f.tolerance >= first.finest), None):
        if last.estimate is None or not bool((last.estimate > DOUBT * asked).any()):
            break
        last = attempt(each)
        everyone = tuple(range(len(loop.state[0])))
        retries.append(Retry(everyone, 0.0 if each is None else each.tolerance, last.records))
    if retries and last.estimate is None:
        last = last._replace(estimate=torch.zeros(len(loop.state[0])))
    return Solution(
        last.final[0], len(loop.system), first.records, 0.0, 0.0, retries=tuple(retries), estimate=last.estimate,
        tolerance=asked, chunk=batches.room.most, reason=first.reason or controller.reason(),
        expected=controller.expected(),
    )  # fmt: skip


def stepped(loop: Loop, batches: Batches) -> Attempt:
    """The loop as it is, step by step."""
    B, N, asked, calls = len(loop.state[0]), len(loop.system), batches.evaluations, batches.batches
    final = loop.sequential(batches)
    record = FrameRecord([0] * B, [N] * B, [0.0] * B, N, batches.evaluations - asked, 1, batches.batches - calls)
    return Attempt(final, (record,))


def windowed(
    loop: Loop, batches: Batches, method: AbstractMethod, stop: AbstractStop, controller: WindowController
) -> Attempt:
    """The loop in windows."""
    run = LoopWindow(loop, batches, method, stop, controller)
    final, reason = run.run(), None
    if run.runs.alone > len(loop.system) / 2:
        reason = "the calls of its steps differ in form from step to step, so that none stands in for the next"
    return Attempt(final, tuple(run.runs.records), run.accept.estimate, run.accept.finest, reason)
