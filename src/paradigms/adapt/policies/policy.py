"""A diffusion policy's loop in parallel, in one line:

    with paradigms.parallelize(policy, window=16) as run:
        action = policy.select_action(observation)

While a policy is parallel its `conditional_sample` is an attribute of that one object; its class, its modules and its
state dict stay. The window's rows are flattened into the batch, each with the observation of its sample:

    D[m] = network(x[m], t[n[m]], observation[b[m]])        m = 0..W B - 1, one call

Noise is drawn as the policy's own loop draws it, so one generator gives one action.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...method import AbstractMethod
from ...solve import sample
from ...spectral import Spectral
from ...stop import AbstractStop, FinalError
from ...system import System
from ..pipelines.report import Run
from .inpaint import Kept, inpainted
from .seam import NAME, Ask, Seam, own, randn, seam
from .table import tabled

TOLERANCE = 0.003  # relative error of the actions
MISSING = object()


@dataclass(frozen=True)
class Settings:
    """How a policy runs: method, criterion, rows at once."""

    method: AbstractMethod
    stop: AbstractStop
    window: int


class Parallel:
    """What stands in for a policy's `conditional_sample`: `own`, in parallel."""

    def __init__(self, seam: Seam, settings: Settings, run: Run) -> None:
        self.seam, self.settings, self.run, self.own = seam, settings, run, own(seam.holder)
        functools.update_wrapper(self, self.own)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        began = time.perf_counter()
        refuse_training(self.seam)
        holder, given = self.seam.holder, self.seam.asked(arguments(self.own, args, kwargs))
        system = tabled(holder.noise_scheduler, holder.num_inference_steps, given.step)
        sampled = solved(self.seam, self.settings, self.run, given, system)
        self.run.seconds += time.perf_counter() - began
        return sampled


def arguments(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, those that have none under "kwargs"; raises TypeError as the call would."""
    takes = inspect.signature(function)
    bound = takes.bind(*args, **kwargs)
    bound.apply_defaults()
    rest = next((name for name, p in takes.parameters.items() if p.kind is p.VAR_KEYWORD), None)
    return {**bound.arguments, "kwargs": bound.arguments.pop(rest) if rest else {}}


def solved(seam: Seam, settings: Settings, run: Run, given: Ask, system: System) -> Tensor:
    """The chunk (B, T, A) of one call, and its account in `run`."""
    x, method, condition, keep = given.x, settings.method, dict(given.condition), None
    noise = drawn(system, given)
    if given.mask is not None and given.value is not None:
        keep = inpainted(system, given.mask, given.value.float())
        system, method, x = keep, replace(method, guess=Kept(method.guess)), keep.keep(x)
        condition |= {"mask": given.mask, "value": given.value}

    def model(x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        x = x.to(given.x.dtype)
        if keep is not None:
            x = torch.where(condition.pop("mask"), condition.pop("value"), x)
        return answered(seam, x, t, condition)

    solution = sample(
        model, system, x, method, window=settings.window, tolerance=settings.stop, noise=noise, condition=condition
    )
    run.calls += 1
    run.steps += len(system)
    run.rounds += solution.rounds
    run.evaluations += solution.evals
    run.model_seconds += solution.model_seconds
    run.residual = max(run.residual, float(solution.residual.max()))
    return (keep.keep(solution.x) if keep else solution.x).to(given.x.dtype)


def drawn(system: System, given: Ask) -> Tensor | None:
    """z (N, B, T, A): what the policy's own loop draws after x, in its order and dtype; None where it draws nothing."""
    draws = (system.c != 0).tolist()
    if not any(draws):
        return None
    x = given.x
    return torch.stack(
        [randn(tuple(x.shape), given.generator, x.dtype, x.device) if d else torch.zeros_like(x) for d in draws]
    )


def answered(seam: Seam, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
    """The network's answer; an error in it is told with the shapes that it was given."""
    try:
        return seam.model(x, t, **condition)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError) as error:
        shapes = "".join(f", {name} {tuple(v.shape[1:])}" for name, v in condition.items())
        raise ValueError(
            f"{type(seam.network).__name__}: given, of each row, x {tuple(x.shape[1:])}{shapes}, it failed: {error}; "
            "needed: observations and actions of the shapes that it was made for"
        ) from error


def refuse_training(seam: Seam) -> None:
    """Raises ValueError where the policy or its network is in training mode, in which answers are random."""
    for module in (seam.holder, seam.network):
        if getattr(module, "training", False):
            raise ValueError(
                f"{type(module).__name__} is in training mode, its answers are random; type: policy.eval()"
            )


def enable_parallel_sampling(
    policy: Any,
    method: AbstractMethod | None = None,
    *,
    tolerance: float | AbstractStop = TOLERANCE,
    window: int = 16,
) -> Run:
    """Makes a diffusion policy act in parallel from now on, and gives the report that its calls add to.

    policy: LeRobot's `DiffusionPolicy`, a policy of diffusion_policy, or what has their `conditional_sample`. method:
    default `Spectral()`. tolerance: relative error of a chunk of actions, as `FinalError` estimates it, or a criterion;
    0 gives the policy's own actions. window: steps evaluated at once. Raises ValueError for what is no such policy, a
    scheduler that is no table, a window below 1; a call does for a policy in training mode and for wrong shapes.
    """
    found = seam(policy)
    if found is None:
        raise ValueError(refusal(policy))
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ValueError(f"window: given {window!r}; needed: a whole number of steps, 1 or more")
    stop = tolerance if isinstance(tolerance, AbstractStop) else FinalError(tolerance)
    tabled(found.holder.noise_scheduler, found.holder.num_inference_steps, {})  # refuse early, and read it once
    run = Run()
    found.holder.__dict__[NAME] = Parallel(found, Settings(method or Spectral(), stop, window), run)
    return run


def disable_parallel_sampling(policy: Any) -> None:
    """Makes a policy sample step by step again."""
    found = seam(policy)
    loop = vars(found.holder).get(NAME) if found else None
    if found and isinstance(loop, Parallel):
        put(found.holder, MISSING if is_method(loop.own, found.holder) else loop.own)


@contextlib.contextmanager
def parallelize(policy: Any, method: AbstractMethod | None = None, **how: Any) -> Iterator[Run]:
    """Within it a policy acts in parallel; arguments and errors as `enable_parallel_sampling`'s."""
    found = seam(policy)
    outer = vars(found.holder).get(NAME, MISSING) if found else MISSING
    run = enable_parallel_sampling(policy, method, **how)
    try:
        yield run
    finally:
        if found:
            put(found.holder, outer)


def put(holder: Any, loop: Any) -> None:
    """Sets the attribute of a holder that shadows its class's loop, or takes it away."""
    if loop is MISSING:
        holder.__dict__.pop(NAME, None)
    else:
        holder.__dict__[NAME] = loop


def is_method(loop: Any, holder: Any) -> bool:
    """Whether a loop is the method of the holder's class."""
    return getattr(loop, "__func__", None) is getattr(type(holder), NAME, MISSING)


def refusal(policy: Any) -> str:
    """What a policy would need."""
    return (
        f"{type(policy).__name__}: given no diffusion policy; needed: conditional_sample(batch_size, global_cond, ...) "
        "as LeRobot's DiffusionPolicy has in `diffusion`, or conditional_sample(condition_data, condition_mask, ...) "
        "as diffusion_policy's have, with noise_scheduler, num_inference_steps, and unet or model"
    )
