"""A diffusion policy's loop in parallel, in one line:

    with paradigms.parallelize(policy, window=16) as run:
        action = policy.select_action(observation)

While a policy is parallel its `conditional_sample` is an attribute of that one object; its class, its modules and its
state dict stay. Noise is drawn as the policy's own loop draws it, so one generator gives one action.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...check import check_window
from ...method import AbstractMethod
from ...pace import AbstractPace
from ...spectral import Spectral
from ...stop import AbstractStop, FinalError
from ..pipelines.report import Run
from .call import Network, Settings, account, named, refuse_training, solved, told
from .rest import Rest, rest
from .seam import NAME, Seam, own, seam
from .table import tabled
from .warm import Memory, several

TOLERANCE = 0.01  # relative error of the actions
MISSING = object()


class Parallel:
    """What stands in for a policy's `conditional_sample`: `own`, in parallel."""

    def __init__(self, seam: Seam, settings: Settings, run: Run) -> None:
        self.seam, self.settings, self.run, self.own = seam, settings, run, own(seam.holder)
        self.model = Network(seam)
        self.memory: Memory | None = None
        functools.update_wrapper(self, self.own)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        began = time.perf_counter()
        refuse_training(self.seam)
        holder, arguments = self.seam.holder, named(self.own, args, kwargs)
        known = self.rest(arguments)
        if known and known.left:
            known.left -= 1
            with told(self.seam, arguments):
                chunk = self.step(*args, **kwargs)
        else:
            given = self.seam.asked(arguments)
            system = tabled(holder.noise_scheduler, holder.num_inference_steps, given.step)
            found, self.memory = solved(self.model, self.settings, given, system, self.memory)
            account(self.run, found)
            chunk = found.x.to(given.x.dtype)
            if known:
                known.weighed(found.windows)
        self.run.seconds += time.perf_counter() - began
        return chunk

    def rest(self, arguments: dict[str, Any]) -> Rest | None:
        """Where "auto" may leave calls like this one to the policy's own loop: what is known of them."""
        if self.settings.window != "auto" or self.settings.mesh is not None or several(arguments.get("generator")):
            return None
        first = next(iter(arguments.values()))
        B = first if isinstance(first, int) else len(first)
        stop, holder = self.settings.stop, self.seam.holder
        return rest(self.seam.network, (B, holder.num_inference_steps, torch.get_num_threads(), repr(stop)))

    def step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The policy's own loop, and its account."""
        began, N = time.perf_counter(), self.seam.holder.num_inference_steps
        with torch.no_grad():
            chunk: Tensor = self.own(*args, **kwargs)
        self.memory, run = None, self.run
        run.calls, run.steps, run.rounds = run.calls + 1, run.steps + N, run.rounds + N
        run.evaluations += N * len(chunk)
        run.model_seconds += time.perf_counter() - began
        return chunk


class Forgetting:
    """What stands in for a policy's `reset` while it starts warm: `own`, and an episode's memory goes with it."""

    def __init__(self, loop: Parallel, own: Any) -> None:
        self.loop, self.own = loop, own
        functools.update_wrapper(self, own)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.loop.memory = None
        return self.own(*args, **kwargs)


def enable_parallel_sampling(
    policy: Any,
    method: AbstractMethod | None = None,
    *,
    tolerance: float | AbstractStop = TOLERANCE,
    window: int | str | AbstractPace = "auto",
    warm_start: bool = False,
    mesh: Any = None,
) -> Run:
    """Makes a diffusion policy act in parallel from now on, and gives the report that its calls add to.

    policy: LeRobot's `DiffusionPolicy`, a policy of diffusion_policy, or what has their `conditional_sample`. method:
    default `Spectral()`. tolerance: relative error of a chunk of actions, as `FinalError` estimates it, or a criterion;
    0 gives the policy's own actions. window: steps evaluated at once, or "auto". warm_start: the last chunk, shifted by
    the policy's n_action_steps, is the first guess of the next, until `policy.reset()`, and the answer stays the same
    within the tolerance. mesh: as `sample`'s, its ranks all make the same calls. Raises ValueError for what is no such
    policy, a scheduler that is no table, a window below 1; a call does for a policy in training mode and wrong shapes.
    """
    found = seam(policy)
    if found is None:
        raise ValueError(refusal(policy))
    check_window(window)
    if warm_start and not isinstance(found.stride, int):
        raise ValueError(f"warm_start: {type(found.holder).__name__} has no n_action_steps; set it, or leave it out")
    stop = tolerance if isinstance(tolerance, AbstractStop) else FinalError(tolerance)
    tabled(found.holder.noise_scheduler, found.holder.num_inference_steps, {})  # refuse early, and read it once
    disable_parallel_sampling(policy)
    run = Run()
    loop = Parallel(
        found, Settings(method or Spectral(), stop, window, found.stride if warm_start else None, mesh), run
    )
    found.holder.__dict__[NAME] = loop
    if warm_start and callable(getattr(policy, "reset", None)):
        policy.__dict__["reset"] = Forgetting(loop, policy.reset)
    return run


def disable_parallel_sampling(policy: Any) -> None:
    """Makes a policy sample step by step again."""
    for thing, name in places(policy):
        ours = vars(thing).get(name)
        if isinstance(ours, Parallel | Forgetting):
            method = getattr(ours.own, "__func__", None) is getattr(type(thing), name, MISSING)
            put(thing, name, MISSING if method else ours.own)


@contextlib.contextmanager
def parallelize(policy: Any, method: AbstractMethod | None = None, **how: Any) -> Iterator[Run]:
    """Within it a policy acts in parallel; arguments and errors as `enable_parallel_sampling`'s."""
    outer = [(thing, name, vars(thing).get(name, MISSING)) for thing, name in places(policy)]
    run = enable_parallel_sampling(policy, method, **how)
    try:
        yield run
    finally:
        for thing, name, value in outer:
            put(thing, name, value)


def places(policy: Any) -> list[tuple[Any, str]]:
    """The attributes of instances that stand before methods while a policy is parallel."""
    found = seam(policy)
    return [(found.holder, NAME), (policy, "reset")] if found else []


def put(thing: Any, name: str, value: Any) -> None:
    """Sets the attribute of an instance, or takes it away so that its class's is seen again."""
    if value is MISSING:
        vars(thing).pop(name, None)
    else:
        vars(thing)[name] = value


def refusal(policy: Any) -> str:
    """What a policy would need."""
    return (
        f"{type(policy).__name__}: given no diffusion policy; needed: conditional_sample(batch_size, global_cond, ...) "
        "as LeRobot's DiffusionPolicy has in `diffusion`, or conditional_sample(condition_data, condition_mask, ...) "
        "as diffusion_policy's have, with noise_scheduler, num_inference_steps, and unet or model"
    )
