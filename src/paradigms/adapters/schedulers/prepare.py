"""A scheduler as a table is read off it: checked, copied, its timesteps set, its arguments sorted.

arguments = those of set_timesteps + those of step;    what neither takes, and what a table does not have, is refused
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ...schedule import Schedule
from ...system import System
from ...validate import check_number, check_whole, in_words, refusal
from .probe import PASSED
from .scheduler_copy import copy_scheduler

NUMBERS = {"strength", "eta", "s_churn", "s_tmin", "s_tmax", "s_noise"}
LISTS = {"timesteps", "sigmas"}


class SchedulerError(ValueError):
    """A scheduler that is no table of equation (1): the message names it, the reason, and what would fit."""


def check_scheduler(scheduler: Any, steps: Any, more: Any, given: Mapping[str, Any]) -> None:
    """Raises SchedulerError, which is a ValueError, for what is no scheduler, no number of steps or no arguments."""
    needed = "a scheduler, with set_timesteps and step, as diffusers has"
    try:
        if isinstance(scheduler, type):
            raise refusal(
                "scheduler", in_words(scheduler), "an instance of it", f"from_scheduler({scheduler.__name__}(), steps)"
            )
        if isinstance(scheduler, System | Schedule):
            own = "is a table already" if isinstance(scheduler, System) else "is for rules: ddim(schedule, steps)"
            raise refusal("scheduler", f"a {type(scheduler).__name__}, which {own}", needed)
        if not hasattr(scheduler, "step") and hasattr(scheduler, "scheduler"):
            raise refusal("scheduler", f"{type(scheduler).__name__}, which has one", needed, "pipe.scheduler")
        if not hasattr(scheduler, "step") and isinstance(scheduler, str | int | float | type(None)):
            raise refusal("scheduler", in_words(scheduler), needed, "from_scheduler(DDIMScheduler(), steps)")
        if steps is not None:
            check_whole("steps", steps, "a whole number, at least 1, or None where timesteps or sigmas say it", 1)
        if more is not None and not (isinstance(more, Mapping) and all(isinstance(k, str) for k in more)):
            raise refusal("more", in_words(more), "a dict of arguments by name", "more={'order': 2}")
        for name in given.keys() & NUMBERS:
            check_number(name, given[name], "a number", lambda v: True)
        sets = inspect.signature(scheduler.set_timesteps).parameters if hasattr(scheduler, "set_timesteps") else {}
        first = next(iter(sets.values()), None)
        if steps is None and first is not None and first.default is first.empty and not {*given, *(more or {})} & LISTS:
            raise refusal("steps", "None", "a whole number of steps", "from_scheduler(scheduler, 50)")
    except ValueError as error:
        raise SchedulerError(str(error)) from None


def prepare_scheduler(scheduler: Any, steps: int | None, how: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A copy of the scheduler with its timesteps set, and the arguments of its step."""
    if not hasattr(scheduler, "step") or not hasattr(scheduler, "set_timesteps"):
        raise refuse_scheduler(
            scheduler, "it has no set_timesteps or no step; needed: a scheduler that pipelines loop over"
        )
    takes, sets = (inspect.signature(f).parameters for f in (scheduler.step, scheduler.set_timesteps))
    if unknown := [k for k in how if k not in takes and k not in sets]:
        needed = f"arguments of set_timesteps ({', '.join(sets)}) or of step ({', '.join(takes)})"
        raise refuse_scheduler(scheduler, f"given {', '.join(unknown)}; needed: {needed}")
    needs = [k for k, v in takes.items() if v.default is v.empty and v.kind is v.POSITIONAL_OR_KEYWORD]
    if missing := [k for k in needs if k not in PASSED and k not in how]:
        raise refuse_scheduler(scheduler, f"its step needs {', '.join(missing)}, which a table does not have")
    if str(scheduler_config(scheduler).get("variance_type")).startswith("learned"):
        raise refuse_scheduler(
            scheduler, "the model says the variance too; needed: a fixed variance_type, and a model of the mean alone"
        )
    if hasattr(scheduler, "noise_sampler"):
        raise refuse_scheduler(scheduler, "its noise is that of a Brownian tree, and not drawn step by step")
    setting = {k: v for k, v in how.items() if k in sets}
    try:
        ready = copy_scheduler(scheduler)
    except TypeError as reason:
        raise refuse_scheduler(scheduler, f"it cannot be copied: {reason}") from reason
    try:
        ready.set_timesteps(**({} if steps is None else {"num_inference_steps": steps}), **setting)
    except Exception as reason:
        raise refuse_scheduler(scheduler, f"set_timesteps: {type(reason).__name__}: {reason}") from reason
    return ready, {k: v for k, v in how.items() if k in takes and k not in sets}


def scheduler_config(scheduler: Any) -> Any:
    return getattr(scheduler, "config", {})


def refuse_scheduler(scheduler: Any, reason: str) -> SchedulerError:
    names = ("prediction_type", "algorithm_type", "solver_order", "variance_type")
    shown = ", ".join(f"{k}={v!r}" for k in names if (v := scheduler_config(scheduler).get(k)) is not None)
    return SchedulerError(f"{type(scheduler).__name__}({shown}): {reason}")
