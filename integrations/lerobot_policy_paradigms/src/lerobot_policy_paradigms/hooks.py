"""LeRobot's loops, each with ours in front of it.

| LeRobot's                              | ours                                                                    |
| DiffusionModel.generate_actions        | `paradigms.enable_parallel_sampling`, whose loop it calls               |
| DiffusionObjective.conditional_sample  | the scheduler's table                                                   |
| FlowMatchingObjective._euler_integrate | x' = x + (t' - t) v, from t = 0 (noise) to 1                            |
| euler_integrate                        | x' = x - v / N, from t = 1 (noise) to 0, times told in float32          |

What is replaced is a name in a module or a class; `uninstall` puts LeRobot's own back.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

import paradigms as pd

from .rows import module_of, of_rows
from .settings import Settings
from .trial import LOG, Trials

POLICIES = "lerobot.policies"
DIFFUSION = f"{POLICIES}.diffusion.modeling_diffusion", "DiffusionModel", "generate_actions"
OBJECTIVE = f"{POLICIES}.multi_task_dit.modeling_multi_task_dit", "DiffusionObjective", "conditional_sample"
FLOW = f"{POLICIES}.multi_task_dit.modeling_multi_task_dit", "FlowMatchingObjective", "_euler_integrate"
SHARED = f"{POLICIES}.common.flow_matching", None, "euler_integrate"

_replaced: list[tuple[Any, str, Any]] = []  # what holds a name, the name, and what it was


def install(settings: Settings | None = None) -> None:
    """Places ours before LeRobot's loops, as far as this LeRobot has them; again with other settings as well."""
    uninstall()
    how = settings or Settings()
    made = {DIFFUSION: of_diffusion, OBJECTIVE: of_objective, FLOW: of_flow, SHARED: of_shared}
    placed = []
    for (module, owner, name), make in made.items():
        try:
            holder = importlib.import_module(module)
            holder = getattr(holder, owner) if owner else holder
            own = getattr(holder, name)
        except (ImportError, AttributeError) as error:
            LOG.info("%s.%s is not in this LeRobot and stays as it is: %s", module, owner or name, error)
            continue
        ours = functools.wraps(own)(make(own, how, Trials(how.tolerance)))
        for where in [holder] if owner else [m for m in list(sys.modules.values()) if vars(m).get(name) is own]:
            _replaced.append((where, name, own))
            setattr(where, name, ours)
        placed.append(f"{owner}.{name}" if owner else name)
    LOG.info("on, %s: before %s", how, ", ".join(placed) or "nothing")


def uninstall() -> None:
    """Puts LeRobot's own loops back. Policies that are parallel already stay so until the program ends."""
    while _replaced:
        where, name, own = _replaced.pop()
        setattr(where, name, own)


def of_diffusion(own: Callable[..., Tensor], how: Settings, trials: Trials) -> Callable[..., Tensor]:
    """What calls DiffusionModel's loop: from the first call on an attribute of the one object stands before it."""
    runs: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def generate_actions(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        def plain() -> Tensor:
            return own(self, *args, **kwargs)

        def ours() -> Tensor:
            runs[self] = pd.enable_parallel_sampling(self, window=how.window, tolerance=how.tolerance)
            return plain()

        if self in trials.agreed:
            return plain()
        found = trials(self, plain, ours, lambda: runs[self])
        if not trials.agreed[self] and self in runs:
            pd.disable_parallel_sampling(self)
        return found

    return generate_actions


def of_objective(own: Callable[..., Tensor], how: Settings, trials: Trials) -> Callable[..., Tensor]:
    """MultiTaskDiT's diffusion loop, by its scheduler's table."""
    tables: WeakKeyDictionary[Any, tuple[Any, pd.System]] = WeakKeyDictionary()
    last: list[pd.Solution] = []

    def conditional_sample(self: Any, model: Any, batch_size: int, conditioning_vec: Tensor) -> Tensor:
        def ours() -> Tensor:
            scheduler, steps = self.noise_scheduler, self.num_inference_steps
            key = id(scheduler), steps, str(sorted(scheduler.config.items(), key=str))
            if self not in tables or tables[self][0] != key:
                tables[self] = key, pd.from_scheduler(scheduler, steps)
            weights = next(model.parameters())
            shape = (batch_size, self.horizon, self.action_dim)
            x = torch.randn(shape, dtype=weights.dtype, device=weights.device)
            last[:] = [
                pd.sample(
                    model, tables[self][1], x, window=how.window, tolerance=how.tolerance,
                    condition={"conditioning_vec": conditioning_vec},
                )
            ]  # fmt: skip
            return last[0].x.to(x.dtype)

        return trials(self, lambda: own(self, model, batch_size, conditioning_vec), ours, lambda: last[0])

    return conditional_sample


def of_flow(own: Callable[..., Tensor], how: Settings, trials: Trials) -> Callable[..., Tensor]:
    """MultiTaskDiT's Euler steps of a flow from t = 0 to 1."""
    last: list[pd.Solution] = []

    def integrate(self: Any, model: Any, x_init: Tensor, time_grid: Tensor, conditioning_vec: Tensor) -> Tensor:
        def ours() -> Tensor:
            last[:] = [
                pd.sample(
                    model, pd.euler(time_grid), x_init, window=how.window, tolerance=how.tolerance,
                    condition={"conditioning_vec": conditioning_vec},
                )
            ]  # fmt: skip
            return last[0].x.to(x_init.dtype)

        return trials(self, lambda: own(self, model, x_init, time_grid, conditioning_vec), ours, lambda: last[0])

    return integrate


class Velocity:
    """The velocity of one policy, whose function is a new one for each observation; rows of samples `sample` (M,)."""

    def __init__(self) -> None:
        self.function: Any = None
        self.size = 0

    def __call__(self, x: Tensor, t: Tensor, sample: Tensor) -> Tensor:
        return of_rows(self.function, sample, self.size)(x, t)  # type: ignore[no-any-return]


def of_shared(own: Callable[..., Tensor], how: Settings, trials: Trials) -> Callable[..., Tensor]:
    """The Euler steps that pi0, pi0.5, SmolVLA and EO-1 share."""
    velocities: WeakKeyDictionary[Any, Velocity] = WeakKeyDictionary()
    last: list[pd.Solution] = []

    def euler_integrate(denoise_fn: Any, noise: Tensor, num_steps: int, **more: Any) -> Tensor:
        def plain() -> Tensor:
            return own(denoise_fn, noise, num_steps, **more)

        policy = module_of(denoise_fn)
        if policy is None:
            return trials.plain("a flow", "its velocity holds no module to know it by", plain)
        if why := not_a_flow(more):
            return trials.plain(type(policy).__name__, why, plain)

        def ours() -> Tensor:
            velocity = velocities.setdefault(policy, Velocity())
            velocity.function, velocity.size = denoise_fn, len(noise)
            times = torch.tensor([1.0 - n / num_steps for n in range(num_steps)] + [0.0], dtype=torch.float64)
            samples = torch.arange(len(noise), device=noise.device)
            last[:] = [
                pd.sample(
                    velocity, pd.euler(times), noise, window=how.window, tolerance=how.tolerance,
                    condition={"sample": samples},
                )
            ]  # fmt: skip
            velocity.function = None
            return last[0].x.to(noise.dtype)

        return trials(policy, plain, ours, lambda: last[0])

    return euler_integrate


def not_a_flow(more: dict[str, Any]) -> str | None:
    """Why a call of `euler_integrate` is more than a flow, None where it is not."""
    processor = more.get("rtc_processor")
    if more.get("rtc_enabled"):
        return "real-time chunking guides its velocity by a gradient"
    if more.get("hard_prefix") is not None:
        return "a prefix of its actions is held"
    if processor is not None and processor.is_debug_enabled():
        return "real-time chunking's debugging looks at each step"
    return None
