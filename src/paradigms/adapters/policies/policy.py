"""`enable_parallel_sampling` for a diffusion policy: its loop, its settings and its report.

    with paradigms.parallelize(policy, window=16) as run:
        action = policy.select_action(observation)

While a policy is parallel its `conditional_sample` is an attribute of that one object; its class, its modules and its
state dict stay. Noise is drawn as the policy's own loop draws it, so one generator gives one action. Where that loop is
not what its scheduler's table says, it runs as it is, and the report says why.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn

from ...checks.solver import check_window
from ...skeleton import Skeleton
from ...validate import in_words, refusal
from ..options import Options
from .call import PolicySettings
from .interface import NAME, PolicyInterface, interface_of, own_method, table_of_scheduler
from .loop import ParallelLoop
from .loop_check import refuse_unfit
from .method_patch import PatchedMethod
from .report import PolicyRun

# Relative error of the actions. Chosen by hand.
TOLERANCE = 0.01


class ResetHook(PatchedMethod):
    """What stands in for a policy's `reset` while it starts warm: `own`, and an episode's memory goes with it."""

    def __init__(self, policy: Any, loop: ParallelLoop) -> None:
        super().__init__(policy, "reset")
        self.loop = loop

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        each: PatchedMethod | None = self
        while isinstance(each, ResetHook):
            each.loop.memory, each = None, each.under
        return self.own(*args, **kwargs)


def enable_parallel_sampling(policy: Any, options: Options) -> PolicyRun:
    """Makes a diffusion policy act in parallel from now on, and gives the report that its calls add to.

    policy: LeRobot's `DiffusionPolicy`, a policy of diffusion_policy, or what has their `conditional_sample`. A
    tolerance of 0 gives the policy's own actions, a window of 1 is the policy's own loop. warm_start: the last chunk,
    shifted by the policy's n_action_steps, is the first guess of the next, until `policy.reset()`, and the answer stays
    the same within the tolerance. compare: after each call the policy's own loop runs on the same noise, and the report
    gets the error and the speedup. The ranks of a mesh all make the same calls. Raises ValueError for what is no such
    policy, a scheduler that is no table or that the policy's own loop cannot run, a window below 1; a call does for a
    policy in training mode and wrong shapes.
    """
    found, settings = check_policy(policy, options)
    disable_parallel_sampling(policy)
    return make_parallel(found, settings)[0]


@contextlib.contextmanager
def parallelize(policy: Any, options: Options) -> Iterator[PolicyRun]:
    """Within it a policy acts in parallel; errors as `enable_parallel_sampling`'s."""
    run, ours = make_parallel(*check_policy(policy, options))
    try:
        try:
            yield run
        finally:
            leave(ours)
    finally:
        leave(ours)  # twice is as once: an interrupt may have come between


def leave(ours: list[PatchedMethod]) -> None:
    """Takes away what was placed."""
    for each in ours:
        each.leave()


def check_policy(policy: Any, options: Options) -> tuple[PolicyInterface, PolicySettings]:
    """The interface of a policy, and how it is to run; raises ValueError."""
    found = interface_of(policy)
    if found is None:
        raise ValueError(what_is_needed(policy))
    check_holder(found)
    check_window(options.window)
    method, stop = options.solver(TOLERANCE)
    if isinstance(method, Skeleton):  # it would take windows, without what a warm start and inpainting ask of them
        needed = "a method of sliding windows, for policies' chains are too short for nodes"
        raise refusal("method", "Skeleton()", needed, "method=Spectral()")
    if options.warm_start and not isinstance(found.stride, int):
        raise ValueError(f"warm_start: {type(found.holder).__name__} has no n_action_steps; set it, or leave it out")
    if options.compare and options.mesh is not None:
        raise ValueError("compare: given with mesh, whose ranks draw noise of their own; needed: one of the two")
    # refuse early, and read it once
    table_of_scheduler(found.holder.noise_scheduler, found.holder.num_inference_steps, {})
    refuse_unfit(found, own_method(found.holder))
    stride = found.stride if options.warm_start else None
    return found, PolicySettings(method, stop, options.window, stride, options.mesh, options.compare)


def check_holder(found: PolicyInterface) -> None:
    """Raises ValueError for a policy before whose loop nothing can stand, or whose network is no module."""
    kind, network = type(found.holder), found.network
    if NAME not in vars(found.holder) and hasattr(inspect.getattr_static(kind, NAME), "__set__"):
        raise ValueError(f"{found.name}: given a property, before which nothing can stand; needed: a method")
    if not isinstance(network, nn.Module):
        raise ValueError(f"{kind.__name__}: given {in_words(network)} as its network; needed: a torch.nn.Module")


def make_parallel(found: PolicyInterface, settings: PolicySettings) -> tuple[PolicyRun, list[PatchedMethod]]:
    """The report of a policy that is parallel from now on, and what was placed on it."""
    run = PolicyRun(asked=settings.window)
    loop = ParallelLoop(found, settings, run)
    ours: list[PatchedMethod] = [loop]
    if settings.stride is not None and callable(getattr(found.policy, "reset", None)):
        ours.append(ResetHook(found.policy, loop))
    for each in ours:
        each.place()
    return run, ours


def disable_parallel_sampling(policy: Any) -> None:
    """Makes a policy sample step by step again."""
    for placed in our_attributes(policy):
        below: PatchedMethod | None = placed
        while below is not None:  # also those whose `with` is not over yet
            below.leave()
            below = below.under


def our_attributes(policy: Any) -> list[PatchedMethod]:
    """The attributes of ours that stand before methods of a policy."""
    found = interface_of(policy)
    held = [vars(found.holder).get(NAME), vars(policy).get("reset")] if found else []
    return [each for each in held if isinstance(each, PatchedMethod)]


def what_is_needed(policy: Any) -> str:
    """What a policy would need."""
    return (
        f"{type(policy).__name__}: given no diffusion policy; needed: conditional_sample(batch_size, global_cond, ...) "
        "as LeRobot's DiffusionPolicy has in `diffusion`, or conditional_sample(condition_data, condition_mask, ...) "
        "as diffusion_policy's have, with noise_scheduler, num_inference_steps, and unet or model"
    )
